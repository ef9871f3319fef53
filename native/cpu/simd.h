// Vectors of W lanes over the compilers' vector extensions: one source for SSE2, AVX2, AVX-512 and NEON.
//
// Everything is static and in the namespace of the instruction set, so that no function compiled with AVX flags can become
// the copy that the linker keeps for processors without AVX. For the same reason the kernels use no std:: function templates.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../runtime/dtype.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if !defined(ALMA_ISA) || !defined(ALMA_SIMD_WIDTH)
#error "the build defines ALMA_ISA (a namespace) and ALMA_SIMD_WIDTH (f32 lanes)"
#endif

#define ALMA_INLINE __attribute__((always_inline)) static inline
#define ALMA_LAMBDA __attribute__((always_inline))

namespace alma::cpu::ALMA_ISA {

constexpr int W = ALMA_SIMD_WIDTH;

typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));
typedef uint16_t U16 __attribute__((vector_size(2 * W)));
typedef float HalfF __attribute__((vector_size(2 * W)));  // W / 2 floats, the source of one vector of doubles
typedef double D __attribute__((vector_size(4 * W)));     // W / 2 doubles

typedef float LooseF __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef int32_t LooseI __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef uint16_t LooseU16 __attribute__((vector_size(2 * W), aligned(2), may_alias));

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

template <class T>
__attribute__((always_inline)) static constexpr inline T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
__attribute__((always_inline)) static constexpr inline T max(T a, T b) {
  return a < b ? b : a;
}
__attribute__((always_inline)) static constexpr inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
__attribute__((always_inline)) static constexpr inline int64_t round_up(int64_t a, int64_t b) {
  return ceil_div(a, b) * b;
}

ALMA_INLINE F splat(float value) { return value - F{}; }  // x − 0 is x, and compilers know it; 0 + x is not, for −0
ALMA_INLINE U bits_of(F value) { return reinterpret_cast<U>(value); }
ALMA_INLINE F as_float(U bits) { return reinterpret_cast<F>(bits); }

// sum += a · b where the sum lies. Left to itself, GCC moves sums into the registers of factors that were just loaded: on Zen 3, 5 rows
// times 2 of bf16 weights then take 65 instead of 90 GFLOP/s.
ALMA_INLINE void add_product(F& sum, F a, F b) {
#if defined(__AVX512F__) && ALMA_SIMD_WIDTH == 16
  asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
#elif defined(__FMA__) && ALMA_SIMD_WIDTH == 8
  asm("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
#else
  sum = a * b + sum;
#endif
}

// b where a is NaN.
ALMA_INLINE F greater(F a, F b) { return a > b ? a : b; }

// GCC 12 widens halves and joins them (4 instructions), where there is one that does it all.
ALMA_INLINE U widen_bits(U16 bits) {
#if !defined(__clang__) && defined(__AVX512F__) && ALMA_SIMD_WIDTH == 16
  typedef short S16 __attribute__((vector_size(32)));
  return reinterpret_cast<U>(__builtin_ia32_pmovzxwd512_mask(reinterpret_cast<S16>(bits), I{}, -1));
#elif !defined(__clang__) && defined(__AVX2__) && ALMA_SIMD_WIDTH == 8
  typedef short S16 __attribute__((vector_size(16)));
  return reinterpret_cast<U>(__builtin_ia32_pmovzxwd256(reinterpret_cast<S16>(bits)));
#else
  return __builtin_convertvector(bits, U);
#endif
}

ALMA_INLINE F widen(U16 bits) { return as_float(widen_bits(bits) << 16); }

// Round to nearest, ties to even; NaN stays NaN (runtime/dtype.h).
ALMA_INLINE U16 narrow(F value) {
  const U bits = bits_of(value);
  const U rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const U quiet = (bits >> 16) | 0x0040u;
  return __builtin_convertvector((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded, U16);
}

// Exact also for subnormal halves: the exponent is rebased by a multiplication.
ALMA_INLINE F widen_f16(U16 half) {
  const U wide = widen_bits(half);
  const U sign = (wide & 0x8000u) << 16;
  const F magnitude = as_float((wide & 0x7fffu) << 13) * 0x1p112f;
  const U infinite = bits_of(magnitude) | 0x7f800000u;
  return as_float(((wide & 0x7c00u) == 0x7c00u ? infinite : bits_of(magnitude)) | sign);
}

ALMA_INLINE F load(const float* p) { return *reinterpret_cast<const LooseF*>(p); }
ALMA_INLINE I load(const int32_t* p) { return *reinterpret_cast<const LooseI*>(p); }
ALMA_INLINE F load(const bf16* p) { return widen(*reinterpret_cast<const LooseU16*>(p)); }
ALMA_INLINE F load(const f16* p) { return widen_f16(*reinterpret_cast<const LooseU16*>(p)); }
ALMA_INLINE void store(float* p, F value) { *reinterpret_cast<LooseF*>(p) = value; }
ALMA_INLINE void store(bf16* p, F value) { *reinterpret_cast<LooseU16*>(p) = narrow(value); }

// Tails, out of line: their loops would otherwise be unrolled wherever a kernel ends (half of the compile time).
template <class T>
__attribute__((noinline)) static F load_tail(const T* p, int n) {
  T lanes[W] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
template <class T>
__attribute__((noinline)) static void store_tail(T* p, F value, int n) {
  T lanes[W];
  store(lanes, value);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}

// The first n lanes (n ≤ W); the others load as zero. With a constant n = W this is a plain load.
template <class T>
ALMA_INLINE F load(const T* p, int n) {
  return n >= W ? load(p) : load_tail(p, n);
}
template <class T>
ALMA_INLINE void store(T* p, F value, int n) {
  if (n >= W) return store(p, value);
  store_tail(p, value, n);
}

// What a store to T followed by a load gives.
ALMA_INLINE F rounded_to(const float*, F value) { return value; }
ALMA_INLINE F rounded_to(const bf16*, F value) { return widen(narrow(value)); }

ALMA_INLINE float to_float(float value) { return value; }
ALMA_INLINE float to_float(bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  __builtin_memcpy(&result, &bits, sizeof result);
  return result;
}
ALMA_INLINE void from_float(float* out, float value) { *out = value; }
ALMA_INLINE void from_float(
    bf16* out, float value) {  // as narrow() does it; a vector for one number would take three times as long
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  out->bits = static_cast<uint16_t>(nan ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// Horizontal operations end a row or a block; those that are loops are out of line, because unrolled at every use they cost seconds
// of compile time.
__attribute__((noinline, unused)) static double sum(D value) {
  double total = 0;
  for (int i = 0; i < W / 2; ++i) total += value[i];
  return total;
}
ALMA_INLINE HalfF low_half(F value) {
  HalfF result;
  __builtin_memcpy(&result, &value, sizeof result);
  return result;
}
ALMA_INLINE HalfF high_half(F value) {
  HalfF result;
  __builtin_memcpy(&result, reinterpret_cast<const char*>(&value) + sizeof result, sizeof result);
  return result;
}

ALMA_INLINE I lane_numbers() {
  I result;
  for (int i = 0; i < W; ++i) result[i] = i;
  return result;
}

// body(i, lanes) over [0, count): lanes is the constant W except for a last partial vector.
template <class Body>
ALMA_INLINE void for_lanes(int64_t count, Body&& body) {
  int64_t i = 0;
  for (; i + W <= count; i += W) body(i, W);
  const int rest = static_cast<int>(count - i);
  if (rest >= W) __builtin_unreachable();  // or the compiler keeps a branch for whole vectors in the tail
  if (rest > 0) body(i, rest);
}

#if defined(__clang__)
#define ALMA_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define ALMA_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, I{__VA_ARGS__})
#endif

// Lane i and lane i + W / 2 become one, and so on in halves.
template <class Combine>
ALMA_INLINE float fold(F value, const Combine& combine) {
#if ALMA_SIMD_WIDTH == 16
  value = combine(value, ALMA_SHUFFLE(value, value, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15));
  value = combine(value, ALMA_SHUFFLE(value, value, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7));
  value = combine(value, ALMA_SHUFFLE(value, value, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3));
  value = combine(value, ALMA_SHUFFLE(value, value, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1));
#elif ALMA_SIMD_WIDTH == 8
  value = combine(value, ALMA_SHUFFLE(value, value, 4, 5, 6, 7, 4, 5, 6, 7));
  value = combine(value, ALMA_SHUFFLE(value, value, 2, 3, 2, 3, 2, 3, 2, 3));
  value = combine(value, ALMA_SHUFFLE(value, value, 1, 1, 1, 1, 1, 1, 1, 1));
#else
  value = combine(value, ALMA_SHUFFLE(value, value, 2, 3, 2, 3));
  value = combine(value, ALMA_SHUFFLE(value, value, 1, 1, 1, 1));
#endif
  return value[0];
}
ALMA_INLINE float sum(F value) {
  return fold(value, [](F a, F b) ALMA_LAMBDA { return a + b; });
}
ALMA_INLINE float maximum(F value) {
  return fold(value, [](F a, F b) ALMA_LAMBDA { return greater(a, b); });
}

// Of a and b, one after the other, the elements with even and with odd numbers.
ALMA_INLINE F unzip_even(F a, F b) {
#if ALMA_SIMD_WIDTH == 4
  return ALMA_SHUFFLE(a, b, 0, 2, 4, 6);
#elif ALMA_SIMD_WIDTH == 8
  return ALMA_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
#else
  return ALMA_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#endif
}
ALMA_INLINE F unzip_odd(F a, F b) {
#if ALMA_SIMD_WIDTH == 4
  return ALMA_SHUFFLE(a, b, 1, 3, 5, 7);
#elif ALMA_SIMD_WIDTH == 8
  return ALMA_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
  return ALMA_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#endif
}

#if defined(__AVX512F__) && ALMA_SIMD_WIDTH == 16
// Without a mask GCC 12 warns of a value in its own header that is not initialised.
constexpr __mmask16 kAllLanes = 0xffff;
#endif

// x between two numbers; NaN stays NaN.
ALMA_INLINE F within(float low, F x, float high) {
#if defined(__AVX512F__) && ALMA_SIMD_WIDTH == 16
  const __m512 below = _mm512_maskz_min_ps(kAllLanes, _mm512_set1_ps(high), reinterpret_cast<__m512>(x));
  return reinterpret_cast<F>(_mm512_maskz_max_ps(kAllLanes, _mm512_set1_ps(low), below));
#elif defined(__AVX2__) && ALMA_SIMD_WIDTH == 8
  const __m256 below = _mm256_min_ps(_mm256_set1_ps(high), reinterpret_cast<__m256>(x));
  return reinterpret_cast<F>(_mm256_max_ps(_mm256_set1_ps(low), below));
#else
  x = x > high ? splat(high) : x;
  return x < low ? splat(low) : x;
#endif
}

// p · 2ⁿ, where `shifted` is n + kShift and n reaches −151 and 128, outside the exponents of normal numbers.
constexpr float kShift = 12582912.0f;  // 1.5 · 2²³: adding it rounds to an integer
ALMA_INLINE F times_power_of_2(F p, F shifted) {
#if defined(__AVX512F__) && ALMA_SIMD_WIDTH == 16
  return reinterpret_cast<F>(
      _mm512_maskz_scalef_ps(kAllLanes, reinterpret_cast<__m512>(p), reinterpret_cast<__m512>(shifted - kShift)));
#else
  const I exponent = reinterpret_cast<I>(shifted) - 0x4b400000;
  const I first = exponent >> 1;
  const I second = exponent - first;
  return p * reinterpret_cast<F>((first + 127) << 23) * reinterpret_cast<F>((second + 127) << 23);
#endif
}

// exp, at most 1.01 ulp (measured on every seventh f32); 0 below −104, infinity above 88.73, NaN for NaN.
// Cody–Waite reduction to |r| ≤ ln 2 / 2 and the minimax polynomial of Cephes' expf.
ALMA_INLINE F exp(F x) {
  x = within(-105.0f, x, 89.0f);
  const F shifted = x * 1.44269504088896341f + kShift;
  const F n = shifted - kShift;
  F r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  F p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return times_power_of_2(p, shifted);
}

}  // namespace alma::cpu::ALMA_ISA

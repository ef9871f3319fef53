// The kernels' side of CUDA C++ as the emulator has it: qualifiers, vector types and device functions. Only what this project uses.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "../checks.h"
#include "../warp.h"
#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
#ifndef __restrict__
#define __restrict__ __restrict
#endif

#define ALMA_VECTOR_TYPES(T, name)                                  \
  struct name##2 {                                                  \
    T x, y;                                                         \
  };                                                                \
  struct name##3 {                                                  \
    T x, y, z;                                                      \
  };                                                                \
  struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) name##4 { \
    T x, y, z, w;                                                   \
  };                                                                \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }        \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
ALMA_VECTOR_TYPES(float, float)
ALMA_VECTOR_TYPES(int, int)
ALMA_VECTOR_TYPES(unsigned short, ushort)
ALMA_VECTOR_TYPES(long long, longlong)
#undef ALMA_VECTOR_TYPES
struct uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

using std::fmaf;
using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;

inline void __syncthreads(alma::emulator::Here here = ALMA_EMULATOR_HERE) {
  alma::emulator::current_block->barrier(0, 0, here);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, alma::emulator::Here here = ALMA_EMULATOR_HERE) {
  alma::emulator::current_block->warp_barrier(mask, here);
}

namespace alma::emulator {
template <class T>
T shuffle_value(Shuffle kind, unsigned mask, T value, int operand, int width, Here here) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = shuffle(kind, mask, bits, operand, width, here);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
}  // namespace alma::emulator

#define ALMA_SHUFFLE(name, kind)                                                                                \
  template <class T>                                                                                            \
  T name(unsigned mask, T value, int operand, int width = 32, alma::emulator::Here here = ALMA_EMULATOR_HERE) { \
    return alma::emulator::shuffle_value(alma::emulator::Shuffle::kind, mask, value, operand, width, here);     \
  }
ALMA_SHUFFLE(__shfl_sync, index)
ALMA_SHUFFLE(__shfl_up_sync, up)
ALMA_SHUFFLE(__shfl_down_sync, down)
ALMA_SHUFFLE(__shfl_xor_sync, exclusive_or)
#undef ALMA_SHUFFLE

inline unsigned __ballot_sync(unsigned mask, bool predicate, alma::emulator::Here here = ALMA_EMULATOR_HERE) {
  return alma::emulator::ballot(mask, predicate, here);
}
inline int __any_sync(unsigned mask, bool predicate, alma::emulator::Here here = ALMA_EMULATOR_HERE) {
  return alma::emulator::ballot(mask, predicate, here) != 0;
}
inline int __all_sync(unsigned mask, bool predicate, alma::emulator::Here here = ALMA_EMULATOR_HERE) {
  return alma::emulator::ballot(mask, predicate, here) == mask;
}

// Atomic operations, in other words accesses that are allowed to meet. Integers only: sums of floats would depend on the order.
#define ALMA_ATOMIC(T)                                                                                                 \
  inline T atomicAdd(T* address, T value) { return alma::emulator::atomic_add(address, value); }                       \
  inline T atomicExch(T* address, T value) { return alma::emulator::atomic_exchange(address, value); }                 \
  inline T atomicCAS(T* address, T expected, T value) { return alma::emulator::atomic_cas(address, expected, value); } \
  inline T atomicMax(T* address, T value) {                                                                            \
    return alma::emulator::atomic_update(address, value, [](T a, T b) { return a < b ? b : a; });                      \
  }                                                                                                                    \
  inline T atomicMin(T* address, T value) {                                                                            \
    return alma::emulator::atomic_update(address, value, [](T a, T b) { return b < a ? b : a; });                      \
  }                                                                                                                    \
  inline T atomicOr(T* address, T value) {                                                                             \
    return alma::emulator::atomic_update(address, value, [](T a, T b) { return static_cast<T>(a | b); });              \
  }                                                                                                                    \
  inline T atomicAnd(T* address, T value) {                                                                            \
    return alma::emulator::atomic_update(address, value, [](T a, T b) { return static_cast<T>(a & b); });              \
  }
#include "../atomics.h"
ALMA_ATOMIC(int)
ALMA_ATOMIC(unsigned)
ALMA_ATOMIC(unsigned long long)
#undef ALMA_ATOMIC
inline unsigned atomicInc(unsigned* address, unsigned last) { return alma::emulator::atomic_increment(address, last); }

inline void __threadfence() { alma::emulator::fence(); }
inline void __threadfence_block() {}

template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
T __ldcg(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, T value) {
  *address = value;
}
template <class T>
void __stcg(T* address, T value) {
  *address = value;
}

inline unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }
inline int __float_as_int(float value) { return __builtin_bit_cast(int, value); }
inline float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
inline float __int_as_float(int bits) { return __builtin_bit_cast(float, bits); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} * b) >> 32); }
inline long long __mul64hi(long long a, long long b) {
  return static_cast<long long>((static_cast<__int128>(a) * b) >> 64);
}
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value)); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline unsigned __brev(unsigned value) {
  unsigned result = 0;
  for (int bit = 0; bit < 32; ++bit) result |= (value >> bit & 1) << (31 - bit);
  return result;
}
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

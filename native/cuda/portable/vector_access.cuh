// Loads and stores of N consecutive elements, 16 bytes at a time where the address allows it. Values stay in the format of the
// storage until they are used: half the registers for bf16.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "../namespace.h"

namespace alma::ALMA_CUDA {

using bf16 = __nv_bfloat16;

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(bf16 value) { return __bfloat162float(value); }

template <class T>
__device__ __forceinline__ T from_float(float value) {
  if constexpr (sizeof(T) == 2) {
    return __float2bfloat16_rn(value);
  } else {
    return value;
  }
}

// What a store to T followed by a load gives.
template <class T>
__device__ __forceinline__ float rounded_to(float value) {
  return to_float(from_float<T>(value));
}

// Elements of T in 16 bytes: what a thread takes at a time.
template <class T>
constexpr int kLanesOf = 16 / static_cast<int>(sizeof(T));

template <class T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Vector {
  T elements[N];

  // bf16 from the pair it lies in: as elements of their own, the compiler gives each half a register.
  __device__ __forceinline__ float operator[](int lane) const {
    if constexpr (std::is_same_v<T, bf16> && N % 2 == 0) {
      const uint32_t pair = reinterpret_cast<const uint32_t*>(elements)[lane / 2];
      return __uint_as_float(lane % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
    } else {
      return to_float(elements[lane]);
    }
  }
};

namespace access {

template <int kBytes>
struct WordOf {
  using type = uint4;
};
template <>
struct WordOf<8> {
  using type = uint2;
};
template <>
struct WordOf<4> {
  using type = unsigned;
};
template <>
struct WordOf<2> {
  using type = unsigned short;
};

template <class V>
using Word = typename WordOf<(sizeof(V) < 16 ? static_cast<int>(sizeof(V)) : 16)>::type;

}  // namespace access

// All N elements; the address is a multiple of the vector's size, or of 16 bytes.
template <int N, class T>
__device__ __forceinline__ Vector<T, N> load_vector(const T* address) {
  Vector<T, N> vector;
  using Word = access::Word<Vector<T, N>>;
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof vector / sizeof(Word)); ++i)
    reinterpret_cast<Word*>(&vector)[i] = reinterpret_cast<const Word*>(address)[i];
  return vector;
}

template <int N, class T>
__device__ __forceinline__ void store_vector(T* address, const Vector<T, N>& vector) {
  using Word = access::Word<Vector<T, N>>;
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof vector / sizeof(Word)); ++i)
    reinterpret_cast<Word*>(address)[i] = reinterpret_cast<const Word*>(&vector)[i];
}

// The first n elements, one by one from any address; the others are 0.
template <int N, class T>
__device__ __forceinline__ Vector<T, N> load_elements(const T* address, int64_t n) {
  Vector<T, N> vector;
#pragma unroll
  for (int lane = 0; lane < N; ++lane) vector.elements[lane] = lane < n ? address[lane] : T{};
  return vector;
}

template <int N, class T>
__device__ __forceinline__ void store_elements(T* address, int64_t n, const Vector<T, N>& vector) {
#pragma unroll
  for (int lane = 0; lane < N; ++lane)
    if (lane < n) address[lane] = vector.elements[lane];
}

// With kAligned n is at least N (whole vectors) or at most 0 (nothing: zeros).
template <bool kAligned, int N, class T>
__device__ __forceinline__ Vector<T, N> load(const T* address, int64_t n) {
  if constexpr (kAligned) {
    Vector<T, N> vector = {};
    if (n > 0) vector = load_vector<N>(address);
    return vector;
  } else {
    return load_elements<N>(address, n);
  }
}

template <bool kAligned, int N, class T>
__device__ __forceinline__ void store(T* address, int64_t n, const Vector<T, N>& vector) {
  if constexpr (kAligned) {
    if (n > 0) store_vector<N>(address, vector);
  } else {
    store_elements<N>(address, n, vector);
  }
}

// Rounds to nearest, ties to even; bf16 two at a time, which is one instruction.
template <class T, int N>
__device__ __forceinline__ Vector<T, N> pack(const float (&values)[N]) {
  Vector<T, N> vector;
  if constexpr (sizeof(T) == 2 && N % 2 == 0) {
#pragma unroll
    for (int lane = 0; lane < N; lane += 2)
      reinterpret_cast<__nv_bfloat162*>(vector.elements)[lane / 2] =
          __floats2bfloat162_rn(values[lane], values[lane + 1]);
  } else {
#pragma unroll
    for (int lane = 0; lane < N; ++lane) vector.elements[lane] = from_float<T>(values[lane]);
  }
  return vector;
}

// Data that is read and written once, and is larger than any cache: it should not displace what the next kernel reads.
template <int N, class T>
__device__ __forceinline__ Vector<T, N> load_streaming(const T* address) {
  Vector<T, N> vector;
  using Word = access::Word<Vector<T, N>>;
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof vector / sizeof(Word)); ++i)
    reinterpret_cast<Word*>(&vector)[i] = __ldcs(reinterpret_cast<const Word*>(address) + i);
  return vector;
}

template <int N, class T>
__device__ __forceinline__ void store_streaming(T* address, const Vector<T, N>& vector) {
  using Word = access::Word<Vector<T, N>>;
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof vector / sizeof(Word)); ++i)
    __stcs(reinterpret_cast<Word*>(address) + i, reinterpret_cast<const Word*>(&vector)[i]);
}

}  // namespace alma::ALMA_CUDA

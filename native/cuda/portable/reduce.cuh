// Reductions over a warp and over the warps of a group of threads. Their shape is fixed by the number of threads alone, so that the
// same numbers give the same bits on every run.
#pragma once

#include <cuda_runtime.h>

#include "../namespace.h"

namespace alma::ALMA_CUDA {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarp = 32;
constexpr int kMaxWarps = 32;  // of a block

// Every lane gets the result.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

// NaN is passed over, as fmaxf does.
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}

// The sum over the `warps` consecutive warps of a group, for every thread of it; `warp` is the number of the thread's warp within
// the group, `partial` has room for one number a warp. All threads of the block come here, once between two barriers: whoever
// uses `partial` again puts a __syncthreads() in between.
template <class T>
__device__ __forceinline__ T group_sum(T value, int warp, int warps, T* partial) {
  value = warp_sum(value);
  if (warps == 1) return value;
  if (threadIdx.x % kWarp == 0) partial[warp] = value;
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  return warp_sum(lane < warps ? partial[lane] : T{});
}

__device__ __forceinline__ float group_max(float value, int warp, int warps, float* partial) {
  value = warp_max(value);
  if (warps == 1) return value;
  if (threadIdx.x % kWarp == 0) partial[warp] = value;
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  return warp_max(lane < warps ? partial[lane] : partial[0]);
}

// The sum over a one-dimensional block.
template <class T>
__device__ __forceinline__ T block_sum(T value, T* partial) {
  return group_sum(value, static_cast<int>(threadIdx.x / kWarp), static_cast<int>(blockDim.x / kWarp), partial);
}

__device__ __forceinline__ float block_max(float value, float* partial) {
  return group_max(value, static_cast<int>(threadIdx.x / kWarp), static_cast<int>(blockDim.x / kWarp), partial);
}

__device__ __forceinline__ int block_min(int value, int* partial) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value = min(value, __shfl_xor_sync(kAllLanes, value, distance));
  if (blockDim.x == kWarp) return value;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  if (lane == 0) partial[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = partial[lane < static_cast<int>(blockDim.x / kWarp) ? lane : 0];
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value = min(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}

// Sum of the values of the threads before this one, in a one-dimensional block of whole warps; `partial` as above.
template <class T>
__device__ __forceinline__ T block_exclusive_sum(T value, T* partial) {
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  T inclusive = value;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const T below = __shfl_up_sync(kAllLanes, inclusive, distance);
    if (lane >= distance) inclusive += below;
  }
  if (lane == kWarp - 1) partial[warp] = inclusive;
  __syncthreads();
  const T mine = lane < static_cast<int>(blockDim.x / kWarp) ? partial[lane] : T{};
  T before = warp_sum(lane < warp ? mine : T{});
  // inclusive − value would not give back the sum before it, in floating point.
  const T shifted = __shfl_up_sync(kAllLanes, inclusive, 1);
  return lane == 0 ? before : before + shifted;
}

}  // namespace alma::ALMA_CUDA

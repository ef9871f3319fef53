// What the attention kernels for any dtype and head_dim share: a block of 128 threads has 16 rows of its own and meets the other side 32
// rows at a time. Thread t works on row t / 8, and there on every eighth column, so that no sum is shared. Rows come into shared memory
// in f32, 64 columns at a time; null stands for a row that does not exist and counts as zeros.
#pragma once

#include "../shared_memory.cuh"
#include "attention_bounds.cuh"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {

constexpr int kGenericThreads = 128;
constexpr int kOwnRows = 16, kOtherRows = 32;
constexpr int kLanesPerRow = kGenericThreads / kOwnRows;
constexpr int kOthersPerLane = kOtherRows / kLanesPerRow;
constexpr int kStripe = 64;  // columns

// kSums results of kMaxDim columns for each row of the block.
template <int kMaxDim, int kSums>
struct GenericTiles {
  float own[kOwnRows][kStripe + 1];
  float other[kOtherRows][kStripe + 1];
  float weights[kSums][kOwnRows][kOtherRows + 1];
  float sums[kSums][kOwnRows][kMaxDim];
};

template <class Rows, int kCount>
__device__ inline void load_stripe(float (&out)[kCount][kStripe + 1], const Rows& rows, int first, int columns) {
  for (int e = static_cast<int>(threadIdx.x); e < kCount * kStripe; e += kGenericThreads) {
    const int row = e / kStripe, column = e % kStripe;
    const auto* in = rows(row);
    out[row][column] = in != nullptr && first + column < columns ? to_float(in[first + column]) : 0.0f;
  }
}

// dots[i] = own row · row lane + 8 · i of the other side.
template <class Tiles, class Own, class Other>
__device__ inline void dot_rows(Tiles& tiles, const Own& own, const Other& other, int columns,
                                float (&dots)[kOthersPerLane]) {
  const int row = static_cast<int>(threadIdx.x) / kLanesPerRow, lane = static_cast<int>(threadIdx.x) % kLanesPerRow;
  for (int i = 0; i < kOthersPerLane; ++i) dots[i] = 0;
  for (int first = 0; first < columns; first += kStripe) {
    __syncthreads();
    load_stripe(tiles.own, own, first, columns);
    load_stripe(tiles.other, other, first, columns);
    __syncthreads();
    for (int c = 0; c < min(kStripe, columns - first); ++c) {
      const float x = tiles.own[row][c];
#pragma unroll
      for (int i = 0; i < kOthersPerLane; ++i) dots[i] = fmaf(x, tiles.other[lane + kLanesPerRow * i][c], dots[i]);
    }
  }
}

// sums[k] = sums[k] · factor + weights[k] · other, for the own row.
template <class Tiles, class Other>
__device__ inline void add_rows(Tiles& tiles, int k, float factor, const Other& other, int columns) {
  const int row = static_cast<int>(threadIdx.x) / kLanesPerRow, lane = static_cast<int>(threadIdx.x) % kLanesPerRow;
  for (int first = 0; first < columns; first += kStripe) {
    __syncthreads();  // the weights are there, and nobody uses the last stripe any more
    load_stripe(tiles.other, other, first, columns);
    __syncthreads();
    for (int c = lane; c < min(kStripe, columns - first); c += kLanesPerRow) {
      float sum = tiles.sums[k][row][first + c] * factor;
#pragma unroll 8
      for (int j = 0; j < kOtherRows; ++j) sum = fmaf(tiles.weights[k][row][j], tiles.other[j][c], sum);
      tiles.sums[k][row][first + c] = sum;
    }
  }
}

template <class Tiles>
__device__ inline void clear_sums(Tiles& tiles, int k, int columns) {
  const int row = static_cast<int>(threadIdx.x) / kLanesPerRow, lane = static_cast<int>(threadIdx.x) % kLanesPerRow;
  for (int c = lane; c < columns; c += kLanesPerRow) tiles.sums[k][row][c] = 0;
}

template <class T, class Tiles>
__device__ inline void store_sums(const Tiles& tiles, int k, float factor, T* out, int columns) {
  const int row = static_cast<int>(threadIdx.x) / kLanesPerRow, lane = static_cast<int>(threadIdx.x) % kLanesPerRow;
  for (int c = lane; c < columns; c += kLanesPerRow) out[c] = from_float<T>(tiles.sums[k][row][c] * factor);
}

// Over the 8 lanes of a row.
__device__ inline float lanes_sum(float value) {
  for (int distance = 1; distance < kLanesPerRow; distance *= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}
__device__ inline float lanes_max(float value) {
  for (int distance = 1; distance < kLanesPerRow; distance *= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

}  // namespace alma::ALMA_CUDA::portable

// Maximum and sum of exp of a row of logits, for the block that works on it; shared by argmax, log_softmax and sample.
#pragma once

#include "reduce.cuh"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA {

struct RowShared {
  float maximum[kMaxWarps];
  double sum[kMaxWarps];
  int index[kMaxWarps];
};

// visit(value, column) for the columns of this thread.
template <int N, class T, class Visit>
__device__ __forceinline__ void for_row(const T* row, int64_t count, const Visit& visit) {
  for (int64_t i = static_cast<int64_t>(threadIdx.x) * N; i < count; i += static_cast<int64_t>(blockDim.x) * N) {
    const Vector<T, N> vector = load_vector<N>(row + i);
#pragma unroll
    for (int lane = 0; lane < N; ++lane) visit(vector[lane], i + lane);
  }
}

// −inf for a row of NaN; otherwise NaN is passed over.
template <int N, class T>
__device__ __forceinline__ float row_maximum(const T* row, int64_t count, RowShared& shared) {
  float highest = -INFINITY;
  for_row<N>(row, count, [&](float value, int64_t) { highest = fmaxf(highest, value); });
  return block_max(highest, shared.maximum);
}

// Blocks of 16 or so terms in f32, their sums in f64.
template <int N, class T>
__device__ __forceinline__ double row_sum_of_exp(const T* row, int64_t count, float highest, RowShared& shared) {
  double total = 0;
  for (int64_t i = static_cast<int64_t>(threadIdx.x) * N; i < count; i += static_cast<int64_t>(blockDim.x) * N) {
    const Vector<T, N> vector = load_vector<N>(row + i);
    float part = 0;
#pragma unroll
    for (int lane = 0; lane < N; ++lane) part += expf(vector[lane] - highest);
    total += part;
  }
  return block_sum(total, shared.sum);
}

// The lowest column that has this value, or `none`.
template <int N, class T>
__device__ __forceinline__ int row_find(const T* row, int64_t count, float wanted, int none, RowShared& shared) {
  int first = 0x7fffffff;
  for_row<N>(row, count, [&](float value, int64_t column) {
    if (value == wanted) first = min(first, static_cast<int>(column));
  });
  first = block_min(first, shared.index);
  return first == 0x7fffffff ? none : first;
}

}  // namespace alma::ALMA_CUDA

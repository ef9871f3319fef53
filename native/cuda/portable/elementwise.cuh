// Ops that treat every element alike. An op is a struct with the pointers and
//   kLanes, kUnroll        elements a thread takes at a time, and how many times before it computes: loads in flight hide latency
//   struct Loaded          what it reads for kLanes elements
//   template <bool kWhole> Loaded load(int64_t i, int64_t n) const
//   template <bool kWhole> void finish(int64_t i, int64_t n, const Loaded&) const
// kWhole: all kLanes elements from i on, at an aligned address; otherwise the first n of them. All loads of an element come before
// its stores, by the same thread: results may lie in the place of operands.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "dispatch.h"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA {

constexpr int kElementwiseThreads = 256;

template <class Op>
__global__ void __launch_bounds__(kElementwiseThreads) elementwise_kernel(const Op op, int64_t count, bool is_aligned) {
  constexpr int64_t kStep = int64_t{kElementwiseThreads} * Op::kLanes;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kStep * Op::kUnroll;
  const int64_t first = begin + static_cast<int64_t>(threadIdx.x) * Op::kLanes;
  if (is_aligned && begin + kStep * Op::kUnroll <= count) {
    typename Op::Loaded loaded[Op::kUnroll];
#pragma unroll
    for (int u = 0; u < Op::kUnroll; ++u) loaded[u] = op.template load<true>(first + u * kStep, Op::kLanes);
#pragma unroll
    for (int u = 0; u < Op::kUnroll; ++u) op.template finish<true>(first + u * kStep, Op::kLanes, loaded[u]);
    return;
  }
  for (int u = 0; u < Op::kUnroll; ++u) {
    const int64_t i = first + u * kStep, n = count - i;
    if (is_aligned && n >= Op::kLanes) {
      op.template finish<true>(i, n, op.template load<true>(i, n));
    } else if (n > 0) {
      op.template finish<false>(i, n, op.template load<false>(i, n));
    }
  }
}

template <class Op>
void launch_elementwise(Context& context, const char* name, const Op& op, int64_t count, bool is_aligned) {
  if (count <= 0) return;
  const int64_t tile = int64_t{kElementwiseThreads} * Op::kLanes * Op::kUnroll;
  launch(context, name, {grid_of(name, ceil_div(count, tile)), dim3(kElementwiseThreads)}, elementwise_kernel<Op>, op,
         count, is_aligned);
}

}  // namespace alma::ALMA_CUDA

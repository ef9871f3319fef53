// Σ x or Σ x² in f64, and the count of elements that are not finite: one partial result a block over a part of the tensor that the
// count alone decides, then one block that adds them in a fixed order. 2 (bf16) or 4 bytes an element.
#include "../shared_memory.cuh"
#include "dispatch.h"
#include "ops.h"
#include "reduce.cuh"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1024;  // whatever the GPU is: the same bits on all of them
constexpr int kUnroll = 4;

template <class Sum>
struct Shared {
  Sum partial[kMaxWarps];
};

// f64 has a conversion a vector pair in bf16 squares: the squares are exact in f32, their sum is off by 2⁻²⁵ at most.
template <class T, bool kSquares>
struct SumTerms {
  using Sum = double;
  template <int N>
  __device__ __forceinline__ static double of(const Vector<T, N>& vector) {
    double total = 0;
    if constexpr (kSquares && sizeof(T) == 2) {
#pragma unroll
      for (int lane = 0; lane < N; lane += 2)
        total += static_cast<double>(fmaf(vector[lane], vector[lane], vector[lane + 1] * vector[lane + 1]));
    } else {
#pragma unroll
      for (int lane = 0; lane < N; ++lane) {
        const double value = vector[lane];
        total += kSquares ? value * value : value;
      }
    }
    return total;
  }
};

template <class T>
struct CountTerms {
  using Sum = long long;
  template <int N>
  __device__ __forceinline__ static long long of(const Vector<T, N>& vector) {
    int total = 0;
#pragma unroll
    for (int lane = 0; lane < N; ++lane) total += (__float_as_uint(vector[lane]) & 0x7f800000u) == 0x7f800000u;
    return total;
  }
};

template <class T, class Terms>
__global__ void __launch_bounds__(kThreads)
    partial_kernel(const T* x, int64_t count, bool is_aligned, typename Terms::Sum* partial) {
  using Sum = typename Terms::Sum;
  ALMA_SHARED(Shared<Sum>, shared);
  constexpr int N = kLanesOf<T>;
  constexpr int64_t kStep = int64_t{kThreads} * N;
  Sum total = 0;
  for (int64_t tile = static_cast<int64_t>(blockIdx.x) * kStep * kUnroll; tile < count;
       tile += static_cast<int64_t>(gridDim.x) * kStep * kUnroll) {
    const int64_t first = tile + static_cast<int64_t>(threadIdx.x) * N;
    Vector<T, N> value[kUnroll];
    if (is_aligned && tile + kStep * kUnroll <= count) {
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) value[u] = load_streaming<N>(x + first + u * kStep);
    } else {
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) value[u] = load_elements<N>(x + first + u * kStep, count - (first + u * kStep));
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) total += Terms::of(value[u]);
  }
  total = block_sum(total, shared.partial);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

template <class Sum>
__device__ __forceinline__ Sum sum_partials(const Sum* partial, int blocks, Shared<Sum>& shared) {
  Sum total = 0;
  for (int i = static_cast<int>(threadIdx.x); i < blocks; i += kThreads) total += partial[i];
  return block_sum(total, shared.partial);
}

__global__ void __launch_bounds__(kThreads)
    finish_sum_kernel(const double* partial, int blocks, bool accumulate, float* out) {
  ALMA_SHARED(Shared<double>, shared);
  const double total = sum_partials(partial, blocks, shared);
  if (threadIdx.x == 0) *out = static_cast<float>(accumulate ? *out + total : total);
}

__global__ void __launch_bounds__(kThreads) finish_count_kernel(const long long* partial, int blocks, int* out) {
  ALMA_SHARED(Shared<long long>, shared);
  const long long total = sum_partials(partial, blocks, shared) + *out;
  __syncthreads();  // *out has been read by all
  if (threadIdx.x == 0) *out = static_cast<int>(total < 0x7fffffff ? total : 0x7fffffff);
}

// How many blocks have written to `partial`.
template <class T, class Terms>
int partial_sums(Context& context, const char* op, const TensorRef& x, int64_t count, typename Terms::Sum* partial) {
  const int64_t needed = ceil_div(count, int64_t{kThreads} * kLanesOf<T> * kUnroll);
  const int64_t blocks = needed < kMostBlocks ? needed : kMostBlocks;
  launch(context, op, {grid_of(op, blocks), dim3(kThreads), sizeof(Shared<typename Terms::Sum>)},
         partial_kernel<T, Terms>, pointer<T>(x), count, aligned(16, x), partial);
  return static_cast<int>(blocks < 0 ? 0 : blocks);
}

}  // namespace

void reduce_sum(Context& context, const ReduceSumArgs& args) {
  auto* partial = static_cast<double*>(context.workspace->get(sizeof(double) * kMostBlocks));
  int blocks = 0;
  with_float("reduce_sum", args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_bool(args.squares, [&](auto squares) {
      blocks =
          partial_sums<T, SumTerms<T, decltype(squares)::value>>(context, "reduce_sum", args.x, args.count, partial);
    });
  });
  launch(context, "reduce_sum", {dim3(1), dim3(kThreads), sizeof(Shared<double>)}, finish_sum_kernel, partial, blocks,
         args.accumulate, pointer<float>(args.out));
}

void count_non_finite(Context& context, const CountNonFiniteArgs& args) {
  if (args.count <= 0) return;
  auto* partial = static_cast<long long*>(context.workspace->get(sizeof(long long) * kMostBlocks));
  int blocks = 0;
  with_float("count_non_finite", args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    blocks = partial_sums<T, CountTerms<T>>(context, "count_non_finite", args.x, args.count, partial);
  });
  launch(context, "count_non_finite", {dim3(1), dim3(kThreads), sizeof(Shared<long long>)}, finish_count_kernel,
         partial, blocks, pointer<int>(args.out));
}

}  // namespace alma::ALMA_CUDA::portable

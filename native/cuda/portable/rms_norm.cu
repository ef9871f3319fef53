// RMSNorm (Zhang & Sennrich, 2019), with the residual addition before it.
//
// A row stays in the registers of its threads between the sum of squares and the result, so that it is read once. Bytes an element:
// 4 (bf16) or 8, with a residual 8 or 16. The weight comes from L1.
#include "../shared_memory.cuh"
#include "dispatch.h"
#include "ops.h"
#include "reduce.cuh"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kSmallBlock = 256;  // short rows share a block of this many threads

template <class T, class TW>
struct Forward {
  const T* x;
  const T* residual;
  const TW* weight;
  T* y;
  T* sum;
  float* inverse_rms;
  int64_t rows, cols;
  float epsilon;
};

struct ForwardShared {
  float partial[kMaxWarps];
};

// A row has blockDim.x threads, each with kVectors vectors of it; the block has blockDim.y rows.
template <class T, class TW, int kVectors>
__global__ void __launch_bounds__(kMaxThreads) rms_norm_kernel(const Forward<T, TW> args) {
  ALMA_SHARED(ForwardShared, shared);
  constexpr int N = kLanesOf<T>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const int64_t cols = row < args.rows ? args.cols : 0;  // threads without a row go along to the barrier
  const int64_t begin = row * args.cols;
  const int first = static_cast<int>(threadIdx.x) * N, step = static_cast<int>(blockDim.x) * N;

  Vector<T, N> value[kVectors];
#pragma unroll
  for (int v = 0; v < kVectors; ++v)
    value[v] = load<true, N>(args.x + begin + first + v * step, cols - (first + v * step));
  if (args.residual != nullptr) {
    Vector<T, N> other[kVectors];
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
      other[v] = load<true, N>(args.residual + begin + first + v * step, cols - (first + v * step));
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      float total[N];
#pragma unroll
      for (int lane = 0; lane < N; ++lane) total[lane] = value[v][lane] + other[v][lane];
      // As it is stored, so that the backward pass, which reads it, differentiates what is computed here.
      value[v] = pack<T>(total);
      if (args.sum != nullptr) store<true>(args.sum + begin + first + v * step, cols - (first + v * step), value[v]);
    }
  }

  float squares = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v)
#pragma unroll
    for (int lane = 0; lane < N; ++lane) squares = fmaf(value[v][lane], value[v][lane], squares);
  const int warps = static_cast<int>(blockDim.x / kWarp);
  squares = group_sum(squares, static_cast<int>(threadIdx.x / kWarp), warps, shared.partial + threadIdx.y * warps);
  const float inverse = 1.0f / sqrtf(squares / static_cast<float>(args.cols) + args.epsilon);
  if (threadIdx.x == 0 && cols > 0 && args.inverse_rms != nullptr) args.inverse_rms[row] = inverse;

#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int64_t left = cols - (first + v * step);
    const Vector<TW, N> weight = load<true, N>(args.weight + first + v * step, left);
    float out[N];
#pragma unroll
    for (int lane = 0; lane < N; ++lane) out[lane] = value[v][lane] * inverse * weight[lane];
    store<true>(args.y + begin + first + v * step, left, pack<T>(out));
  }
}

// Rows of any length at any address, read twice, element by element.
template <class T, class TW>
__global__ void __launch_bounds__(kMaxThreads) rms_norm_any_kernel(const Forward<T, TW> args) {
  ALMA_SHARED(ForwardShared, shared);
  const int64_t row = blockIdx.x, begin = row * args.cols;
  const auto value = [&](int64_t i) {
    const float x = to_float(args.x[begin + i]);
    return args.residual == nullptr ? x : rounded_to<T>(x + to_float(args.residual[begin + i]));
  };
  float squares = 0;
  for (int64_t i = threadIdx.x; i < args.cols; i += blockDim.x) squares = fmaf(value(i), value(i), squares);
  const float inverse = 1.0f / sqrtf(block_sum(squares, shared.partial) / static_cast<float>(args.cols) + args.epsilon);
  if (threadIdx.x == 0 && args.inverse_rms != nullptr) args.inverse_rms[row] = inverse;
  for (int64_t i = threadIdx.x; i < args.cols; i += blockDim.x) {
    const float v = value(i);
    if (args.residual != nullptr && args.sum != nullptr) args.sum[begin + i] = from_float<T>(v);
    args.y[begin + i] = from_float<T>(v * inverse * to_float(args.weight[i]));
  }
}

template <class T, class TW, int kVectors>
void run_forward(Context& context, const Forward<T, TW>& args) {
  const unsigned threads = threads_for(ceil_div(args.cols / kLanesOf<T>, kVectors), kMaxThreads);
  const unsigned rows = threads < kSmallBlock ? kSmallBlock / threads : 1;
  launch(context, "rms_norm",
         {grid_of("rms_norm", ceil_div(args.rows, rows)), dim3(threads, rows), sizeof(ForwardShared)},
         rms_norm_kernel<T, TW, kVectors>, args);
}

template <class T, class TW>
void forward(Context& context, const RmsNormArgs& args) {
  const Forward<T, TW> call{pointer<T>(args.x),
                            pointer<T>(args.residual),
                            pointer<TW>(args.weight),
                            pointer<T>(args.y),
                            pointer<T>(args.sum),
                            pointer<float>(args.inverse_rms),
                            args.rows,
                            args.cols,
                            args.epsilon};
  const int64_t vectors = args.cols / kLanesOf<T>;
  if (args.cols % kLanesOf<T> != 0 || vectors > 4 * kMaxThreads ||
      !aligned(16, args.x, args.residual, args.weight, args.y, args.sum)) {
    const LaunchShape shape{grid_of("rms_norm", args.rows), dim3(threads_for(ceil_div(args.cols, 8), kMaxThreads)),
                            sizeof(ForwardShared)};
    return launch(context, "rms_norm", shape, rms_norm_any_kernel<T, TW>, call);
  }
  if (vectors <= 128) return run_forward<T, TW, 1>(context, call);
  run_forward<T, TW, 4>(context, call);
}

}  // namespace

void rms_norm(Context& context, const RmsNormArgs& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  for (const TensorRef* other : {&args.residual, &args.y, &args.sum}) same_dtype("rms_norm", args.x, *other);
  with_float("rms_norm", args.x.dtype, [&](auto tag) {
    with_float("rms_norm", args.weight.dtype, [&](auto tag_weight) {
      forward<typename decltype(tag)::type, typename decltype(tag_weight)::type>(context, args);
    });
  });
}

}  // namespace alma::ALMA_CUDA::portable

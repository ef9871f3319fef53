// The gradient of RMSNorm: dx = (dy·w − x·mean(dy·w·x)·inverse²)·inverse and dw = Σ dy·x·inverse over the rows.
//
// Workers (a row's worth of threads) walk over the rows; each sums its part of dw in registers and writes it once, and a second kernel
// adds the parts in order. Bytes an element: 6 (bf16) or 12, with accumulate_dx 8 or 16.
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
struct Backward {
  const T* dy;
  const T* x;
  const TW* weight;
  const float* inverse_rms;
  T* dx;
  float* parts;  // [workers, cols], or null
  int64_t rows, cols;
  bool accumulate_dx;
};

constexpr int kBackwardThreads = 512;

struct BackwardShared {
  float partial[2][kMaxWarps];  // in turns, so that one barrier a row is enough
};

template <class T, class TW, int kVectors>
__global__ void __launch_bounds__(kBackwardThreads) rms_norm_backward_kernel(const Backward<T, TW> args) {
  ALMA_SHARED(BackwardShared, shared);
  constexpr int N = kLanesOf<T>;
  // The next row is loaded while the sum over this one is waited for; with 4 vectors it would not fit into the registers.
  constexpr bool kAhead = kVectors < 4;
  const int first = static_cast<int>(threadIdx.x) * N, step = static_cast<int>(blockDim.x) * N;
  const int warps = static_cast<int>(blockDim.x / kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  const int64_t workers = static_cast<int64_t>(gridDim.x) * blockDim.y;

  Vector<TW, N> weight[kVectors];
  float dweight[kVectors][N] = {};
#pragma unroll
  for (int v = 0; v < kVectors; ++v)
    weight[v] = load<true, N>(args.weight + first + v * step, args.cols - (first + v * step));

  Vector<T, N> dy[kVectors], x[kVectors];
  const auto load_row = [&](int64_t row) {
    const int64_t cols = row < args.rows ? args.cols : 0, begin = row * args.cols;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      dy[v] = load<true, N>(args.dy + begin + first + v * step, cols - (first + v * step));
      x[v] = load<true, N>(args.x + begin + first + v * step, cols - (first + v * step));
    }
  };

  int turn = 0;
  const int64_t mine = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if constexpr (kAhead) load_row(mine);
  // All rows of the block make as many rounds: there is a barrier in each.
  for (int64_t round = static_cast<int64_t>(blockIdx.x) * blockDim.y; round < args.rows; round += workers) {
    const int64_t row = round + threadIdx.y;
    const int64_t cols = row < args.rows ? args.cols : 0, begin = row * args.cols;
    if constexpr (!kAhead) load_row(row);
    const float inverse = row < args.rows ? args.inverse_rms[row] : 0.0f;
    float dots = 0;
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
#pragma unroll
      for (int lane = 0; lane < N; ++lane) dots = fmaf(dy[v][lane] * weight[v][lane], x[v][lane], dots);
    Vector<T, N> now_dy[kVectors], now_x[kVectors];
#pragma unroll
    for (int v = 0; v < kVectors; ++v) now_dy[v] = dy[v], now_x[v] = x[v];
    if constexpr (kAhead) load_row(row + workers);
    dots = group_sum(dots, warp, warps, shared.partial[turn] + threadIdx.y * warps);
    turn ^= 1;
    const float shrink = dots / static_cast<float>(args.cols) * inverse * inverse;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int64_t left = cols - (first + v * step);
      T* at = args.dx + begin + first + v * step;
      float gradient[N];
#pragma unroll
      for (int lane = 0; lane < N; ++lane) {
        const float g = now_dy[v][lane], value = now_x[v][lane];
        dweight[v][lane] = fmaf(g * value, inverse, dweight[v][lane]);
        gradient[lane] = (g * weight[v][lane] - value * shrink) * inverse;
      }
      if (args.accumulate_dx) {
        const Vector<T, N> before = load<true, N>(at, left);
#pragma unroll
        for (int lane = 0; lane < N; ++lane) gradient[lane] += before[lane];
      }
      store<true>(at, left, pack<T>(gradient));
    }
  }
  if (args.parts == nullptr) return;
#pragma unroll
  for (int v = 0; v < kVectors; ++v)
    store<true>(args.parts + mine * args.cols + first + v * step, args.cols - (first + v * step),
                pack<float>(dweight[v]));
}

// dx alone, rows of any length at any address.
template <class T, class TW>
__global__ void __launch_bounds__(kMaxThreads) rms_norm_backward_any_kernel(const Backward<T, TW> args) {
  ALMA_SHARED(BackwardShared, shared);
  const int64_t row = blockIdx.x, begin = row * args.cols;
  const float inverse = args.inverse_rms[row];
  float dots = 0;
  for (int64_t i = threadIdx.x; i < args.cols; i += blockDim.x)
    dots = fmaf(to_float(args.dy[begin + i]) * to_float(args.weight[i]), to_float(args.x[begin + i]), dots);
  const float shrink = block_sum(dots, shared.partial[0]) / static_cast<float>(args.cols) * inverse * inverse;
  for (int64_t i = threadIdx.x; i < args.cols; i += blockDim.x) {
    float gradient =
        (to_float(args.dy[begin + i]) * to_float(args.weight[i]) - to_float(args.x[begin + i]) * shrink) * inverse;
    if (args.accumulate_dx) gradient += to_float(args.dx[begin + i]);
    args.dx[begin + i] = from_float<T>(gradient);
  }
}

constexpr int kColumns = 32, kSlices = 8;  // of a block that sums over rows

struct ColumnShared {
  float slice[kSlices][kColumns];
};

// The slices of a block's columns, added in order; the result is thread (x, 0)'s.
__device__ __forceinline__ float add_slices(ColumnShared& shared, float value) {
  shared.slice[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  float total = 0;
  for (int s = 0; s < kSlices; ++s) total += shared.slice[s][threadIdx.x];
  return total;
}

// parts[worker, column] of dw for rows of any length at any address: worker blockIdx.y takes every gridDim.y-th bunch of rows.
template <class T, class TW>
__global__ void __launch_bounds__(kColumns* kSlices) dweight_any_kernel(const Backward<T, TW> args) {
  ALMA_SHARED(ColumnShared, shared);
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  float total = 0;
  if (column < args.cols) {
    for (int64_t row = static_cast<int64_t>(blockIdx.y) * kSlices + threadIdx.y; row < args.rows;
         row += gridDim.y * kSlices) {
      const int64_t at = row * args.cols + column;
      total = fmaf(to_float(args.dy[at]) * to_float(args.x[at]), args.inverse_rms[row], total);
    }
  }
  total = add_slices(shared, total);
  if (threadIdx.y == 0 && column < args.cols) args.parts[blockIdx.y * args.cols + column] = total;
}

__global__ void __launch_bounds__(kColumns* kSlices)
    dweight_kernel(const float* parts, int64_t workers, int64_t cols, float* dweight) {
  ALMA_SHARED(ColumnShared, shared);
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  float total = 0;
  if (column < cols)
    for (int64_t worker = threadIdx.y; worker < workers; worker += kSlices) total += parts[worker * cols + column];
  total = add_slices(shared, total);
  if (threadIdx.y == 0 && column < cols) dweight[column] += total;
}

float* parts_of(Context& context, int64_t workers, int64_t cols) {
  return static_cast<float*>(context.workspace->get(sizeof(float) * static_cast<size_t>(workers * cols)));
}

template <class T, class TW>
void add_parts(Context& context, const Backward<T, TW>& call, int64_t workers, const RmsNormBackwardArgs& args) {
  if (call.parts == nullptr) return;
  const LaunchShape shape{grid_of("rms_norm_backward", ceil_div(args.cols, kColumns)), dim3(kColumns, kSlices),
                          sizeof(ColumnShared)};
  launch(context, "rms_norm_backward", shape, dweight_kernel, call.parts, workers, args.cols,
         pointer<float>(args.dweight));
}

template <class T, class TW, int kVectors>
void run_backward(Context& context, const RmsNormBackwardArgs& args, Backward<T, TW> call) {
  const unsigned threads = threads_for(ceil_div(args.cols / kLanesOf<T>, kVectors), kBackwardThreads);
  const unsigned rows = threads < kSmallBlock ? kSmallBlock / threads : 1;
  // Two blocks of 256 threads a multiprocessor at least: what fits beside each other at 80 to 128 registers.
  const int64_t most = int64_t{context.properties.multiprocessors} * (threads > kSmallBlock ? 1 : 2);
  const int64_t needed = ceil_div(args.rows, rows), blocks = needed < most ? needed : most;
  if (args.dweight.data != nullptr) call.parts = parts_of(context, blocks * rows, args.cols);
  const LaunchShape shape{grid_of("rms_norm_backward", blocks), dim3(threads, rows), sizeof(BackwardShared)};
  launch(context, "rms_norm_backward", shape, rms_norm_backward_kernel<T, TW, kVectors>, call);
  add_parts(context, call, blocks * rows, args);
}

template <class T, class TW>
void run_backward_any(Context& context, const RmsNormBackwardArgs& args, Backward<T, TW> call) {
  const int64_t bunches = ceil_div(args.rows, int64_t{kSlices} * 4), workers = bunches < 64 ? bunches : 64;
  const dim3 column_grid = grid_of("rms_norm_backward", ceil_div(args.cols, kColumns));
  if (args.dweight.data != nullptr) {  // first, because dx may be dy
    call.parts = parts_of(context, workers, args.cols);
    launch(context, "rms_norm_backward",
           {dim3(column_grid.x, static_cast<unsigned>(workers)), dim3(kColumns, kSlices), sizeof(ColumnShared)},
           dweight_any_kernel<T, TW>, call);
  }
  const LaunchShape shape{grid_of("rms_norm_backward", args.rows),
                          dim3(threads_for(ceil_div(args.cols, 8), kMaxThreads)), sizeof(BackwardShared)};
  launch(context, "rms_norm_backward", shape, rms_norm_backward_any_kernel<T, TW>, call);
  add_parts(context, call, workers, args);
}

template <class T, class TW>
void backward(Context& context, const RmsNormBackwardArgs& args) {
  const Backward<T, TW> call{pointer<T>(args.dy),
                             pointer<T>(args.x),
                             pointer<TW>(args.weight),
                             pointer<float>(args.inverse_rms),
                             pointer<T>(args.dx),
                             nullptr,
                             args.rows,
                             args.cols,
                             args.accumulate_dx};
  const int64_t vectors = args.cols / kLanesOf<T>;
  // 8,192 columns in either dtype: more accumulators of dw than that do not fit into the registers.
  constexpr int kMostVectors = sizeof(T) == 2 ? 2 : 4;
  if (args.cols % kLanesOf<T> != 0 || vectors > kMostVectors * kBackwardThreads ||
      !aligned(16, args.dy, args.x, args.weight, args.dx))
    return run_backward_any<T, TW>(context, args, call);
  if (vectors <= 2 * kBackwardThreads) return run_backward<T, TW, 2>(context, args, call);
  if constexpr (kMostVectors == 4) run_backward<T, TW, 4>(context, args, call);
}

}  // namespace

void rms_norm_backward(Context& context, const RmsNormBackwardArgs& args) {
  if (args.rows <= 0 || args.cols <= 0) return;
  same_dtype("rms_norm_backward", args.x, args.dy);
  same_dtype("rms_norm_backward", args.x, args.dx);
  with_float("rms_norm_backward", args.x.dtype, [&](auto tag) {
    with_float("rms_norm_backward", args.weight.dtype, [&](auto tag_weight) {
      backward<typename decltype(tag)::type, typename decltype(tag_weight)::type>(context, args);
    });
  });
}

}  // namespace alma::ALMA_CUDA::portable

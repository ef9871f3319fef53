// Negative log-likelihood of the targets, and its gradient, in place where wanted.
//
// A block takes a row, last rows first: the matmul before has just written them, they are still in L2. Rows of up to 65,536 bf16 or
// 32,768 f32 columns stay in registers, so that memory is read once and written once: 4 or 8 bytes an element. Longer rows are
// read again, from L2 for the most part.
#include "../ptx/opaque.cuh"
#include "../shared_memory.cuh"
#include "../value_error.h"
#include "dispatch.h"
#include "ops.h"
#include "reduce.cuh"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kMaxThreads = 1024;

template <class T>
struct Call {
  const T* logits;  // may be dlogits: no __restrict__
  const int* targets;
  float* nll;
  float* log_sum_exp;
  T* dlogits;
  const float* grad_scale;
  const float* row_scale;
  int64_t rows, vocab;
  int ignore_index;
  double label_smoothing, inverse_vocab;
  ValueError* error;
};

struct Shared {
  float maximum[kMaxWarps];
  double sum[kMaxWarps];
  double above[kMaxWarps];
  float target_logit;  // thread 0's: the others need their registers for the row
};

template <class T>
__device__ __forceinline__ float exponential(float x) {
  if constexpr (sizeof(T) == 2) {
    return __expf(x);  // 27 instruction slots an element at full bandwidth, for two of them
  } else {
    return expf(x);
  }
}

// One row, as the whole block sees it.
struct Row {
  int64_t index;
  int target;  // −1: ignored
};

template <class T>
__device__ __forceinline__ Row row_of(const Call<T>& call, Shared& shared) {
  Row row{call.rows - 1 - static_cast<int64_t>(blockIdx.x), -1};
  const int target = call.targets[row.index];
  if (target != call.ignore_index && check_index(call.error, ValueCheck::cross_entropy_target, target, call.vocab)) {
    row.target = target;
    if (threadIdx.x == 0)  // before anybody overwrites it
      shared.target_logit = to_float(call.logits[row.index * call.vocab + target]);
  }
  return row;
}

// What is kept of the row: thread 0, last of all, when the row no longer occupies registers. In f64, so that log(1 + small) keeps
// its digits; (target − highest) first, because lse − target would cancel. `mean` is that of the logits less the highest.
template <bool kSmoothed, class T>
__device__ __forceinline__ void finish_row(const Call<T>& call, const Row& row, const Shared& shared, float highest,
                                           double sum, double mean = 0) {
  if (threadIdx.x != 0) return;
  const double log_sum = log(sum);
  if (call.log_sum_exp != nullptr) call.log_sum_exp[row.index] = static_cast<float>(highest + log_sum);
  if (call.nll == nullptr) return;
  if (row.target < 0) {
    call.nll[row.index] = 0;
    return;
  }
  double nll = log_sum - (static_cast<double>(shared.target_logit) - highest);
  if constexpr (kSmoothed) nll += call.label_smoothing * (log_sum - mean - nll);
  call.nll[row.index] = static_cast<float>(nll);
}

// What the gradient of a row is made of: factor · exp(logit − highest) − everywhere, and at the target less `at_target`.
struct Scales {
  float factor, everywhere, at_target;
};

template <bool kSmoothed, class T>
__device__ __forceinline__ Scales scales_of(const Call<T>& call, const Row& row, double sum) {
  float scale = row.target < 0 ? 0.0f : 1.0f;
  if (call.grad_scale != nullptr) scale *= call.grad_scale[0];
  if (call.row_scale != nullptr) scale *= call.row_scale[row.index];
  const float factor = scale / static_cast<float>(sum);
  if constexpr (!kSmoothed) return {factor, 0.0f, scale};
  return {factor, static_cast<float>(scale * (call.label_smoothing * call.inverse_vocab)),
          static_cast<float>(scale * (1 - call.label_smoothing))};
}

// The gradient of N columns from `column` on.
template <class T, int N>
__device__ __forceinline__ Vector<T, N> gradient(const Vector<T, N>& logits, const Row& row, int64_t column,
                                                 float highest, const Scales& scales) {
  float values[N];
  const auto offset = static_cast<int>(row.target - column);
#pragma unroll
  for (int lane = 0; lane < N; ++lane) {
    values[lane] = exponential<T>(logits[lane] - highest) * scales.factor - scales.everywhere;
    if (offset == lane) values[lane] -= scales.at_target;
  }
  return pack<T>(values);
}

template <class T, int N>
__device__ __forceinline__ Vector<T, N> zeros() {
  const float values[N] = {};
  return pack<T>(values);
}

// Between two passes over the registers: otherwise the compiler keeps bf16 values as the f32 it has made of them.
template <class T, int N, int kVectors>
__device__ __forceinline__ void keep_packed(Vector<T, N> (&value)[kVectors]) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v)
#pragma unroll
    for (int word = 0; word < 4; ++word) ptx::make_opaque(reinterpret_cast<uint32_t*>(value[v].elements)[word]);
}

// The row in registers: kVectors · kLanes · blockDim.x columns at most.
template <class T, int kVectors, int kThreads>
__global__ void __launch_bounds__(kThreads, 1024 / kThreads) cross_entropy_kernel(const Call<T> call) {
  ALMA_SHARED(Shared, shared);
  constexpr int N = kLanesOf<T>;
  const Row row = row_of(call, shared);
  const int64_t begin = row.index * call.vocab;
  const int first = static_cast<int>(threadIdx.x) * N, step = static_cast<int>(blockDim.x) * N;
  const int vocab = static_cast<int>(call.vocab);

  const bool ignored = row.target < 0;
  if (ignored && call.log_sum_exp == nullptr) {  // nothing is asked about this row
    if (threadIdx.x == 0 && call.nll != nullptr) call.nll[row.index] = 0;
    if (call.dlogits == nullptr) return;
#pragma unroll
    for (int v = 0; v < kVectors; ++v)
      store<true>(call.dlogits + begin + first + v * step, vocab - (first + v * step), zeros<T, N>());
    return;
  }
  Vector<T, N> value[kVectors];
#pragma unroll
  for (int v = 0; v < kVectors; ++v)
    value[v] = load<true, N>(call.logits + begin + first + v * step, vocab - (first + v * step));
  float highest = -INFINITY;
#pragma unroll
  for (int v = 0; v < kVectors; ++v)
    if (first + v * step < vocab)
#pragma unroll
      for (int lane = 0; lane < N; ++lane) highest = fmaxf(highest, value[v][lane]);
  highest = block_max(highest, shared.maximum);
  keep_packed(value);
  double sum = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    if (first + v * step >= vocab) break;
    float part = 0;
#pragma unroll
    for (int lane = 0; lane < N; ++lane) part += exponential<T>(value[v][lane] - highest);
    sum += part;
  }
  sum = block_sum(sum, shared.sum);
  if (call.dlogits != nullptr) {
    __syncthreads();  // the target's logit has been read
    keep_packed(value);
    const Scales scales = scales_of<false>(call, row, sum);
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int column = first + v * step;
      const Vector<T, N> out = ignored ? zeros<T, N>() : gradient(value[v], row, column, highest, scales);
      store<true>(call.dlogits + begin + column, vocab - column, out);
    }
  }
  finish_row<false>(call, row, shared, highest, sum);
}

// Rows of any length, N columns at a time: whole vectors, or 1 at any address. With label smoothing too.
template <class T, int N, bool kSmoothed>
__global__ void __launch_bounds__(kMaxThreads) cross_entropy_long_kernel(const Call<T> call) {
  ALMA_SHARED(Shared, shared);
  const Row row = row_of(call, shared);
  const T* logits = call.logits + row.index * call.vocab;
  T* dlogits = call.dlogits + row.index * call.vocab;
  const int64_t first = static_cast<int64_t>(threadIdx.x) * N, step = static_cast<int64_t>(blockDim.x) * N;
  const bool ignored = row.target < 0;
  if (ignored && call.log_sum_exp == nullptr) {
    if (threadIdx.x == 0 && call.nll != nullptr) call.nll[row.index] = 0;
    if (call.dlogits != nullptr)
      for (int64_t i = first; i < call.vocab; i += step) store_vector(dlogits + i, zeros<T, N>());
    return;
  }
  float highest = -INFINITY;
  for (int64_t i = first; i < call.vocab; i += step) {
    const Vector<T, N> value = load_vector<N>(logits + i);
#pragma unroll
    for (int lane = 0; lane < N; ++lane) highest = fmaxf(highest, value[lane]);
  }
  highest = block_max(highest, shared.maximum);
  double sum = 0;
  for (int64_t i = first; i < call.vocab; i += step) {
    const Vector<T, N> value = load_vector<N>(logits + i);
    float part = 0;
#pragma unroll
    for (int lane = 0; lane < N; ++lane) part += exponential<T>(value[lane] - highest);
    sum += part;
  }
  sum = block_sum(sum, shared.sum);
  double mean = 0;
  if constexpr (kSmoothed) {
    for (int64_t i = first; i < call.vocab; i += step) {
      const Vector<T, N> value = load_vector<N>(logits + i);
      float part = 0;
#pragma unroll
      for (int lane = 0; lane < N; ++lane) part += value[lane] - highest;
      mean += part;
    }
    mean = block_sum(mean, shared.above) * call.inverse_vocab;
  }
  if (call.dlogits != nullptr) {
    __syncthreads();
    const Scales scales = scales_of<kSmoothed>(call, row, sum);
    for (int64_t i = first; i < call.vocab; i += step)
      store_vector(dlogits + i,
                   ignored ? zeros<T, N>() : gradient(load_vector<N>(logits + i), row, i, highest, scales));
  }
  finish_row<kSmoothed>(call, row, shared, highest, sum, mean);
}

template <class T>
void run(Context& context, const CrossEntropyArgs& args) {
  const Call<T> call{pointer<T>(args.logits),
                     pointer<int>(args.targets),
                     pointer<float>(args.nll),
                     pointer<float>(args.log_sum_exp),
                     pointer<T>(args.dlogits),
                     pointer<float>(args.grad_scale),
                     pointer<float>(args.row_scale),
                     args.rows,
                     args.vocab,
                     args.ignore_index,
                     args.label_smoothing,
                     1.0 / static_cast<double>(args.vocab),
                     context.value_error};
  constexpr int N = kLanesOf<T>;
  const int64_t vectors = args.vocab / N;
  const bool whole = args.vocab % N == 0 && aligned(16, args.logits, args.dlogits);
  const auto start = [&](int64_t threads, void (*kernel)(const Call<T>)) {
    const LaunchShape shape{grid_of("cross_entropy", args.rows), dim3(threads_for(threads, kMaxThreads)),
                            sizeof(Shared)};
    launch(context, "cross_entropy", shape, kernel, call);
  };
  with_bool(args.label_smoothing > 0, [&](auto smoothed) {
    constexpr bool kSmoothed = decltype(smoothed)::value;
    if (!whole) return start(ceil_div(args.vocab, 8), cross_entropy_long_kernel<T, 1, kSmoothed>);
    if (kSmoothed || vectors > 8 * kMaxThreads) return start(kMaxThreads, cross_entropy_long_kernel<T, N, kSmoothed>);
    if (vectors <= 512) return start(ceil_div(vectors, 2), cross_entropy_kernel<T, 2, 256>);
    start(ceil_div(vectors, 8), cross_entropy_kernel<T, 8, 1024>);
  });
}

}  // namespace

void cross_entropy(Context& context, const CrossEntropyArgs& args) {
  if (args.rows <= 0) return;
  same_dtype("cross_entropy", args.logits, args.dlogits);
  with_float("cross_entropy", args.logits.dtype, [&](auto tag) { run<typename decltype(tag)::type>(context, args); });
}

}  // namespace alma::ALMA_CUDA::portable

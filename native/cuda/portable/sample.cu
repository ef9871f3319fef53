// One draw a row from softmax(logits / temperature) after top-k and top-p: the draw that native/cpu/sample.cpp defines, up to the
// rounding of exp and of sums. A block takes a row after the other, with the row's weights in scratch memory (L2).
#include "../../runtime/philox.h"
#include "../shared_memory.cuh"
#include "dispatch.h"
#include "ops.h"
#include "row_statistics.cuh"
#include "truncation.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kMaxThreads = 1024;

template <class T>
struct Call {
  const T* logits;
  int* ids;
  float* logprob;
  const int* stream;
  const int* position;
  float* weights;  // [blocks, vocab]
  int64_t rows, vocab;
  float temperature, top_p;
  int top_k;
  PhiloxKey key;
};

struct Shared {
  RowShared row;
  TruncationShared truncation;
  double sums[kMaxWarps];
  double total;
  int id;
};

// In [0, 1), from 53 random bits.
__device__ __forceinline__ double uniform(PhiloxKey key, int stream, int position) {
  const PhiloxBlock random = philox(key, {{static_cast<uint32_t>(position), static_cast<uint32_t>(stream), 0, 0}});
  const uint64_t bits = (uint64_t{random[0]} << 32 | random[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

template <class T>
__device__ __forceinline__ void fill_weights(const Call<T>& call, const T* logits, float* weights, float highest,
                                             Shared& shared) {
  if (call.temperature > 0 && isfinite(highest)) {
    const float scale = 1.0f / call.temperature;
    for (int64_t i = threadIdx.x; i < call.vocab; i += blockDim.x) {
      const float weight = expf((to_float(logits[i]) - highest) * scale);
      weights[i] = weight >= 0 ? weight : 0.0f;  // NaN is never drawn
    }
  } else if (call.temperature > 0) {  // infinite logits: the largest share
    for (int64_t i = threadIdx.x; i < call.vocab; i += blockDim.x)
      weights[i] = to_float(logits[i]) == highest ? 1.0f : 0.0f;
  } else {
    const int first = row_find<1>(logits, call.vocab, highest, -1, shared.row);
    for (int64_t i = threadIdx.x; i < call.vocab; i += blockDim.x) weights[i] = i == first ? 1.0f : 0.0f;
  }
  __syncthreads();
}

// The first id at which the sum of the weights passes random · total; the last one with a weight where rounding leaves none.
__device__ __forceinline__ int draw(const float* weights, int64_t count, double random, Shared& shared) {
  const int64_t each = (count + blockDim.x - 1) / blockDim.x;
  const int64_t begin = each * threadIdx.x, end = begin + each < count ? begin + each : count;
  double mine = 0;
  int last = -1;
  for (int64_t i = begin; i < end; ++i) {
    mine += weights[i];
    if (weights[i] > 0) last = static_cast<int>(i);
  }
  const double before = block_exclusive_sum(mine, shared.sums);
  if (threadIdx.x == blockDim.x - 1) shared.total = before + mine;
  __syncthreads();
  const double target = random * shared.total;
  constexpr int kNone = 0x7fffffff;
  const int thread = last >= 0 && before + mine > target ? static_cast<int>(threadIdx.x) : kNone;
  const int chosen = block_min(thread, shared.row.index);
  __syncthreads();
  const int highest = -block_min(-last, shared.row.index);  // −1 becomes 1: no id is negative
  if (chosen == kNone) return highest < 0 ? 0 : highest;
  if (static_cast<int>(threadIdx.x) == chosen) {
    double below = before;
    int id = last;
    for (int64_t i = begin; i < end; ++i) {
      if (!(weights[i] > 0)) continue;
      below += weights[i];
      if (below > target) {
        id = static_cast<int>(i);
        break;
      }
    }
    shared.id = id;
  }
  __syncthreads();
  return shared.id;
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads) sample_kernel(const Call<T> call) {
  ALMA_SHARED(Shared, shared);
  float* weights = call.weights + blockIdx.x * call.vocab;
  for (int64_t row = blockIdx.x; row < call.rows; row += gridDim.x) {
    __syncthreads();
    const T* logits = call.logits + row * call.vocab;
    const float highest = row_maximum<1>(logits, call.vocab, shared.row);
    const double sum = call.logprob != nullptr ? row_sum_of_exp<1>(logits, call.vocab, highest, shared.row) : 1.0;
    fill_weights(call, logits, weights, highest, shared);
    if (call.top_k > 0 && call.top_k < call.vocab) {
      const float threshold = kth_largest(logits, call.vocab, call.top_k, shared.truncation);
      for (int64_t i = threadIdx.x; i < call.vocab; i += blockDim.x)
        if (to_float(logits[i]) < threshold) weights[i] = 0;
      __syncthreads();
    }
    if (call.top_p < 1) keep_nucleus(weights, call.vocab, call.top_p, 1, shared.truncation);
    const double random = uniform(call.key, call.stream != nullptr ? call.stream[row] : 0,
                                  call.position != nullptr ? call.position[row] : 0);
    const int id = draw(weights, call.vocab, random, shared);
    if (threadIdx.x != 0) continue;
    call.ids[row] = id;
    if (call.logprob != nullptr) call.logprob[row] = to_float(logits[id]) - static_cast<float>(highest + log(sum));
  }
}

}  // namespace

void sample(Context& context, const SampleArgs& args) {
  if (args.rows <= 0 || args.vocab <= 0) return;
  if (args.vocab > kMostTruncated) fail("sample", "vocab is above 2^20");
  const int64_t most = int64_t{2} * context.properties.multiprocessors, blocks = args.rows < most ? args.rows : most;
  auto* weights = static_cast<float*>(context.workspace->get(sizeof(float) * static_cast<size_t>(blocks * args.vocab)));
  with_float("sample", args.logits.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Call<T> call{pointer<T>(args.logits),
                       pointer<int>(args.ids),
                       pointer<float>(args.logprob),
                       pointer<int>(args.stream),
                       pointer<int>(args.position),
                       weights,
                       args.rows,
                       args.vocab,
                       args.temperature,
                       args.top_p,
                       args.top_k,
                       philox_key(args.seed)};
    const LaunchShape shape{grid_of("sample", blocks), dim3(threads_for(ceil_div(args.vocab, 8), kMaxThreads)),
                            sizeof(Shared)};
    launch(context, "sample", shape, sample_kernel<T>, call);
  });
}

}  // namespace alma::ALMA_CUDA::portable

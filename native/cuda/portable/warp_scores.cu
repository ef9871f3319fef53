// Temperature, top-k and top-p on rows from which several tokens will be drawn. A block takes a row after the other.
#include "../shared_memory.cuh"
#include "dispatch.h"
#include "ops.h"
#include "row_statistics.cuh"
#include "truncation.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kMaxThreads = 1024;

struct Call {
  float* scores;
  float* weights;  // [blocks, vocab]
  int64_t rows, vocab;
  float temperature, top_p;
  int top_k, keep;
};

struct Shared {
  RowShared row;
  TruncationShared truncation;
};

__global__ void __launch_bounds__(kMaxThreads) warp_scores_kernel(const Call call) {
  ALMA_SHARED(Shared, shared);
  float* weights = call.weights + blockIdx.x * call.vocab;
  for (int64_t row = blockIdx.x; row < call.rows; row += gridDim.x) {
    __syncthreads();
    float* scores = call.scores + row * call.vocab;
    for (int64_t i = threadIdx.x; i < call.vocab; i += blockDim.x) {
      const float x = scores[i] / call.temperature;
      scores[i] = isnan(x) ? -INFINITY : x;
    }
    __syncthreads();
    const float highest = row_maximum<1>(scores, call.vocab, shared.row);
    if (call.top_k > 0) {
      const int64_t k = max(call.top_k, call.keep);
      const float threshold = k < call.vocab ? kth_largest(scores, call.vocab, k, shared.truncation) : -INFINITY;
      __syncthreads();
      for (int64_t i = threadIdx.x; i < call.vocab; i += blockDim.x)
        if (scores[i] < threshold) scores[i] = -INFINITY;
    }
    if (call.top_p >= 1 || !isfinite(highest)) continue;
    // Weights decide what stays; scores so low that their weight is 0 are outside every nucleus.
    for (int64_t i = threadIdx.x; i < call.vocab; i += blockDim.x) weights[i] = expf(scores[i] - highest);
    __syncthreads();
    keep_nucleus(weights, call.vocab, call.top_p, call.keep, shared.truncation);
    for (int64_t i = threadIdx.x; i < call.vocab; i += blockDim.x)
      if (!(weights[i] > 0)) scores[i] = -INFINITY;
  }
}

}  // namespace

void warp_scores(Context& context, const WarpScoresArgs& args) {
  if (args.scores.dtype != DType::f32) fail("warp_scores", "needs f32 scores");
  if (!(args.temperature > 0)) fail("warp_scores", "temperature is not above 0");
  if (args.rows <= 0 || args.vocab <= 0) return;
  if (args.vocab > kMostTruncated) fail("warp_scores", "vocab is above 2^20");
  const int64_t most = int64_t{2} * context.properties.multiprocessors, blocks = args.rows < most ? args.rows : most;
  auto* weights = static_cast<float*>(context.workspace->get(sizeof(float) * static_cast<size_t>(blocks * args.vocab)));
  const Call call{
      pointer<float>(args.scores), weights, args.rows, args.vocab, args.temperature, args.top_p, args.top_k, args.keep};
  const LaunchShape shape{grid_of("warp_scores", blocks), dim3(threads_for(ceil_div(args.vocab, 8), kMaxThreads)),
                          sizeof(Shared)};
  launch(context, "warp_scores", shape, warp_scores_kernel, call);
}

}  // namespace alma::ALMA_CUDA::portable

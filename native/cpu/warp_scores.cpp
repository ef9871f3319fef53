// Temperature, top-k and top-p on rows from which several tokens will be drawn.
#include <cmath>
#include <limits>

#include "kernels.h"
#include "truncation.h"

namespace alma::cpu {

void warp_scores(ThreadPool& pool, const Kernels& kernels, const WarpScoresArgs& args) {
  const int64_t vocab = args.vocab;
  if (args.scores.dtype != DType::f32) fail("warp_scores", "needs f32 scores");
  if (!(args.temperature > 0)) fail("warp_scores", "temperature is not above 0");
  const auto row_bytes = static_cast<size_t>(vocab) * sizeof(float);
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  pool.run(args.rows, [&](int64_t row, int thread) {
    float* scores = static_cast<float*>(args.scores.data) + row * vocab;
    auto* weights = static_cast<float*>(pool.scratch(thread, 2, 2 * row_bytes));
    float* scratch = weights + vocab;
    float highest = kLowest;
    for (int64_t i = 0; i < vocab; ++i) {
      const float x = scores[i] / args.temperature;
      scores[i] = std::isnan(x) ? kLowest : x;
      highest = std::max(highest, scores[i]);
    }
    if (args.top_k > 0) {
      const int64_t k = std::max(args.top_k, args.keep);
      const float threshold = k < vocab ? kth_largest(scores, vocab, k, scratch) : kLowest;
      for (int64_t i = 0; i < vocab; ++i)
        if (scores[i] < threshold) scores[i] = kLowest;
    }
    if (args.top_p >= 1 || !std::isfinite(highest)) return;
    kernels.exp_row(scores, vocab, highest, 1.0f, weights);
    // Weights decide what stays; scores so low that their weight is 0 are outside every nucleus.
    keep_nucleus(weights, vocab, args.top_p, args.keep, reinterpret_cast<int32_t*>(scratch));
    for (int64_t i = 0; i < vocab; ++i)
      if (!(weights[i] > 0)) scores[i] = kLowest;
  });
}

}  // namespace alma::cpu

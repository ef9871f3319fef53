// One draw a row from softmax(logits / temperature) after top-k and top-p.
#include <algorithm>
#include <cmath>

#include "../runtime/philox.h"
#include "kernels.h"
#include "truncation.h"

namespace alma::cpu {
namespace {

// In [0, 1), from 53 random bits.
double uniform(uint64_t seed, int32_t stream, int32_t position) {
  const auto random = philox(philox_key(seed), {static_cast<uint32_t>(position), static_cast<uint32_t>(stream), 0, 0});
  const uint64_t bits = (uint64_t{random[0]} << 32 | random[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

int32_t draw(const float* weights, int64_t count, double random) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += weights[i];
  const double target = random * total;
  double below = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (!(weights[i] > 0)) continue;
    below += weights[i];
    last = i;
    if (below > target) break;
  }
  return static_cast<int32_t>(last);
}

}  // namespace

void sample(ThreadPool& pool, const Kernels& kernels, const SampleArgs& args) {
  const auto* stream = static_cast<const int32_t*>(args.stream.data);
  const auto* position = static_cast<const int32_t*>(args.position.data);
  auto* ids = static_cast<int32_t*>(args.ids.data);
  auto* logprob = static_cast<float*>(args.logprob.data);
  const int64_t vocab = args.vocab;
  const size_t size = args.logits.dtype == DType::bf16 ? 2 : 4;
  pool.run(args.rows, [&](int64_t row, int thread) {
    auto* values = static_cast<float*>(pool.scratch(thread, 2, 3 * sizeof(float) * static_cast<size_t>(vocab)));
    float* weights = values + vocab;
    float* third = weights + vocab;
    const TensorRef logits{static_cast<std::byte*>(args.logits.data) + static_cast<size_t>(row * vocab) * size,
                           args.logits.dtype};
    float highest, log_sum_exp;
    kernels.row_statistics(logits, vocab, values, &highest, &log_sum_exp);
    if (args.temperature > 0 && std::isfinite(highest)) {
      kernels.exp_row(values, vocab, highest, 1.0f / args.temperature, weights);
      for (int64_t i = 0; i < vocab; ++i)
        if (!(weights[i] >= 0)) weights[i] = 0;  // NaN is never drawn
    } else {                                     // temperature 0, or infinite logits: only the largest
      for (int64_t i = 0; i < vocab; ++i) weights[i] = values[i] == highest ? 1.0f : 0.0f;
      if (args.temperature <= 0) {
        const auto first = std::find(weights, weights + vocab, 1.0f);
        if (first != weights + vocab) std::fill(first + 1, weights + vocab, 0.0f);
      }
    }
    if (args.top_k > 0 && args.top_k < vocab) {
      const float threshold = kth_largest(values, vocab, args.top_k, third);
      for (int64_t i = 0; i < vocab; ++i)
        if (values[i] < threshold) weights[i] = 0;
    }
    if (args.top_p < 1) keep_nucleus(weights, vocab, args.top_p, 1, reinterpret_cast<int32_t*>(third));
    ids[row] = draw(weights, vocab, uniform(args.seed, stream ? stream[row] : 0, position ? position[row] : 0));
    if (logprob) logprob[row] = values[ids[row]] - log_sum_exp;
  });
}

}  // namespace alma::cpu

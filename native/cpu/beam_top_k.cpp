// The k best continuations of each group of beams, or k draws without replacement (Gumbel-top-k).
//
// Every row finds its own k best in one pass over the vocabulary against the k-th so far; after the first few hundred tokens hardly
// any passes that threshold. The rows of a group are then merged.
#include <algorithm>
#include <cmath>
#include <limits>

#include "../runtime/philox.h"
#include "kernels.h"

namespace alma::cpu {
namespace {

struct Candidate {
  double key;  // what the order goes by: the total, with noise where there is some
  float total;
  int32_t token, beam;
};

bool before(const Candidate& a, const Candidate& b) {
  if (a.key != b.key) return a.key > b.key;
  return a.token != b.token ? a.token < b.token : a.beam < b.beam;
}

// −log(−log u); one Philox block gives the numbers of two tokens.
class Gumbel {
 public:
  Gumbel(uint64_t seed, int32_t stream, int32_t position, int32_t beam)
      : key_(philox_key(seed)),
        stream_(static_cast<uint32_t>(stream)),
        position_(static_cast<uint32_t>(position)),
        beam_(static_cast<uint32_t>(beam)) {}

  double operator()(int64_t token) {
    const auto block = static_cast<uint32_t>(token / 2);
    // The third word of the counter is never 0 here: these numbers are not those of sample.
    if (block != block_) random_ = philox(key_, {position_, stream_, beam_ + 1, block_ = block});
    const int at = token % 2 == 0 ? 0 : 2;
    const uint64_t bits = (uint64_t{random_[at]} << 32 | random_[at + 1]) >> 11;
    return -std::log(-std::log((static_cast<double>(bits) + 0.5) * 0x1p-53));
  }

 private:
  PhiloxKey key_;
  uint32_t stream_, position_, beam_, block_ = UINT32_MAX;
  PhiloxBlock random_{};
};

// The best of one row, sorted; returns how many there are: min(k, vocab).
int64_t best_of_row(const BeamTopKArgs& args, int64_t row, Candidate* best) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const auto* scores = static_cast<const float*>(args.scores.data) + row * args.vocab;
  const float beam_score = static_cast<const float*>(args.beam_scores.data)[row];
  const int64_t group = row / args.beams;
  const auto beam = static_cast<int32_t>(row % args.beams);
  const auto* stream = static_cast<const int32_t*>(args.stream.data);
  const auto* position = static_cast<const int32_t*>(args.position.data);
  const bool noisy = stream != nullptr;
  Gumbel gumbel(args.seed, noisy ? stream[group] : 0, noisy ? position[group] : 0, beam);

  const int64_t most = std::min(args.k, args.vocab);
  int64_t count = 0;
  double threshold = 0;
  for (int64_t token = 0; token < args.vocab; ++token) {
    float total = scores[token] + beam_score;
    if (std::isnan(total)) total = kLowest;
    if (!noisy && count == most && !(total > threshold)) continue;
    const double key = noisy && total > kLowest ? total + gumbel(token) : double{total};
    if (count == most && !(key > threshold)) continue;
    // Equal keys: the one that is there has the lower token.
    int64_t at = count < most ? count++ : most - 1;
    for (; at > 0 && key > best[at - 1].key; --at) best[at] = best[at - 1];
    best[at] = {key, total, static_cast<int32_t>(token), beam};
    threshold = best[count - 1].key;
  }
  return count;
}

}  // namespace

void beam_top_k(ThreadPool& pool, const BeamTopKArgs& args) {
  const int64_t rows = args.groups * args.beams, k = args.k;
  if (rows <= 0 || k <= 0) return;
  const int64_t most = std::min(k, args.vocab);
  auto* all = static_cast<Candidate*>(pool.scratch(0, 0, static_cast<size_t>(rows * most) * sizeof(Candidate)));
  pool.run(rows, [&](int64_t row, int) { best_of_row(args, row, all + row * most); });
  pool.run(args.groups, [&](int64_t group, int) {
    Candidate* candidates = all + group * args.beams * most;
    std::partial_sort(candidates, candidates + k, candidates + args.beams * most, before);
    for (int64_t i = 0; i < k; ++i) {
      static_cast<float*>(args.totals.data)[group * k + i] = candidates[i].total;
      static_cast<int32_t*>(args.tokens.data)[group * k + i] = candidates[i].token;
      static_cast<int32_t*>(args.parents.data)[group * k + i] = candidates[i].beam;
    }
  });
}

}  // namespace alma::cpu

#include "truncation.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace alma::cpu {

float kth_largest(const float* values, int64_t count, int64_t k, float* scratch) {
  const auto end = std::copy_if(values, values + count, scratch, [](float v) { return !std::isnan(v); });
  if (end - scratch < k) return -INFINITY;
  std::nth_element(scratch, scratch + k - 1, end, std::greater<>());
  return scratch[k - 1];
}

// The boundary is found by halving: as nth_element finds the k-th, but by mass (a sort or a heap takes 5 times as long for the flat
// distribution of an untrained model).
void keep_nucleus(float* weights, int64_t count, double p, int64_t keep, int32_t* ids) {
  int64_t size = 0;
  double total = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (!(weights[i] > 0)) continue;
    total += weights[i];
    ids[size++] = static_cast<int32_t>(i);
  }
  const auto higher = [&](int32_t a, int32_t b) {
    return weights[a] > weights[b] || (weights[a] == weights[b] && a < b);
  };
  // The first token outside is in (begin, end]; those before `begin` have `above` together.
  int64_t begin = 0, end = size;
  double above = 0;
  while (end - begin > 1) {
    const int64_t middle = begin + (end - begin) / 2;
    std::nth_element(ids + begin, ids + middle, ids + end, higher);
    double upper = above;
    for (int64_t i = begin; i < middle; ++i) upper += weights[ids[i]];
    if (upper >= p * total) {
      end = middle;
    } else {
      above = upper;
      begin = middle;
    }
  }
  int64_t kept = begin + 1;
  if (kept < keep && keep < size) std::nth_element(ids + kept, ids + keep, ids + size, higher);
  kept = std::max(kept, keep);
  for (int64_t i = kept; i < size; ++i) weights[ids[i]] = 0;
}

}  // namespace alma::cpu

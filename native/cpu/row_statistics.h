// Maximum and log-sum-exp of a row of logits, shared by cross_entropy, argmax and sample.
#pragma once

#include "simd.h"

namespace alma::cpu::ALMA_ISA {

// −inf for a row of NaN: NaN compares false.
template <class T>
ALMA_INLINE float row_maximum(const T* row, int64_t count) {
  constexpr int kChains = 4;
  F best[kChains];
  for (int c = 0; c < kChains; ++c) best[c] = splat(-__builtin_inff());
  int64_t i = 0;
  for (; i + kChains * W <= count; i += kChains * W)
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) best[c] = greater(load(row + i + c * W), best[c]);
  for (; i + W <= count; i += W) best[0] = greater(load(row + i), best[0]);
  float result = maximum(greater(greater(best[0], best[1]), greater(best[2], best[3])));
  for (; i < count; ++i) {
    const float value = to_float(row[i]);
    result = value > result ? value : result;
  }
  return result;
}

// Σ term(i, lanes), where term gives a vector whose unused lanes are 0. Blocks of 1,024 in f32, their sums in f64: the error
// stays at that of one block.
template <class Term>
ALMA_INLINE double sum_terms(int64_t count, const Term& term) {
  constexpr int64_t kBlock = 1024;
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = min(count, begin + kBlock);
    F sums[2] = {};
    int64_t i = begin;
    for (; i + 2 * W <= end; i += 2 * W) {
      sums[0] += term(i, W);
      sums[1] += term(i + W, W);
    }
    for (; i < end; i += W) sums[0] += term(i, static_cast<int>(min<int64_t>(W, end - i)));
    total += sum(sums[0] + sums[1]);
  }
  return total;
}

// Lanes from n on set to 0.
ALMA_INLINE F first_lanes(F value, int n) { return n >= W ? value : (lane_numbers() < n ? value : F{}); }

// Σ exp(row[i] − highest). `each(i, lanes, exps)` sees them, those of unused lanes included.
template <class T, class Each>
ALMA_INLINE double row_sum_of_exp(const T* row, int64_t count, float highest, const Each& each) {
  return sum_terms(count, [&](int64_t i, int lanes) ALMA_LAMBDA {
    const F exps = exp(load(row + i, lanes) - highest);
    each(i, lanes, exps);
    return first_lanes(exps, lanes);
  });
}
template <class T>
ALMA_INLINE double row_sum_of_exp(const T* row, int64_t count, float highest) {
  return row_sum_of_exp(row, count, highest, [](int64_t, int, F) ALMA_LAMBDA {});
}

}  // namespace alma::cpu::ALMA_ISA

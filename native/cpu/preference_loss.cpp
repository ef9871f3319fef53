// Losses of preference pairs from token likelihoods, with the gradient as a factor of every row. A step has a few thousand rows at most: one thread does it in microseconds.
#include <algorithm>

#include "../runtime/preference_formula.h"
#include "kernels.h"

namespace alma::cpu {

void preference_loss(const PreferenceLossArgs& args) {
  const auto* nll = static_cast<const float*>(args.nll.data);
  const auto* cu_rows = static_cast<const int32_t*>(args.cu_rows.data);
  const auto* weights = static_cast<const float*>(args.weights.data);
  auto* row_scale = static_cast<float*>(args.row_scale.data);
  auto* logps = static_cast<float*>(args.logps.data);
  auto* losses = static_cast<float*>(args.losses.data);
  auto* sums = static_cast<float*>(args.sums.data);
  for (int64_t s = 0; s <= 2 * args.pairs; ++s) {
    if (cu_rows[s] < (s == 0 ? 0 : cu_rows[s - 1]) || cu_rows[s] > args.rows)
      fail_index("preference_loss", "cu_rows", cu_rows[s], args.rows + 1);
  }
  const PreferenceFormula formula{args.loss, args.beta, args.label_smoothing, args.gamma, args.relax1, args.relax2};
  const auto rows_of = [&](int64_t s) { return cu_rows[s + 1] - cu_rows[s]; };
  const auto nll_of = [&](int64_t s) {
    double sum = 0;
    for (int32_t row = cu_rows[s]; row < cu_rows[s + 1]; ++row) sum += nll[row];
    return sum;
  };
  const auto divisor = [&](int64_t s) { return formula.takes_means() ? std::max(1, rows_of(s)) : 1; };
  const auto set_rows = [&](int64_t s, double value) {
    std::fill(row_scale + cu_rows[s], row_scale + cu_rows[s + 1], static_cast<float>(value));
  };
  std::fill_n(row_scale, args.rows, 0.0f);
  double total[5] = {};
  for (int64_t p = 0; p < args.pairs; ++p) {
    const int64_t other = args.pairs + p;
    const double chosen_nll = nll_of(p);
    const PreferencePair pair = {-chosen_nll / divisor(p), -nll_of(other) / divisor(other),
                                 static_cast<double>(rows_of(p)), static_cast<double>(rows_of(other))};
    const PreferenceResult result = formula(pair);
    set_rows(p, weights[1] - weights[0] * result.dchosen / divisor(p));
    set_rows(other, -weights[0] * result.drejected / divisor(other));
    logps[p] = static_cast<float>(pair.chosen);
    logps[other] = static_cast<float>(pair.rejected);
    losses[p] = static_cast<float>(result.loss);
    total[0] += result.loss;
    total[1] += chosen_nll;
    total[2] += pair.chosen;
    total[3] += pair.rejected;
    total[4] += pair.chosen > pair.rejected ? 1 : 0;
  }
  for (int i = 0; i < 5; ++i) sums[i] = static_cast<float>(sums[i] + total[i]);
}

}  // namespace alma::cpu

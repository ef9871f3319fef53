// Losses of preference pairs (CPO: Xu et al. 2024; SimPO: Meng et al. 2024; IPO: Azar et al. 2023; ARPO: Xu et al. 2024) from token
// likelihoods, with the gradient as a factor of every row. A step has a few thousand rows at most: one thread does it in microseconds.
#include <algorithm>
#include <cmath>

#include "kernels.h"

namespace alma::cpu {
namespace {

struct Pair {
  double chosen, rejected;
  double chosen_rows, rejected_rows;
};

struct Result {
  double loss, dchosen, drejected;  // derivatives with respect to the two logps
};

// −log σ(x), without overflow.
double softplus_of_negative(double x) { return std::max(-x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }

double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

// ℓ(z) and dℓ/dz.
std::pair<double, double> logistic(double z, const PreferenceLossArgs& args) {
  const double x = static_cast<double>(args.beta) * z, smoothing = args.label_smoothing;
  const double loss = (1 - smoothing) * softplus_of_negative(x) + smoothing * softplus_of_negative(-x);
  return {loss, args.beta * (smoothing * sigmoid(x) - (1 - smoothing) * sigmoid(-x))};
}

Result arpo(const Pair& pair, const PreferenceLossArgs& args) {
  const double chosen_rows = std::max(1.0, pair.chosen_rows), rejected_rows = std::max(1.0, pair.rejected_rows);
  const double distance = pair.chosen / chosen_rows - pair.rejected / rejected_rows;
  const double growth = args.relax1 * std::exp(args.relax2 * std::fabs(distance));
  const bool clamped = growth - 1 > 1;
  const double penalty = clamped ? 1 : growth - 1;
  const double sign = distance > 0 ? 1 : distance < 0 ? -1 : 0;
  const double slope = clamped ? 0 : args.relax2 * growth * sign;  // dτ / d(distance)
  const auto [loss, dz] = logistic(pair.chosen - penalty * pair.rejected, args);
  return {loss, dz * (1 - slope * pair.rejected / chosen_rows), dz * (slope * pair.rejected / rejected_rows - penalty)};
}

Result loss_of(const Pair& pair, const PreferenceLossArgs& args) {
  const double difference = pair.chosen - pair.rejected, beta = args.beta;
  switch (args.loss) {
    case PreferenceLoss::hinge: {
      const double loss = 1 - beta * difference;
      return loss > 0 ? Result{loss, -beta, beta} : Result{0, 0, 0};
    }
    case PreferenceLoss::ipo: {
      const double distance = difference - 1 / (2 * beta);
      return {distance * distance, 2 * distance, -2 * distance};
    }
    case PreferenceLoss::arpo: return arpo(pair, args);
    case PreferenceLoss::cpo:
    case PreferenceLoss::simpo: break;
  }
  const double margin = args.loss == PreferenceLoss::simpo ? args.gamma / beta : 0;
  const auto [loss, dz] = logistic(difference - margin, args);
  return {loss, dz, -dz};
}

}  // namespace

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
  const bool means = args.loss == PreferenceLoss::ipo || args.loss == PreferenceLoss::simpo;
  const auto rows_of = [&](int64_t s) { return cu_rows[s + 1] - cu_rows[s]; };
  const auto nll_of = [&](int64_t s) {
    double sum = 0;
    for (int32_t row = cu_rows[s]; row < cu_rows[s + 1]; ++row) sum += nll[row];
    return sum;
  };
  const auto divisor = [&](int64_t s) { return means ? std::max(1, rows_of(s)) : 1; };
  const auto set_rows = [&](int64_t s, double value) {
    std::fill(row_scale + cu_rows[s], row_scale + cu_rows[s + 1], static_cast<float>(value));
  };
  std::fill_n(row_scale, args.rows, 0.0f);
  double total[5] = {};
  for (int64_t p = 0; p < args.pairs; ++p) {
    const int64_t other = args.pairs + p;
    const double chosen_nll = nll_of(p);
    const Pair pair = {-chosen_nll / divisor(p), -nll_of(other) / divisor(other), static_cast<double>(rows_of(p)),
                       static_cast<double>(rows_of(other))};
    const Result result = loss_of(pair, args);
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

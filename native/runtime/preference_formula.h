// The losses of one preference pair and their derivatives, for the host and the GPU (CPO: Xu et al. 2024; SimPO: Meng et al. 2024; IPO: Azar
// et al. 2023; ARPO: Xu et al. 2024).
#pragma once

#include <cmath>

#include "host_device.h"
#include "ops.h"

namespace alma {

struct PreferencePair {
  double chosen, rejected;  // log-likelihoods: a token's mean for IPO and SimPO, otherwise the sum
  double chosen_rows, rejected_rows;
};

struct PreferenceResult {
  double loss, dchosen, drejected;  // derivatives with respect to the two log-likelihoods
};

// What of PreferenceLossArgs the formulas need, in f64.
struct PreferenceFormula {
  PreferenceLoss loss;
  double beta, label_smoothing, gamma, relax1, relax2;

  // IPO and SimPO compare the mean of a side's tokens, the others their sum.
  ALMA_HOST_DEVICE bool takes_means() const { return loss == PreferenceLoss::ipo || loss == PreferenceLoss::simpo; }

  ALMA_HOST_DEVICE PreferenceResult operator()(const PreferencePair& pair) const {
    const double difference = pair.chosen - pair.rejected;
    if (loss == PreferenceLoss::hinge) {
      const double value = 1 - beta * difference;
      return value > 0 ? PreferenceResult{value, -beta, beta} : PreferenceResult{0, 0, 0};
    }
    if (loss == PreferenceLoss::ipo) {
      const double distance = difference - 1 / (2 * beta);
      return {distance * distance, 2 * distance, -2 * distance};
    }
    if (loss == PreferenceLoss::arpo) return arpo(pair);
    return logistic(difference - (loss == PreferenceLoss::simpo ? gamma / beta : 0));
  }

 private:
  // −log σ(x), without overflow.
  ALMA_HOST_DEVICE static double softplus_of_negative(double x) { return fmax(-x, 0.0) + log1p(exp(-fabs(x))); }

  ALMA_HOST_DEVICE static double sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

  // ℓ(z), and dℓ/dz in dchosen.
  ALMA_HOST_DEVICE PreferenceResult logistic(double z) const {
    const double x = beta * z, smoothing = label_smoothing;
    const double slope = beta * (smoothing * sigmoid(x) - (1 - smoothing) * sigmoid(-x));
    return {(1 - smoothing) * softplus_of_negative(x) + smoothing * softplus_of_negative(-x), slope, -slope};
  }

  ALMA_HOST_DEVICE PreferenceResult arpo(const PreferencePair& pair) const {
    const double chosen_rows = fmax(1.0, pair.chosen_rows), rejected_rows = fmax(1.0, pair.rejected_rows);
    const double distance = pair.chosen / chosen_rows - pair.rejected / rejected_rows;
    const double growth = relax1 * exp(relax2 * fabs(distance));
    const bool clamped = growth - 1 > 1;
    const double penalty = clamped ? 1 : growth - 1;
    const double sign = distance > 0 ? 1 : distance < 0 ? -1 : 0;
    const double slope = clamped ? 0 : relax2 * growth * sign;  // dτ / d(distance)
    const PreferenceResult along = logistic(pair.chosen - penalty * pair.rejected);
    return {along.loss, along.dchosen * (1 - slope * pair.rejected / chosen_rows),
            along.dchosen * (slope * pair.rejected / rejected_rows - penalty)};
  }
};

}  // namespace alma

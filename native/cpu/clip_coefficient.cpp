// The factor of torch's clip_grad_norm_, 0 for a norm that is not finite.
#include <algorithm>
#include <cmath>

#include "kernels.h"

namespace alma::cpu {

void clip_coefficient(const ClipCoefficientArgs& args) {
  const float norm = std::sqrt(*static_cast<const float*>(args.sum_of_squares.data));
  *static_cast<float*>(args.norm.data) = norm;
  float coefficient = 1;
  if (!std::isfinite(norm)) {
    coefficient = 0;
  } else if (args.max_norm > 0) {
    coefficient = std::min(1.0f, args.max_norm / (norm + 1e-6f));
  }
  *static_cast<float*>(args.coefficient.data) = coefficient;
}

}  // namespace alma::cpu

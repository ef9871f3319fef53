// The factor of torch's clip_grad_norm_, 0 for a norm that is not finite.
#include "dispatch.h"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {
namespace {

__global__ void clip_coefficient_kernel(const float* sum_of_squares, float* norm, float* coefficient, float max_norm) {
  const float value = sqrtf(*sum_of_squares);
  float factor = 1;
  if (!isfinite(value)) {
    factor = 0;
  } else if (max_norm > 0) {
    factor = fminf(1.0f, max_norm / (value + 1e-6f));
  }
  *norm = value;
  *coefficient = factor;
}

}  // namespace

void clip_coefficient(Context& context, const ClipCoefficientArgs& args) {
  launch(context, "clip_coefficient", {dim3(1), dim3(1)}, clip_coefficient_kernel, pointer<float>(args.sum_of_squares),
         pointer<float>(args.norm), pointer<float>(args.coefficient), args.max_norm);
}

}  // namespace alma::ALMA_CUDA::portable

// Which kernel a product goes to.
#include "../hopper/matmul_kernels.h"
#include "matmul_kernels.h"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {

void matmul(Context& context, const MatmulArgs& args) {
  if (args.m <= 0 || args.n <= 0) return;
  if (args.c.dtype != DType::f32 && args.c.dtype != DType::bf16)
    fail("matmul", "c needs to be a float tensor (f32 or bf16)");
  if (args.k <= 0) {
    if (!args.accumulate) fill(context, {args.c, args.m * args.n, 0.0f});
    return;
  }
  if (!fits_tensor_cores(args)) return matmul_simt(context, args);
  // Where a row's bits must not depend on the others, the kernel may not depend on how many there are: the rows of decoding steps all
  // take the skinny kernel, those of prompts all take tiles.
  const bool skinny = args.invariance == Invariance::none ? args.m <= 16 : args.invariance == Invariance::few_rows;
  if (skinny && args.k < kSkinnyDepth && args.layout == MatmulLayout::nt && !args.accumulate)
    return matmul_skinny(context, args);
  if (hopper::takes_matmul(context, args)) return hopper::matmul(context, args);
  matmul_tensor_cores(context, args);
}

}  // namespace alma::ALMA_CUDA::portable

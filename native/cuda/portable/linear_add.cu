// out = residual + x · weightᵀ, what ends the two halves of a decoder layer: here for few rows, for many by hopper's kernel where there is
// one, otherwise op by op.
#include "../hopper/fused_matmul.h"
#include "matmul_skinny.cuh"
#include "op_parts.h"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {
namespace {

struct Sum {
  static constexpr bool kConstantWeights = true;
  const bf16* weight;
  const bf16* residual;
  bf16* out;
  int64_t n, k, first;

  __device__ __forceinline__ const bf16* weight_row(int64_t block, int half, int row) const {
    return skinny::weight_row(weight, block * skinny::kWeightRows + half * 8 + row, n, k);
  }
  __device__ __forceinline__ void write(int64_t block, int row, int token, float low, float high) const {
    const int64_t column = block * skinny::kWeightRows + row, at = (first + token) * n + column;
    if (column < n) out[at] = from_float<bf16>(to_float(residual[at]) + low);
    if (column + 8 < n) out[at + 8] = from_float<bf16>(to_float(residual[at + 8]) + high);
  }
};

}  // namespace

void linear_add(Context& context, const LinearAddArgs& args) {
  same_dtype("linear_add", args.x, args.residual);
  same_dtype("linear_add", args.x, args.out);
  if (args.rows <= 0 || args.out_features <= 0) return;
  // The rows of a call whose bits are promised all take the same kernel (matmul.cu).
  const bool few = args.invariance == Invariance::none ? args.rows <= 16 : args.invariance == Invariance::few_rows;
  if (!few && hopper::takes_linear_add(context, args)) return hopper::linear_add(context, args);
  if (!few || !skinny::takes(args.in_features, args.x, args.weight)) {
    PartOps ops{context};
    return parts::linear_add(ops, without_workspace(args), context.workspace->get(parts::scratch_bytes(args)));
  }
  const skinny::Input input{pointer<const bf16>(args.x), nullptr, static_cast<int>(args.in_features), 0, 0, 0};
  const Sum sum{pointer<const bf16>(args.weight),
                pointer<const bf16>(args.residual),
                pointer<bf16>(args.out),
                args.out_features,
                args.in_features,
                0};
  skinny::run<false>(context, "linear_add", args.rows, ceil_div(args.out_features, skinny::kWeightRows), input, sum);
}

}  // namespace alma::ALMA_CUDA::portable

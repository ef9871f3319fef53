// out = silu(n · gateᵀ) · (n · upᵀ) with n = rms_norm(x), for few rows: a gate and its up meet in one thread.
#include "matmul_skinny.cuh"
#include "op_parts.h"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {
namespace {

struct Activation {
  static constexpr bool kConstantWeights = true;
  const bf16* gate;
  const bf16* up;
  bf16* out;
  int64_t n, k, first;

  __device__ __forceinline__ const bf16* weight_row(int64_t block, int half, int row) const {
    return skinny::weight_row(half == 0 ? gate : up, block * 8 + row, n, k);
  }
  __device__ __forceinline__ void write(int64_t block, int row, int token, float low, float high) const {
    const int64_t column = block * 8 + row;
    if (column < n) out[(first + token) * n + column] = from_float<bf16>(low / (1.0f + __expf(-low)) * high);
  }
};

}  // namespace

void norm_gate_up(Context& context, const NormGateUpArgs& args) {
  same_dtype("norm_gate_up", args.x, args.out);
  if (args.rows <= 0 || args.out_features <= 0) return;
  if (!skinny::takes(args.cols, args.x, args.norm_weight, args.gate_weight, args.up_weight)) {
    PartOps ops{context};
    return parts::norm_gate_up(ops, args, context.workspace->get(parts::scratch_bytes(args)));
  }
  const skinny::Input input{pointer<const bf16>(args.x),
                            pointer<const bf16>(args.norm_weight),
                            static_cast<int>(args.cols),
                            0,
                            args.epsilon,
                            0};
  const Activation activation{pointer<const bf16>(args.gate_weight),
                              pointer<const bf16>(args.up_weight),
                              pointer<bf16>(args.out),
                              args.out_features,
                              args.cols,
                              0};
  skinny::run<true>(context, "norm_gate_up", args.rows, ceil_div(args.out_features, 8), input, activation);
}

}  // namespace alma::ALMA_CUDA::portable

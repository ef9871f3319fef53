// silu(x · gateᵀ) · (x · upᵀ) of many rows: one kernel where there is one (hopper), otherwise op by op.
#include "../hopper/fused_matmul.h"
#include "op_parts.h"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {

void gate_up(Context& context, const GateUpArgs& args) {
  for (const TensorRef* out : {&args.gate, &args.up, &args.out}) same_dtype("gate_up", args.x, *out);
  if ((args.gate.data == nullptr) != (args.up.data == nullptr)) fail("gate_up", "gate and up go together");
  if (args.rows <= 0 || args.out_features <= 0) return;
  if (hopper::takes_gate_up(context, args)) return hopper::gate_up(context, args);
  PartOps ops{context};
  const size_t bytes = parts::scratch_bytes(args);
  if (bytes == 0) return parts::gate_up(ops, args, nullptr);
  parts::gate_up(ops, without_workspace(args), context.workspace->get(bytes));
}

}  // namespace alma::ALMA_CUDA::portable

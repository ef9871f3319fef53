// Queries, keys and values of many rows: one kernel where there is one (hopper), otherwise op by op.
#include "../hopper/fused_matmul.h"
#include "op_parts.h"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {

void qkv(Context& context, const QkvArgs& args) {
  for (const TensorRef* out : {&args.q, &args.k, &args.v}) same_dtype("qkv", args.x, *out);
  if (args.head_dim % 2 != 0) fail("qkv", "head_dim is odd");
  if (args.rows <= 0) return;
  if (hopper::takes_qkv(context, args)) return hopper::qkv(context, args);
  PartOps ops{context};
  parts::qkv(ops, args);
}

}  // namespace alma::ALMA_CUDA::portable

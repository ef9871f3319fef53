// attention and attention_backward: which kernels, by dtype, head_dim, alignment and the number of query rows.
#include <climits>

#include "../hopper/attention_kernels.h"
#include "attention_kernels.h"
#include "dispatch.h"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {
namespace {

// Query rows of a sequence and kv head up to which splitting the keys pays: one tile of the tensor cores.
constexpr int64_t kFewRows = 16;

AttentionBounds bounds_of(const char* op, const AttentionShape& shape) {
  if (shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0) fail(op, "heads is not a multiple of kv_heads");
  if (shape.block_table.data != nullptr && shape.block_size <= 0) fail(op, "block_size is not positive");
  if (shape.head_dim > kMaxGenericHeadDim) fail(op, "head_dim is above 512");
  if (shape.total_q * shape.heads > INT_MAX || shape.total_k * shape.kv_heads > INT_MAX || shape.batch >= INT_MAX)
    fail(op, "is too large for one launch");
  AttentionBounds bounds = {};
  bounds.cu_seqlens_q = pointer<int>(shape.cu_seqlens_q);
  bounds.k_begin = pointer<int>(shape.k_begin);
  bounds.k_end = pointer<int>(shape.k_end);
  bounds.block_table = pointer<int>(shape.block_table);
  bounds.total_q = shape.total_q;
  bounds.total_k = shape.total_k;
  bounds.batch = static_cast<int>(shape.batch);
  bounds.heads = static_cast<int>(shape.heads);
  bounds.kv_heads = static_cast<int>(shape.kv_heads);
  bounds.group = static_cast<int>(shape.heads / shape.kv_heads);
  bounds.head_dim = static_cast<int>(shape.head_dim);
  bounds.blocks_per_sequence = shape.blocks_per_sequence;
  bounds.block_size = shape.block_size;
  bounds.scale = shape.scale;
  bounds.causal = shape.causal;
  return bounds;
}

bool is_empty(const AttentionShape& shape) { return shape.batch <= 0 || shape.heads <= 0 || shape.head_dim <= 0; }

// What the kernels for tensor cores need. Their softmax takes the maximum before it scales.
bool suits_tensor_cores(const TensorRef& q, const AttentionShape& shape) {
  return q.dtype == DType::bf16 && shape.head_dim % 8 == 0 && shape.head_dim <= 128 && shape.scale > 0;
}

bool has_few_rows(const AttentionShape& shape) {
  if (shape.invariance != Invariance::none) return shape.invariance == Invariance::few_rows;
  return shape.total_q * (shape.heads / shape.kv_heads) <= kFewRows * shape.batch;
}

}  // namespace

void attention(Context& context, const AttentionArgs& args) {
  const AttentionBounds bounds = bounds_of("attention", args.shape);
  same_dtype("attention", args.q, args.k);
  same_dtype("attention", args.q, args.v);
  same_dtype("attention", args.q, args.out);
  if (is_empty(args.shape)) return;
  if (!suits_tensor_cores(args.q, args.shape) || !aligned(16, args.q, args.k, args.v, args.out))
    return attention_forward_generic(context, args, bounds);
  if (has_few_rows(args.shape)) return attention_split_keys(context, args, bounds);
  if (hopper::takes_attention(context, args)) return hopper::attention_forward(context, args, bounds);
  attention_forward_tiles(context, args, bounds);
}

void attention_backward(Context& context, const AttentionBackwardArgs& args) {
  const AttentionBounds bounds = bounds_of("attention_backward", args.shape);
  for (const TensorRef* other : {&args.k, &args.v, &args.out, &args.dout, &args.dq, &args.dk, &args.dv})
    same_dtype("attention_backward", args.q, *other);
  if (bounds.block_table != nullptr) fail("attention_backward", "is not defined for paged keys");
  if (is_empty(args.shape)) return;
  if (suits_tensor_cores(args.q, args.shape) &&
      aligned(16, args.q, args.k, args.v, args.out, args.dout, args.dq, args.dk, args.dv))
    return attention_backward_tiles(context, args, bounds);
  attention_backward_generic(context, args, bounds);
}

}  // namespace alma::ALMA_CUDA::portable

// The kernels that attention and attention_backward choose from.
#pragma once

#include "../../runtime/ops.h"
#include "../context.h"
#include "attention_bounds.cuh"

namespace alma::ALMA_CUDA::portable {

// Tensor cores; bf16, head_dim a multiple of 8 up to 128, rows that start at multiples of 16 bytes, scale > 0.
void attention_forward_tiles(Context& context, const AttentionArgs& args, const AttentionBounds& bounds);
void attention_backward_tiles(Context& context, const AttentionBackwardArgs& args, const AttentionBounds& bounds);

// The same conditions: few query rows a sequence, the keys split among blocks.
void attention_split_keys(Context& context, const AttentionArgs& args, const AttentionBounds& bounds);

// Any float dtype, any head_dim up to kMaxGenericHeadDim.
constexpr int kMaxGenericHeadDim = 512;
void attention_forward_generic(Context& context, const AttentionArgs& args, const AttentionBounds& bounds);
void attention_backward_generic(Context& context, const AttentionBackwardArgs& args, const AttentionBounds& bounds);

}  // namespace alma::ALMA_CUDA::portable

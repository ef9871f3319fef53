// Attention of compute capability 9.0, behind portable/attention.cu, under the conditions of the portable kernels for tensor cores.
#pragma once

#include "../portable/attention_kernels.h"
#include "../portable/attention_plan.h"

namespace alma::ALMA_CUDA::hopper {

// Whether the kernel can do it: keys that are not paged, and heads of a group that divide 64. Not where the bits of a row are promised:
// those are the portable kernels', also for paged keys.
bool takes_attention(const Context& context, const AttentionArgs& args);
void attention_forward(Context& context, const AttentionArgs& args, const portable::AttentionBounds& bounds);

// dQ and D (delta), then dK and dV. The lists are of tiles of kBackwardTile rows and keys.
constexpr int kBackwardTile = 128;
bool takes_attention_backward(const Context& context, const AttentionShape& shape);
void attention_backward_rows(Context& context, const AttentionBackwardArgs& args,
                             const portable::AttentionBounds& bounds, const portable::TileList& list, float* delta);
void attention_backward_keys(Context& context, const AttentionBackwardArgs& args,
                             const portable::AttentionBounds& bounds, const portable::TileList& list,
                             const float* delta);

}  // namespace alma::ALMA_CUDA::hopper

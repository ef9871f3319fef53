// Attention of compute capability 9.0, behind portable/attention.cu, under the conditions of the portable kernels for tensor cores.
#pragma once

#include "../portable/attention_kernels.h"
#include "../portable/attention_plan.h"

namespace alma::ALMA_CUDA::hopper {

// Whether the kernel can do it: keys that are not paged, and heads of a group that divide 64. Not where the bits of a row are promised:
// those are the portable kernels', also for paged keys.
bool takes_attention(const Context& context, const AttentionArgs& args);
void attention_forward(Context& context, const AttentionArgs& args, const portable::AttentionBounds& bounds);

// dK and dV; the portable kernel gives dQ and D (delta). The list is of tiles of kBackwardKeys keys.
constexpr int kBackwardKeys = 128;
bool takes_attention_backward(const Context& context, const AttentionShape& shape);
void attention_backward_keys(Context& context, const AttentionBackwardArgs& args,
                             const portable::AttentionBounds& bounds, const portable::TileList& list,
                             const float* delta);

}  // namespace alma::ALMA_CUDA::hopper

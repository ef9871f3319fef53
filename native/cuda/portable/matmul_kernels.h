// The kernels behind matmul.cu.
#pragma once

#include "dispatch.h"

namespace alma::ALMA_CUDA::portable {

// bf16 operands whose rows are 16-byte aligned, on tensor cores.
bool fits_tensor_cores(const MatmulArgs& args);
void matmul_tensor_cores(Context& context, const MatmulArgs& args);

// nt products of few rows: every weight is read once. The sums of a row depend neither on m nor on its place.
constexpr int64_t kSkinnyRows = 32;  // at a time; more are done in groups, each of which reads the weights
void matmul_skinny(Context& context, const MatmulArgs& args);

// Everything else, f32 and mixed dtypes among it, by fused multiply-adds in f32 and in the order of k.
void matmul_simt(Context& context, const MatmulArgs& args);

}  // namespace alma::ALMA_CUDA::portable

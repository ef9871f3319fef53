// The kernels behind matmul.cu.
#pragma once

#include "dispatch.h"

namespace alma::ALMA_CUDA::portable {

// bf16 operands whose rows are 16-byte aligned, on tensor cores.
bool fits_tensor_cores(const MatmulArgs& args);
void matmul_tensor_cores(Context& context, const MatmulArgs& args);

// c (+)= the sum of `splits` products of parts of k, f32[splits, m · n], in their order.
void sum_parts(Context& context, const float* parts, const TensorRef& c, int64_t count, int64_t splits,
               bool accumulate);

// nt products of few rows: every weight is read once. The sums of a row depend neither on m nor on its place.
constexpr int64_t kSkinnyDepth = int64_t{1} << 30;  // k is less
void matmul_skinny(Context& context, const MatmulArgs& args);

// Everything else, f32 and mixed dtypes among it, by fused multiply-adds in f32 and in the order of k.
void matmul_simt(Context& context, const MatmulArgs& args);

}  // namespace alma::ALMA_CUDA::portable

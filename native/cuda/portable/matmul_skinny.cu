// c[m, n] = a[m, k] · b[n, k]ᵀ for few rows of a, bf16 or f32 (matmul_skinny.cuh).
#include "matmul_skinny.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

template <class T>
struct Product {
  static constexpr bool kConstantWeights = false;
  const bf16* b;
  T* c;
  int64_t n, k, first;

  __device__ __forceinline__ const bf16* weight_row(int64_t block, int half, int row) const {
    return skinny::weight_row(b, block * skinny::kWeightRows + half * 8 + row, n, k);
  }
  __device__ __forceinline__ void write(int64_t block, int row, int token, float low, float high) const {
    const int64_t column = block * skinny::kWeightRows + row;
    T* const at = c + (first + token) * n + column;
    if (column < n) at[0] = from_float<T>(low);
    if (column + 8 < n) at[8] = from_float<T>(high);
  }
};

}  // namespace

void matmul_skinny(Context& context, const MatmulArgs& args) {
  const skinny::Input input{pointer<const bf16>(args.a), nullptr, static_cast<int>(args.k), 0, 0, 0};
  with_float("matmul", args.c.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Product<T> product{pointer<const bf16>(args.b), pointer<T>(args.c), args.n, args.k, 0};
    skinny::run<false>(context, "matmul", args.m, ceil_div(args.n, skinny::kWeightRows), input, product);
  });
}

}  // namespace alma::ALMA_CUDA::portable

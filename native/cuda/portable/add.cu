// out = a + b.
#include "elementwise.cuh"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {
namespace {

template <class T>
struct Add {
  static constexpr int kLanes = kLanesOf<T>, kUnroll = 4;
  const T* a;
  const T* b;
  T* out;

  struct Loaded {
    Vector<T, kLanes> a, b;
  };
  template <bool kWhole>
  __device__ __forceinline__ Loaded load(int64_t i, int64_t n) const {
    return {alma::ALMA_CUDA::load<kWhole, kLanes>(a + i, n), alma::ALMA_CUDA::load<kWhole, kLanes>(b + i, n)};
  }
  template <bool kWhole>
  __device__ __forceinline__ void finish(int64_t i, int64_t n, const Loaded& loaded) const {
    float sums[kLanes];
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] = loaded.a[lane] + loaded.b[lane];
    store<kWhole>(out + i, n, pack<T>(sums));
  }
};

}  // namespace

void add(Context& context, const AddArgs& args) {
  same_dtype("add", args.a, args.b);
  same_dtype("add", args.a, args.out);
  with_float("add", args.a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Add<T> op{pointer<T>(args.a), pointer<T>(args.b), pointer<T>(args.out)};
    launch_elementwise(context, "add", op, args.count, aligned(16, args.a, args.b, args.out));
  });
}

}  // namespace alma::ALMA_CUDA::portable

// out = factor · x.
#include "elementwise.cuh"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {
namespace {

template <class T>
struct Scale {
  static constexpr int kLanes = kLanesOf<T>, kUnroll = 4;
  const T* x;
  T* out;
  float factor;

  using Loaded = Vector<T, kLanes>;
  template <bool kWhole>
  __device__ __forceinline__ Loaded load(int64_t i, int64_t n) const {
    return alma::ALMA_CUDA::load<kWhole, kLanes>(x + i, n);
  }
  template <bool kWhole>
  __device__ __forceinline__ void finish(int64_t i, int64_t n, const Loaded& loaded) const {
    float values[kLanes];
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) values[lane] = loaded[lane] * factor;
    store<kWhole>(out + i, n, pack<T>(values));
  }
};

}  // namespace

void scale(Context& context, const ScaleArgs& args) {
  same_dtype("scale", args.x, args.out);
  with_float("scale", args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Scale<T> op{pointer<T>(args.x), pointer<T>(args.out), args.factor};
    launch_elementwise(context, "scale", op, args.count, aligned(16, args.x, args.out));
  });
}

}  // namespace alma::ALMA_CUDA::portable

// out[i] = (dtype of out) in[i].
#include "elementwise.cuh"
#include "ops.h"

namespace alma::ALMA_CUDA {

struct f16 {  // read only, and rarely: no need for the toolkit's type
  unsigned short bits;
};

// Exact also for subnormal halves: the exponent is rebased by a multiplication.
__device__ __forceinline__ float to_float(f16 value) {
  const unsigned bits = value.bits;
  const float magnitude = __uint_as_float((bits & 0x7fffu) << 13) * 0x1p112f;
  const unsigned wide =
      (bits & 0x7c00u) == 0x7c00u ? __float_as_uint(magnitude) | 0x7f800000u : __float_as_uint(magnitude);
  return __uint_as_float(wide | (bits & 0x8000u) << 16);
}

namespace portable {
namespace {

template <class From, class To>
struct Cast {
  static constexpr int kLanes = sizeof(From) < sizeof(To) ? kLanesOf<From> : kLanesOf<To>, kUnroll = 4;
  const From* in;
  To* out;

  using Loaded = Vector<From, kLanes>;
  template <bool kWhole>
  __device__ __forceinline__ Loaded load(int64_t i, int64_t n) const {
    return alma::ALMA_CUDA::load<kWhole, kLanes>(in + i, n);
  }
  template <bool kWhole>
  __device__ __forceinline__ void finish(int64_t i, int64_t n, const Loaded& loaded) const {
    float values[kLanes];
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) values[lane] = loaded[lane];
    store<kWhole>(out + i, n, pack<To>(values));
  }
};

template <class Bits>
struct Copy {
  static constexpr int kLanes = kLanesOf<Bits>, kUnroll = 4;
  const Bits* in;
  Bits* out;

  using Loaded = Vector<Bits, kLanes>;
  template <bool kWhole>
  __device__ __forceinline__ Loaded load(int64_t i, int64_t n) const {
    return alma::ALMA_CUDA::load<kWhole, kLanes>(in + i, n);
  }
  template <bool kWhole>
  __device__ __forceinline__ void finish(int64_t i, int64_t n, const Loaded& loaded) const {
    store<kWhole>(out + i, n, loaded);
  }
};

template <template <class...> class Op, class... Types>
void run(Context& context, const CastArgs& args) {
  const Op<Types...> op{static_cast<decltype(Op<Types...>::in)>(args.in.data),
                        static_cast<decltype(Op<Types...>::out)>(args.out.data)};
  launch_elementwise(context, "cast", op, args.count, aligned(16, args.in, args.out));
}

}  // namespace

void cast(Context& context, const CastArgs& args) {
  const DType from = args.in.dtype, to = args.out.dtype;
  if (from == to)
    return size_of(from) == 4 ? run<Copy, uint32_t>(context, args) : run<Copy, unsigned short>(context, args);
  if (from == DType::i32) fail("cast", "i32 casts to i32 only");
  with_float("cast", to, [&](auto tag) {
    using To = typename decltype(tag)::type;
    if (from == DType::f16) return run<Cast, f16, To>(context, args);
    with_float("cast", from, [&](auto tag_from) { run<Cast, typename decltype(tag_from)::type, To>(context, args); });
  });
}

}  // namespace portable
}  // namespace alma::ALMA_CUDA

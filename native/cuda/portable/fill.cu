// out[i] = value, and x[i] += by.
#include <cstring>

#include "elementwise.cuh"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {
namespace {

// The value as the bits of an element, so that f32 and i32 are one.
template <class Bits>
struct Fill {
  static constexpr int kLanes = kLanesOf<Bits>, kUnroll = 4;
  Bits* out;
  Bits value;

  struct Loaded {};
  template <bool kWhole>
  __device__ __forceinline__ Loaded load(int64_t, int64_t) const {
    return {};
  }
  template <bool kWhole>
  __device__ __forceinline__ void finish(int64_t i, int64_t n, const Loaded&) const {
    Vector<Bits, kLanes> vector;
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) vector.elements[lane] = value;
    store<kWhole>(out + i, n, vector);
  }
};

struct Increment {
  static constexpr int kLanes = 4, kUnroll = 1;
  uint32_t* x;  // unsigned: it wraps around
  uint32_t by;

  using Loaded = Vector<uint32_t, kLanes>;
  template <bool kWhole>
  __device__ __forceinline__ Loaded load(int64_t i, int64_t n) const {
    return alma::ALMA_CUDA::load<kWhole, kLanes>(x + i, n);
  }
  template <bool kWhole>
  __device__ __forceinline__ void finish(int64_t i, int64_t n, Loaded vector) const {
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) vector.elements[lane] += by;
    store<kWhole>(x + i, n, vector);
  }
};

}  // namespace

void fill(Context& context, const FillArgs& args) {
  const bool is_aligned = aligned(16, args.out);
  if (args.out.dtype == DType::f16) fail("fill", "no op computes in f16");
  if (args.out.dtype == DType::bf16) {
    const Fill<unsigned short> op{pointer<unsigned short>(args.out), bf16_from_f32(args.value)};
    return launch_elementwise(context, "fill", op, args.count, is_aligned);
  }
  uint32_t bits;
  if (args.out.dtype == DType::i32) {
    bits = static_cast<uint32_t>(static_cast<int32_t>(args.value));
  } else {
    std::memcpy(&bits, &args.value, sizeof bits);
  }
  launch_elementwise(context, "fill", Fill<uint32_t>{pointer<uint32_t>(args.out), bits}, args.count, is_aligned);
}

void increment(Context& context, const IncrementArgs& args) {
  const Increment op{pointer<uint32_t>(args.x), static_cast<uint32_t>(args.by)};
  launch_elementwise(context, "increment", op, args.count, aligned(16, args.x));
}

}  // namespace alma::ALMA_CUDA::portable

// Inverted dropout, whose mask is a function of seed, step and index: nothing is stored for the backward pass.
//
// A thread takes whole Philox blocks of four elements: about 20 integer instructions an element beside 4 or 8 bytes of traffic (6 or 12
// with accumulate), which memory still hides.
#include "../../runtime/philox.h"
#include "elementwise.cuh"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {
namespace {

template <class T, bool kAccumulate>
struct Dropout {
  static constexpr int kLanes = kLanesOf<T>, kUnroll = 2;
  static_assert(kLanes % 4 == 0, "whole Philox blocks");
  const T* x;
  T* out;
  const int* step;
  PhiloxKey key;
  uint32_t threshold;
  float factor;

  struct Loaded {
    Vector<T, kLanes> x, out;
  };
  template <bool kWhole>
  __device__ __forceinline__ Loaded load(int64_t i, int64_t n) const {
    Loaded loaded{alma::ALMA_CUDA::load<kWhole, kLanes>(x + i, n), {}};
    if constexpr (kAccumulate) loaded.out = alma::ALMA_CUDA::load<kWhole, kLanes>(out + i, n);
    return loaded;
  }
  template <bool kWhole>
  __device__ __forceinline__ void finish(int64_t i, int64_t n, const Loaded& loaded) const {
    const auto at = static_cast<uint32_t>(step[0]);
    float values[kLanes];
#pragma unroll
    for (int first = 0; first < kLanes; first += 4) {
      const uint64_t block = static_cast<uint64_t>(i + first) / 4;
      const PhiloxBlock random =
          philox(key, {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), at, 2}});
#pragma unroll
      for (int lane = 0; lane < 4; ++lane) {
        const float value = random[lane] >= threshold ? loaded.x[first + lane] * factor : 0.0f;
        values[first + lane] = kAccumulate ? loaded.out[first + lane] + value : value;
      }
    }
    store<kWhole>(out + i, n, pack<T>(values));
  }
};

}  // namespace

void dropout(Context& context, const DropoutArgs& args) {
  same_dtype("dropout", args.x, args.out);
  with_float("dropout", args.x.dtype, [&](auto tag) {
    with_bool(args.accumulate, [&](auto accumulate) {
      using T = typename decltype(tag)::type;
      const Dropout<T, decltype(accumulate)::value> op{pointer<T>(args.x),
                                                       pointer<T>(args.out),
                                                       pointer<int>(args.step),
                                                       philox_key(args.seed),
                                                       static_cast<uint32_t>(args.probability * 0x1p32),
                                                       1.0f / (1.0f - args.probability)};
      launch_elementwise(context, "dropout", op, args.count, aligned(16, args.x, args.out));
    });
  });
}

}  // namespace alma::ALMA_CUDA::portable

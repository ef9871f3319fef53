// out = silu(gate) · up, and its gradient (Shazeer, "GLU Variants Improve Transformer").
//
// Bytes an element: 6 (bf16) or 12 forward, 10 or 20 backward, 2 or 4 more with `out`. At 19 bytes a cycle and multiprocessor (4.3 TB/s
// on an H200) there are 40 instruction slots for a bf16 element forward: exp is the fast one there, whose error is far below
// half a unit of bf16.
#include "elementwise.cuh"
#include "ops.h"
#include "sigmoid.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

template <class T>
struct SwiGlu {
  static constexpr int kLanes = kLanesOf<T>, kUnroll = 4;
  const T* gate;
  const T* up;
  T* out;

  struct Loaded {
    Vector<T, kLanes> gate, up;
  };
  template <bool kWhole>
  __device__ __forceinline__ Loaded load(int64_t i, int64_t n) const {
    return {alma::ALMA_CUDA::load<kWhole, kLanes>(gate + i, n), alma::ALMA_CUDA::load<kWhole, kLanes>(up + i, n)};
  }
  template <bool kWhole>
  __device__ __forceinline__ void finish(int64_t i, int64_t n, const Loaded& loaded) const {
    float values[kLanes];
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      const float g = loaded.gate[lane];
      values[lane] = g * sigmoid<T>(g) * loaded.up[lane];
    }
    store<kWhole>(out + i, n, pack<T>(values));
  }
};

template <class T, bool kAgain>
struct SwiGluBackward {
  static constexpr int kLanes = kLanesOf<T>, kUnroll = 2;
  const T* gate;
  const T* up;
  const T* dout;
  T* dgate;
  T* dup;
  T* out;

  struct Loaded {
    Vector<T, kLanes> gate, up, dout;
  };
  template <bool kWhole>
  __device__ __forceinline__ Loaded load(int64_t i, int64_t n) const {
    return {alma::ALMA_CUDA::load<kWhole, kLanes>(gate + i, n), alma::ALMA_CUDA::load<kWhole, kLanes>(up + i, n),
            alma::ALMA_CUDA::load<kWhole, kLanes>(dout + i, n)};
  }
  template <bool kWhole>
  __device__ __forceinline__ void finish(int64_t i, int64_t n, const Loaded& loaded) const {
    float dgates[kLanes], dups[kLanes], outs[kLanes];
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      const float g = loaded.gate[lane], u = loaded.up[lane], d = loaded.dout[lane];
      const float s = sigmoid<T>(g);
      const float silu = g * s;
      dgates[lane] = d * u * (s * (1.0f + g * (1.0f - s)));
      dups[lane] = d * silu;
      if constexpr (kAgain) outs[lane] = silu * u;
    }
    store<kWhole>(dgate + i, n, pack<T>(dgates));
    store<kWhole>(dup + i, n, pack<T>(dups));
    if constexpr (kAgain) store<kWhole>(out + i, n, pack<T>(outs));
  }
};

}  // namespace

void swi_glu(Context& context, const SwiGluArgs& args) {
  same_dtype("swi_glu", args.gate, args.up);
  same_dtype("swi_glu", args.gate, args.out);
  with_float("swi_glu", args.gate.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const SwiGlu<T> op{pointer<T>(args.gate), pointer<T>(args.up), pointer<T>(args.out)};
    launch_elementwise(context, "swi_glu", op, args.count, aligned(16, args.gate, args.up, args.out));
  });
}

void swi_glu_backward(Context& context, const SwiGluBackwardArgs& args) {
  for (const TensorRef* other : {&args.up, &args.dout, &args.dgate, &args.dup, &args.out})
    same_dtype("swi_glu_backward", args.gate, *other);
  const bool is_aligned = aligned(16, args.gate, args.up, args.dout, args.dgate, args.dup, args.out);
  with_float("swi_glu_backward", args.gate.dtype, [&](auto tag) {
    with_bool(args.out.data != nullptr, [&](auto again) {
      using T = typename decltype(tag)::type;
      const SwiGluBackward<T, decltype(again)::value> op{pointer<T>(args.gate), pointer<T>(args.up),
                                                         pointer<T>(args.dout), pointer<T>(args.dgate),
                                                         pointer<T>(args.dup),  pointer<T>(args.out)};
      launch_elementwise(context, "swi_glu_backward", op, args.count, is_aligned);
    });
  });
}

}  // namespace alma::ALMA_CUDA::portable

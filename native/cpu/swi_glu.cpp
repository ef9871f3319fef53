// out = silu(gate) · up, and its gradient (Shazeer, "GLU Variants Improve Transformer").
#include "parallel.h"

namespace alma::cpu::ALMA_ISA {
namespace {

ALMA_INLINE F sigmoid(F x) { return 1.0f / (1.0f + exp(-x)); }

}  // namespace

void swi_glu(ThreadPool& pool, const SwiGluArgs& args) {
  same_dtype("swi_glu", args.gate, args.up);
  same_dtype("swi_glu", args.gate, args.out);
  with_float("swi_glu", args.gate.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_ranges(pool, args.count, kElementGrain / 4, [&](int64_t begin, int64_t end, int) {
      const T* gate = pointer<T>(args.gate, begin);
      const T* up = pointer<T>(args.up, begin);
      T* out = pointer<T>(args.out, begin);
      for_lanes(end - begin, [&](int64_t i, int lanes) ALMA_LAMBDA {
        const F g = load(gate + i, lanes);
        store(out + i, g * sigmoid(g) * load(up + i, lanes), lanes);
      });
    });
  });
}

void swi_glu_backward(ThreadPool& pool, const SwiGluBackwardArgs& args) {
  const TensorRef* const others[] = {&args.up, &args.dout, &args.dgate, &args.dup, &args.out};
  for (const TensorRef* other : others) same_dtype("swi_glu_backward", args.gate, *other);
  with_float("swi_glu_backward", args.gate.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_ranges(pool, args.count, kElementGrain / 4, [&](int64_t begin, int64_t end, int) {
      const T* gate = pointer<T>(args.gate, begin);
      const T* up = pointer<T>(args.up, begin);
      const T* dout = pointer<T>(args.dout, begin);
      T* dgate = pointer<T>(args.dgate, begin);
      T* dup = pointer<T>(args.dup, begin);
      T* out = pointer<T>(args.out, begin);
      for_lanes(end - begin, [&](int64_t i, int lanes) ALMA_LAMBDA {
        // All loads before the first store: dgate, dup and out may be the inputs.
        const F g = load(gate + i, lanes), u = load(up + i, lanes), d = load(dout + i, lanes);
        const F s = sigmoid(g);
        const F silu = g * s;
        store(dgate + i, d * u * (s * (1.0f + g * (1.0f - s))), lanes);
        store(dup + i, d * silu, lanes);
        if (out) store(out + i, silu * u, lanes);
      });
    });
  });
}

}  // namespace alma::cpu::ALMA_ISA

// Rotary position embedding, rotate_half convention (transformers modeling_llama.py): element i turns with element i + d/2.
#include "parallel.h"

namespace alma::cpu::ALMA_ISA {

void rope(ThreadPool& pool, const RopeArgs& args) {
  const int64_t half = args.head_dim / 2, heads = args.heads;
  if (args.head_dim % 2 != 0) fail("rope", "head_dim is odd");
  if (args.tokens <= 0 || heads <= 0) return;
  same_dtype("rope", args.x, args.out);
  const int32_t* positions = pointer<int32_t>(args.positions);
  for (int64_t token = 0; token < args.tokens; ++token)
    if (positions[token] < 0 || positions[token] >= args.max_positions)
      fail_index("rope", "position", positions[token], args.max_positions);
  const float sign = args.inverse ? -1.0f : 1.0f;
  with_float("rope", args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_rows(pool, args.tokens, heads * args.head_dim, [&](int64_t begin, int64_t end, int) {
      for (int64_t token = begin; token < end; ++token) {
        const float* cosine = pointer<float>(args.cosine, positions[token] * half);
        const float* sine = pointer<float>(args.sine, positions[token] * half);
        for (int64_t head = 0; head < heads; ++head) {
          const T* x = pointer<T>(args.x, (token * heads + head) * args.head_dim);
          T* out = pointer<T>(args.out, (token * heads + head) * args.head_dim);
          for_lanes(half, [&](int64_t i, int lanes) ALMA_LAMBDA {
            const F a = load(x + i, lanes), b = load(x + half + i, lanes);
            const F c = load(cosine + i, lanes), s = load(sine + i, lanes) * sign;
            store(out + i, a * c - b * s, lanes);
            store(out + half + i, b * c + a * s, lanes);
          });
        }
      }
    });
  });
}

}  // namespace alma::cpu::ALMA_ISA

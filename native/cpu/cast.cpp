// out[i] = (dtype of out) in[i].
#include "parallel.h"

namespace alma::cpu::ALMA_ISA {
namespace {

template <class From, class To>
void convert(ThreadPool& pool, const CastArgs& args) {
  const From* in = pointer<From>(args.in);
  To* out = pointer<To>(args.out);
  parallel_ranges(pool, args.count, kElementGrain, [&](int64_t begin, int64_t end, int) {
    for_lanes(end - begin,
              [&](int64_t i, int lanes) ALMA_LAMBDA { store(out + begin + i, load(in + begin + i, lanes), lanes); });
  });
}

}  // namespace

void cast(ThreadPool& pool, const CastArgs& args) {
  const DType from = args.in.dtype, to = args.out.dtype;
  if (from == to) {
    const int64_t bytes = args.count * (from == DType::f32 || from == DType::i32 ? 4 : 2);
    parallel_ranges(pool, bytes, 4 * kElementGrain, [&](int64_t begin, int64_t end, int) {
      __builtin_memcpy(pointer<char>(args.out, begin), pointer<char>(args.in, begin), static_cast<size_t>(end - begin));
    });
    return;
  }
  if (from == DType::i32) fail("cast", "i32 casts to i32 only");
  with_float("cast", to, [&](auto tag) {
    using To = typename decltype(tag)::type;
    if (from == DType::f32) return convert<float, To>(pool, args);
    if (from == DType::bf16) return convert<bf16, To>(pool, args);
    convert<f16, To>(pool, args);
  });
}

}  // namespace alma::cpu::ALMA_ISA

// out = factor · x.
#include "parallel.h"

namespace alma::cpu::ALMA_ISA {

void scale(ThreadPool& pool, const ScaleArgs& args) {
  same_dtype("scale", args.x, args.out);
  with_float("scale", args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* x = pointer<T>(args.x);
    T* out = pointer<T>(args.out);
    parallel_ranges(pool, args.count, kElementGrain, [&](int64_t begin, int64_t end, int) {
      for_lanes(end - begin, [&](int64_t i, int lanes) ALMA_LAMBDA {
        store(out + begin + i, load(x + begin + i, lanes) * args.factor, lanes);
      });
    });
  });
}

}  // namespace alma::cpu::ALMA_ISA

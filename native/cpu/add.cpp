// out = a + b.
#include "parallel.h"

namespace alma::cpu::ALMA_ISA {

void add(ThreadPool& pool, const AddArgs& args) {
  same_dtype("add", args.a, args.b);
  same_dtype("add", args.a, args.out);
  with_float("add", args.a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* a = pointer<T>(args.a);
    const T* b = pointer<T>(args.b);
    T* out = pointer<T>(args.out);
    parallel_ranges(pool, args.count, kElementGrain, [&](int64_t begin, int64_t end, int) {
      for_lanes(end - begin, [&](int64_t i, int lanes) ALMA_LAMBDA {
        store(out + begin + i, load(a + begin + i, lanes) + load(b + begin + i, lanes), lanes);
      });
    });
  });
}

}  // namespace alma::cpu::ALMA_ISA

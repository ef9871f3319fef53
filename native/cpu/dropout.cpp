// Inverted dropout with a mask that is a function of seed, step and index. Ranges begin at multiples of 4, so each Philox block of four
// random words belongs to one of them.
#include "../runtime/philox.h"
#include "parallel.h"

namespace alma::cpu::ALMA_ISA {
namespace {

template <class T>
void drop(ThreadPool& pool, const DropoutArgs& args, uint32_t step) {
  const auto threshold = static_cast<uint32_t>(static_cast<double>(args.probability) * 0x1p32);
  const float factor = 1.0f / (1.0f - args.probability);
  const T* x = pointer<T>(args.x);
  T* out = pointer<T>(args.out);
  parallel_ranges(pool, args.count, kElementGrain / 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i += 4) {
      const auto block = static_cast<uint64_t>(i) / 4;
      const auto random =
          philox(philox_key(args.seed), {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), step, 2}});
      for (int64_t lane = 0; lane < min<int64_t>(4, end - i); ++lane) {
        const float value = random.words[lane] >= threshold ? to_float(x[i + lane]) * factor : 0.0f;
        from_float(out + i + lane, args.accumulate ? to_float(out[i + lane]) + value : value);
      }
    }
  });
}

}  // namespace

void dropout(ThreadPool& pool, const DropoutArgs& args) {
  same_dtype("dropout", args.x, args.out);
  const auto step = static_cast<uint32_t>(pointer<int32_t>(args.step)[0]);
  with_float("dropout", args.x.dtype, [&](auto tag) { drop<typename decltype(tag)::type>(pool, args, step); });
}

}  // namespace alma::cpu::ALMA_ISA

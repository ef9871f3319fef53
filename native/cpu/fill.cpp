// out[i] = value, and x[i] += by.
#include <algorithm>

#include "kernels.h"

namespace alma::cpu {
namespace {

constexpr int64_t kGrain = 65536;

template <class T>
void fill_all(ThreadPool& pool, void* out, int64_t count, T value) {
  pool.run((count + kGrain - 1) / kGrain, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kGrain;
    std::fill_n(static_cast<T*>(out) + begin, std::min(kGrain, count - begin), value);
  });
}

}  // namespace

void fill(ThreadPool& pool, const FillArgs& args) {
  switch (args.out.dtype) {
    case DType::f32: return fill_all<float>(pool, args.out.data, args.count, args.value);
    case DType::i32: return fill_all<int32_t>(pool, args.out.data, args.count, static_cast<int32_t>(args.value));
    case DType::bf16: return fill_all<uint16_t>(pool, args.out.data, args.count, bf16_from_f32(args.value));
    case DType::f16: break;
  }
  fail("fill", "no op computes in f16");
}

void increment(ThreadPool& pool, const IncrementArgs& args) {
  auto* x = static_cast<int32_t*>(args.x.data);
  pool.run((args.count + kGrain - 1) / kGrain, [&](int64_t chunk, int) {
    const int64_t end = std::min(args.count, (chunk + 1) * kGrain);
    // Wraps around like the other devices do; signed overflow would be undefined.
    for (int64_t i = chunk * kGrain; i < end; ++i)
      x[i] = static_cast<int32_t>(static_cast<uint32_t>(x[i]) + static_cast<uint32_t>(args.by));
  });
}

}  // namespace alma::cpu

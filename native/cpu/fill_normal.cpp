// out[i] = standard_deviation · z(seed, first + i), normal numbers by Box–Muller from Philox4x32-10.
//
// Numbers 4j … 4j + 3 come from the counter (j low, j high, 0, 1) under the key (seed low, seed high): the words (r0, r1) give
// z = sqrt(−2 ln u)·cos 2πv and sqrt(−2 ln u)·sin 2πv with u = (r0 + 1) / 2³² and v = r1 / 2³², then (r2, r3) likewise.
// sample has 0 as the fourth word of its counter, so the two never share random numbers.
#include <algorithm>
#include <cmath>

#include "../runtime/philox.h"
#include "kernels.h"

namespace alma::cpu {
namespace {

constexpr int64_t kGrain = 8192;
constexpr float kTwoPi = 6.28318530717958648f;

void normal_four(uint64_t seed, uint64_t block, float (&z)[4]) {
  const auto random =
      philox(philox_key(seed), {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 1});
  for (int pair = 0; pair < 4; pair += 2) {
    const float u = static_cast<float>((random[pair] + 1.0) * 0x1p-32);
    const float angle = kTwoPi * static_cast<float>(random[pair + 1] * 0x1p-32);
    const float radius = std::sqrt(-2.0f * std::log(u));
    z[pair] = radius * std::cos(angle);
    z[pair + 1] = radius * std::sin(angle);
  }
}

template <class T, class Convert>
void fill_all(ThreadPool& pool, const FillNormalArgs& args, Convert convert) {
  T* out = static_cast<T*>(args.out.data);
  pool.run((args.count + kGrain - 1) / kGrain, [&](int64_t chunk, int) {
    const int64_t end = std::min(args.count, (chunk + 1) * kGrain);
    float z[4];
    for (int64_t i = chunk * kGrain; i < end;) {
      const uint64_t index = static_cast<uint64_t>(args.first) + static_cast<uint64_t>(i);
      normal_four(args.seed, index / 4, z);
      for (uint64_t lane = index % 4; lane < 4 && i < end; ++lane, ++i)
        out[i] = convert(args.standard_deviation * z[lane]);
    }
  });
}

}  // namespace

void fill_normal(ThreadPool& pool, const FillNormalArgs& args) {
  if (args.out.dtype == DType::f32) return fill_all<float>(pool, args, [](float value) { return value; });
  if (args.out.dtype == DType::bf16)
    return fill_all<uint16_t>(pool, args, [](float value) { return bf16_from_f32(value); });
  fail("fill_normal", "needs a float tensor (f32 or bf16)");
}

}  // namespace alma::cpu

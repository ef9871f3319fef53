// The loops behind probe.h: what this instruction set can do at best.
#include "probe_kernels.h"

#if defined(ALMA_AMX)
#include "amx.h"
#endif
#include "bf16_dot.h"
#include "micro_kernel.h"
#include "parallel.h"

namespace alma::cpu::ALMA_ISA {
namespace {

// kProbeChains independent accumulators hide the latency of two FMA units and fit 16 registers. They start at different values
// that the compiler cannot know, or it would compute one of them only.
double run_chains(int64_t iterations, F x, F y) {
  F chain[kProbeChains];
#pragma GCC unroll 12
  for (int c = 0; c < kProbeChains; ++c) chain[c] = splat(static_cast<float>(iterations + c));
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kProbeChains; ++c) chain[c] = chain[c] * x + y;
  }
  F total = {};
#pragma GCC unroll 12
  for (int c = 0; c < kProbeChains; ++c) total += chain[c];
  return sum(total);
}

}  // namespace

double probe_fma(int64_t iterations) { return run_chains(iterations, splat(0.5f), splat(0.25f)); }

#if defined(ALMA_AMX)
extern const int64_t probe_bf16_dot_flops;
const int64_t probe_bf16_dot_flops = AmxProduct::kRows * kNR * AmxProduct::kDepth * 4;  // of one iteration
double probe_bf16_dot(int64_t iterations) {
  const AmxProduct::Session session;
  alignas(64) static constexpr float zeros[2 * AmxProduct::kTile * AmxProduct::kRows] = {};
  F acc[AmxProduct::kRows][2];
  double total = 0;
  for (int64_t i = 0; i < iterations; ++i) {
    AmxProduct::multiply(AmxProduct::kDepth, zeros, zeros, true, acc);
    total += acc[i % AmxProduct::kRows][0][0];
  }
  return total;
}
#else
double probe_bf16_dot(int64_t iterations) {
  F chain[kProbeChains];
  const F x = as_float(U{} + 0x3f803f80u);  // pairs of 1
#pragma GCC unroll 12
  for (int c = 0; c < kProbeChains; ++c) chain[c] = splat(static_cast<float>(iterations + c));
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kProbeChains; ++c) chain[c] = Bf16Product::multiply_add(x, x, chain[c]);
  }
  F total = {};
#pragma GCC unroll 12
  for (int c = 0; c < kProbeChains; ++c) total += chain[c];
  return sum(total);
}
#endif

// Four streams: one alone leaves the prefetcher idle at the end of each page (15 GB/s instead of 25 on a Zen 3 core).
double probe_read(const float* data, int64_t count) {
  const int64_t quarter = count / 4 / (2 * W) * (2 * W);
  F sums[8] = {};
  for (int64_t i = 0; i < quarter; i += 2 * W)
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) sums[c] += load(data + c / 2 * quarter + i + c % 2 * W);
  F total = {};
#pragma GCC unroll 8
  for (int c = 0; c < 8; ++c) total += sums[c];
  return sum(total);
}

void probe_copy(const float* in, float* out, int64_t count) {
  for_lanes(count, [&](int64_t i, int lanes) ALMA_LAMBDA { store(out + i, load(in + i, lanes), lanes); });
}

}  // namespace alma::cpu::ALMA_ISA

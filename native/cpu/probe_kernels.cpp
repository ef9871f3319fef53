// The loops behind probe.h: what this instruction set can do at best.
#include "bf16_dot.h"
#include "micro_kernel.h"
#include "parallel.h"
#include "probe_kernels.h"

namespace alma::cpu::ALMA_ISA {
namespace {

// c[i] += x · c[i]-independent products: kProbeChains of them hide the latency of two FMA units and fit 16 registers. The
// factor changes every iteration, so that nothing can be taken out of the loop.
template <class Product>
double run_chains(int64_t iterations, F x, F y) {
  F chain[kProbeChains] = {};
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kProbeChains; ++c) chain[c] = Product::multiply_add(chain[c], x, y);
  }
  F total = {};
  for (int c = 0; c < kProbeChains; ++c) total += chain[c];
  return sum(total);
}

}  // namespace

double probe_fma(int64_t iterations) { return run_chains<F32Product>(iterations, splat(0.5f), splat(0.25f)); }

// The chain is the accumulator here, as in a matmul.
double probe_bf16_dot(int64_t iterations) {
  F chain[kProbeChains] = {};
  F x = as_float(U{} + 0x3f803f80u);  // pairs of 1
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kProbeChains; ++c) chain[c] = Bf16Product::multiply_add(x, chain[c], chain[c]);
  }
  F total = {};
  for (int c = 0; c < kProbeChains; ++c) total += chain[c];
  return sum(total);
}

double probe_read(const float* data, int64_t count) {
  F sums[8] = {};
  int64_t i = 0;
  for (; i + 8 * W <= count; i += 8 * W)
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) sums[c] += load(data + i + c * W);
  F total = {};
  for (int c = 0; c < 8; ++c) total += sums[c];
  return sum(total);
}

void probe_copy(const float* in, float* out, int64_t count) {
  for_lanes(count, [&](int64_t i, int lanes) ALMA_LAMBDA { store(out + i, load(in + i, lanes), lanes); });
}

}  // namespace alma::cpu::ALMA_ISA

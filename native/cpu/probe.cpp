#include "probe.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>

#include "cpu_ops.h"
#include "kernels.h"

namespace alma::cpu {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::atomic<double> sink;  // what is computed must go somewhere

// The best of the repetitions that fit into `seconds`, in units/s, where once() does `units` of work.
template <class Once>
double best_rate(double seconds, double units, Once once) {
  once();
  double best = 0;
  const double end = now() + seconds;
  do {
    const double start = now();
    once();
    best = std::max(best, units / (now() - start));
  } while (now() < end);
  return best;
}

double peak(CpuOps& ops, double seconds, double (*probe)(int64_t), int64_t flops) {
  constexpr int64_t kIterations = 200000;  // about 0.5 ms
  const int threads = ops.threads();
  return best_rate(seconds, static_cast<double>(flops) * kIterations * threads * 4, [&] {
    ops.pool().run(threads * 4, [&](int64_t, int) { sink.store(probe(kIterations), std::memory_order_relaxed); });
  });
}

constexpr int64_t kChunk = 1 << 16;  // floats

}  // namespace

double fma_peak_flops(CpuOps& ops, double seconds) {
  return peak(ops, seconds, ops.kernels().probe_fma, ops.kernels().probe_fma_flops);
}

double bf16_dot_peak_flops(CpuOps& ops, double seconds) {
  return peak(ops, seconds, ops.kernels().probe_bf16_dot, ops.kernels().probe_bf16_dot_flops);
}

double read_bandwidth(CpuOps& ops, size_t bytes, double seconds) {
  const int64_t chunks = std::max<int64_t>(1, static_cast<int64_t>(bytes / sizeof(float)) / kChunk);
  const std::vector<float> data(static_cast<size_t>(chunks * kChunk), 1.0f);
  return best_rate(seconds, static_cast<double>(data.size() * sizeof(float)), [&] {
    ops.pool().run(chunks, [&](int64_t chunk, int) {
      sink.store(ops.kernels().probe_read(data.data() + chunk * kChunk, kChunk), std::memory_order_relaxed);
    });
  });
}

double copy_bandwidth(CpuOps& ops, size_t bytes, double seconds) {
  const int64_t chunks = std::max<int64_t>(1, static_cast<int64_t>(bytes / sizeof(float)) / kChunk);
  const std::vector<float> from(static_cast<size_t>(chunks * kChunk), 1.0f);
  std::vector<float> to(from.size());
  return best_rate(seconds, 2.0 * static_cast<double>(from.size() * sizeof(float)), [&] {
    ops.pool().run(chunks, [&](int64_t chunk, int) {
      ops.kernels().probe_copy(from.data() + chunk * kChunk, to.data() + chunk * kChunk, kChunk);
    });
  });
}

}  // namespace alma::cpu

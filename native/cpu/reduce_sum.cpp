// Σ x or Σ x² in f64, and the count of elements that are not finite: chunks of a fixed size, their results added in order.
#include "parallel.h"

namespace alma::cpu::ALMA_ISA {
namespace {

constexpr int64_t kPageTableElements = 1 << 20;  // no less than 2 MiB, what a page table covers

template <class T>
double sum_range(const T* x, int64_t count, bool squares) {
  D low = {}, high = {};
  for_lanes(count, [&](int64_t i, int lanes) ALMA_LAMBDA {
    const F value = load(x + i, lanes);
    const D a = __builtin_convertvector(low_half(value), D), b = __builtin_convertvector(high_half(value), D);
    low += squares ? a * a : a;
    high += squares ? b * b : b;
  });
  return sum(low + high);
}

template <class T>
int64_t count_range(const T* x, int64_t count) {
  I total = {};  // −1 a hit and lane
  for_lanes(count, [&](int64_t i, int lanes)
                       ALMA_LAMBDA { total += (bits_of(load(x + i, lanes)) & 0x7f800000u) == 0x7f800000u; });
  int64_t result = 0;
  for (int lane = 0; lane < W; ++lane) result -= total[lane];
  return result;
}

}  // namespace

void reduce_sum(ThreadPool& pool, const ReduceSumArgs& args) {
  double total = 0;
  if (args.count > 0) {
    const int64_t chunks = ceil_div(args.count, kElementGrain);
    double* partial = static_cast<double*>(pool.scratch(0, kSharedSlot, sizeof(double) * static_cast<size_t>(chunks)));
    with_float("reduce_sum", args.x.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      parallel_ranges(pool, args.count, kElementGrain, [&](int64_t begin, int64_t end, int) {
        partial[begin / kElementGrain] = sum_range(pointer<T>(args.x, begin), end - begin, args.squares);
      });
    });
    for (int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[chunk];
  }
  float* out = pointer<float>(args.out);
  *out = static_cast<float>(args.accumulate ? *out + total : total);
}

void count_non_finite(ThreadPool& pool, const CountNonFiniteArgs& args) {
  if (args.count <= 0) return;
  // Weights are counted where they lie in a mapped file, whose pages come in as they are touched: threads that touch the same 2 MiB wait for
  // each other's page table.
  const int64_t grain = max(kElementGrain, min<int64_t>(kPageTableElements, args.count / (2 * pool.threads())));
  const int64_t chunks = ceil_div(args.count, grain);
  int64_t* partial = static_cast<int64_t*>(pool.scratch(0, kSharedSlot, sizeof(int64_t) * static_cast<size_t>(chunks)));
  with_float("count_non_finite", args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_ranges(pool, args.count, grain, [&](int64_t begin, int64_t end, int) {
      partial[begin / grain] = count_range(pointer<T>(args.x, begin), end - begin);
    });
  });
  int64_t total = *pointer<int32_t>(args.out);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[chunk];
  *pointer<int32_t>(args.out) = static_cast<int32_t>(min<int64_t>(total, INT32_MAX));
}

}  // namespace alma::cpu::ALMA_ISA

// cp.async pipelines: a kernel that is right, and each mistake that can be made with stages.
#include "../../native/cuda/ptx/cp_async.cuh"
#include "emulator_check.h"

namespace alma::test {

namespace {

enum class Mistake {
  none,
  no_wait,
  waits_for_too_few,
  no_barrier,
  stage_released_early,
  source_written,
  not_waited_at_end,
  stage_read_again
};

constexpr int kTile = 256, kStages = 3;
struct Stages {
  float tiles[kStages][kTile];
};

// out[i] = the sum over tiles of in[tile][255 − i]: each thread copies four elements of a tile, and reads others' afterwards.
template <Mistake mistake>
__global__ void sum_tiles(float* in, float* out, int tiles) {
  ALMA_SHARED(Stages, shared);
  const int t = static_cast<int>(threadIdx.x);
  const auto copy = [&](int tile) {
    if (tile < tiles) ptx::cp_async_16(&shared.tiles[tile % kStages][4 * t], in + tile * kTile + 4 * t);
    ptx::cp_async_commit();
  };
  copy(0);
  copy(1);
  float sum[4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    if (mistake == Mistake::stage_released_early) copy(tile + 2);
    if (mistake == Mistake::waits_for_too_few) {
      ptx::cp_async_wait<2>();
    } else if (mistake != Mistake::no_wait) {
      ptx::cp_async_wait<mistake == Mistake::stage_released_early ? 2 : 1>();
    }
    if (mistake != Mistake::no_barrier) __syncthreads();
    if (mistake == Mistake::source_written && tile + 1 < tiles) in[(tile + 1) * kTile + 4 * t] += 1;
    if (mistake != Mistake::stage_released_early) copy(tile + 2);
    const int stage = mistake == Mistake::stage_read_again ? (tile + 2) % kStages : tile % kStages;
    for (int i = 0; i < 4; ++i) sum[i] += shared.tiles[stage][kTile - 1 - (4 * t + i)];
  }
  if (mistake != Mistake::not_waited_at_end) ptx::cp_async_wait<0>();
  if (mistake == Mistake::not_waited_at_end) ptx::cp_async_16(&shared.tiles[0][4 * t], in + 4 * t);
  for (int i = 0; i < 4; ++i) out[4 * t + i] = sum[i];
}

template <Mistake mistake>
void run_tiles() {
  const int tiles = 7;
  std::vector<float> numbers(static_cast<size_t>(tiles * kTile));
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i % 101);
  const Device<float> in(numbers), out(kTile);
  launch({dim3(1), dim3(kTile / 4), sizeof(Stages)}, sum_tiles<mistake>, in.get(), out.get(), tiles);
  cudaDeviceSynchronize();
  if (mistake != Mistake::none) return;
  const auto sums = out.values();
  for (int i = 0; i < kTile; ++i) {
    float expected = 0;
    for (int tile = 0; tile < tiles; ++tile) expected += numbers[static_cast<size_t>(tile * kTile + kTile - 1 - i)];
    check(sums[static_cast<size_t>(i)] == expected, "sum of tiles");
  }
}

__global__ void zero_fill(const float* in, float* out, int valid, int shift) {
  ALMA_SHARED(Stages, shared);
  const int t = static_cast<int>(threadIdx.x);
  ptx::cp_async_16(&shared.tiles[0][4 * t] + shift, in + 4 * t, t < valid);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncthreads();
  out[t] = shared.tiles[0][4 * t + 1];
}

void run_zero_fill(int threads, int valid, int shift) {
  const Device<float> in(std::vector<float>(32, 5.0f)), out(32);
  launch({dim3(1), dim3(static_cast<unsigned>(threads)), sizeof(Stages)}, zero_fill, in.get(), out.get(), valid, shift);
  if (valid > 8 || shift != 0) {
    cudaDeviceSynchronize();
    return;
  }
  const auto values = out.values();
  for (int t = 0; t < threads; ++t) check(values[static_cast<size_t>(t)] == (t < valid ? 5.0f : 0.0f), "zeros");
}

}  // namespace

void test_async_copies() {
  runs_clean("a pipeline of three stages", run_tiles<Mistake::none>);
  is_found("no wait", {"while an asynchronous copy into it is on its way"}, run_tiles<Mistake::no_wait>);
  is_found("a wait for too few groups", {"while an asynchronous copy into it is on its way"},
           run_tiles<Mistake::waits_for_too_few>);
  is_found("no barrier behind the wait", {"shared memory"}, run_tiles<Mistake::no_barrier>);
  is_found("a stage released before all have read it", {"shared memory", "asynchronous copy"},
           run_tiles<Mistake::stage_released_early>);
  is_found("a stage that is being filled", {"shared memory"}, run_tiles<Mistake::stage_read_again>);
  is_found("a source written while it is copied", {"its source was written before it had arrived"},
           run_tiles<Mistake::source_written>);
  is_found("a copy that is never waited for", {"has not waited for"}, run_tiles<Mistake::not_waited_at_end>);
  runs_clean("zeros where there is no source", [] { run_zero_fill(32, 8, 0); });
  is_found("a source behind its end", {"cp.async", "behind the end of an allocation of 128 bytes"},
           [] { run_zero_fill(32, 9, 0); });
  is_found("a target that is not aligned", {"cp.async", "not a multiple of 16"}, [] { run_zero_fill(4, 4, 1); });
}

}  // namespace alma::test

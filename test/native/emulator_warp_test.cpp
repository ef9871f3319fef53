// What the lanes of a warp do together.
#include "emulator_check.h"

namespace alma::test {

namespace {

__global__ void shuffles(int* out, double* doubles) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int* mine = out + threadIdx.x * 8;
  mine[0] = __shfl_sync(0xffffffffu, lane * 10, 5);
  mine[1] = __shfl_xor_sync(0xffffffffu, lane, 3);
  mine[2] = __shfl_up_sync(0xffffffffu, lane, 2);
  mine[3] = __shfl_down_sync(0xffffffffu, lane, 2);
  mine[4] = __shfl_down_sync(0xffffffffu, lane, 2, 8);
  mine[5] = static_cast<int>(__ballot_sync(0xffffffffu, lane % 3 == 0));
  mine[6] = __any_sync(0xffffffffu, lane == 31);
  mine[7] = __all_sync(0xffffffffu, lane < 31);
  doubles[threadIdx.x] = __shfl_xor_sync(0xffffffffu, lane + 0.5, 16);
}

void test_shuffles() {
  const Device<int> out(64 * 8);
  const Device<double> doubles(64);
  launch({dim3(1), dim3(64)}, shuffles, out.get(), doubles.get());
  const auto values = out.values();
  const auto halves = doubles.values();
  unsigned thirds = 0;
  for (int lane = 0; lane < 32; lane += 3) thirds |= 1u << lane;
  for (int thread = 0; thread < 64; ++thread) {
    const int lane = thread % 32;
    const int* got = &values[static_cast<size_t>(thread) * 8];
    const int expected[8] = {50,
                             lane ^ 3,
                             lane < 2 ? lane : lane - 2,
                             lane > 29 ? lane : lane + 2,
                             lane % 8 > 5 ? lane : lane + 2,
                             static_cast<int>(thirds),
                             1,
                             0};
    for (int i = 0; i < 8; ++i) check(got[i] == expected[i], "shuffle " + std::to_string(i));
    check(halves[static_cast<size_t>(thread)] == (lane ^ 16) + 0.5, "shuffle of doubles");
  }
}

struct Lanes {
  int values[64];
};

enum class Mistake { none, no_syncwarp, other_warp };

// Lanes exchange through shared memory within their warp.
template <Mistake mistake>
__global__ void exchange(int* out) {
  ALMA_SHARED(Lanes, shared);
  const unsigned t = threadIdx.x;
  shared.values[t] = static_cast<int>(t);
  if (mistake != Mistake::no_syncwarp) __syncwarp();
  const unsigned from = mistake == Mistake::other_warp ? 63 - t : t ^ 1;
  out[t] = shared.values[from];
}

template <Mistake mistake>
void run_exchange() {
  const Device<int> out(64);
  launch({dim3(1), dim3(64), sizeof(Lanes)}, exchange<mistake>, out.get());
  cudaDeviceSynchronize();
  if (mistake != Mistake::none) return;
  const auto values = out.values();
  for (int t = 0; t < 64; ++t) check(values[static_cast<size_t>(t)] == (t ^ 1), "exchange");
}

__global__ void diverging_collectives(int* out) {
  if (threadIdx.x % 32 < 16) {
    out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
  } else {
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
  }
}

__global__ void lane_missing_from_its_mask(int* out) { out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 0); }

__global__ void lanes_that_left(int* out) {
  if (threadIdx.x >= 20) return;
  out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}

// Two halves of a warp, each with a mask of its own.
__global__ void halves(int* out) {
  const unsigned mask = threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u;
  out[threadIdx.x] = static_cast<int>(__popc(__ballot_sync(mask, true)));
}

}  // namespace

void test_warps() {
  runs_clean("shuffles and votes", test_shuffles);
  runs_clean("exchange within a warp", run_exchange<Mistake::none>);
  is_found("no __syncwarp", {"shared memory"}, run_exchange<Mistake::no_syncwarp>);
  is_found("__syncwarp for an exchange between warps", {"shared memory"}, run_exchange<Mistake::other_warp>);
  const auto one = [](void (*kernel)(int*)) {
    return [kernel] {
      const Device<int> out(32);
      launch({dim3(1), dim3(32)}, kernel, out.get());
      cudaDeviceSynchronize();
    };
  };
  is_found("lanes at different collectives", {"lanes of a warp wait for different things", "emulator_warp_test.cpp:"},
           one(diverging_collectives));
  is_found("a mask without the lane itself", {"mask without its own lane"}, one(lane_missing_from_its_mask));
  is_found("lanes that have ended", {"deadlock", "20 wait for a shuffle at emulator_warp_test.cpp:", "12 have ended"},
           one(lanes_that_left));
  runs_clean("halves of a warp", one(halves));
}

}  // namespace alma::test

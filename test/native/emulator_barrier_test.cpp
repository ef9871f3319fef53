// Barriers of a block: sums through shared memory, and what goes wrong without them.
#include "emulator_check.h"

namespace alma::test {

namespace {

enum class Mistake { none, no_barrier_before_reading, no_barrier_before_reuse, in_a_branch, twice_in_a_branch };

struct Sum {
  float values[128];
};

// out[block] = the sum of 128 numbers, by halving; twice, in the same shared memory.
template <Mistake mistake>
__global__ void sum_twice(const float* in, float* out) {
  ALMA_SHARED(Sum, shared);
  const unsigned t = threadIdx.x;
  float total = 0;
  for (int round = 0; round < 2; ++round) {
    if (mistake != Mistake::no_barrier_before_reuse) __syncthreads();
    shared.values[t] = in[blockIdx.x * 128 + t];
    if (mistake != Mistake::no_barrier_before_reading) __syncthreads();
    for (unsigned half = 64; half > 0; half /= 2) {
      if (t < half) shared.values[t] += shared.values[t + half];
      if (mistake == Mistake::in_a_branch) {
        if (t < 100) __syncthreads();
      } else if (mistake == Mistake::twice_in_a_branch) {
        if (t < 64) {
          __syncthreads();
        } else {
          __syncthreads();
        }
      } else {
        __syncthreads();
      }
    }
    total += shared.values[0];
  }
  if (t == 0) out[blockIdx.x] = total;
}

template <Mistake mistake>
void run_sum() {
  std::vector<float> numbers(5 * 128);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i % 17);
  const Device<float> in(numbers), out(5);
  launch({dim3(5), dim3(128), sizeof(Sum)}, sum_twice<mistake>, in.get(), out.get());
  cudaDeviceSynchronize();
  if (mistake != Mistake::none) return;
  const auto sums = out.values();
  for (size_t block = 0; block < 5; ++block) {
    float expected = 0;
    for (size_t i = 0; i < 128; ++i) expected += 2 * numbers[block * 128 + i];
    check(sums[block] == expected, "sum of block " + std::to_string(block));
  }
}

// Threads that have ended do not keep the others waiting.
__global__ void some_leave_early(int* out) {
  ALMA_SHARED(Sum, shared);
  if (threadIdx.x >= 50) return;
  shared.values[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = static_cast<int>(shared.values[49 - threadIdx.x]);
}

// A producer warp hands values to a consumer warp through named barriers; without the wait it is a race.
template <bool waits>
__global__ void named_barriers(int* out) {
  ALMA_SHARED(Sum, shared);
  const unsigned lane = threadIdx.x % 32;
  emulator::Block& block = *emulator::current_block;
  if (threadIdx.x < 32) {
    shared.values[lane] = static_cast<float>(lane);
    block.barrier_arrive(1, 64, ALMA_EMULATOR_HERE);
  } else if (threadIdx.x < 64) {
    if (waits) block.barrier(1, 64, ALMA_EMULATOR_HERE);
    out[lane] = static_cast<int>(shared.values[31 - lane]);
    if (!waits) block.barrier_arrive(1, 64, ALMA_EMULATOR_HERE);
  } else {
    // Warps 2 and 3 have a barrier of their own, which orders nothing for the others.
    block.barrier(2, 64, ALMA_EMULATOR_HERE);
  }
}

__global__ void half_of_them_wait() {
  if (threadIdx.x < 64) {
    emulator::current_block->barrier(3, 96, ALMA_EMULATOR_HERE);
  } else {
    __syncthreads();
  }
}

}  // namespace

void test_barriers() {
  runs_clean("sums through shared memory", run_sum<Mistake::none>);
  is_found("no barrier before reading", {"shared memory", "test, block (", "thread ("},
           run_sum<Mistake::no_barrier_before_reading>);
  is_found("no barrier before shared memory is used again", {"no barrier in between"},
           run_sum<Mistake::no_barrier_before_reuse>);
  is_found("a barrier that a part of the block comes to", {}, run_sum<Mistake::in_a_branch>);
  is_found("barriers in two branches", {"different __syncthreads", "emulator_barrier_test.cpp:"},
           run_sum<Mistake::twice_in_a_branch>);
  runs_clean("threads that end before a barrier", [] {
    const Device<int> out(50);
    launch({dim3(1), dim3(128), sizeof(Sum)}, some_leave_early, out.get());
    const auto values = out.values();
    for (int i = 0; i < 50; ++i) check(values[static_cast<size_t>(i)] == 49 - i, "behind the barrier");
  });
  runs_clean("named barriers", [] {
    const Device<int> out(32);
    launch({dim3(1), dim3(128), sizeof(Sum)}, named_barriers<true>, out.get());
    const auto values = out.values();
    for (int i = 0; i < 32; ++i) check(values[static_cast<size_t>(i)] == 31 - i, "handed over by a named barrier");
  });
  is_found("a consumer that does not wait for its producer", {"shared memory"}, [] {
    const Device<int> out(32);
    launch({dim3(1), dim3(128), sizeof(Sum)}, named_barriers<false>, out.get());
    cudaDeviceSynchronize();
  });
  is_found("deadlock", {"deadlock", "64 wait for a barrier at emulator_barrier_test.cpp:", "32 wait for a barrier"},
           [] {
             launch({dim3(1), dim3(96)}, half_of_them_wait);
             cudaDeviceSynchronize();
           });
}

}  // namespace alma::test

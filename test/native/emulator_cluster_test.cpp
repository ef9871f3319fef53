// Clusters: two blocks that each copy half of every tile to both. A kernel that is right, and each mistake that can be made in it.
#include <cuda_bf16.h>

#include "../../native/cuda/layout/swizzle.h"
#include "../../native/cuda/ptx/cluster.cuh"
#include "../../native/cuda/ptx/mbarrier.cuh"
#include "../../native/cuda/ptx/tensor_copy.cuh"
#include "emulator_check.h"

namespace alma::test {

namespace {

using ALMA_CUDA::make_tensor_map;
using bf16 = __nv_bfloat16;

enum class Mistake {
  none,
  no_first_barrier,
  no_last_barrier,
  no_empty_wait,
  releases_itself_alone,
  releases_twice,
  expects_its_own_half,
  copies_to_itself_alone,
  copies_to_a_third,
  arrives_for_a_third,
  waits_without_arriving,
  arrives_twice,
  reads_too_early
};

constexpr int kRows = 32, kColumns = 64, kThreads = 64, kSteps = 4;
struct Tile {
  alignas(1024) bf16 x[kRows * kColumns];
  ptx::Mbarrier full, empty;
};

// sums[block][column] = (block + 1) · the sum of the column over all steps · rows. Warp 0 copies, warp 1 adds up.
template <Mistake mistake>
__global__ void add_columns(const __grid_constant__ TensorMap map, float* sums) {
  ALMA_SHARED(Tile, shared);
  const unsigned rank = ptx::cluster_rank();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&shared.full, 1);
    ptx::mbarrier_init(&shared.empty, 2);
    ptx::mbarrier_init_fence();
  }
  if (mistake == Mistake::waits_without_arriving) ptx::cluster_wait();
  if (mistake == Mistake::no_first_barrier) {
    __syncthreads();
  } else {
    ptx::cluster_arrive();
    if (mistake == Mistake::arrives_twice) ptx::cluster_arrive();
    ptx::cluster_wait();
  }
  if (threadIdx.x == 0) {
    for (int step = 0; step < kSteps; ++step) {
      if (mistake != Mistake::no_empty_wait) ptx::mbarrier_wait(&shared.empty, static_cast<unsigned>(step & 1) ^ 1);
      const uint32_t half = kRows / 2 * kColumns * 2;
      ptx::mbarrier_arrive_expect(&shared.full, mistake == Mistake::expects_its_own_half ? half : 2 * half);
      const int row = static_cast<int>(rank) * kRows / 2;
      const uint16_t blocks = mistake == Mistake::copies_to_itself_alone ? static_cast<uint16_t>(1u << rank)
                              : mistake == Mistake::copies_to_a_third    ? 7
                                                                         : 3;
      ptx::tensor_load_2d_multicast(shared.x + row * kColumns, &map, &shared.full, 0, step * kRows + row, blocks);
    }
  }
  if (threadIdx.x >= 32) {
    float sum[2] = {};
    for (int step = 0; step < kSteps; ++step) {
      if (mistake != Mistake::reads_too_early) ptx::mbarrier_wait(&shared.full, static_cast<unsigned>(step & 1));
      for (int row = 0; row < kRows; ++row)
        for (int i = 0; i < 2; ++i) {
          const auto at = static_cast<size_t>(row * kColumns + lane + 32 * i) * 2;
          sum[i] += static_cast<float>(shared.x[layout::swizzle_128(at) / 2]);
        }
      __syncwarp();
      if (lane >= 2) continue;
      if (mistake == Mistake::releases_itself_alone && lane != static_cast<int>(rank)) continue;
      ptx::mbarrier_arrive_remote(&shared.empty, static_cast<unsigned>(lane));
      if (mistake == Mistake::releases_twice) ptx::mbarrier_arrive_remote(&shared.empty, static_cast<unsigned>(lane));
      if (mistake == Mistake::arrives_for_a_third) ptx::mbarrier_arrive_remote(&shared.empty, 2);
    }
    for (int i = 0; i < 2; ++i) sums[blockIdx.x * kColumns + lane + 32 * i] = static_cast<float>(rank + 1) * sum[i];
  }
  if (mistake == Mistake::no_last_barrier) return;
  ptx::cluster_arrive();
  ptx::cluster_wait();
}

template <Mistake mistake>
void run() {
  const int64_t rows = kSteps * kRows - 5;
  std::vector<bf16> x(static_cast<size_t>(rows * kColumns));
  for (size_t i = 0; i < x.size(); ++i) x[i] = bf16(static_cast<float>(static_cast<int>(i * 7 % 13) - 6));
  const Device<bf16> device_x(x);
  const Device<float> sums(4 * kColumns);
  const TensorMap map = make_tensor_map(
      "test", {device_x.get(), DType::bf16, 2, {kColumns, rows, 0}, {1, kColumns, 0}, {64, kRows / 2, 0}, true});
  ALMA_CUDA::LaunchShape shape{dim3(4), dim3(kThreads), sizeof(Tile)};
  shape.cluster = dim3(2);
  launch(shape, add_columns<mistake>, map, sums.get());
  cudaDeviceSynchronize();
  if (mistake != Mistake::none) return;
  const auto values = sums.values();
  for (size_t block = 0; block < 4; ++block)
    for (size_t column = 0; column < kColumns; ++column) {
      float sum = 0;
      for (size_t row = 0; row < static_cast<size_t>(rows); ++row)
        sum += static_cast<float>(x[row * kColumns + column]);
      check(values[block * kColumns + column] == static_cast<float>(block % 2 + 1) * sum, "a sum of a cluster's block");
    }
}

void refused() {
  ALMA_CUDA::LaunchShape shape{dim3(3), dim3(kThreads), sizeof(Tile)};
  shape.cluster = dim3(2);
  bool thrown = false;
  try {
    ALMA_CUDA::launch(ALMA_CUDA::Context{}, "test", shape, add_columns<Mistake::none>, TensorMap{}, nullptr);
  } catch (const Error&) {
    thrown = true;
  }
  check(thrown, "a grid that is not whole clusters");
}

}  // namespace

void test_clusters() {
  refused();
  runs_clean("two clusters", run<Mistake::none>);
  is_found("no barrier before the first reach into another block", {}, run<Mistake::no_first_barrier>);
  is_found("no barrier behind the last reach into another block", {"cluster"}, run<Mistake::no_last_barrier>);
  is_found("a stage filled before both blocks have read it", {}, run<Mistake::no_empty_wait>);
  is_found("a stage released in one block alone", {}, run<Mistake::releases_itself_alone>);
  is_found("a stage released twice", {}, run<Mistake::releases_twice>);
  is_found("bytes of the other block's copy that nobody expects", {}, run<Mistake::expects_its_own_half>);
  is_found("bytes of the other block's copy that do not come", {"deadlock"}, run<Mistake::copies_to_itself_alone>);
  is_found("a copy to a block that the cluster does not have", {"of a cluster of 2"}, run<Mistake::copies_to_a_third>);
  is_found("an arrival in a block that the cluster does not have", {"of a cluster of 2"},
           run<Mistake::arrives_for_a_third>);
  is_found("a wait for a barrier at which nobody arrived", {"without an arrival"},
           run<Mistake::waits_without_arriving>);
  is_found("two arrivals and no wait", {"before the wait"}, run<Mistake::arrives_twice>);
  is_found("a stage read before both copies have come", {}, run<Mistake::reads_too_early>);
}

}  // namespace alma::test

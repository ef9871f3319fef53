// Compute capability 9.0: bulk copies by tensor maps, mbarriers, matrix products of a warpgroup, bulk stores. A product with a producer and
// a consumer that is right, and each mistake that can be made in it.
#include <cuda_bf16.h>

#include <cmath>
#include <cstring>

#include "../../native/cuda/layout/swizzle.h"
#include "../../native/cuda/ptx/fence.cuh"
#include "../../native/cuda/ptx/mbarrier.cuh"
#include "../../native/cuda/ptx/named_barrier.cuh"
#include "../../native/cuda/ptx/set_max_registers.cuh"
#include "../../native/cuda/ptx/stmatrix.cuh"
#include "../../native/cuda/ptx/tensor_copy.cuh"
#include "../../native/cuda/ptx/wgmma_n64.cuh"
#include "../../native/emulator/async_proxy.h"
#include "emulator_check.h"

namespace alma::test {

namespace {

using ALMA_CUDA::make_tensor_map;
using bf16 = __nv_bfloat16;

enum class Mistake {
  none,
  no_full_wait,
  no_empty_wait,
  released_early,
  never_released,
  released_twice,
  no_init_barrier,
  no_init_fence,
  expects_too_much,
  expects_too_little,
  no_wgmma_fence,
  accumulator_written,
  no_wgmma_wait,
  operand_written,
  no_store_fence,
  no_store_barrier,
  store_not_waited,
  staging_rewritten,
  one_warp_of_wgmma,
  wrong_coordinates
};

constexpr int kM = 64, kN = 64, kDepth = 64, kStages = 2, kThreads = 256;
constexpr uint32_t kStageBytes = (kM + kN) * kDepth * 2;
struct Tiles {
  alignas(1024) bf16 a[kStages][kM * kDepth];
  alignas(1024) bf16 b[kStages][kN * kDepth];
  alignas(1024) bf16 c[kM * kN];
  ptx::Mbarrier full[kStages], empty[kStages];
};

// c[64, 64] = a[64, k] · b[64, k]ᵀ: warpgroup 0 loads, warpgroup 1 multiplies.
template <Mistake mistake>
__global__ void product(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b,
                        const __grid_constant__ TensorMap map_c, int steps) {
  ALMA_SHARED(Tiles, shared);
  const int warpgroup = static_cast<int>(threadIdx.x) / 128, thread = static_cast<int>(threadIdx.x) % 128;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      ptx::mbarrier_init(&shared.full[stage], 1);
      ptx::mbarrier_init(&shared.empty[stage], 1);
    }
    if (mistake != Mistake::no_init_fence) ptx::mbarrier_init_fence();
  }
  if (mistake != Mistake::no_init_barrier) __syncthreads();
  if (warpgroup == 0) {
    ptx::decrease_registers<40>();
    if (thread != 0) return;
    for (int step = 0; step < steps; ++step) {
      const int stage = step % kStages;
      const unsigned parity = static_cast<unsigned>(step / kStages) & 1;
      if (mistake != Mistake::no_empty_wait) ptx::mbarrier_wait(&shared.empty[stage], parity ^ 1);
      const uint32_t bytes = kStageBytes + (mistake == Mistake::expects_too_much     ? 64
                                            : mistake == Mistake::expects_too_little ? -kStageBytes / 2
                                                                                     : 0);
      ptx::mbarrier_arrive_expect(&shared.full[stage], bytes);
      const int row = mistake == Mistake::wrong_coordinates ? -1 : 0;
      ptx::tensor_load_2d(shared.a[stage], &map_a, &shared.full[stage], row + step * kDepth, 0);
      ptx::tensor_load_2d(shared.b[stage], &map_b, &shared.full[stage], step * kDepth, 0);
    }
    return;
  }
  ptx::increase_registers<232>();
  float d[32];
  for (int step = 0; step < steps; ++step) {
    const int stage = step % kStages;
    if (mistake != Mistake::no_full_wait)
      ptx::mbarrier_wait(&shared.full[stage], static_cast<unsigned>(step / kStages) & 1);
    if (mistake == Mistake::operand_written && step == 1 && thread == 0) shared.a[0][0] = bf16(1.0f);
    if (mistake != Mistake::no_wgmma_fence) ptx::wgmma_fence();
    for (int k = 0; k < kDepth; k += 16) {
      if (mistake == Mistake::one_warp_of_wgmma && thread / 32 == 3) break;
      ptx::wgmma_n64<ptx::Major::k, ptx::Major::k>(d, ptx::operand<ptx::Major::k>(&shared.a[stage][k]),
                                                   ptx::operand<ptx::Major::k>(&shared.b[stage][k]), step + k > 0);
    }
    ptx::wgmma_commit();
    if (mistake == Mistake::accumulator_written && thread == 5) d[3] = 1;
    if (mistake == Mistake::released_early && thread == 0) ptx::mbarrier_arrive(&shared.empty[stage]);
    if (mistake != Mistake::no_wgmma_wait) ptx::wgmma_wait<0>();
    if (thread != 0 || mistake == Mistake::released_early) continue;
    if (mistake != Mistake::never_released || step != 1) ptx::mbarrier_arrive(&shared.empty[stage]);
    if (mistake == Mistake::released_twice) ptx::mbarrier_arrive(&shared.empty[stage]);
  }
  for (int column = 0; column < kN; column += 16) {
    uint32_t words[4];
    for (int i = 0; i < 4; ++i) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(d[column / 2 + 2 * i], d[column / 2 + 2 * i + 1]);
      std::memcpy(&words[i], &pair, 4);
    }
    const int row = thread / 32 * 16 + thread % 16, chunk = column / 8 + thread % 32 / 16;
    ptx::stmatrix_x4(shared.c + row * kN + (chunk ^ (row & 7)) * 8, words);
  }
  if (mistake != Mistake::no_store_fence) ptx::fence_proxy_async();
  if (mistake != Mistake::no_store_barrier) ptx::barrier_sync(1, 128);
  if (thread != 0) return;
  ptx::tensor_store_2d(&map_c, shared.c, 0, 0);
  ptx::bulk_commit();
  if (mistake == Mistake::staging_rewritten) shared.c[17] = bf16(0.0f);
  if (mistake != Mistake::store_not_waited) ptx::bulk_wait_read<0>();
}

TensorMap map_of(const bf16* data, int64_t rows, int64_t columns) {
  return make_tensor_map("test", {data, DType::bf16, 2, {columns, rows, 0}, {1, columns, 0}, {64, 64, 0}, true});
}

// Ragged: the copies' zeros take part.
template <Mistake mistake>
void run_product() {
  const int64_t rows = 57, k = 200, steps = 4;
  std::vector<bf16> a(static_cast<size_t>(rows * k)), b(static_cast<size_t>(rows * k));
  for (size_t i = 0; i < a.size(); ++i) a[i] = bf16(static_cast<float>(static_cast<int>(i * 7 % 13) - 6));
  for (size_t i = 0; i < b.size(); ++i) b[i] = bf16(static_cast<float>(static_cast<int>(i * 5 % 11) - 5) / 8);
  const Device<bf16> device_a(a), device_b(b), c(static_cast<size_t>(rows * 64));
  launch({dim3(1), dim3(kThreads), sizeof(Tiles)}, product<mistake>, map_of(device_a.get(), rows, k),
         map_of(device_b.get(), rows, k), map_of(c.get(), rows, 64), static_cast<int>(steps));
  cudaDeviceSynchronize();
  if (mistake != Mistake::none) return;
  const auto values = c.values();
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < 64; ++j) {
      float sum = 0;
      for (int64_t l = 0; l < k && j < rows; ++l)
        sum += static_cast<float>(a[static_cast<size_t>(i * k + l)]) *
               static_cast<float>(b[static_cast<size_t>(j * k + l)]);
      check(static_cast<float>(values[static_cast<size_t>(i * 64 + j)]) == static_cast<float>(bf16(sum)),
            "element " + std::to_string(i) + ", " + std::to_string(j) + " of a product");
    }
}

// Both operands across their rows of shared memory, the left one from registers as well, boxes of three dimensions, stores that add.
struct Transposed {
  alignas(1024) bf16 a[64 * 64], b[64 * 64];
  alignas(1024) float sums[64 * 32];
  ptx::Mbarrier full;
};

__global__ void transposed_product(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b,
                                   const __grid_constant__ TensorMap map_sums, float* c, bool registers) {
  ALMA_SHARED(Transposed, shared);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    ptx::mbarrier_init(&shared.full, 1);
    ptx::mbarrier_init_fence();
    ptx::mbarrier_arrive_expect(&shared.full, sizeof shared.a + sizeof shared.b);
    ptx::tensor_load_2d(shared.a, &map_a, &shared.full, 0, 0);
    ptx::tensor_load_3d(shared.b, &map_b, &shared.full, 0, 1, 0);
  }
  __syncthreads();
  ptx::mbarrier_wait(&shared.full, 0);
  float d[32];
  uint32_t words[4][4];
  for (int k = 0; k < 64 && registers; k += 16)
    for (int i = 0; i < 8; ++i) {
      const layout::Place at = layout::fragment_a(thread % 32, i);
      const auto offset = static_cast<size_t>((k + at.col) * 128 + (thread / 32 * 16 + at.row) * 2);
      const bf16 value = shared.a[layout::swizzle_128(offset) / 2];
      uint32_t& word = words[k / 16][i / 2];
      word = i % 2 == 0 ? value.bits : word | static_cast<uint32_t>(value.bits) << 16;
    }
  ptx::wgmma_fence();
  for (int k = 0; k < 64; k += 16) {
    const uint64_t b = ptx::operand<ptx::Major::mn>(&shared.b[k * 64], 8192);
    if (registers) {
      ptx::wgmma_n64<ptx::Major::mn>(d, words[k / 16], b, k > 0);
    } else {
      ptx::wgmma_n64<ptx::Major::mn, ptx::Major::mn>(d, ptx::operand<ptx::Major::mn>(&shared.a[k * 64], 8192), b,
                                                     k > 0);
    }
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 32; ++i) {
      const layout::Place at = layout::warpgroup_accumulator(thread, i);
      c[at.row * 64 + at.col] = d[i];
      if (at.col / 32 == half)
        shared.sums[layout::swizzle_128(static_cast<size_t>(at.row * 128 + at.col % 32 * 4)) / 4] = d[i];
    }
    ptx::fence_proxy_async();
    ptx::barrier_sync(1, 128);
    if (thread == 0) {
      ptx::tensor_add_2d(&map_sums, shared.sums, half * 32, 0);
      ptx::bulk_commit();
      ptx::bulk_wait_read<0>();
    }
    ptx::barrier_sync(1, 128);
  }
}

void run_transposed() {
  std::vector<bf16> a(64 * 64), b(3 * 64 * 64);
  for (size_t i = 0; i < a.size(); ++i) a[i] = bf16(static_cast<float>(static_cast<int>(i * 7 % 13) - 6));
  for (size_t i = 0; i < b.size(); ++i) b[i] = bf16(static_cast<float>(static_cast<int>(i * 5 % 11) - 5));
  const Device<bf16> device_a(a), device_b(b);
  const Device<float> c(64 * 64), sums(std::vector<float>(64 * 64, 0.5f));
  // b is the middle one of three matrices that lie side by side.
  const TensorMap map_b =
      make_tensor_map("test", {device_b.get(), DType::bf16, 3, {64, 3, 64}, {1, 64, 192}, {64, 1, 64}, true});
  const TensorMap map_sums =
      make_tensor_map("test", {sums.get(), DType::f32, 2, {64, 64, 0}, {1, 64, 0}, {32, 64, 0}, true});
  for (const bool registers : {false, true})
    launch({dim3(1), dim3(128), sizeof(Transposed)}, transposed_product, map_of(device_a.get(), 64, 64), map_b,
           map_sums, c.get(), registers);
  cudaDeviceSynchronize();
  const auto values = c.values(), added = sums.values();
  for (size_t i = 0; i < 64; ++i)
    for (size_t j = 0; j < 64; ++j) {
      float sum = 0;
      for (size_t k = 0; k < 64; ++k)
        sum += static_cast<float>(a[k * 64 + i]) * static_cast<float>(b[k * 192 + 64 + j]);
      check(values[i * 64 + j] == sum, "an element of a transposed product");
      check(added[i * 64 + j] == 0.5f + 2 * sum, "an element that was added to");
    }
}

template <int kConsumer>
__global__ void take_registers() {
  if (threadIdx.x < 128) {
    ptx::decrease_registers<40>();
  } else {
    ptx::increase_registers<kConsumer>();
  }
}

void refused_maps() {
  const Device<bf16> data(64 * 64);
  const auto refused = [&](int64_t stride, int box, size_t shift) {
    try {
      make_tensor_map("test", {data.get() + shift, DType::bf16, 2, {32, 32, 0}, {1, stride, 0}, {box, 32, 0}, true});
    } catch (const Error&) {
      return true;
    }
    return false;
  };
  check(!refused(40, 64, 0) && refused(36, 64, 0) && refused(40, 32, 0) && refused(40, 64, 4),
        "tensor maps that do not fit");
}

}  // namespace

void test_hopper() {
  refused_maps();
  runs_clean("a product", run_product<Mistake::none>);
  runs_clean("a transposed product", run_transposed);
  is_found("a stage read before it is full", {"emulator_hopper_test.cpp", "wgmma"}, run_product<Mistake::no_full_wait>);
  is_found("a stage filled before it is empty", {}, run_product<Mistake::no_empty_wait>);
  is_found("a stage released before the product has read it", {"a bulk copy", "shared memory"},
           run_product<Mistake::released_early>);
  is_found("a stage that is never released", {"deadlock", "an mbarrier at byte", "emulator_hopper_test.cpp:"},
           run_product<Mistake::never_released>);
  is_found("a stage released twice", {}, run_product<Mistake::released_twice>);
  is_found("an mbarrier used before its initialisation is seen", {"mbarrier"}, run_product<Mistake::no_init_barrier>);
  is_found("an mbarrier whose initialisation is not fenced", {"its mbarrier", "no proxy fence"},
           run_product<Mistake::no_init_fence>);
  is_found("more bytes expected than come", {"deadlock", "and 64 bytes"}, run_product<Mistake::expects_too_much>);
  is_found("fewer bytes expected than come", {}, run_product<Mistake::expects_too_little>);
  is_found("no wgmma.fence", {"no wgmma.fence"}, run_product<Mistake::no_wgmma_fence>);
  is_found("an accumulator written while the product runs", {"an accumulator was written"},
           run_product<Mistake::accumulator_written>);
  is_found("a product that is not waited for", {}, run_product<Mistake::no_wgmma_wait>);
  is_found("an operand written while the product runs or without order", {"shared memory"},
           run_product<Mistake::operand_written>);
  is_found("a store of what was written without a proxy fence", {"a bulk store", "no proxy fence"},
           run_product<Mistake::no_store_fence>);
  is_found("a store before all have written", {"a bulk store"}, run_product<Mistake::no_store_barrier>);
  is_found("a store that is not waited for", {"may still read"}, run_product<Mistake::store_not_waited>);
  is_found("memory rewritten while it is stored", {"may still be reading"}, run_product<Mistake::staging_rewritten>);
  runs_clean("registers of three warpgroups", [] { launch({dim3(1), dim3(384), 0}, take_registers<232>); });
  is_found("more registers than there are", {"66560 registers"}, [] {
    launch({dim3(1), dim3(384), 0}, take_registers<240>);
  });
  is_found("a product of three warps", {"wgmma"}, run_product<Mistake::one_warp_of_wgmma>);
  is_found("a copy from before the tensor", {"begins before"}, run_product<Mistake::wrong_coordinates>);
}

}  // namespace alma::test

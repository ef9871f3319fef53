// c (+)= op(a) · op(b) by wgmma. One block a multiprocessor; each does tiles of 128 rows × kN columns until there are none. A thread of
// warpgroup 0 copies tiles of 64 k of both operands into a ring of stages; warpgroups 1 and 2 multiply, 64 rows each, and store what
// they have while the copies for the next tile are under way. One product is always in flight: a stage is released when the next
// stage's product has been issued and its own has ended.
//
// Both operands come as they lie in memory: where k runs along a row the tile's rows are 64 k, otherwise the tile is 64-wide pieces of
// rows of m or n, one row for every k (wgmma.cuh, Major). Tiles at the edges are filled up with zeros by the copies.
#pragma once

#include "../portable/vector_access.cuh"
#include "../ptx/fence.cuh"
#include "../ptx/mbarrier.cuh"
#include "../ptx/named_barrier.cuh"
#include "../ptx/set_max_registers.cuh"
#include "../ptx/stmatrix.cuh"
#include "../ptx/tensor_copy.cuh"
#include "../ptx/wgmma_n128.cuh"
#include "../ptx/wgmma_n256.cuh"
#include "../ptx/wgmma_n64.cuh"
#include "../shared_memory.cuh"
#include "matmul_kernels.h"

namespace alma::ALMA_CUDA::hopper {

using ptx::Major;

template <MatmulLayout kLayout, int kColumns>
struct MatmulConfig {
  static constexpr int kM = 128, kN = kColumns, kDepth = 64;
  static constexpr Major kA = kLayout == MatmulLayout::tn ? Major::mn : Major::k;
  static constexpr Major kB = kLayout == MatmulLayout::nt ? Major::k : Major::mn;
  static constexpr int kThreads = 384, kProducerRegisters = 40, kConsumerRegisters = 232;
  static constexpr int kStageBytes = (kM + kN) * kDepth * 2;
  // As many as fit beside the buffers of the stores.
  static constexpr int kStages = kN == 256 ? 4 : kN == 128 ? 6 : 8;
  static_assert(128 * (kProducerRegisters + 2 * kConsumerRegisters) <= 65536);
};

template <class C>
struct MatmulShared {
  alignas(1024) bf16 a[C::kStages][C::kM * C::kDepth];
  alignas(1024) bf16 b[C::kStages][C::kN * C::kDepth];
  // What is being stored: 64 × 64 elements, two for each consumer.
  alignas(1024) bf16 c[2][2][64 * 64];
  ptx::Mbarrier full[C::kStages], empty[C::kStages];
};

struct TilePlace {
  int m, n;
};

// Tiles in groups of rows: those that run at the same time share rows of a and columns of b in the L2 cache.
__device__ __forceinline__ TilePlace place_of(const MatmulProblem& p, int tile) {
  const int in_group = p.group * p.tiles_n, first = tile / in_group * p.group;
  const int rows = min(p.group, p.tiles_m - first), at = tile - first * p.tiles_n;
  return {first + at % rows, at / rows};
}

template <class C>
__device__ __forceinline__ void produce(const MatmulProblem& p, MatmulShared<C>& shared) {
  int stage = 0;
  unsigned parity = 0;
  for (int tile = blockIdx.x; tile < p.tiles_m * p.tiles_n; tile += gridDim.x) {
    const TilePlace place = place_of(p, tile);
    const int m = place.m * C::kM, n = place.n * C::kN;
    for (int block = 0; block < p.k_blocks; ++block) {
      ptx::mbarrier_wait(&shared.empty[stage], parity ^ 1);
      ptx::Mbarrier* full = &shared.full[stage];
      ptx::mbarrier_arrive_expect(full, C::kStageBytes);
      const int k = block * C::kDepth;
      if constexpr (C::kA == Major::k) {
        ptx::tensor_load_2d(shared.a[stage], &p.a, full, k, m);
      } else {
#pragma unroll
        for (int i = 0; i < C::kM; i += 64) ptx::tensor_load_2d(shared.a[stage] + i * C::kDepth, &p.a, full, m + i, k);
      }
      if constexpr (C::kB == Major::k) {
        ptx::tensor_load_2d(shared.b[stage], &p.b, full, k, n);
      } else {
#pragma unroll
        for (int i = 0; i < C::kN; i += 64) ptx::tensor_load_2d(shared.b[stage] + i * C::kDepth, &p.b, full, n + i, k);
      }
      if (++stage == C::kStages) {
        stage = 0;
        parity ^= 1;
      }
    }
  }
}

template <class C>
__device__ __forceinline__ void multiply(float (&d)[C::kN / 2], uint64_t a, uint64_t b, bool add) {
  if constexpr (C::kN == 256) ptx::wgmma_n256<C::kA, C::kB>(d, a, b, add);
  if constexpr (C::kN == 128) ptx::wgmma_n128<C::kA, C::kB>(d, a, b, add);
  if constexpr (C::kN == 64) ptx::wgmma_n64<C::kA, C::kB>(d, a, b, add);
}

__device__ __forceinline__ uint32_t pack_words(float low, float high) {
  const float values[2] = {low, high};
  const Vector<bf16, 2> pair = pack<bf16>(values);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// c in bf16, by bulk stores from shared memory, 64 columns at a time.
template <class C>
__device__ __forceinline__ void store_bulk(const MatmulProblem& p, MatmulShared<C>& shared, const float (&d)[C::kN / 2],
                                           int m, int n, int consumer, int thread, int& stores) {
  const int barrier = 1 + consumer, row = thread / 32 * 16 + thread % 16, half = thread % 32 / 16;
#pragma unroll
  for (int piece = 0; piece < C::kN / 64; ++piece) {
    bf16* buffer = shared.c[consumer][stores++ & 1];
    if (thread == 0) ptx::bulk_wait_read<1>();
    ptx::barrier_sync(barrier, 128);
#pragma unroll
    for (int chunk = 0; chunk < 8; chunk += 2) {
      uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = piece * 32 + chunk * 4 + 2 * i;
        words[i] = pack_words(d[at], d[at + 1]);
      }
      ptx::stmatrix_x4(buffer + row * 64 + ((chunk + half) ^ (row & 7)) * 8, words);
    }
    ptx::fence_proxy_async();
    ptx::barrier_sync(barrier, 128);
    if (thread == 0) {
      // Rows and columns that c does not have are not written.
      ptx::tensor_store_2d(&p.c, buffer, n + piece * 64, m);
      ptx::bulk_commit();
    }
  }
}

// Two neighbouring elements of c, in one word where they are.
template <class T>
__device__ __forceinline__ void put(T* c, float low, float high, bool has_high, const MatmulProblem& p) {
  if (p.pairs) {
    if (p.accumulate) {
      const Vector<T, 2> before = load_vector<2>(c);
      low += before[0];
      high += before[1];
    }
    const float values[2] = {low, high};
    return store_vector<2>(c, pack<T>(values));
  }
  c[0] = from_float<T>(p.accumulate ? to_float(c[0]) + low : low);
  if (has_high) c[1] = from_float<T>(p.accumulate ? to_float(c[1]) + high : high);
}

// Any c, from registers: 4 threads write 8 neighbouring elements of a row.
template <class C>
__device__ __forceinline__ void store_direct(const MatmulProblem& p, const float (&d)[C::kN / 2], int m, int n,
                                             int thread) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t row = m + thread / 32 * 16 + thread % 32 / 4 + half * 8;
    if (row >= p.m) continue;
#pragma unroll
    for (int i = 0; i < C::kN / 8; ++i) {
      const int64_t column = n + i * 8 + thread % 4 * 2;
      if (column >= p.n) continue;
      const int64_t at = row * p.n + column;
      const float low = d[4 * i + 2 * half], high = d[4 * i + 2 * half + 1];
      if (p.f32_out) {
        put(static_cast<float*>(p.c_data) + at, low, high, column + 1 < p.n, p);
      } else {
        put(static_cast<bf16*>(p.c_data) + at, low, high, column + 1 < p.n, p);
      }
    }
  }
}

template <class C, bool kBulkStore>
__device__ __forceinline__ void consume(const MatmulProblem& p, MatmulShared<C>& shared, int consumer) {
  const int thread = static_cast<int>(threadIdx.x) % 128;
  // Elements from one step of 16 k to the next; where this consumer's 64 rows of a begin.
  constexpr int kStepA = C::kA == Major::k ? 16 : 16 * 64, kStepB = C::kB == Major::k ? 16 : 16 * 64;
  const int rows = consumer * 64 * C::kDepth;
  int stage = 0, stores = 0;
  unsigned parity = 0;
  float d[C::kN / 2];
  for (int tile = blockIdx.x; tile < p.tiles_m * p.tiles_n; tile += gridDim.x) {
    int previous = stage;
    for (int block = 0; block < p.k_blocks; ++block) {
      ptx::mbarrier_wait(&shared.full[stage], parity);
      ptx::keep(d);
      ptx::wgmma_fence();
#pragma unroll
      for (int step = 0; step < C::kDepth / 16; ++step) {
        const uint64_t a = ptx::operand<C::kA>(shared.a[stage] + rows + step * kStepA, C::kDepth * 128);
        const uint64_t b = ptx::operand<C::kB>(shared.b[stage] + step * kStepB, C::kDepth * 128);
        multiply<C>(d, a, b, block + step > 0);
      }
      ptx::wgmma_commit();
      ptx::keep(d);
      ptx::wgmma_wait<1>();
      if (block > 0 && thread == 0) ptx::mbarrier_arrive(&shared.empty[previous]);
      previous = stage;
      if (++stage == C::kStages) {
        stage = 0;
        parity ^= 1;
      }
    }
    ptx::wgmma_wait<0>();
    ptx::keep(d);
    if (thread == 0) ptx::mbarrier_arrive(&shared.empty[previous]);
    const TilePlace place = place_of(p, tile);
    const int m = place.m * C::kM + consumer * 64, n = place.n * C::kN;
    if constexpr (kBulkStore) {
      store_bulk(p, shared, d, m, n, consumer, thread, stores);
    } else {
      store_direct<C>(p, d, m, n, thread);
    }
  }
  if (kBulkStore && thread == 0) ptx::bulk_wait_read<0>();
}

template <class C, bool kBulkStore>
__global__ void __launch_bounds__(C::kThreads, 1) matmul_kernel(const __grid_constant__ MatmulProblem p) {
  ALMA_SHARED(MatmulShared<C>, shared);
  if (threadIdx.x == 0) {
    ptx::prefetch_tensor_map(&p.a);
    ptx::prefetch_tensor_map(&p.b);
#pragma unroll
    for (int stage = 0; stage < C::kStages; ++stage) {
      ptx::mbarrier_init(&shared.full[stage], 1);
      ptx::mbarrier_init(&shared.empty[stage], 2);
    }
    ptx::mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    ptx::decrease_registers<C::kProducerRegisters>();
    if (threadIdx.x == 0) produce<C>(p, shared);
  } else {
    ptx::increase_registers<C::kConsumerRegisters>();
    consume<C, kBulkStore>(p, shared, static_cast<int>(threadIdx.x) / 128 - 1);
  }
}

template <class C, bool kBulkStore>
void launch_config(const Context& context, const MatmulProblem& problem) {
  const int tiles = problem.tiles_m * problem.tiles_n;
  const int blocks = tiles < context.properties.multiprocessors ? tiles : context.properties.multiprocessors;
  launch(context, "matmul", {dim3(static_cast<unsigned>(blocks)), dim3(C::kThreads), sizeof(MatmulShared<C>)},
         matmul_kernel<C, kBulkStore>, problem);
}

template <MatmulLayout kLayout>
void launch_layout(const Context& context, const MatmulPlan& plan, const MatmulProblem& problem, bool bulk_store) {
  with_bool(bulk_store, [&](auto bulk) {
    constexpr bool kBulk = decltype(bulk)::value;
    switch (plan.columns) {
      case TileColumns::n64: return launch_config<MatmulConfig<kLayout, 64>, kBulk>(context, problem);
      case TileColumns::n128: return launch_config<MatmulConfig<kLayout, 128>, kBulk>(context, problem);
      case TileColumns::n256: return launch_config<MatmulConfig<kLayout, 256>, kBulk>(context, problem);
    }
  });
}

}  // namespace alma::ALMA_CUDA::hopper

// c (+)= op(a) · op(b) by wgmma. One block a multiprocessor; each does tiles of 128 rows × kN columns until there are none. A thread of
// warpgroup 0 copies tiles of 64 k of both operands into a ring of stages; warpgroups 1 and 2 multiply, 64 rows each, and store what
// they have while the copies for the next tile are under way. One product is always in flight: a stage is released when the next
// stage's product has been issued and its own has ended.
//
// Both operands come as they lie in memory: where k runs along a row the tile's rows are 64 k, otherwise the tile is 64-wide pieces of
// rows of m or n, one row for every k (wgmma.cuh, Major). Tiles at the edges are filled up with zeros by the copies.
//
// In clusters of two, the blocks have tiles one below the other, and each copies half of the columns of b to both: a stage is full when
// both have copied, and empty when the consumers of both have released it.
#pragma once

#include "../portable/vector_access.cuh"
#include "../ptx/cluster.cuh"
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

template <MatmulLayout kLayout, int kColumns, int kBlocks>
struct MatmulConfig {
  static constexpr int kM = 128, kN = kColumns, kDepth = 64, kCluster = kBlocks;
  static constexpr Major kA = kLayout == MatmulLayout::tn ? Major::mn : Major::k;
  static constexpr Major kB = kLayout == MatmulLayout::nt ? Major::k : Major::mn;
  static constexpr int kThreads = 384, kProducerRegisters = 40, kConsumerRegisters = 232;
  static constexpr int kStageBytes = (kM + kN) * kDepth * 2;
  // As many as fit beside the buffers of the stores.
  static constexpr int kStages = kN == 256 ? 4 : kN == 128 ? 6 : 8;
  static_assert(128 * (kProducerRegisters + 2 * kConsumerRegisters) <= 65536);
  static_assert(kCluster == 1 || kN % (64 * kCluster) == 0);
};

template <class C>
struct MatmulShared {
  alignas(1024) bf16 a[C::kStages][C::kM * C::kDepth];
  alignas(1024) bf16 b[C::kStages][C::kN * C::kDepth];
  // What is being stored: 64 × 64 elements, two for each consumer.
  alignas(1024) bf16 c[2][2][64 * 64];
  ptx::Mbarrier full[C::kStages], empty[C::kStages];
};

// A tile of c (with clusters: one below the other for each block), and the part of k that is multiplied for it.
struct TilePlace {
  int m, n, split, k_begin, k_end;
};

// Tiles in groups of rows: those that run at the same time share rows of a and columns of b in the L2 cache. Part after part of k.
__device__ __forceinline__ TilePlace place_of(const MatmulProblem& p, int item) {
  const int tiles = p.tiles_m * p.tiles_n, split = item / tiles, tile = item - split * tiles;
  const int in_group = p.group * p.tiles_n, first = tile / in_group * p.group;
  const int rows = min(p.group, p.tiles_m - first), at = tile - first * p.tiles_n;
  const int k_begin = split * p.split_blocks;
  return {first + at % rows, at / rows, split, k_begin, min(k_begin + p.split_blocks, p.k_blocks)};
}

template <class C>
__device__ __forceinline__ int rank_in_cluster() {
  if constexpr (C::kCluster == 1) {
    return 0;
  } else {
    return static_cast<int>(ptx::cluster_rank());
  }
}

// What a block, or a cluster together, does one after the other.
template <class C>
struct Items {
  int at, step, count;
  __device__ __forceinline__ explicit Items(const MatmulProblem& p)
      : at(static_cast<int>(blockIdx.x) / C::kCluster),
        step(static_cast<int>(gridDim.x) / C::kCluster),
        count(p.tiles_m * p.tiles_n * p.splits) {}
  __device__ __forceinline__ bool exists() const { return at < count; }
  __device__ __forceinline__ void advance() { at += step; }
};

// A box of b, for all blocks of the cluster.
template <class C>
__device__ __forceinline__ void load_shared_tile(bf16* to, const TensorMap* map, ptx::Mbarrier* full, int x, int y) {
  if constexpr (C::kCluster == 1) {
    ptx::tensor_load_2d(to, map, full, x, y);
  } else {
    ptx::tensor_load_2d_multicast(to, map, full, x, y, (1 << C::kCluster) - 1);
  }
}

// By all threads of a consumer: one for each block that fills the stage.
template <class C>
__device__ __forceinline__ void release(ptx::Mbarrier* empty, int thread) {
  if (thread >= C::kCluster) return;
  if constexpr (C::kCluster == 1) {
    ptx::mbarrier_arrive(empty);
  } else {
    ptx::mbarrier_arrive_remote(empty, static_cast<unsigned>(thread));
  }
}

template <class C>
__device__ __forceinline__ void produce(const MatmulProblem& p, MatmulShared<C>& shared) {
  int stage = 0;
  unsigned parity = 0;
  const int rank = rank_in_cluster<C>();
  // The columns of b that this block copies, for all blocks of the cluster.
  constexpr int kOwn = C::kN / C::kCluster;
  for (Items<C> item(p); item.exists(); item.advance()) {
    const TilePlace place = place_of(p, item.at);
    const int m = (place.m * C::kCluster + rank) * C::kM, n = place.n * C::kN + rank * kOwn;
    for (int block = place.k_begin; block < place.k_end; ++block) {
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
      bf16* b = shared.b[stage] + rank * kOwn * C::kDepth;
      if constexpr (C::kB == Major::k) {
        load_shared_tile<C>(b, &p.b, full, k, n);
      } else {
#pragma unroll
        for (int i = 0; i < kOwn; i += 64) load_shared_tile<C>(b + i * C::kDepth, &p.b, full, n + i, k);
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
                                             int split, int thread) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t row = m + thread / 32 * 16 + thread % 32 / 4 + half * 8;
    if (row >= p.m) continue;
#pragma unroll
    for (int i = 0; i < C::kN / 8; ++i) {
      const int64_t column = n + i * 8 + thread % 4 * 2;
      if (column >= p.n) continue;
      const int64_t at = (split * p.m + row) * p.n + column;
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
  const int rows = consumer * 64 * C::kDepth, rank = rank_in_cluster<C>();
  int stage = 0, stores = 0;
  unsigned parity = 0;
  float d[C::kN / 2];
  for (Items<C> item(p); item.exists(); item.advance()) {
    const TilePlace place = place_of(p, item.at);
    int previous = stage;
    for (int block = place.k_begin; block < place.k_end; ++block) {
      ptx::mbarrier_wait(&shared.full[stage], parity);
      ptx::keep(d);
      ptx::wgmma_fence();
#pragma unroll
      for (int step = 0; step < C::kDepth / 16; ++step) {
        const uint64_t a = ptx::operand<C::kA>(shared.a[stage] + rows + step * kStepA, C::kDepth * 128);
        const uint64_t b = ptx::operand<C::kB>(shared.b[stage] + step * kStepB, C::kDepth * 128);
        multiply<C>(d, a, b, block + step > place.k_begin);
      }
      ptx::wgmma_commit();
      ptx::keep(d);
      ptx::wgmma_wait<1>();
      if (block > place.k_begin) release<C>(&shared.empty[previous], thread);
      previous = stage;
      if (++stage == C::kStages) {
        stage = 0;
        parity ^= 1;
      }
    }
    ptx::wgmma_wait<0>();
    ptx::keep(d);
    release<C>(&shared.empty[previous], thread);
    const int m = (place.m * C::kCluster + rank) * C::kM + consumer * 64, n = place.n * C::kN;
    if constexpr (kBulkStore) {
      store_bulk(p, shared, d, m, n, consumer, thread, stores);
    } else {
      store_direct<C>(p, d, m, n, place.split, thread);
    }
  }
  if (kBulkStore && thread == 0) ptx::bulk_wait_read<0>();
}

template <class C>
__device__ __forceinline__ void meet() {
  if constexpr (C::kCluster == 1) {
    __syncthreads();
  } else {
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }
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
      ptx::mbarrier_init(&shared.empty[stage], 2 * C::kCluster);
    }
    ptx::mbarrier_init_fence();
  }
  meet<C>();
  if (threadIdx.x < 128) {
    ptx::decrease_registers<C::kProducerRegisters>();
    if (threadIdx.x == 0) produce<C>(p, shared);
  } else {
    ptx::increase_registers<C::kConsumerRegisters>();
    consume<C, kBulkStore>(p, shared, static_cast<int>(threadIdx.x) / 128 - 1);
  }
  // The other block's last arrivals come here.
  if constexpr (C::kCluster > 1) meet<C>();
}

template <class C, bool kBulkStore>
void launch_config(const Context& context, const MatmulProblem& problem) {
  const int items = problem.tiles_m * problem.tiles_n * problem.splits;
  const int most = context.properties.multiprocessors / C::kCluster;
  const int clusters = items < most ? items : most;
  LaunchShape shape{dim3(static_cast<unsigned>(clusters * C::kCluster)), dim3(C::kThreads), sizeof(MatmulShared<C>)};
  shape.cluster = dim3(C::kCluster);
  launch(context, "matmul", shape, matmul_kernel<C, kBulkStore>, problem);
}

template <MatmulLayout kLayout>
void launch_layout(const Context& context, const MatmulPlan& plan, const MatmulProblem& problem, bool bulk_store) {
  with_bool(bulk_store, [&](auto bulk) {
    constexpr bool kBulk = decltype(bulk)::value;
    switch (plan.columns) {
      case TileColumns::n64: return launch_config<MatmulConfig<kLayout, 64, 1>, kBulk>(context, problem);
      case TileColumns::n128: return launch_config<MatmulConfig<kLayout, 128, 1>, kBulk>(context, problem);
      case TileColumns::n256:
        if (plan.cluster == 2) return launch_config<MatmulConfig<kLayout, 256, 2>, kBulk>(context, problem);
        return launch_config<MatmulConfig<kLayout, 256, 1>, kBulk>(context, problem);
    }
  });
}

}  // namespace alma::ALMA_CUDA::hopper

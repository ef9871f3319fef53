// The pipeline of a product by wgmma: tiles of both operands on their way into a ring of stages, and the products of a stage. One block a
// multiprocessor; each does tiles of 128 rows × kN columns until there are none. A thread of warpgroup 0 copies tiles of 64 k of both
// operands; warpgroups 1 and 2 multiply, 64 rows each, and finish what they have (the epilogue) while the copies for the next tile are under
// way. One product is always in flight: a stage is released when the next stage's product has been issued and its own has ended.
//
// Both operands come as they lie in memory: where k runs along a row the tile's rows are 64 k, otherwise the tile is 64-wide pieces of
// rows of m or n, one row for every k (wgmma.cuh, Major). Tiles at the edges are filled up with zeros by the copies.
//
// In clusters of two, the blocks have tiles one below the other, and each copies half of the columns of b to both: a stage is full when
// both have copied, and empty when the consumers of both have released it.
#pragma once

#include "../portable/vector_access.cuh"
#include "../ptx/cluster.cuh"
#include "../ptx/mbarrier.cuh"
#include "../ptx/tensor_copy.cuh"
#include "../ptx/wgmma_n128.cuh"
#include "../ptx/wgmma_n256.cuh"
#include "../ptx/wgmma_n64.cuh"
#include "../shared_memory.cuh"
#include "matmul_kernels.h"

namespace alma::ALMA_CUDA::hopper {

using ptx::Major;

// kBuffers: buffers of 64 × 64 elements that each consumer stores its results from.
template <MatmulLayout kLayout, int kColumns, int kBlocks, int kStoreBuffers = 2>
struct MatmulConfig {
  static constexpr int kM = 128, kN = kColumns, kDepth = 64, kCluster = kBlocks, kBuffers = kStoreBuffers;
  static constexpr Major kA = kLayout == MatmulLayout::tn ? Major::mn : Major::k;
  static constexpr Major kB = kLayout == MatmulLayout::nt ? Major::k : Major::mn;
  static constexpr int kThreads = 384, kProducerRegisters = 40, kConsumerRegisters = 232;
  static constexpr int kStageBytes = (kM + kN) * kDepth * 2;
  // As many as fit beside the buffers of the stores and a KiB of barriers.
  static constexpr int kStages = (232448 - 1024 - 2 * kBuffers * 64 * 64 * 2) / kStageBytes;
  static_assert(128 * (kProducerRegisters + 2 * kConsumerRegisters) <= 65536);
  static_assert(kCluster == 1 || kN % (64 * kCluster) == 0);
};

template <class C>
struct MatmulShared {
  alignas(1024) bf16 a[C::kStages][C::kM * C::kDepth];
  alignas(1024) bf16 b[C::kStages][C::kN * C::kDepth];
  // What is being stored, of each consumer.
  alignas(1024) bf16 c[2][C::kBuffers][64 * 64];
  // `loaded` is a consumer's own, for what its epilogue has loaded into its buffers.
  ptx::Mbarrier full[C::kStages], empty[C::kStages], loaded[2];
};

// A tile of c (with clusters: one below the other for each block), and the part of k that is multiplied for it.
struct TilePlace {
  int m, n, split, k_begin, k_end;
};

// Tiles in groups of rows: those that run at the same time share rows of a and columns of b in the L2 cache. Part after part of k.
__device__ __forceinline__ TilePlace place_of(const MatmulTiles& p, int item) {
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
  __device__ __forceinline__ explicit Items(const MatmulTiles& p)
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

// Epilogue::load_columns(p, b, full, n, k, rank) copies this block's columns of b: those of the tile's place n, from k on.
template <class C, class Epilogue>
__device__ __forceinline__ void produce(const typename Epilogue::Problem& p, MatmulShared<C>& shared) {
  int stage = 0;
  unsigned parity = 0;
  const int rank = rank_in_cluster<C>();
  for (Items<C> item(p); item.exists(); item.advance()) {
    const TilePlace place = place_of(p, item.at);
    const int m = (place.m * C::kCluster + rank) * C::kM;
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
      Epilogue::load_columns(p, shared.b[stage], full, place.n, k, rank);
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

}  // namespace alma::ALMA_CUDA::hopper

// What the two kernels of the backward pass of attention share: tiles by tensor maps, and products of a warpgroup's 64 rows of a tile of
// 128 (rows of queries for dQ, keys for dK and dV) with blocks of 64 (keys, rows of queries).
#pragma once

#include "../portable/attention_tiles.cuh"
#include "../portable/dispatch.h"
#include "../ptx/fence.cuh"
#include "../ptx/mbarrier.cuh"
#include "../ptx/named_barrier.cuh"
#include "../ptx/set_max_registers.cuh"
#include "../ptx/tensor_copy.cuh"
#include "../ptx/wgmma_n128.cuh"
#include "../ptx/wgmma_n64.cuh"
#include "../shared_memory.cuh"
#include "attention_kernels.h"

namespace alma::ALMA_CUDA::hopper::backward {

using portable::AttentionBounds;
using portable::AttentionTile;
using portable::kNegativeInfinity;
using ptx::Major;

constexpr int kTile = 128, kBlock = 64, kStages = 2, kThreads = 384;
constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;
constexpr int kConsumersBarrier = 1;
static_assert(kTile == kBackwardTile);

template <int kColumns>
__device__ __forceinline__ void load(bf16* to, const TensorMap* map, ptx::Mbarrier* full, int rows, int head, int row) {
#pragma unroll
  for (int column = 0; column < kColumns; column += 64)
    ptx::tensor_load_3d(to + rows * column, map, full, column, head, row);
}

template <int kColumns>
__device__ __forceinline__ float (&flat(float (&accumulator)[1][kColumns / 8][4]))[kColumns / 2] {
  return reinterpret_cast<float(&)[kColumns / 2]>(accumulator);
}

// tile[64, columns] · block[64, columns]ᵀ for this consumer's 64 rows of a tile.
template <int kColumns>
__device__ __forceinline__ void issue_scores(float (&d)[1][kBlock / 8][4], const bf16* tile, const bf16* block,
                                             int consumer) {
#pragma unroll
  for (int column = 0; column < kColumns; column += 16) {
    const int piece = column / 64 * 64, step = column % 64;
    const uint64_t a = ptx::operand<Major::k>(tile + piece * kTile + consumer * 64 * 64 + step);
    const uint64_t b = ptx::operand<Major::k>(block + piece * kBlock + step);
    ptx::wgmma_n64<Major::k, Major::k>(flat<kBlock>(d), a, b, column > 0);
  }
}

// acc += a[64, 64] · block[64, columns]
template <int kColumns>
__device__ __forceinline__ void issue_sums(float (&acc)[1][kColumns / 8][4], const uint32_t (&words)[1][kBlock / 8][2],
                                           const bf16* block) {
#pragma unroll
  for (int row = 0; row < kBlock; row += 16) {
    const uint32_t a[4] = {words[0][row / 8][0], words[0][row / 8][1], words[0][row / 8 + 1][0],
                           words[0][row / 8 + 1][1]};
    const uint64_t b = ptx::operand<Major::mn>(block + row * 64, kBlock * 128);
    if constexpr (kColumns == 128) {
      ptx::wgmma_n128<Major::mn>(flat<kColumns>(acc), a, b, true);
    } else {
      ptx::wgmma_n64<Major::mn>(flat<kColumns>(acc), a, b, true);
    }
  }
}

// Zeros in a block from row `from` on, instead of rows that the sequence does not have: 0 · NaN would be seen. By the threads
// first, first + step, …
template <int kColumns>
__device__ __forceinline__ void clear_rows(bf16* block, int from, int first, int step) {
  constexpr int kChunks = kColumns / 8;
  for (int i = from * kChunks + first; i < kBlock * kChunks; i += step) {
    const int row = i / kChunks, chunk = i % kChunks;
    bf16* at = block + chunk / 8 * 64 * kBlock + row * 64 + ((chunk % 8) ^ (row & 7)) * 8;
    *reinterpret_cast<uint4*>(at) = make_uint4(0, 0, 0, 0);
  }
}

inline TensorMap map_of(const TensorRef& tensor, int64_t rows, const AttentionBounds& bounds, int heads, int box_heads,
                        int box_rows) {
  const int64_t head_dim = bounds.head_dim;
  return make_tensor_map("attention_backward", {tensor.data,
                                                DType::bf16,
                                                3,
                                                {head_dim, heads, rows},
                                                {1, head_dim, head_dim * heads},
                                                {64, box_heads, box_rows / box_heads},
                                                true});
}

}  // namespace alma::ALMA_CUDA::hopper::backward

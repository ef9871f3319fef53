// What the two kernels of the backward pass of attention share: tiles by tensor maps, and products of a warpgroup's 64 rows of a tile of
// 128 (rows of queries for dQ, keys for dK and dV) with blocks of 64 (keys, rows of queries).
#pragma once

#include "attention_tiles.cuh"

namespace alma::ALMA_CUDA::hopper::backward {

constexpr int kTile = 128, kBlock = 64;
constexpr int kConsumersBarrier = 1;
static_assert(kTile == kBackwardTile);

// tile[64, columns] · block[64, columns]ᵀ for this consumer's 64 rows of a tile.
template <int kColumns>
__device__ __forceinline__ void issue_scores(float (&d)[1][kBlock / 8][4], const bf16* tile, const bf16* block,
                                             int consumer) {
#pragma unroll
  for (int column = 0; column < kColumns; column += 16) {
    const int piece = column / 64 * 64, step = column % 64;
    const uint64_t a = ptx::operand<Major::k>(tile + piece * kTile + consumer * 64 * 64 + step);
    const uint64_t b = ptx::operand<Major::k>(block + piece * kBlock + step);
    ptx::wgmma_n64<Major::k, Major::k>(flat(d), a, b, column > 0);
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
      ptx::wgmma_n128<Major::mn>(flat(acc), a, b, true);
    } else {
      ptx::wgmma_n64<Major::mn>(flat(acc), a, b, true);
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

}  // namespace alma::ALMA_CUDA::hopper::backward

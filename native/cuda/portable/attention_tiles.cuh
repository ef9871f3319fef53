// Tiles of q, k, v and their gradients for tensor cores: bf16 rows of kColumns elements in shared memory, where the 16-byte chunks of a
// row are permuted so that 8 rows of a column of chunks lie in different banks. A warp multiplies 16-row pieces of them; an
// accumulator's layout (mma.cuh, m16n8): lane l has the columns 2·(l mod 4), + 1 of the rows l / 4 and l / 4 + 8.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "../ptx/cp_async.cuh"
#include "../ptx/exp2.cuh"
#include "../ptx/ldmatrix.cuh"
#include "../ptx/mma.cuh"
#include "../ptx/opaque.cuh"
#include "attention_bounds.cuh"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
constexpr float kNegativeInfinity = -__builtin_inff();

// A lane's or thread's number of which the compiler knows nothing, so that it computes addresses from it again in every round of a loop:
// kept, they would not fit into the registers beside the accumulators.
__device__ __forceinline__ int opaque_index(int index) {
  uint32_t word = static_cast<uint32_t>(index);
  ptx::make_opaque(word);
  return static_cast<int>(word);
}

// Element index of (row, 8 · chunk) in a tile.
template <int kColumns>
__device__ __forceinline__ int tile_offset(int row, int chunk) {
  return row * kColumns + (chunk ^ (row & 7)) * 8;
}

// Starts the copies of kRows rows; address(row) is null for a row that does not exist: it becomes zeros, as do columns from
// head_dim on. `base` is any address of the tensor.
template <int kColumns, int kRows, int kThreads, class Address>
__device__ __forceinline__ void copy_tile(bf16* tile, const bf16* base, int head_dim, int thread,
                                          const Address& address) {
  constexpr int kChunks = kColumns / 8, kStep = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kRows % kStep == 0);
  const int chunk = thread % kChunks;
#pragma unroll
  for (int i = 0; i < kRows / kStep; ++i) {
    const int row = thread / kChunks + i * kStep;
    const bf16* source = address(row);
    const bool valid = source != nullptr && chunk * 8 < head_dim;
    ptx::cp_async_16(tile + tile_offset<kColumns>(row, chunk), valid ? source + chunk * 8 : base, valid);
  }
}

// Starts the copies of k's and v's rows of the keys [first, first + kKeys) that come before `end`.
template <int kColumns, int kKeys, int kThreads, bool kPaged>
__device__ __forceinline__ void copy_key_tiles(bf16* k_tile, bf16* v_tile, const bf16* k, const bf16* v,
                                               const AttentionBounds& bounds, const KeyRows<kPaged>& key_rows,
                                               int kv_head, int first, int end, int thread) {
  constexpr int kChunks = kColumns / 8, kStep = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kKeys % kStep == 0);
  thread = opaque_index(thread);
  const int chunk = thread % kChunks, width = bounds.kv_heads * bounds.head_dim;
  const int column = kv_head * bounds.head_dim + chunk * 8;
  const bool in_row = chunk * 8 < bounds.head_dim;
#pragma unroll
  for (int i = 0; i < kKeys / kStep; ++i) {
    const int row = thread / kChunks + i * kStep;
    const int64_t at = in_row && first + row < end ? key_rows(first + row) : -1;
    const int64_t from = at < 0 ? 0 : at * width + column;
    ptx::cp_async_16(k_tile + tile_offset<kColumns>(row, chunk), k + from, at >= 0);
    ptx::cp_async_16(v_tile + tile_offset<kColumns>(row, chunk), v + from, at >= 0);
  }
}

// acc[16·kM, kN] += a · bᵀ: a are the rows [row, row + 16·kM) of a tile, b the first kN rows of another.
template <int kColumns, int kM, int kN>
__device__ __forceinline__ void multiply_rows(float (&acc)[kM][kN / 8][4], const bf16* a, int row, const bf16* b,
                                              int lane) {
  // Not all 8 rounds of a head_dim of 128: their addresses, all at once, cost the registers that are missing elsewhere.
#pragma unroll 4
  for (int k = 0; k < kColumns / 16; ++k) {
    uint32_t a_words[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m)
      ptx::ldmatrix_x4(a_words[m], a + tile_offset<kColumns>(row + m * 16 + lane % 16, 2 * k + lane / 16));
#pragma unroll
    for (int n = 0; n < kN / 16; ++n) {
      uint32_t words[4];
      ptx::ldmatrix_x4(words, b + tile_offset<kColumns>(n * 16 + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
      const uint32_t low[2] = {words[0], words[1]}, high[2] = {words[2], words[3]};
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        ptx::mma_m16n8k16_bf16(acc[m][2 * n], a_words[m], low);
        ptx::mma_m16n8k16_bf16(acc[m][2 * n + 1], a_words[m], high);
      }
    }
  }
}

// acc[16·kM, kColumns] += a[16·kM, kK] · b, b the first kK rows of a tile, a in the layout of an accumulator.
template <int kColumns, int kM, int kK>
__device__ __forceinline__ void multiply_columns(float (&acc)[kM][kColumns / 8][4], const uint32_t (&a)[kM][kK / 8][2],
                                                 const bf16* b, int lane) {
#pragma unroll
  for (int k = 0; k < kK / 16; ++k) {
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t words[4];
      ptx::ldmatrix_x4_trans(words, b + tile_offset<kColumns>(k * 16 + lane % 16, 2 * n + lane / 16));
      const uint32_t low[2] = {words[0], words[1]}, high[2] = {words[2], words[3]};
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        const uint32_t a_words[4] = {a[m][2 * k][0], a[m][2 * k][1], a[m][2 * k + 1][0], a[m][2 * k + 1][1]};
        ptx::mma_m16n8k16_bf16(acc[m][2 * n], a_words, low);
        ptx::mma_m16n8k16_bf16(acc[m][2 * n + 1], a_words, high);
      }
    }
  }
}

__device__ __forceinline__ uint32_t pack_two(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return static_cast<uint32_t>(__bfloat16_as_ushort(__low2bfloat16(pair))) |
         static_cast<uint32_t>(__bfloat16_as_ushort(__high2bfloat16(pair))) << 16;
}

// An accumulator rounded to bf16, as the left operand of the next product.
template <int kM, int kTiles>
__device__ __forceinline__ void pack_accumulator(uint32_t (&out)[kM][kTiles][2], const float (&acc)[kM][kTiles][4]) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      out[m][n][0] = pack_two(acc[m][n][0], acc[m][n][1]);
      out[m][n][1] = pack_two(acc[m][n][2], acc[m][n][3]);
    }
}

// Sum and maximum over the 4 lanes that share the rows of an accumulator.
__device__ __forceinline__ float row_sum(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}
__device__ __forceinline__ float row_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}

// The softmax state of a row after kTiles · 8 more scores, of which this lane has two a tile: they become 2^(score · scale − maximum).
// `factor` is for what was accumulated before; true when it is not 1. `total` is this lane's part of the sum.
template <int kTiles>
__device__ __forceinline__ bool online_softmax(float (&scores)[kTiles][4], int half, float scale, float& highest,
                                               float& total, float& factor) {
  float best = highest;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) best = fmaxf(best, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
  best = row_max(best);
  const float subtract = best == kNegativeInfinity ? 0.0f : best * scale;
  factor = best == highest ? 1.0f : ptx::exp2_approximate(fmaf(highest, scale, -subtract));
  highest = best;
  float sum = 0;
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int e = 2 * half; e < 2 * half + 2; ++e) {
      scores[n][e] = ptx::exp2_approximate(fmaf(scores[n][e], scale, -subtract));
      sum += scores[n][e];
    }
  total = fmaf(total, factor, sum);
  return factor != 1.0f;
}

// Writes a warp's accumulator · factor(m, half) to memory, by way of the rows [row, row + 16·kM) of a tile that this warp alone uses:
// 16 bytes a lane. address(row) is null for a row that does not exist.
template <int kColumns, int kM, class Factor, class Address>
__device__ __forceinline__ void store_accumulator(const float (&acc)[kM][kColumns / 8][4], bf16* tile, int row,
                                                  int head_dim, int lane, const Factor& factor,
                                                  const Address& address) {
  __syncwarp();
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float scale = factor(m, half);
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
        const int offset = tile_offset<kColumns>(row + m * 16 + half * 8 + lane / 4, n) + 2 * (lane % 4);
        *reinterpret_cast<uint32_t*>(tile + offset) =
            pack_two(acc[m][n][2 * half] * scale, acc[m][n][2 * half + 1] * scale);
      }
    }
  __syncwarp();
  constexpr int kChunks = kColumns / 8, kStep = 32 / kChunks;
  const int chunk = lane % kChunks;
#pragma unroll
  for (int i = 0; i < 16 * kM / kStep; ++i) {
    const int at = row + i * kStep + lane / kChunks;
    bf16* const out = address(at);
    if (out == nullptr || chunk * 8 >= head_dim) continue;
    *reinterpret_cast<uint4*>(out + chunk * 8) =
        *reinterpret_cast<const uint4*>(tile + tile_offset<kColumns>(at, chunk));
  }
}

}  // namespace alma::ALMA_CUDA::portable

// What all attention kernels share: where the rows of a sequence are, and which keys a row sees.
//
// The query heads of one kv head are stacked: row r of a sequence and kv head is token r / group, head r % group of the group. Keys are
// then read once for all heads that use them, and dk and dv are sums over rows.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../value_error.h"

namespace alma::ALMA_CUDA::portable {

// AttentionShape as kernels take it.
struct AttentionBounds {
  const int *cu_seqlens_q, *k_begin, *k_end, *block_table;
  int64_t total_q, total_k;
  int batch, heads, kv_heads, group, head_dim;
  int blocks_per_sequence, block_size;
  float scale;
  bool causal;
};

struct Sequence {
  int q_begin, q_length, k_begin, k_length;

  __device__ int rows(const AttentionBounds& bounds) const { return q_length * bounds.group; }

  // Row r sees the first limit(r) keys.
  __device__ int limit(const AttentionBounds& bounds, int row) const {
    if (!bounds.causal) return k_length;
    const int seen = k_length - q_length + token_of(bounds, row) + 1;
    return seen < 0 ? 0 : min(seen, k_length);
  }

  // The first row that sees key j.
  __device__ int first_row(const AttentionBounds& bounds, int key) const {
    return bounds.causal ? max(0, key - (k_length - q_length)) * bounds.group : 0;
  }

  __device__ static int token_of(const AttentionBounds& bounds, int row) {
    return bounds.group == 1 ? row : row / bounds.group;
  }

  // Number of the row among [total_q, heads].
  __device__ int64_t query_row(const AttentionBounds& bounds, int kv_head, int row) const {
    const int token = token_of(bounds, row);
    return (static_cast<int64_t>(q_begin) + token) * bounds.heads + kv_head * bounds.group +
           (row - token * bounds.group);
  }
};

__device__ inline bool check_end(ValueError* error, ValueCheck check, long long begin, long long end, long long last) {
  if (end >= begin && end <= last) return true;
  report_value(error, check, end, last + 1);
  return false;
}

// Sequence i, or one without rows and keys where its bounds are bad (which is reported).
template <bool kBackward>
__device__ inline Sequence load_sequence(const AttentionBounds& bounds, int i, ValueError* error) {
  const long long q_begin = bounds.cu_seqlens_q[i], q_end = bounds.cu_seqlens_q[i + 1];
  const long long k_begin = bounds.k_begin[i], k_end = bounds.k_end[i];
  const ValueCheck q_check =
      kBackward ? ValueCheck::attention_backward_cu_seqlens_q : ValueCheck::attention_cu_seqlens_q;
  const ValueCheck begin_check = kBackward ? ValueCheck::attention_backward_k_begin : ValueCheck::attention_k_begin;
  const ValueCheck end_check = kBackward ? ValueCheck::attention_backward_k_end : ValueCheck::attention_k_end;
  const long long keys = bounds.block_table != nullptr
                             ? static_cast<long long>(bounds.blocks_per_sequence) * bounds.block_size
                             : static_cast<long long>(bounds.total_k);
  const bool good = check_index(error, q_check, q_begin, bounds.total_q + 1) &&
                    check_end(error, q_check, q_begin, q_end, bounds.total_q) &&
                    check_index(error, begin_check, k_begin, keys + 1) &&
                    check_end(error, end_check, k_begin, k_end, keys);
  if (!good) return {0, 0, 0, 0};
  return {static_cast<int>(q_begin), static_cast<int>(q_end - q_begin), static_cast<int>(k_begin),
          static_cast<int>(k_end - k_begin)};
}

// Rows of k and v of a sequence's keys: one after the other, or in blocks of a pool.
template <bool kPaged>
struct KeyRows {
  int64_t begin;
  const int* blocks;
  int block_size;
  int64_t pool_blocks;
  ValueError* error;

  __device__ KeyRows(const AttentionBounds& bounds, const Sequence& sequence, int index, ValueError* error_)
      : begin(sequence.k_begin), error(error_) {
    if constexpr (kPaged) {
      blocks = bounds.block_table + static_cast<int64_t>(index) * bounds.blocks_per_sequence;
      block_size = bounds.block_size;
      pool_blocks = bounds.total_k / block_size;
    }
  }

  // −1 where the block table is wrong, which is reported.
  __device__ __forceinline__ int64_t operator()(int key) const {
    if constexpr (kPaged) {
      const int row = static_cast<int>(begin) + key;
      const int block = blocks[row / block_size];
      if (!check_index(error, ValueCheck::attention_block_table, block, pool_blocks)) return -1;
      return static_cast<int64_t>(block) * block_size + row % block_size;
    } else {
      return begin + key;
    }
  }
};

}  // namespace alma::ALMA_CUDA::portable

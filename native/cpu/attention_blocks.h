// What the forward and the backward pass of attention share: the blocks they work in and how rows are addressed.
//
// The query heads of one kv head are stacked: row r of a sequence and kv head is token r / group, head r % group of the group.
// Decoding one token then has `group` rows for each key it reads, not one.
#pragma once

#include "micro_kernel.h"
#include "parallel.h"
#include "transpose.h"

namespace alma::cpu::ALMA_ISA {

constexpr int64_t kQueryRows = ceil_div(96, kMR) * kMR;
constexpr int64_t kKeys = 64;
constexpr int64_t kScoreStride = kKeys + 16;  // room for kKeys rounded up to kMR, and no power of two

struct Sequence {
  int64_t q_begin, q_length, k_begin, k_length;
  int64_t rows;           // q_length · group
  const int32_t* blocks;  // null: the keys lie one after the other
  int64_t block_size;

  // Keys that row r may see: the first `limit(r)`.
  __attribute__((always_inline)) int64_t limit(bool causal, int64_t group, int64_t row) const {
    if (!causal) return k_length;
    const int64_t seen = k_length - q_length + row / group + 1;
    return seen < 0 ? 0 : min(seen, k_length);
  }
};

// The rows of k and v of one key after the other, from `first` on.
class KeyRows {
 public:
  KeyRows(const Sequence& sequence, int64_t first) : size_(sequence.block_size), row_(sequence.k_begin + first) {
    if (sequence.blocks == nullptr) return;
    block_ = sequence.blocks + row_ / size_;
    row_ %= size_;
  }
  ALMA_LAMBDA int64_t next() {
    if (block_ == nullptr) return row_++;
    if (row_ == size_) {
      ++block_;
      row_ = 0;
    }
    return *block_ * size_ + row_++;
  }

 private:
  const int32_t* block_ = nullptr;
  int64_t size_, row_;  // with blocks: the row of *block_
};

// What the panels of a block of query rows need of a block of keys, and the other way round: causal attention leaves out about
// half of a block on the diagonal.
struct BlockExtents {
  Extent scores[kQueryRows / kMR];    // of rows: the keys some row sees, all of head_dim
  Extent queries[kQueryRows / kMR];   // of rows: all of head_dim, the keys some row sees
  Extent keys[ceil_div(kKeys, kMR)];  // of keys: all of head_dim, the rows that see some key

  BlockExtents(const Sequence& sequence, const AttentionShape& shape, int64_t first, int64_t rows, int64_t k0,
               int64_t key_count) {
    const int64_t group = shape.heads / shape.kv_heads, d = shape.head_dim;
    for (int64_t i = 0; i < rows; i += kMR) {
      const int64_t last = first + min<int64_t>(i + kMR, rows) - 1;
      const int64_t seen = max<int64_t>(0, min(key_count, sequence.limit(shape.causal, group, last) - k0));
      scores[i / kMR] = {seen, 0, d};
      queries[i / kMR] = {d, 0, seen};
    }
    for (int64_t j = 0; j < key_count; j += kMR) {
      // Key k0 + j is seen from the token k0 + j − (k_length − q_length) on.
      const int64_t token = shape.causal ? max<int64_t>(0, k0 + j - (sequence.k_length - sequence.q_length)) : 0;
      keys[j / kMR] = {d, min(rows, max<int64_t>(0, token * group - first)), rows};
    }
  }
};

static inline Sequence sequence_at(const AttentionShape& shape, int64_t i) {
  const int32_t* cu = pointer<int32_t>(shape.cu_seqlens_q);
  const int64_t k_begin = pointer<int32_t>(shape.k_begin)[i], k_end = pointer<int32_t>(shape.k_end)[i];
  const int64_t q_length = cu[i + 1] - cu[i];
  const int32_t* table = pointer<int32_t>(shape.block_table);
  return {cu[i],
          q_length,
          k_begin,
          k_end - k_begin,
          q_length * (shape.heads / shape.kv_heads),
          table ? table + i * shape.blocks_per_sequence : nullptr,
          shape.block_size};
}

// Row of q of the stacked row r: of [total_q · heads].
ALMA_INLINE int64_t query_row(const AttentionShape& shape, const Sequence& sequence, int64_t kv_head, int64_t r) {
  const int64_t group = shape.heads / shape.kv_heads, token = group == 1 ? r : r / group;
  return (sequence.q_begin + token) * shape.heads + kv_head * group + (r - token * group);
}

static inline void check_shape(const char* op, const AttentionShape& shape) {
  if (shape.kv_heads <= 0 || shape.heads % shape.kv_heads != 0) fail(op, "heads is not a multiple of kv_heads");
  const int32_t* cu = pointer<int32_t>(shape.cu_seqlens_q);
  const int32_t* begin = pointer<int32_t>(shape.k_begin);
  const int32_t* end = pointer<int32_t>(shape.k_end);
  const int32_t* table = pointer<int32_t>(shape.block_table);
  if (table && shape.block_size <= 0) fail(op, "block_size is not positive");
  for (int64_t i = 0; i < shape.batch; ++i) {
    if (cu[i] < 0) fail_index(op, "cu_seqlens_q", cu[i], shape.total_q + 1);
    if (cu[i + 1] < cu[i] || cu[i + 1] > shape.total_q) fail_index(op, "cu_seqlens_q", cu[i + 1], shape.total_q + 1);
    if (begin[i] < 0) fail_index(op, "k_begin", begin[i], shape.total_k + 1);
    const int64_t limit = table ? int64_t{shape.blocks_per_sequence} * shape.block_size : shape.total_k;
    if (end[i] < begin[i] || end[i] > limit) fail_index(op, "k_end", end[i], limit + 1);
    if (!table || end[i] == begin[i] || cu[i + 1] == cu[i]) continue;
    const int32_t* blocks = table + i * shape.blocks_per_sequence;
    for (int64_t b = begin[i] / shape.block_size; b <= (end[i] - 1) / shape.block_size; ++b)
      if (blocks[b] < 0 || blocks[b] >= shape.total_k / shape.block_size)
        fail_index(op, "block_table", blocks[b], shape.total_k / shape.block_size);
  }
}

// Multiply-adds of the larger half of the work, to decide whether other threads are worth waking.
static inline int64_t attention_work(const AttentionShape& shape) {
  int64_t work = 0;
  for (int64_t i = 0; i < shape.batch; ++i) {
    const Sequence sequence = sequence_at(shape, i);
    work += sequence.q_length * sequence.k_length;
  }
  return work * shape.heads * shape.head_dim;
}
constexpr int64_t kSerialAttention = 1 << 17;

// The lines of memory of a row of a head. Rows of neighbouring tokens are far from each other and processors do not foresee them, so loops over
// rows ask for one that comes kRowsAhead later.
constexpr int64_t kRowsAhead = 8;
template <class T>
ALMA_INLINE void prefetch_row(const T* row, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(row + i, 0, 2);
}
template <class T>
ALMA_INLINE void prefetch_row_to_write(const T* row, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(row + i, 1, 2);
}

// f32 copy of stacked query rows [first, first + rows) times `scale`, zero from `rows` to `padded` and from head_dim to stride.
template <class T>
static void copy_query_rows(const T* source, const AttentionShape& shape, const Sequence& sequence, int64_t kv_head,
                            int64_t first, int64_t rows, int64_t padded, float scale, float* out, int64_t stride) {
  const int64_t d = shape.head_dim;
  for (int64_t r = 0; r < padded; ++r) {
    float* row = out + r * stride;
    int64_t filled = 0;
    if (r < rows) {
      const T* const in = source + query_row(shape, sequence, kv_head, first + r) * d;
      prefetch_row(source + query_row(shape, sequence, kv_head, first + min(r + kRowsAhead, rows - 1)) * d, d);
      for_lanes(d, [&](int64_t i, int lanes) ALMA_LAMBDA { store(row + i, load(in + i, lanes) * scale, lanes); });
      filled = d;
    }
    for (int64_t i = filled; i < stride; ++i) row[i] = 0;
  }
}

// f32 copy of `keys` rows of k or v of one head, from key `first` of the sequence on; zero from head_dim to stride.
template <class T>
static void copy_key_rows(const T* source, const AttentionShape& shape, const Sequence& sequence, int64_t kv_head,
                          int64_t first, int64_t keys, float* out, int64_t stride) {
  const int64_t d = shape.head_dim;
  KeyRows key_rows(sequence, first);
  for (int64_t j = 0; j < keys; ++j) {
    const T* in = source + (key_rows.next() * shape.kv_heads + kv_head) * d;
    float* row = out + j * stride;
    for_lanes(d, [&](int64_t i, int lanes) ALMA_LAMBDA { store(row + i, load(in + i, lanes), lanes); });
    for (int64_t i = d; i < stride; ++i) row[i] = 0;
  }
}

// Panels [keys / kNR][head_dim][kNR]: the transpose of `keys` rows of k or v of one head, from key `first` of the sequence on. What stands for
// keys that are not there is no number that counts.
template <class T>
static void transpose_keys(const T* source, const AttentionShape& shape, const Sequence& sequence, int64_t kv_head,
                           int64_t first, int64_t keys, float* out) {
  const int64_t d = shape.head_dim;
  KeyRows key_rows(sequence, first);
  for (int64_t j = 0; j < keys; j += W) {
    const T* rows[W];
    for (int i = 0; i < W; ++i)
      rows[i] = j + i < keys ? source + (key_rows.next() * shape.kv_heads + kv_head) * d : rows[i - 1];
    float* const panel = out + j / kNR * kNR * d + j % kNR;
    for_lanes(d, [&](int64_t p, int lanes) ALMA_LAMBDA {
      F block[W];
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) block[i] = load(rows[i] + p, lanes);
      transpose(block);
      if (lanes == W) {
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) store(panel + (p + i) * kNR, block[i]);
      } else {
        for (int i = 0; i < lanes; ++i) store(panel + (p + i) * kNR, block[i]);
      }
    });
  }
}

ALMA_INLINE float exp_scalar(float x) { return exp(splat(x))[0]; }

// Lanes from n on set to `other`.
ALMA_INLINE F first_lanes(F value, int64_t n, F other) {
  if (n >= W) return value;
  return lane_numbers() < static_cast<int32_t>(n) ? value : other;
}

}  // namespace alma::cpu::ALMA_ISA

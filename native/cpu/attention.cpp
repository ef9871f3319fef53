// FlashAttention (Dao et al., 2022): blocks of queries against blocks of keys with an online softmax; scores exist for one
// block at a time. A task is a block of the stacked query rows of one sequence and kv head; where there are few rows (decoding),
// a range of kv heads of one sequence.
#include <math.h>

#include "attention_blocks.h"
#include "row_statistics.h"

namespace alma::cpu::ALMA_ISA {
namespace {

// Up to this many rows to a kv head, keys are read where they lie; packing them would cost more than it saves.
constexpr int64_t kNarrowRows = 4;
constexpr int64_t kNarrowKeys = 32;

// The softmax state of a row after `count` more scores: scores become exp(s − maximum). Returns the factor for what was accumulated before.
ALMA_INLINE float online_softmax(float* scores, int64_t count, float& highest, float& total) {
  F best = splat(highest);
  const F lowest = splat(-__builtin_inff());
  for (int64_t j = 0; j < count; j += W) best = greater(first_lanes(load(scores + j), count - j, lowest), best);
  const float maximum_now = maximum(best);
  F sums = {};
  for (int64_t j = 0; j < count; j += W) {
    const F p = first_lanes(exp(load(scores + j) - maximum_now), count - j, F{});
    store(scores + j, p);
    sums += p;
  }
  const float factor = highest == maximum_now ? 1.0f : exp_scalar(highest - maximum_now);
  total = total * factor + sum(sums);
  highest = maximum_now;
  return factor;
}

// The stacked row r.
template <class T>
void finish_row(const AttentionArgs& args, const Sequence& sequence, int64_t kv_head, int64_t r,
                const float* accumulated, float highest, float total) {
  const int64_t d = args.shape.head_dim, row = query_row(args.shape, sequence, kv_head, r);
  T* out = pointer<T>(args.out, row * d);
  const bool empty = total == 0 && highest == -__builtin_inff();
  const float inverse = empty ? 0.0f : 1.0f / total;
  for_lanes(d,
            [&](int64_t i, int lanes) ALMA_LAMBDA { store(out + i, load(accumulated + i, lanes) * inverse, lanes); });
  if (args.log_sum_exp.data) pointer<float>(args.log_sum_exp)[row] = empty ? -__builtin_inff() : highest + logf(total);
}

// The softmax state of a block of query rows. Sums stay vectors until the last key: W partial sums for each row.
struct RowStates {
  float *highest, *factor, *sums;
  int32_t* limit;  // keys that the row may see

  static constexpr int64_t kFloats = kQueryRows * (3 + W);
  explicit RowStates(float* memory)
      : highest(memory),
        factor(memory + kQueryRows),
        sums(memory + 2 * kQueryRows),
        limit(reinterpret_cast<int32_t*>(memory + (2 + W) * kQueryRows)) {
    for (int64_t r = 0; r < kQueryRows; ++r) {
      highest[r] = -__builtin_inff();
      factor[r] = 0;
      store(sums + r * W, F{});
    }
  }
};

// body(j, scores) for each vector of the first `valid` scores of a row; −∞ stands for those behind them.
template <class Body>
ALMA_INLINE void for_scores(const float* scores, int64_t valid, const Body& body) {
  if (valid == kKeys) {  // most blocks: a loop of known length
#pragma GCC unroll 16
    for (int64_t j = 0; j < kKeys; j += W) body(j, load(scores + j));
  } else {
    for (int64_t j = 0; j < valid; j += W) body(j, first_lanes(load(scores + j), valid - j, splat(-__builtin_inff())));
  }
}

// The softmax of a block of scores after those before it (online): scores become exp(s − maximum), `factor` is what the sums before are to be
// multiplied by. First all maxima, then all factors, then the rest: rows follow each other without waiting for one number. `fetch` is called
// for each row, to ask for memory meanwhile.
template <class Fetch>
ALMA_INLINE void softmax_block(const RowStates& states, int64_t rows, int64_t k0, int64_t keys, float* scores,
                               const Fetch& fetch) {
  float before[kQueryRows];
  const auto valid_of = [&](int64_t r) ALMA_LAMBDA { return max<int64_t>(0, min(keys, states.limit[r] - k0)); };
  for (int64_t r = 0; r < rows; ++r) {
    F best = splat(states.highest[r]);
    for_scores(scores + r * kScoreStride, valid_of(r), [&](int64_t, F s) ALMA_LAMBDA { best = greater(s, best); });
    before[r] = states.highest[r];
    states.highest[r] = maximum(best);
  }
  for (int64_t r = 0; r < rows; r += W) {  // kQueryRows is no multiple of W: lanes beyond `rows` are not stored
    const int lanes = static_cast<int>(min<int64_t>(W, rows - r));
    const F was = load(before + r, lanes), is = load(states.highest + r, lanes);
    store(states.factor + r, was == is ? splat(1) : exp(was - is), lanes);
  }
  for (int64_t r = 0; r < rows; ++r) {
    float* const row = scores + r * kScoreStride;
    const int64_t valid = valid_of(r);
    const F highest = splat(states.highest[r]);
    F sums = load(states.sums + r * W) * states.factor[r];
    fetch(r);
    for_scores(row, valid, [&](int64_t j, F s) ALMA_LAMBDA {
      const F p = exp(s - highest);
      store(row + j, p);
      sums += p;
    });
    for (int64_t j = round_up(valid, W); j < keys; j += W) store(row + j, F{});
    store(states.sums + r * W, sums);
  }
}

template <class T>
void wide_block(ThreadPool& pool, int thread, const AttentionArgs& args, const Sequence& sequence, int64_t kv_head,
                int64_t first) {
  const AttentionShape& shape = args.shape;
  const int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads, stride = round_up(d, kNR);
  const int64_t rows = min(kQueryRows, sequence.rows - first), padded = round_up(rows, kMR);
  const int64_t block = kQueryRows * stride;
  float* const q = static_cast<float*>(pool.scratch(
      thread, kThreadSlot,
      sizeof(float) *
          static_cast<size_t>(2 * block + 2 * kKeys * stride + kQueryRows * kScoreStride + RowStates::kFloats)));
  float* const out = q + block;
  float* const k_panels = out + block;
  float* const v_copy = k_panels + kKeys * stride;
  float* const scores = v_copy + kKeys * stride;
  const RowStates states(scores + kQueryRows * kScoreStride);

  copy_query_rows(pointer<T>(args.q), shape, sequence, kv_head, first, rows, padded, shape.scale, q, stride);
  for (int64_t i = 0; i < padded * stride; ++i) out[i] = 0;
  for (int64_t r = 0; r < rows; ++r)
    states.limit[r] = static_cast<int32_t>(sequence.limit(shape.causal, group, first + r));
  // v in place where the register block can read it as it is.
  const bool v_in_place = sizeof(T) == 4 && d % kNR == 0 && !sequence.blocks;
  const int64_t last_key = states.limit[rows - 1];
  for (int64_t k0 = 0; k0 < last_key; k0 += kKeys) {
    const int64_t keys = min(kKeys, last_key - k0);
    transpose_keys(pointer<T>(args.k), shape, sequence, kv_head, k0, keys, k_panels);
    const BlockExtents extents(sequence, shape, first, rows, k0, keys);
    multiply_tiles(rows, extents.scores, q, stride, 1, k_panels, kNR, d * kNR, scores, kScoreStride, false);
    KeyRows next_keys(sequence, k0 + keys);
    // Meanwhile the keys and values of the next block, or the rows that come out of the last one.
    softmax_block(states, rows, k0, keys, scores, [&](int64_t r) ALMA_LAMBDA {
      const int64_t key = k0 + kKeys + r;
      if (k0 + kKeys >= last_key) {
        prefetch_row_to_write(pointer<T>(args.out, query_row(shape, sequence, kv_head, first + r) * d), d);
      } else if (r < kKeys && key < last_key) {
        const int64_t at = (next_keys.next() * shape.kv_heads + kv_head) * d;
        prefetch_row(pointer<T>(args.k, at), d);
        prefetch_row(pointer<T>(args.v, at), d);
      }
    });
    const float* v = v_copy;
    int64_t v_stride = stride;
    if (v_in_place) {
      v = pointer<float>(args.v, ((sequence.k_begin + k0) * shape.kv_heads + kv_head) * d);
      v_stride = shape.kv_heads * d;
    } else {
      copy_key_rows(pointer<T>(args.v), shape, sequence, kv_head, k0, keys, v_copy, stride);
    }
    for_tiles(rows, extents.queries, scores, kScoreStride, 1, v, v_stride, kNR,
              [&](const F(&acc)[kMR][2], int64_t i, int64_t j) ALMA_LAMBDA {
                float* const to = out + i * stride + j;
#pragma GCC unroll 16
                for (int r = 0; r < kMR; ++r) {
                  store(to + r * stride, load(to + r * stride) * states.factor[i + r] + acc[r][0]);
                  store(to + r * stride + W, load(to + r * stride + W) * states.factor[i + r] + acc[r][1]);
                }
              });
  }
  for (int64_t r = 0; r < rows; ++r)
    finish_row<T>(args, sequence, kv_head, first + r, out + r * stride, states.highest[r],
                  sum(load(states.sums + r * W)));
}

// scores[j] = q · k[at[j]] for `keys` keys: a sum of vectors for each, W of which are then added up by a transpose. The same rows
// of the next head are fetched meanwhile; heads of a token lie together, but the next token may be on another page.
template <class T>
ALMA_INLINE void dot_keys(const float* q, int64_t d, const T* k, const int64_t* at, int64_t keys, float* scores) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t j = 0; j < keys; j += W) {
    F block[W];
    for (int i = 0; i < W; ++i) {
      const T* row = k + at[min(j + i, keys - 1)];
      for (int64_t p = 0; p < d; p += kLine) __builtin_prefetch(row + d + p);
      F acc[4] = {};
      int64_t p = 0;
      for (; p + 4 * W <= d; p += 4 * W)
#pragma GCC unroll 4
        for (int c = 0; c < 4; ++c) acc[c] = load(q + p + c * W) * load(row + p + c * W) + acc[c];
      for (; p + W <= d; p += W) acc[0] = load(q + p) * load(row + p) + acc[0];
      if (p < d) acc[1] = load(q + p) * load(row + p, static_cast<int>(d - p)) + acc[1];  // q is zero beyond d
      block[i] = (acc[0] + acc[1]) + (acc[2] + acc[3]);
    }
    transpose(block);
    for (int half = W / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) block[i] += block[i + half];
    store(scores + j, block[0]);
  }
}

// out = out · factor + Σ p[j] · v[at[j]].
template <class T>
ALMA_INLINE void add_values(const float* p, int64_t keys, const T* v, const int64_t* at, float factor, float* out,
                            int64_t d) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t j = 0; j < keys; ++j)
    for (int64_t i = 0; i < d; i += kLine) __builtin_prefetch(v + at[j] + d + i);
  int64_t i = 0;
  for (; i + 8 * W <= d; i += 8 * W) {
    F acc[8];
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) acc[c] = load(out + i + c * W) * factor;
    for (int64_t j = 0; j < keys; ++j)
#pragma GCC unroll 8
      for (int c = 0; c < 8; ++c) acc[c] = load(v + at[j] + i + c * W) * p[j] + acc[c];
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) store(out + i + c * W, acc[c]);
  }
  for (; i < d; i += W) {
    const int lanes = static_cast<int>(min<int64_t>(W, d - i));
    F acc = load(out + i) * factor;
    for (int64_t j = 0; j < keys; ++j) acc = load(v + at[j] + i, lanes) * p[j] + acc;
    store(out + i, acc);
  }
}

// All rows of the kv heads [head_begin, head_end) of a sequence. Blocks of keys are the outer loop: the cache is read as it lies
// in memory (a head at a time would touch a page for every 512 bytes).
template <class T>
void narrow_heads(ThreadPool& pool, int thread, const AttentionArgs& args, const Sequence& sequence, int64_t head_begin,
                  int64_t head_end) {
  const AttentionShape& shape = args.shape;
  const int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads, stride = round_up(d, kNR);
  const int64_t rows = sequence.rows, all = (head_end - head_begin) * rows;
  float* const q = static_cast<float*>(pool.scratch(
      thread, kThreadSlot, sizeof(float) * static_cast<size_t>(2 * all * stride + kScoreStride + 2 * all)));
  float* const out = q + all * stride;
  float* const scores = out + all * stride;
  float* const highest = scores + kScoreStride;
  float* const total = highest + all;
  for (int64_t head = head_begin; head < head_end; ++head)
    copy_query_rows(pointer<T>(args.q), shape, sequence, head, 0, rows, rows, shape.scale,
                    q + (head - head_begin) * rows * stride, stride);
  for (int64_t i = 0; i < all * stride; ++i) out[i] = 0;
  for (int64_t r = 0; r < all; ++r) {
    highest[r] = -__builtin_inff();
    total[r] = 0;
  }
  const int64_t last_key = sequence.limit(shape.causal, group, rows - 1);
  for (int64_t k0 = 0; k0 < last_key; k0 += kNarrowKeys) {
    int64_t at[kNarrowKeys];  // of head 0 of each key
    const int64_t keys = min(kNarrowKeys, last_key - k0);
    KeyRows key_rows(sequence, k0);
    for (int64_t j = 0; j < keys; ++j) at[j] = key_rows.next() * shape.kv_heads * d;
    for (int64_t head = head_begin; head < head_end; ++head)
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t valid = min(keys, sequence.limit(shape.causal, group, row) - k0);
        if (valid <= 0) continue;
        const int64_t r = (head - head_begin) * rows + row;
        dot_keys(q + r * stride, d, pointer<T>(args.k, head * d), at, valid, scores);
        const float factor = online_softmax(scores, valid, highest[r], total[r]);
        add_values(scores, valid, pointer<T>(args.v, head * d), at, factor, out + r * stride, d);
      }
  }
  for (int64_t r = 0; r < all; ++r)
    finish_row<T>(args, sequence, head_begin + r / rows, r % rows, out + r * stride, highest[r], total[r]);
}

// The two orders of summation. Where the caller leaves it open, rows to a kv head decide.
ALMA_INLINE bool is_narrow(const AttentionShape& shape, int64_t rows) {
  return shape.invariance == Invariance::none ? rows <= kNarrowRows : shape.invariance == Invariance::few_rows;
}

}  // namespace

void attention(ThreadPool& pool, const AttentionArgs& args) {
  const AttentionShape& shape = args.shape;
  check_shape("attention", shape);
  const TensorRef* const others[] = {&args.k, &args.v, &args.out};
  for (const TensorRef* other : others) same_dtype("attention", args.q, *other);
  if (shape.batch <= 0) return;

  // Kv heads to a task of a sequence with few rows: enough tasks for the threads, else as many heads as there are.
  const int64_t splits = min(shape.kv_heads, ceil_div(4 * pool.threads(), shape.batch));
  const int64_t narrow_count = pool.threads() == 1 ? shape.kv_heads : ceil_div(shape.kv_heads, splits);
  // Tasks before sequence i.
  int64_t* const tasks_before =
      static_cast<int64_t*>(pool.scratch(0, kSharedSlot, sizeof(int64_t) * static_cast<size_t>(shape.batch + 1)));
  tasks_before[0] = 0;
  for (int64_t i = 0; i < shape.batch; ++i) {
    const int64_t rows = sequence_at(shape, i).rows;
    const int64_t tasks = rows == 0                ? 0
                          : is_narrow(shape, rows) ? ceil_div(shape.kv_heads, narrow_count)
                                                   : ceil_div(rows, kQueryRows) * shape.kv_heads;
    tasks_before[i + 1] = tasks_before[i] + tasks;
  }

  with_float("attention", args.q.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t tasks = tasks_before[shape.batch];
    const int64_t grain = attention_work(shape) < kSerialAttention ? max<int64_t>(1, tasks) : 1;
    parallel_ranges(pool, tasks, grain, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t task = begin; task < end; ++task) {
        int64_t low = 0, high = shape.batch;  // the last sequence with tasks_before ≤ task
        while (high - low > 1) {
          const int64_t middle = (low + high) / 2;
          (tasks_before[middle] <= task ? low : high) = middle;
        }
        const Sequence sequence = sequence_at(shape, low);
        const int64_t index = task - tasks_before[low];
        if (is_narrow(shape, sequence.rows)) {
          const int64_t head = index * narrow_count;
          narrow_heads<T>(pool, thread, args, sequence, head, min(shape.kv_heads, head + narrow_count));
        } else {
          // Last blocks first: causal rows at the end see the most keys, and a long task should not be the last to start.
          const int64_t blocks = ceil_div(sequence.rows, kQueryRows);
          wide_block<T>(pool, thread, args, sequence, index % shape.kv_heads,
                        (blocks - 1 - index / shape.kv_heads) * kQueryRows);
        }
      }
    });
  });
}

}  // namespace alma::cpu::ALMA_ISA

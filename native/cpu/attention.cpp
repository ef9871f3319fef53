// FlashAttention (Dao et al., 2022): blocks of queries against blocks of keys with an online softmax; scores exist for one
// block at a time. A task is a block of the stacked query rows of one sequence and kv head.
#include <math.h>

#include "attention_blocks.h"
#include "row_statistics.h"

namespace alma::cpu::ALMA_ISA {
namespace {

// Up to this many rows, keys are read where they lie; packing them would cost more than it saves.
constexpr int64_t kNarrowRows = 4;

// The softmax state of a row after `keys` more scores, of which the first `valid` count: scores become exp(s − maximum).
// Returns the factor for what was accumulated before.
ALMA_INLINE float online_softmax(float* scores, int64_t valid, int64_t keys, float& highest, float& total) {
  if (valid <= 0) {
    for (int64_t j = 0; j < keys; ++j) scores[j] = 0;
    return 1;
  }
  F best = splat(highest);
  const F lowest = splat(-__builtin_inff());
  for (int64_t j = 0; j < valid; j += W) best = greater(first_lanes(load(scores + j), valid - j, lowest), best);
  const float maximum_now = maximum(best);
  F sums = {};
  for (int64_t j = 0; j < keys; j += W) {
    const F p = first_lanes(exp(load(scores + j) - maximum_now), valid - j, F{});
    store(scores + j, p);
    sums += p;
  }
  const float factor = highest == maximum_now ? 1.0f : exp_scalar(highest - maximum_now);
  total = total * factor + sum(sums);
  highest = maximum_now;
  return factor;
}

template <class T>
void finish_row(const AttentionArgs& args, int64_t token, int64_t head, const float* accumulated, float highest, float total) {
  const AttentionShape& shape = args.shape;
  T* out = pointer<T>(args.out, (token * shape.heads + head) * shape.head_dim);
  const bool empty = total == 0 && highest == -__builtin_inff();
  const float inverse = empty ? 0.0f : 1.0f / total;
  for_lanes(shape.head_dim,
            [&](int64_t i, int lanes) ALMA_LAMBDA { store(out + i, load(accumulated + i, lanes) * inverse, lanes); });
  if (args.log_sum_exp.data)
    pointer<float>(args.log_sum_exp)[token * shape.heads + head] = empty ? -__builtin_inff() : highest + logf(total);
}

template <class T>
void wide_block(ThreadPool& pool, int thread, const AttentionArgs& args, const Sequence& sequence, int64_t kv_head, int64_t first) {
  const AttentionShape& shape = args.shape;
  const int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads, stride = round_up(d, kNR);
  const int64_t rows = min(kQueryRows, sequence.rows - first), padded = round_up(rows, kMR);
  const int64_t block = kQueryRows * stride;
  float* memory = static_cast<float*>(pool.scratch(
      thread, kThreadSlot,
      sizeof(float) * static_cast<size_t>(2 * block + 2 * kKeys * stride + kQueryRows * kScoreStride + 2 * kQueryRows)));
  float* const q = memory;
  float* const out = q + block;
  float* const k_panels = out + block;
  float* const v_copy = k_panels + kKeys * stride;
  float* const scores = v_copy + kKeys * stride;
  float* const highest = scores + kQueryRows * kScoreStride;
  float* const total = highest + kQueryRows;

  copy_query_rows(pointer<T>(args.q), shape, sequence, kv_head, first, rows, padded, shape.scale, q, stride);
  for (int64_t i = 0; i < padded * stride; ++i) out[i] = 0;
  for (int64_t r = 0; r < rows; ++r) {
    highest[r] = -__builtin_inff();
    total[r] = 0;
  }
  // v in place where the register block can read it as it is.
  const bool v_in_place = sizeof(T) == 4 && d % kNR == 0;
  const int64_t last_key = sequence.limit(shape.causal, group, first + rows - 1);
  for (int64_t k0 = 0; k0 < last_key; k0 += kKeys) {
    const int64_t keys = min(kKeys, last_key - k0), key_row = sequence.k_begin + k0;
    transpose_key_rows(pointer<T>(args.k), shape, kv_head, key_row, keys, k_panels);
    multiply_tiles(padded, keys, d, q, stride, 1, k_panels, kNR, d * kNR, scores, kScoreStride, false);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t valid = min(keys, sequence.limit(shape.causal, group, first + r) - k0);
      const float factor = online_softmax(scores + r * kScoreStride, valid, keys, highest[r], total[r]);
      if (factor != 1.0f)
        for (int64_t i = 0; i < stride; i += W) store(out + r * stride + i, load(out + r * stride + i) * factor);
    }
    const float* v = v_copy;
    int64_t v_stride = stride;
    if (v_in_place) {
      v = pointer<float>(args.v, (key_row * shape.kv_heads + kv_head) * d);
      v_stride = shape.kv_heads * d;
    } else {
      copy_key_rows(pointer<T>(args.v), shape, kv_head, key_row, keys, v_copy, stride);
    }
    multiply_tiles(padded, d, keys, scores, kScoreStride, 1, v, v_stride, kNR, out, stride, true);
  }
  for (int64_t r = 0; r < rows; ++r)
    finish_row<T>(args, sequence.q_begin + (first + r) / group, kv_head * group + (first + r) % group, out + r * stride,
                  highest[r], total[r]);
}

// scores[j] = q · k[j] for `keys` keys, W of them at a time: W sums over head_dim, then their transpose.
template <class T>
ALMA_INLINE void dot_keys(const float* q, int64_t d, const T* k, int64_t k_stride, int64_t keys, float* scores) {
  for (int64_t j = 0; j < keys; j += W) {
    const T* row[W];
    for (int i = 0; i < W; ++i) row[i] = k + min(j + i, keys - 1) * k_stride;
    F acc[W] = {};
    for_lanes(d, [&](int64_t p, int lanes) ALMA_LAMBDA {
      const F x = load(q + p, lanes);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) acc[i] = x * load(row[i] + p, lanes) + acc[i];
    });
    transpose(acc);
    for (int half = W / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) acc[i] += acc[i + half];
    store(scores + j, acc[0]);
  }
}

// out = out · factor + Σ p[j] · v[j].
template <class T>
ALMA_INLINE void add_values(const float* p, int64_t keys, const T* v, int64_t v_stride, float factor, float* out, int64_t d) {
  int64_t i = 0;
  for (; i + 4 * W <= d; i += 4 * W) {
    F acc[4];
    for (int c = 0; c < 4; ++c) acc[c] = load(out + i + c * W) * factor;
    for (int64_t j = 0; j < keys; ++j)
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) acc[c] = load(v + j * v_stride + i + c * W) * p[j] + acc[c];
    for (int c = 0; c < 4; ++c) store(out + i + c * W, acc[c]);
  }
  for (; i < d; i += W) {
    const int lanes = static_cast<int>(min<int64_t>(W, d - i));
    F acc = load(out + i, lanes) * factor;
    for (int64_t j = 0; j < keys; ++j) acc = load(v + j * v_stride + i, lanes) * p[j] + acc;
    store(out + i, acc, lanes);
  }
}

template <class T>
void narrow_block(ThreadPool& pool, int thread, const AttentionArgs& args, const Sequence& sequence, int64_t kv_head, int64_t) {
  const AttentionShape& shape = args.shape;
  const int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads, stride = round_up(d, kNR);
  const int64_t rows = sequence.rows;
  float* const q = static_cast<float*>(
      pool.scratch(thread, kThreadSlot, sizeof(float) * static_cast<size_t>(2 * kNarrowRows * stride + kScoreStride)));
  float* const out = q + kNarrowRows * stride;
  float* const scores = out + kNarrowRows * stride;
  float highest[kNarrowRows], total[kNarrowRows];
  copy_query_rows(pointer<T>(args.q), shape, sequence, kv_head, 0, rows, rows, shape.scale, q, stride);
  for (int64_t i = 0; i < rows * stride; ++i) out[i] = 0;
  for (int64_t r = 0; r < rows; ++r) {
    highest[r] = -__builtin_inff();
    total[r] = 0;
  }
  const int64_t last_key = sequence.limit(shape.causal, group, rows - 1), kv_stride = shape.kv_heads * d;
  for (int64_t k0 = 0; k0 < last_key; k0 += kKeys) {
    const int64_t keys = min(kKeys, last_key - k0);
    const int64_t at = ((sequence.k_begin + k0) * shape.kv_heads + kv_head) * d;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t valid = min(keys, sequence.limit(shape.causal, group, r) - k0);
      if (valid <= 0) continue;
      dot_keys(q + r * stride, d, pointer<T>(args.k, at), kv_stride, valid, scores);
      const float factor = online_softmax(scores, valid, valid, highest[r], total[r]);
      add_values(scores, valid, pointer<T>(args.v, at), kv_stride, factor, out + r * stride, d);
    }
  }
  for (int64_t r = 0; r < rows; ++r)
    finish_row<T>(args, sequence.q_begin + r / group, kv_head * group + r % group, out + r * stride, highest[r], total[r]);
}

}  // namespace

void attention(ThreadPool& pool, const AttentionArgs& args) {
  const AttentionShape& shape = args.shape;
  check_shape("attention", shape);
  const TensorRef* const others[] = {&args.k, &args.v, &args.out};
  for (const TensorRef* other : others) same_dtype("attention", args.q, *other);
  if (shape.batch <= 0) return;

  // Tasks before sequence i: blocks of its stacked rows, times the kv heads.
  int64_t* const tasks_before =
      static_cast<int64_t*>(pool.scratch(0, kSharedSlot, sizeof(int64_t) * static_cast<size_t>(shape.batch + 1)));
  tasks_before[0] = 0;
  for (int64_t i = 0; i < shape.batch; ++i)
    tasks_before[i + 1] = tasks_before[i] + ceil_div(sequence_at(shape, i).rows, kQueryRows) * shape.kv_heads;

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
        const int64_t index = task - tasks_before[low], kv_head = index % shape.kv_heads;
        // Last blocks first: causal rows at the end see the most keys, and a long task should not be the last to start.
        const int64_t blocks = ceil_div(sequence.rows, kQueryRows);
        const int64_t first = (blocks - 1 - index / shape.kv_heads) * kQueryRows;
        if (sequence.rows <= kNarrowRows) {
          narrow_block<T>(pool, thread, args, sequence, kv_head, first);
        } else {
          wide_block<T>(pool, thread, args, sequence, kv_head, first);
        }
      }
    });
  });
}

}  // namespace alma::cpu::ALMA_ISA

// Gradient of attention, with the probabilities computed again from log_sum_exp (FlashAttention, algorithm 4):
//   dV = Pᵀ·dO    dP = dO·Vᵀ    dS = P ∘ (dP − rowsum(dO ∘ O))    dQ = scale · dS·K    dK = scale · dSᵀ·Q
// A task is one sequence and kv head, with all query heads of its group: it alone writes these rows of dq, dk and dv, and it
// adds blocks in a fixed order. dQ of the task is kept in f32 until the last block of keys.
#include "attention_blocks.h"

namespace alma::cpu::ALMA_ISA {
namespace {

// Where the parts of a thread's scratch memory are.
struct Memory {
  int64_t stride;  // head_dim rounded up for the register block
  float *q, *dout, *k, *k_panels, *v_panels, *dk, *dv, *p, *ds, *dq, *delta;

  static int64_t floats(int64_t stride, int64_t rows) {
    return (2 * kQueryRows + 3 * kKeys + 2 * kScoreStride) * stride + 2 * kQueryRows * kScoreStride +
           round_up(rows, kQueryRows) * (stride + 1);
  }
  Memory(float* memory, int64_t stride_, int64_t rows) : stride(stride_) {
    const auto take = [&](int64_t count) {
      float* at = memory;
      memory += count;
      return at;
    };
    q = take(kQueryRows * stride);
    dout = take(kQueryRows * stride);
    k = take(kKeys * stride);
    k_panels = take(kKeys * stride);
    v_panels = take(kKeys * stride);
    dk = take(kScoreStride * stride);
    dv = take(kScoreStride * stride);
    p = take(kQueryRows * kScoreStride);
    ds = take(kQueryRows * kScoreStride);
    dq = take(round_up(rows, kQueryRows) * stride);
    delta = take(round_up(rows, kQueryRows));
  }
};

// rowsum(dO ∘ O) of every stacked row.
template <class T>
void compute_delta(const AttentionBackwardArgs& args, const Sequence& sequence, int64_t kv_head, float* delta) {
  const int64_t d = args.shape.head_dim;
  const auto at = [&](int64_t r) ALMA_LAMBDA { return query_row(args.shape, sequence, kv_head, r) * d; };
  for (int64_t r = 0; r < sequence.rows; ++r) {
    const T* out = pointer<T>(args.out, at(r));
    const T* dout = pointer<T>(args.dout, at(r));
    const int64_t later = at(min(r + kRowsAhead, sequence.rows - 1));
    prefetch_row(pointer<T>(args.out, later), d);
    prefetch_row(pointer<T>(args.dout, later), d);
    F dots = {};
    for_lanes(d, [&](int64_t i, int lanes) ALMA_LAMBDA { dots = load(out + i, lanes) * load(dout + i, lanes) + dots; });
    delta[r] = sum(dots);
  }
}

// p: scores become probabilities, ds: dO·Vᵀ becomes the gradient of the scores; 0 where a key is not seen.
ALMA_INLINE void gradient_of_scores(float* p, float* ds, int64_t valid, int64_t keys, float log_sum_exp, float delta) {
  int64_t j = 0;
  for (; j < valid; j += W) {
    const F probability = first_lanes(exp(load(p + j) - log_sum_exp), valid - j, F{});
    store(ds + j, first_lanes(probability * (load(ds + j) - delta), valid - j, F{}));
    store(p + j, probability);
  }
  for (; j < keys; j += W) {
    store(p + j, F{});
    store(ds + j, F{});
  }
}

template <class T>
void store_rows(T* out, int64_t out_stride, const float* in, int64_t in_stride, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r)
    for_lanes(cols, [&](int64_t i, int lanes)
                        ALMA_LAMBDA { store(out + r * out_stride + i, load(in + r * in_stride + i, lanes), lanes); });
}

template <class T>
void backward(ThreadPool& pool, int thread, const AttentionBackwardArgs& args, const Sequence& sequence,
              int64_t kv_head) {
  const AttentionShape& shape = args.shape;
  const int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads, stride = round_up(d, kNR);
  const Memory m(static_cast<float*>(pool.scratch(
                     thread, kThreadSlot, sizeof(float) * static_cast<size_t>(Memory::floats(stride, sequence.rows)))),
                 stride, sequence.rows);
  const float* log_sum_exp = pointer<float>(args.log_sum_exp);
  compute_delta<T>(args, sequence, kv_head, m.delta);
  __builtin_memset(m.dq, 0, sizeof(float) * static_cast<size_t>(round_up(sequence.rows, kQueryRows) * stride));

  // Where the gradients of this key go, and the key that is as far on as a block.
  const auto prefetch_keys = [&](int64_t key) ALMA_LAMBDA {
    const int64_t at = ((sequence.k_begin + key) * shape.kv_heads + kv_head) * d,
                  later = at + kKeys * shape.kv_heads * d;
    prefetch_row_to_write(pointer<T>(args.dk, at), d);
    prefetch_row_to_write(pointer<T>(args.dv, at), d);
    if (key + kKeys >= sequence.k_length) return;
    prefetch_row(pointer<T>(args.k, later), d);
    prefetch_row(pointer<T>(args.v, later), d);
  };
  for (int64_t k0 = 0; k0 < sequence.k_length; k0 += kKeys) {
    const int64_t keys = min(kKeys, sequence.k_length - k0), key_row = sequence.k_begin + k0;
    const int64_t key_at = (key_row * shape.kv_heads + kv_head) * d, distance = shape.kv_heads * d;
    copy_key_rows(pointer<T>(args.k), shape, sequence, kv_head, k0, keys, m.k, stride);
    transpose_keys(pointer<T>(args.k), shape, sequence, kv_head, k0, keys, m.k_panels);
    transpose_keys(pointer<T>(args.v), shape, sequence, kv_head, k0, keys, m.v_panels);
    bool first_block = true;
    for (int64_t first = 0; first < sequence.rows; first += kQueryRows) {
      const int64_t rows = min(kQueryRows, sequence.rows - first), padded = round_up(rows, kMR);
      if (sequence.limit(shape.causal, group, first + rows - 1) <= k0) continue;  // none of these rows sees these keys
      copy_query_rows(pointer<T>(args.q), shape, sequence, kv_head, first, rows, padded, shape.scale, m.q, stride);
      copy_query_rows(pointer<T>(args.dout), shape, sequence, kv_head, first, rows, padded, 1.0f, m.dout, stride);
      const BlockExtents extents(sequence, shape, first, rows, k0, keys);
      multiply_tiles(rows, extents.scores, m.q, stride, 1, m.k_panels, kNR, d * kNR, m.p, kScoreStride, false);
      multiply_tiles(rows, extents.scores, m.dout, stride, 1, m.v_panels, kNR, d * kNR, m.ds, kScoreStride, false);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t valid = min(keys, sequence.limit(shape.causal, group, first + r) - k0);
        if (first_block && r < keys) prefetch_keys(k0 + r);
        gradient_of_scores(m.p + r * kScoreStride, m.ds + r * kScoreStride, valid, keys,
                           log_sum_exp[query_row(shape, sequence, kv_head, first + r)], m.delta[first + r]);
      }
      multiply_tiles(keys, extents.keys, m.p, 1, kScoreStride, m.dout, stride, kNR, m.dv, stride, !first_block);
      multiply_tiles(keys, extents.keys, m.ds, 1, kScoreStride, m.q, stride, kNR, m.dk, stride, !first_block);
      multiply_tiles(rows, extents.queries, m.ds, kScoreStride, 1, m.k, stride, kNR, m.dq + first * stride, stride,
                     true);
      first_block = false;
    }
    if (first_block) {  // no query sees them
      __builtin_memset(m.dk, 0, sizeof(float) * static_cast<size_t>(keys * stride));
      __builtin_memset(m.dv, 0, sizeof(float) * static_cast<size_t>(keys * stride));
    }
    store_rows(pointer<T>(args.dk, key_at), distance, m.dk, stride, keys, d);
    store_rows(pointer<T>(args.dv, key_at), distance, m.dv, stride, keys, d);
  }

  for (int64_t r = 0; r < sequence.rows; ++r) {
    const auto dq = [&](int64_t row)
                        ALMA_LAMBDA { return pointer<T>(args.dq, query_row(shape, sequence, kv_head, row) * d); };
    prefetch_row_to_write(dq(min(r + kRowsAhead, sequence.rows - 1)), d);
    T* const out = dq(r);
    for_lanes(d, [&](int64_t i, int lanes)
                     ALMA_LAMBDA { store(out + i, load(m.dq + r * stride + i, lanes) * shape.scale, lanes); });
  }
}

// Two tasks must not write the same rows of dk and dv.
void check_disjoint(const AttentionShape& shape) {
  const int32_t* begin = pointer<int32_t>(shape.k_begin);
  const int32_t* end = pointer<int32_t>(shape.k_end);
  bool ascending = true;
  for (int64_t i = 1; i < shape.batch; ++i) ascending = ascending && begin[i] >= end[i - 1];
  if (ascending) return;
  for (int64_t i = 0; i < shape.batch; ++i)
    for (int64_t j = 0; j < i; ++j)
      if (begin[i] < end[j] && begin[j] < end[i]) fail("attention_backward", "two sequences share rows of k and v");
}

}  // namespace

void attention_backward(ThreadPool& pool, const AttentionBackwardArgs& args) {
  const AttentionShape& shape = args.shape;
  if (shape.block_table.data) fail("attention_backward", "is not defined for paged keys");
  check_shape("attention_backward", shape);
  check_disjoint(shape);
  const TensorRef* const others[] = {&args.k, &args.v, &args.out, &args.dout, &args.dq, &args.dk, &args.dv};
  for (const TensorRef* other : others) same_dtype("attention_backward", args.q, *other);
  if (shape.batch <= 0) return;
  with_float("attention_backward", args.q.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t tasks = shape.batch * shape.kv_heads;
    const int64_t grain = attention_work(shape) < kSerialAttention ? tasks : 1;
    parallel_ranges(pool, tasks, grain, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t task = begin; task < end; ++task)
        backward<T>(pool, thread, args, sequence_at(shape, task / shape.kv_heads), task % shape.kv_heads);
    });
  });
}

}  // namespace alma::cpu::ALMA_ISA

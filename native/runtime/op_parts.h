// The fused products of a decoder layer, done by the ops that they are made of: the CPU device does them so, and a GPU where its kernels do not take
// the arguments. `Ops` has the ops that are called, and matmul_together where it knows to do better than one product after the other; `scratch`
// holds scratch_bytes(args).
#pragma once

#include <cstddef>

#include "ops.h"

namespace alma::parts {

namespace detail {

// Pieces of memory begin at multiples of 256 bytes.
inline size_t piece(const TensorRef& like, int64_t count) {
  return (static_cast<size_t>(count) * size_of(like.dtype) + 255) / 256 * 256;
}
inline TensorRef take(void*& scratch, const TensorRef& like, int64_t count) {
  const TensorRef ref{scratch, like.dtype};
  scratch = static_cast<char*>(scratch) + piece(like, count);
  return ref;
}
inline MatmulArgs linear(const TensorRef& x, const TensorRef& weight, const TensorRef& out, int64_t rows,
                         int64_t out_features, int64_t in_features, Invariance invariance) {
  return {x, weight, out, rows, out_features, in_features, MatmulLayout::nt, false, invariance};
}

// Products of one x.
template <class Ops, int kCount>
void multiply(Ops& ops, const MatmulArgs (&products)[kCount]) {
  if constexpr (requires { ops.matmul_together(products, kCount); }) {
    ops.matmul_together(products, kCount);
  } else {
    for (const MatmulArgs& product : products) ops.matmul(product);
  }
}

}  // namespace detail

inline size_t scratch_bytes(const NormQkvArgs& args) {
  return detail::piece(args.x, args.rows * args.cols) +
         2 * detail::piece(args.x, args.rows * args.kv_heads * args.head_dim);
}
inline size_t scratch_bytes(const NormGateUpArgs& args) {
  return detail::piece(args.x, args.rows * args.cols) + detail::piece(args.x, args.rows * args.out_features);
}
inline size_t scratch_bytes(const GateUpArgs& args) {
  return args.up.data != nullptr ? 0 : detail::piece(args.x, args.rows * args.out_features);
}
inline size_t scratch_bytes(const LinearAddArgs& args) { return detail::piece(args.x, args.rows * args.out_features); }

template <class Ops>
void qkv(Ops& ops, const QkvArgs& args) {
  const int64_t width = args.heads * args.head_dim, kv_width = args.kv_heads * args.head_dim;
  const auto linear = [&](const TensorRef& weight, const TensorRef& out, int64_t columns) {
    return detail::linear(args.x, weight, out, args.rows, columns, args.cols, args.invariance);
  };
  const auto turn = [&](const TensorRef& x, int64_t heads) {
    ops.rope(
        {x, x, args.cosine, args.sine, args.positions, args.rows, heads, args.head_dim, args.max_positions, false});
  };
  detail::multiply(ops, {linear(args.query_weight, args.q, width), linear(args.key_weight, args.k, kv_width),
                         linear(args.value_weight, args.v, kv_width)});
  turn(args.q, args.heads);
  turn(args.k, args.kv_heads);
}

template <class Ops>
void gate_up(Ops& ops, const GateUpArgs& args, void* scratch) {
  const int64_t count = args.rows * args.out_features;
  const TensorRef gate = args.gate.data != nullptr ? args.gate : args.out;
  const TensorRef up = args.up.data != nullptr ? args.up : detail::take(scratch, args.x, count);
  const auto linear = [&](const TensorRef& weight, const TensorRef& out) {
    return detail::linear(args.x, weight, out, args.rows, args.out_features, args.cols, args.invariance);
  };
  detail::multiply(ops, {linear(args.gate_weight, gate), linear(args.up_weight, up)});
  if (args.out.data != nullptr) ops.swi_glu({gate, up, args.out, count});
}

template <class Ops>
void norm_qkv(Ops& ops, const NormQkvArgs& args, void* scratch) {
  const int64_t kv_width = args.kv_heads * args.head_dim;
  const TensorRef normed = detail::take(scratch, args.x, args.rows * args.cols);
  const TensorRef k = detail::take(scratch, args.x, args.rows * kv_width);
  const TensorRef v = detail::take(scratch, args.x, args.rows * kv_width);
  ops.rms_norm({args.x, {}, args.norm_weight, normed, {}, {}, args.rows, args.cols, args.epsilon});
  qkv(ops,
      {normed, args.query_weight, args.key_weight, args.value_weight, args.cosine, args.sine, args.positions, args.q, k,
       v, args.rows, args.cols, args.heads, args.kv_heads, args.head_dim, args.max_positions, Invariance::few_rows});
  ops.scatter_rows({k, args.cache_rows, args.keys, args.table_rows, kv_width, args.rows});
  ops.scatter_rows({v, args.cache_rows, args.values, args.table_rows, kv_width, args.rows});
}

template <class Ops>
void norm_gate_up(Ops& ops, const NormGateUpArgs& args, void* scratch) {
  const TensorRef normed = detail::take(scratch, args.x, args.rows * args.cols);
  ops.rms_norm({args.x, {}, args.norm_weight, normed, {}, {}, args.rows, args.cols, args.epsilon});
  gate_up(ops,
          {normed,
           args.gate_weight,
           args.up_weight,
           {},
           {},
           args.out,
           args.rows,
           args.cols,
           args.out_features,
           Invariance::few_rows},
          scratch);
}

template <class Ops>
void linear_add(Ops& ops, const LinearAddArgs& args, void* scratch) {
  const TensorRef branch = detail::take(scratch, args.x, args.rows * args.out_features);
  ops.matmul(
      detail::linear(args.x, args.weight, branch, args.rows, args.out_features, args.in_features, args.invariance));
  ops.add({args.residual, branch, args.out, args.rows * args.out_features});
}

}  // namespace alma::parts

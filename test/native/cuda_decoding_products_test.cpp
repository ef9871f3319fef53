// The fused products of decoding: the CUDA kernels beside the CPU device, the CPU device beside the ops that they stand for, and rows whose
// bits do not depend on how many there are.
#include <algorithm>

#include "../../native/emulator/grid.h"
#include "../../native/emulator/properties.h"
#include "cuda_compare.h"

namespace alma::test {
namespace {

const TensorRef none{};
constexpr double kTolerance = 0.02;  // of bf16: two or three roundings, whose errors add up over a row

struct Extents {
  int64_t rows, cols, heads, kv_heads, head_dim, features;
};

Extents make_extents() {
  const int64_t kv_heads = 1 + random.below(2);
  return {random.one_in(4) ? 17 + random.below(30) : 1 + random.below(17),
          random.one_in(5) ? 1 + random.below(90) : 8 * (1 + random.below(90)),
          kv_heads * (1 + random.below(2)),
          kv_heads,
          random.one_in(4) ? 2 * (1 + random.below(20)) : 16 * (1 + random.below(4)),
          1 + random.below(70)};
}

struct Types {
  DType activation, weight, cache;
};
Types make_types() {
  if (!random.one_in(3)) return {DType::bf16, DType::bf16, DType::bf16};
  const DType activation = random.dtype();
  return {activation, random.dtype(), random.one_in(2) ? activation : random.dtype()};
}

// Most of the time all tensors of a call begin at multiples of 16 bytes: only then do the fused kernels take it.
bool aligned = true;
Array normal(DType dtype, int64_t count, double scale = 1) {
  for (;;) {
    const Array array = Array::normal(dtype, count, scale);
    if (!aligned || reinterpret_cast<uintptr_t>(array.ref().data) % 16 == 0) return array;
  }
}
Array weights_of(DType dtype, int64_t rows, int64_t cols) {
  return normal(dtype, rows * cols, 1 / std::sqrt(static_cast<double>(std::max<int64_t>(cols, 1))));
}

void compare_norm_qkv(Devices& devices) {
  const Extents e = make_extents();
  const Types t = make_types();
  const int64_t width = e.heads * e.head_dim, kv_width = e.kv_heads * e.head_dim, positions = 50, slots = e.rows + 9;
  const Array x = normal(t.activation, e.rows * e.cols), norm = normal(t.weight, e.cols);
  const Array query = weights_of(t.weight, width, e.cols), key = weights_of(t.weight, kv_width, e.cols);
  const Array value = weights_of(t.weight, kv_width, e.cols);
  const Array cosine = normal(DType::f32, positions * e.head_dim / 2);
  const Array sine = normal(DType::f32, positions * e.head_dim / 2);
  const Array at = Array::ints(e.rows, positions);
  Array cache_rows(DType::i32, static_cast<size_t>(e.rows));
  for (int64_t i = 0; i < e.rows; ++i) cache_rows.set(static_cast<size_t>(i), static_cast<double>(slots - 1 - i));
  Both q(normal(t.activation, e.rows * width));
  Both keys(normal(t.cache, slots * kv_width)), values(normal(t.cache, slots * kv_width));
  const auto args = [&](Array& q_, Array& keys_, Array& values_) {
    return NormQkvArgs{x.ref(),  norm.ref(),       query.ref(), key.ref(),   value.ref(),   cosine.ref(), sine.ref(),
                       at.ref(), cache_rows.ref(), q_.ref(),    keys_.ref(), values_.ref(), e.rows,       e.cols,
                       e.heads,  e.kv_heads,       e.head_dim,  positions,   slots,         1e-5f};
  };
  devices.cuda(kernels::norm_qkv, args(q.cuda, keys.cuda, values.cuda));
  devices.cpu.norm_qkv(args(q.cpu, keys.cpu, values.cpu));
  const std::string what =
      "norm_qkv " + text({e.rows, e.cols, e.heads, e.kv_heads, e.head_dim}, {x.ref(), query.ref(), keys.cuda.ref()});
  same(q, what + " q", kTolerance, 1e-4);
  same(keys, what + " keys", kTolerance, 1e-4);
  same(values, what + " values", kTolerance, 1e-4);
}

void compare_norm_gate_up(Devices& devices) {
  const Extents e = make_extents();
  const Types t = make_types();
  const Array x = normal(t.activation, e.rows * e.cols, random.one_in(4) ? 100 : 1);
  const Array norm = normal(t.weight, e.cols);
  const Array gate = weights_of(t.weight, e.features, e.cols), up = weights_of(t.weight, e.features, e.cols);
  Both out(normal(t.activation, e.rows * e.features));
  const auto args = [&](Array& out_) {
    return NormGateUpArgs{x.ref(), norm.ref(), gate.ref(), up.ref(), out_.ref(), e.rows, e.cols, e.features, 1e-6f};
  };
  devices.cuda(kernels::norm_gate_up, args(out.cuda));
  devices.cpu.norm_gate_up(args(out.cpu));
  same(out, "norm_gate_up " + text({e.rows, e.cols, e.features}, {x.ref(), gate.ref()}), kTolerance, 1e-4);
}

void compare_linear_add(Devices& devices) {
  const Extents e = make_extents();
  const Types t = make_types();
  const Array x = normal(t.activation, e.rows * e.cols), weight = weights_of(t.weight, e.features, e.cols);
  Both out(normal(t.activation, e.rows * e.features));
  const Array other = normal(t.activation, e.rows * e.features);
  const bool in_place = random.one_in(2);
  const auto args = [&](Array& out_) {
    return LinearAddArgs{x.ref(), weight.ref(), in_place ? out_.ref() : other.ref(), out_.ref(), e.rows,
                         e.cols,  e.features};
  };
  devices.cuda(kernels::linear_add, args(out.cuda));
  devices.cpu.linear_add(args(out.cpu));
  same(out, "linear_add " + text({e.rows, e.cols, e.features}, {x.ref(), weight.ref()}), kTolerance, 1e-4);
}

// The same bits for a row alone and among others.
void rows_alone(Devices& devices) {
  const int64_t rows = 35, cols = 72, features = 24;
  const Array x = normal(DType::bf16, rows * cols), norm = normal(DType::bf16, cols);
  const Array gate = weights_of(DType::bf16, features, cols), up = weights_of(DType::bf16, features, cols);
  const auto run = [&](int64_t first, int64_t count) {
    Array out(DType::bf16, static_cast<size_t>(count * features));
    TensorRef from = x.ref();
    from.data = static_cast<char*>(from.data) + static_cast<size_t>(first * cols) * 2;
    devices.cuda(kernels::norm_gate_up, {from, norm.ref(), gate.ref(), up.ref(), out.ref(), count, cols, features, 0});
    return out;
  };
  const Array all = run(0, rows);
  for (const int64_t count : {1, 8, 9, 17, 33}) {
    const int64_t first = random.below(rows - count + 1);
    const Array part = run(first, count);
    bool equal = part.guard_intact();
    for (size_t i = 0; i < part.count(); ++i)
      equal &= part.get(i) == all.get(static_cast<size_t>(first * features) + i);
    check(equal, "norm_gate_up: " + std::to_string(count) + " rows have other bits");
  }
}

// A decoder layer of a step, in five kernels, the ones behind the first launched early.
void kernels_of_a_layer(Devices& devices) {
  const int64_t rows = 3, cols = 64, heads = 4, kv_heads = 2, head_dim = 16, features = 72, slots = 200, kept = 130;
  const int64_t width = heads * head_dim, kv_width = kv_heads * head_dim, positions = 200;
  aligned = true;
  const auto aligned_normal = [](int64_t count) { return std::make_unique<Array>(normal(DType::bf16, count)); };
  const auto norm = aligned_normal(cols), query = aligned_normal(width * cols), key = aligned_normal(kv_width * cols);
  const auto value = aligned_normal(kv_width * cols), out_weight = aligned_normal(cols * width);
  const auto gate = aligned_normal(features * cols), up = aligned_normal(features * cols);
  const auto down = aligned_normal(cols * features);
  const auto hidden = aligned_normal(rows * cols), q = aligned_normal(rows * width),
             mixed = aligned_normal(rows * width);
  const auto activation = aligned_normal(rows * features);
  const auto keys = aligned_normal(slots * kv_width), values = aligned_normal(slots * kv_width);
  const Array cosine = Array::normal(DType::f32, positions * head_dim / 2);
  const Array sine = Array::normal(DType::f32, positions * head_dim / 2), at = Array::ints(rows, positions);
  Array cache_rows(DType::i32, 3), cu(DType::i32, 4), k_begin(DType::i32, 3), k_end(DType::i32, 3);
  for (size_t i = 0; i < 3; ++i) {
    cache_rows.set(i, static_cast<double>(kept + static_cast<int64_t>(i)));
    cu.set(i + 1, static_cast<double>(i + 1));
    k_begin.set(i, 0);
    k_end.set(i, static_cast<double>(kept + 1 + static_cast<int64_t>(i)));
  }
  cu.set(0, 0);
  AttentionShape shape{};
  shape.cu_seqlens_q = cu.ref();
  shape.k_begin = k_begin.ref();
  shape.k_end = k_end.ref();
  shape.batch = shape.total_q = rows;
  shape.total_k = slots;
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  shape.head_dim = head_dim;
  shape.scale = 0.25f;
  shape.causal = true;
  shape.invariance = Invariance::few_rows;
  const uint64_t before = emulator::launches();
  devices.cuda(kernels::norm_qkv,
               {hidden->ref(), norm->ref(),      query->ref(), key->ref(),  value->ref(),  cosine.ref(), sine.ref(),
                at.ref(),      cache_rows.ref(), q->ref(),     keys->ref(), values->ref(), rows,         cols,
                heads,         kv_heads,         head_dim,     positions,   slots,         1e-5f});
  devices.cuda(kernels::attention, {q->ref(), keys->ref(), values->ref(), mixed->ref(), none, shape});
  devices.cuda(kernels::linear_add, {mixed->ref(), out_weight->ref(), hidden->ref(), hidden->ref(), rows, width, cols});
  devices.cuda(kernels::norm_gate_up,
               {hidden->ref(), norm->ref(), gate->ref(), up->ref(), activation->ref(), rows, cols, features, 1e-5f});
  devices.cuda(kernels::linear_add,
               {activation->ref(), down->ref(), hidden->ref(), hidden->ref(), rows, features, cols});
  check(emulator::launches() - before == 5, "a layer of a decoding step is five kernels");
}

}  // namespace

void compare_decoding_products(Devices& devices) {
  for (const int capability : {80, 90}) {
    emulator::set_compute_capability(capability);
    devices.launch_context.properties.compute_capability = capability;
    for (int i = 0; i < 6; ++i) {
      aligned = !random.one_in(4);
      compare_norm_qkv(devices);
      compare_norm_gate_up(devices);
      compare_linear_add(devices);
    }
    rows_alone(devices);
    kernels_of_a_layer(devices);
  }
  emulator::set_compute_capability(80);
  devices.launch_context.properties.compute_capability = 80;
}

}  // namespace alma::test

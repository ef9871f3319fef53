// The products of a decoder layer with what follows them, after the pattern of ops_binding.cpp.
#include "arguments.h"
#include "bindings.h"

namespace alma::addon {

namespace {

// opQkv(x, queryWeight, keyWeight, valueWeight, cosine, sine, positions, q, k, v, rows, cols, heads, kvHeads, headDim, maxPositions,
//       invariance)
void qkv(Arguments& a) {
  QkvArgs args{};
  args.rows = a.extent(10, "rows");
  args.cols = a.extent(11, "cols");
  args.heads = a.extent(12, "heads");
  args.kv_heads = a.extent(13, "kvHeads");
  args.head_dim = a.extent(14, "headDim");
  args.max_positions = a.extent(15, "maxPositions");
  args.invariance = a.invariance(16);
  if (args.head_dim % 2 != 0) a.fail("headDim", "is odd");
  const int64_t width = a.product(args.heads, args.head_dim), kv_width = a.product(args.kv_heads, args.head_dim);
  const int64_t rope_table = a.product(args.max_positions, args.head_dim / 2);
  args.x = a.floats(0, "x", a.product(args.rows, args.cols));
  args.query_weight = a.floats(1, "queryWeight", a.product(width, args.cols));
  args.key_weight = a.floats(2, "keyWeight", a.product(kv_width, args.cols));
  args.value_weight = a.floats(3, "valueWeight", a.product(kv_width, args.cols));
  args.cosine = a.f32(4, "cosine", rope_table);
  args.sine = a.f32(5, "sine", rope_table);
  args.positions = a.i32(6, "positions", args.rows);
  args.q = a.floats(7, "q", a.product(args.rows, width));
  args.k = a.floats(8, "k", a.product(args.rows, kv_width));
  args.v = a.floats(9, "v", a.product(args.rows, kv_width));
  a.same_dtype(args.x, args.q, "x and q");
  a.same_dtype(args.x, args.k, "x and k");
  a.same_dtype(args.x, args.v, "x and v");
  a.device().submit<QkvArgs, &Ops::qkv>(args);
}

// opGateUp(x, gateWeight, upWeight, gate, up, out, rows, cols, outFeatures, invariance)
void gate_up(Arguments& a) {
  GateUpArgs args{};
  args.rows = a.extent(6, "rows");
  args.cols = a.extent(7, "cols");
  args.out_features = a.extent(8, "outFeatures");
  args.invariance = a.invariance(9);
  const int64_t weights = a.product(args.out_features, args.cols), count = a.product(args.rows, args.out_features);
  args.x = a.floats(0, "x", a.product(args.rows, args.cols));
  args.gate_weight = a.floats(1, "gateWeight", weights);
  args.up_weight = a.floats(2, "upWeight", weights);
  args.gate = a.optional_floats(3, "gate", count);
  args.up = a.optional_floats(4, "up", count);
  args.out = a.optional_floats(5, "out", count);
  if (a.present(3) != a.present(4)) a.fail("gate", "and up go together");
  if (!a.present(3) && !a.present(5)) a.fail("out", "is absent, and so are gate and up");
  a.same_dtype(args.x, args.gate, "x and gate");
  a.same_dtype(args.x, args.up, "x and up");
  a.same_dtype(args.x, args.out, "x and out");
  a.device().submit<GateUpArgs, &Ops::gate_up>(args);
}

// opLinearAdd(x, weight, residual, out, rows, inFeatures, outFeatures, invariance)
void linear_add(Arguments& a) {
  LinearAddArgs args{};
  args.rows = a.extent(4, "rows");
  args.in_features = a.extent(5, "inFeatures");
  args.out_features = a.extent(6, "outFeatures");
  args.invariance = a.invariance(7);
  args.x = a.floats(0, "x", a.product(args.rows, args.in_features));
  args.weight = a.floats(1, "weight", a.product(args.out_features, args.in_features));
  args.residual = a.floats(2, "residual", a.product(args.rows, args.out_features));
  args.out = a.floats(3, "out", a.product(args.rows, args.out_features));
  a.same_dtype(args.x, args.residual, "x and residual");
  a.same_dtype(args.x, args.out, "x and out");
  a.device().submit<LinearAddArgs, &Ops::linear_add>(args);
}

}  // namespace

void register_product_functions(Napi::Object& exports, Environment* environment) {
  ALMA_EXPORT_RAW("opQkv", qkv);
  ALMA_EXPORT_RAW("opGateUp", gate_up);
  ALMA_EXPORT_RAW("opLinearAdd", linear_add);
}

}  // namespace alma::addon

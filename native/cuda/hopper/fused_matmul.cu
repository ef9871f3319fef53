// Which tiles the fused products are done in, and their tensor maps.
#include "../portable/matmul_kernels.h"
#include "fused_matmul.h"

namespace alma::ALMA_CUDA::hopper {

namespace {

constexpr int64_t kM = 128;

// What of a fused product decides on its tiles. columns: of each matrix of weights that has tiles of its own.
struct Shape {
  MatmulArgs product;  // of all weights; a stands for what is multiplied, b for any of the weights, c for any result
  int64_t columns[3];
};

Shape shape_of(const QkvArgs& args) {
  const int64_t width = args.heads * args.head_dim, kv_width = args.kv_heads * args.head_dim;
  return {{args.x, args.query_weight, args.q, args.rows, width + 2 * kv_width, args.cols, MatmulLayout::nt, false,
           args.invariance},
          {width, kv_width, kv_width}};
}
Shape shape_of(const GateUpArgs& args) {
  const TensorRef& out = args.out.data != nullptr ? args.out : args.gate;
  return {{args.x, args.gate_weight, out, args.rows, 2 * args.out_features, args.cols, MatmulLayout::nt, false,
           args.invariance},
          {2 * args.out_features, 0, 0}};
}
Shape shape_of(const LinearAddArgs& args) {
  return {{args.x, args.weight, args.out, args.rows, args.out_features, args.in_features, MatmulLayout::nt, false,
           args.invariance},
          {args.out_features, 0, 0}};
}

MatmulPlan plan_of(const Shape& shape, TileColumns columns, int cluster, int multiprocessors) {
  int64_t tiles_n = 0;
  for (const int64_t width : shape.columns) tiles_n += ceil_div(width, static_cast<int64_t>(columns));
  return plan_tiles(shape.product.m, tiles_n, shape.product.k, columns, multiprocessors, 1, cluster);
}

// Where a row's bits must not depend on the others, one tile for any number of them.
MatmulPlan plan_of(const Shape& shape, int multiprocessors) {
  MatmulPlan best = plan_of(shape, TileColumns::n128, 1, multiprocessors);
  if (shape.product.invariance != Invariance::none) return best;
  for (int cluster = 1; cluster <= (multiprocessors > 1 ? 2 : 1); ++cluster) {
    const MatmulPlan plan = plan_of(shape, TileColumns::n256, cluster, multiprocessors);
    if (plan.cost < best.cost) best = plan;
  }
  return best;
}

template <class... Refs>
bool stores_in_bulk(const Refs&... refs) {
  return aligned(16, refs...) && ((refs.data == nullptr || refs.dtype == DType::bf16) && ...);
}

template <class... Refs>
bool takes(const Context& context, const Shape& shape, const Refs&... weights) {
  const MatmulArgs& product = shape.product;
  if (context.properties.compute_capability != 90 || product.m <= 0 || product.k <= 0) return false;
  for (const TensorRef* weight : {&weights...}) {
    MatmulArgs one = product;
    one.b = *weight;
    if (!portable::fits_tensor_cores(one)) return false;
  }
  const int64_t limit = int64_t{1} << 31;
  if (product.m >= limit || product.n >= limit || product.k >= limit) return false;
  if (ceil_div(product.m, kM) * ceil_div(product.n, 64) >= limit) return false;
  if (product.invariance != Invariance::none) return product.invariance == Invariance::many_rows;
  // Few tiles: the product by itself divides k among more multiprocessors.
  const int multiprocessors = context.properties.multiprocessors;
  return product.m > 16 && takes_matmul(context, product) &&
         plan_of(shape, multiprocessors).cost <= 1.1 * plan_matmul(product, multiprocessors).cost;
}

}  // namespace

bool takes_qkv(const Context& context, const QkvArgs& args) {
  return (args.head_dim == 64 || args.head_dim == 128) && args.heads > 0 && args.kv_heads > 0 &&
         args.max_positions > 0 && args.max_positions * args.head_dim <= 0x7fffffff &&
         stores_in_bulk(args.q, args.k, args.v) && aligned(8, args.cosine, args.sine) &&
         takes(context, shape_of(args), args.query_weight, args.key_weight, args.value_weight);
}
bool takes_gate_up(const Context& context, const GateUpArgs& args) {
  return args.out_features > 0 && args.out_features % 8 == 0 && stores_in_bulk(args.gate, args.up, args.out) &&
         takes(context, shape_of(args), args.gate_weight, args.up_weight);
}
bool takes_linear_add(const Context& context, const LinearAddArgs& args) {
  return args.out_features > 0 && args.out_features % 8 == 0 && stores_in_bulk(args.residual, args.out) &&
         takes(context, shape_of(args), args.weight);
}

namespace {

template <class Problem>
Problem problem_of(const char* op, const TensorRef& x, int64_t rows, int64_t cols, const MatmulPlan& plan) {
  Problem problem{};
  problem.a = operand_map(op, x, rows, cols, kM);
  set_tiles(problem, plan, cols);
  return problem;
}

// Of rows of weights, what one copy brings: a block's share of a tile.
int box_of(const MatmulPlan& plan) { return static_cast<int>(plan.columns) / plan.cluster; }

void run(Context& context, const QkvArgs& args, const MatmulPlan& plan) {
  const int64_t width = args.heads * args.head_dim, kv_width = args.kv_heads * args.head_dim;
  auto problem = problem_of<QkvProblem>("qkv", args.x, args.rows, args.cols, plan);
  const TensorRef weights[] = {args.query_weight, args.key_weight, args.value_weight}, out[] = {args.q, args.k, args.v};
  for (int i = 0; i < 3; ++i) {
    const int64_t columns = i == 0 ? width : kv_width;
    problem.weights[i] = operand_map("qkv", weights[i], columns, args.cols, box_of(plan));
    problem.out[i] = operand_map("qkv", out[i], args.rows, columns, 64);
    if (i < 2) problem.tiles[i] = static_cast<int>(ceil_div(columns, static_cast<int64_t>(plan.columns)));
  }
  problem.cosine = pointer<const float>(args.cosine);
  problem.sine = pointer<const float>(args.sine);
  problem.positions = pointer<const int>(args.positions);
  problem.rows = args.rows;
  problem.max_positions = args.max_positions;
  problem.error = context.value_error;
  launch_qkv(context, plan, problem, args.head_dim);
}

void run(Context& context, const GateUpArgs& args, const MatmulPlan& plan) {
  auto problem = problem_of<GateUpProblem>("gate_up", args.x, args.rows, args.cols, plan);
  const auto weight = [&](const TensorRef& tensor) {
    return operand_map("gate_up", tensor, args.out_features, args.cols, static_cast<int>(plan.columns) / 2);
  };
  const auto result = [&](const TensorRef& tensor) {
    return tensor.data == nullptr ? TensorMap{} : operand_map("gate_up", tensor, args.rows, args.out_features, 64);
  };
  problem.weights[0] = weight(args.gate_weight);
  problem.weights[1] = weight(args.up_weight);
  problem.gate = result(args.gate);
  problem.up = result(args.up);
  problem.out = result(args.out);
  problem.keeps = args.gate.data != nullptr;
  problem.has_out = args.out.data != nullptr;
  launch_gate_up(context, plan, problem);
}

void run(Context& context, const LinearAddArgs& args, const MatmulPlan& plan) {
  auto problem = problem_of<LinearAddProblem>("linear_add", args.x, args.rows, args.in_features, plan);
  problem.b = operand_map("linear_add", args.weight, args.out_features, args.in_features, box_of(plan));
  problem.residual = operand_map("linear_add", args.residual, args.rows, args.out_features, 64);
  problem.out = operand_map("linear_add", args.out, args.rows, args.out_features, 64);
  launch_linear_add(context, plan, problem);
}

template <class Args>
void run_planned(Context& context, const Args& args) {
  run(context, args, plan_of(shape_of(args), context.properties.multiprocessors));
}

template <class Args>
void run_in_tiles(Context& context, const Args& args, TileColumns columns, int cluster) {
  run(context, args, plan_of(shape_of(args), columns, cluster, context.properties.multiprocessors));
}

}  // namespace

void qkv(Context& context, const QkvArgs& args) { run_planned(context, args); }
void gate_up(Context& context, const GateUpArgs& args) { run_planned(context, args); }
void linear_add(Context& context, const LinearAddArgs& args) { run_planned(context, args); }

void qkv_in_tiles(Context& context, const QkvArgs& args, TileColumns columns, int cluster) {
  run_in_tiles(context, args, columns, cluster);
}
void gate_up_in_tiles(Context& context, const GateUpArgs& args, TileColumns columns, int cluster) {
  run_in_tiles(context, args, columns, cluster);
}
void linear_add_in_tiles(Context& context, const LinearAddArgs& args, TileColumns columns, int cluster) {
  run_in_tiles(context, args, columns, cluster);
}

}  // namespace alma::ALMA_CUDA::hopper

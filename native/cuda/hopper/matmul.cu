// Which tiles a product is done in, and its tensor maps.
#include <algorithm>
#include <cmath>

#include "../portable/matmul_kernels.h"
#include "matmul_kernels.h"

namespace alma::ALMA_CUDA::hopper {

namespace {

constexpr int64_t kM = 128, kDepth = 64;
// Bytes a cycle: of a multiprocessor's shared memory, and of the L2 cache, 64 for each multiprocessor but 8 TB/s at 1.3 GHz in all.
constexpr double kSharedBytes = 128, kL2BytesOfOne = 64, kL2Bytes = 6150;
// Multiply-adds a cycle of a multiprocessor's tensor cores; cycles of a tile in which none runs.
constexpr double kProducts = 2048, kTileCycles = 1500;
// Cycles of the kernel that adds parts of k besides its reading and writing; steps of k that a part has at least.
constexpr double kSumCycles = 4000;
constexpr int64_t kLeastSplit = 8;

double cycles_of_tile(int64_t columns, int64_t k, int multiprocessors, int cluster) {
  const auto n = static_cast<double>(columns), depth = static_cast<double>(k);
  const double products = kM * n * depth / kProducts;
  const double bytes = (kM + n / cluster) * depth * 2;
  // wgmma reads its operands from shared memory, b once for each of the two consumers.
  const double shared = (kM + 2 * n) * depth * 2 / kSharedBytes;
  const double l2 = bytes / std::min(kL2BytesOfOne, kL2Bytes / multiprocessors);
  return std::max({products, shared, l2}) + kTileCycles;
}

// So many rows of tiles that a wave of blocks reads the least: its rows of a and its columns of b.
int group_of(int64_t tiles_m, int64_t columns, int multiprocessors, int cluster) {
  int best = 1;
  int64_t least = 0;
  for (int group = 1; group <= 16; ++group) {
    const int64_t bytes = group * kM * cluster + ceil_div(multiprocessors / cluster, group) * columns;
    if (group == 1 || bytes < least) {
      best = group;
      least = bytes;
    }
  }
  return static_cast<int>(std::min<int64_t>(best, tiles_m));
}

// With k in `splits` parts, or in as few as have the same length.
MatmulPlan plan_of(const MatmulArgs& args, TileColumns columns, int multiprocessors, int64_t splits, int cluster) {
  const int64_t k_blocks = ceil_div(args.k, kDepth), parts = ceil_div(k_blocks, ceil_div(k_blocks, splits));
  MatmulPlan plan = plan_tiles(args.m, ceil_div(args.n, static_cast<int64_t>(columns)), args.k, columns,
                               multiprocessors, parts, cluster);
  if (plan.splits > 1) {
    const double bytes = 4.0 * static_cast<double>(args.m * args.n) * static_cast<double>(2 * plan.splits + 1);
    plan.cost += kSumCycles + bytes / std::min(kL2BytesOfOne * multiprocessors, kL2Bytes);
  }
  return plan;
}

void multiply(const Context& context, const MatmulArgs& args, const MatmulPlan& plan);

void run(Context& context, const MatmulArgs& args, const MatmulPlan& plan) {
  if (plan.splits > 1) {
    const int64_t count = args.m * args.n;
    const size_t bytes = static_cast<size_t>(plan.splits * count) * sizeof(float);
    auto* parts = static_cast<float*>(context.workspace->get(bytes));
    MatmulArgs product = args;
    product.c = {parts, DType::f32};
    product.accumulate = false;
    multiply(context, product, plan);
    return portable::sum_parts(context, parts, args.c, count, plan.splits, args.accumulate);
  }
  multiply(context, args, plan);
}

void multiply(const Context& context, const MatmulArgs& args, const MatmulPlan& plan) {
  const bool f32_out = args.c.dtype == DType::f32;
  const bool bulk_store = !f32_out && !args.accumulate && args.n % 8 == 0 && aligned(16, args.c);
  const bool a_by_k = args.layout != MatmulLayout::tn, b_by_k = args.layout == MatmulLayout::nt;
  MatmulProblem problem{};
  problem.a = a_by_k ? operand_map("matmul", args.a, args.m, args.k, kM)
                     : operand_map("matmul", args.a, args.k, args.m, kDepth);
  problem.b = b_by_k ? operand_map("matmul", args.b, args.n, args.k, static_cast<int>(plan.columns) / plan.cluster)
                     : operand_map("matmul", args.b, args.k, args.n, kDepth);
  if (bulk_store) problem.c = operand_map("matmul", args.c, args.m, args.n, 64);
  problem.c_data = args.c.data;
  problem.m = args.m;
  problem.n = args.n;
  set_tiles(problem, plan, args.k);
  problem.accumulate = args.accumulate;
  problem.f32_out = f32_out;
  problem.pairs = args.n % 2 == 0 && aligned(2 * size_of(args.c.dtype), args.c);
  switch (args.layout) {
    case MatmulLayout::nn: return launch_matmul_nn(context, plan, problem, bulk_store);
    case MatmulLayout::nt: return launch_matmul_nt(context, plan, problem, bulk_store);
    case MatmulLayout::tn: return launch_matmul_tn(context, plan, problem, bulk_store);
  }
}

}  // namespace

TensorMap operand_map(const char* op, const TensorRef& tensor, int64_t rows, int64_t columns, int box_rows) {
  return make_tensor_map(op,
                         {tensor.data, DType::bf16, 2, {columns, rows, 0}, {1, columns, 0}, {64, box_rows, 0}, true});
}

MatmulPlan plan_tiles(int64_t m, int64_t tiles_n, int64_t k, TileColumns columns, int multiprocessors, int64_t splits,
                      int cluster) {
  const auto n = static_cast<int64_t>(columns);
  const int64_t split_blocks = ceil_div(ceil_div(k, kDepth), splits);
  MatmulPlan plan{columns, ceil_div(m, kM * cluster), tiles_n, 1, 0, splits, cluster};
  const int64_t waves = ceil_div(plan.tiles_m * plan.tiles_n * plan.splits, multiprocessors / cluster);
  plan.cost = static_cast<double>(waves) * cycles_of_tile(n, split_blocks * kDepth, multiprocessors, cluster);
  plan.group = group_of(plan.tiles_m, n, multiprocessors, cluster);
  return plan;
}

void set_tiles(MatmulTiles& tiles, const MatmulPlan& plan, int64_t k) {
  tiles.k_blocks = static_cast<int>(ceil_div(k, kDepth));
  tiles.tiles_m = static_cast<int>(plan.tiles_m);
  tiles.tiles_n = static_cast<int>(plan.tiles_n);
  tiles.group = plan.group;
  tiles.splits = static_cast<int>(plan.splits);
  tiles.split_blocks = static_cast<int>(ceil_div(tiles.k_blocks, plan.splits));
}

MatmulPlan plan_matmul(const MatmulArgs& args, int multiprocessors) {
  if (args.invariance != Invariance::none) return plan_of(args, TileColumns::n128, multiprocessors, 1, 1);
  MatmulPlan best{};
  for (const TileColumns columns : {TileColumns::n256, TileColumns::n128, TileColumns::n64}) {
    const int64_t tiles = ceil_div(args.m, kM) * ceil_div(args.n, static_cast<int64_t>(columns));
    const int64_t most = std::min(multiprocessors / tiles, ceil_div(args.k, kDepth) / kLeastSplit);
    for (int64_t splits = 1; splits == 1 || splits <= most; ++splits) {
      for (int cluster = 1; cluster <= (columns == TileColumns::n256 && multiprocessors > 1 ? 2 : 1); ++cluster) {
        const MatmulPlan plan = plan_of(args, columns, multiprocessors, splits, cluster);
        if (best.cost == 0 || plan.cost < best.cost) best = plan;
      }
    }
  }
  return best;
}

bool takes_matmul(const Context& context, const MatmulArgs& args) {
  if (context.properties.compute_capability != 90 || !portable::fits_tensor_cores(args)) return false;
  const int64_t limit = int64_t{1} << 31;
  if (args.m >= limit || args.n >= limit || args.k >= limit) return false;
  if (ceil_div(args.m, kM) * ceil_div(args.n, 64) >= limit) return false;
  if (args.invariance != Invariance::none) return true;
  // Few tiles leave most multiprocessors idle, and the portable kernels divide k among them. mma.sync reaches 0.6 of these products.
  const int multiprocessors = context.properties.multiprocessors;
  const double ideal = static_cast<double>(args.m) * static_cast<double>(args.n) * static_cast<double>(args.k) /
                       (kProducts * 0.6 * multiprocessors);
  return plan_matmul(args, multiprocessors).cost <= std::max(ideal, 4 * kTileCycles) * 1.15;
}

void matmul(Context& context, const MatmulArgs& args) {
  run(context, args, plan_matmul(args, context.properties.multiprocessors));
}

void matmul_in_tiles(Context& context, const MatmulArgs& args, TileColumns columns, int64_t splits, int cluster) {
  run(context, args, plan_of(args, columns, context.properties.multiprocessors, splits, cluster));
}

}  // namespace alma::ALMA_CUDA::hopper

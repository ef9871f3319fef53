// bf16 products on tensor cores (mma.sync m16n8k16, f32 sums) for sm_80 and later: nt, nn and tn without transposing in memory. A block
// makes a tile of c; its operands' tiles come through kStages slots of shared memory by cp.async, so that the copies of the next stages
// are under way while this one is multiplied.
//
// Blocks go through c in groups of 8 tile rows, so that what runs at the same time shares its operands in L2. Where there are fewer
// tiles than multiprocessors, k is split: each part writes its sums in f32 to the workspace, and a second kernel adds them in order.
//
// Not yet measured. For sm_90a, without spills (sm_80: within 13 registers of these), nn / nt / tn:
//   tile      shared   registers         mma, ldmatrix a warp and stage   blocks a multiprocessor
//   128×256   144 KiB  232 / 232 / 230   128, 32                          1
//   128×128   96 KiB   152 / 157 / 142   64, 24                           1 (registers)
//   64×64     64 KiB   122 / 106 / 126   32, 16                           3 (shared memory)
// mma.sync reaches 62–65 % of the 989 TFLOP/s of wgmma on an H200; ldmatrix and the barrier should leave 85–90 % of that at 4096³ with
// the large tile: 520 to 580 TFLOP/s.
#include "../ptx/mma.cuh"
#include "../shared_memory.cuh"
#include "matmul_kernels.h"
#include "matmul_tile.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kDepth = 64, kGroup = 8;

template <int kM_, int kN_, int kWarpsM_, int kWarpsN_, int kStages_>
struct Config {
  static constexpr int kM = kM_, kN = kN_, kWarpsM = kWarpsM_, kWarpsN = kWarpsN_, kStages = kStages_;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kWarpM = kM / kWarpsM, kWarpN = kN / kWarpsN;  // a warp's part of the tile
  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0);
};
using Large = Config<128, 256, 2, 4, 3>;   // 144 KiB: 8.0 and 9.0
using Medium = Config<128, 128, 2, 4, 3>;  // 96 KiB: everywhere
using Small = Config<64, 64, 2, 2, 4>;     // 64 KiB

template <class C, MatmulLayout kLayout>
struct Shared {
  static constexpr bool kLeftByDepth = kLayout == MatmulLayout::tn, kRightByDepth = kLayout != MatmulLayout::nt;
  using Left = std::conditional_t<kLeftByDepth, MatmulTile<kDepth, C::kM>, MatmulTile<C::kM, kDepth>>;
  using Right = std::conditional_t<kRightByDepth, MatmulTile<kDepth, C::kN>, MatmulTile<C::kN, kDepth>>;
  Left left[C::kStages];
  Right right[C::kStages];
};

struct Problem {
  const bf16 *a, *b;
  void* c;  // or, when k is split, f32[splits, m, n]
  int64_t m, n, k;
  int tiles_m, tiles_n;
  int depth_tiles;  // of a part of k
  bool accumulate, f32_out;
  bool pairs;  // of elements of c lie in one aligned word, in every row
};

// The place of the tile of block `index`: down the rows of a group first.
__device__ __forceinline__ void tile_of(int index, int tiles_m, int tiles_n, int& row, int& column) {
  const int per_group = kGroup * tiles_n, group = index / per_group, first = group * kGroup;
  const int rows = tiles_m - first < kGroup ? tiles_m - first : kGroup;
  row = first + index % per_group % rows;
  column = index % per_group / rows;
}

// Two neighbouring elements of c; `both` when they exist and lie in one aligned word.
template <class T>
__device__ __forceinline__ void put(T* c, float low, float high, bool accumulate, bool has_high, bool both) {
  if (both) {
    Vector<T, 2> out;
    if (accumulate) {
      const Vector<T, 2> before = load_vector<2>(c);
      low += before[0];
      high += before[1];
    }
    const float values[2] = {low, high};
    out = pack<T>(values);
    store_vector<2>(c, out);
    return;
  }
  c[0] = from_float<T>(accumulate ? to_float(c[0]) + low : low);
  if (has_high) c[1] = from_float<T>(accumulate ? to_float(c[1]) + high : high);
}

template <class C, MatmulLayout kLayout>
__global__ void __launch_bounds__(C::kThreads, 1) matmul_tensor_cores_kernel(const Problem p) {
  using Tiles = Shared<C, kLayout>;
  ALMA_SHARED(Tiles, tiles);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_m = warp / C::kWarpsN * C::kWarpM, warp_n = warp % C::kWarpsN * C::kWarpN;
  int tile_row, tile_column;
  tile_of(static_cast<int>(blockIdx.x), p.tiles_m, p.tiles_n, tile_row, tile_column);
  const int64_t row = int64_t{tile_row} * C::kM, column = int64_t{tile_column} * C::kN;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * p.depth_tiles * kDepth;
  const int64_t all = (p.k - begin + kDepth - 1) / kDepth;
  const int count = static_cast<int>(all < p.depth_tiles ? all : p.depth_tiles);

  const auto start_stage = [&](int at) {
    if (at < count) {
      const int slot = at % C::kStages;
      const int64_t depth = begin + int64_t{at} * kDepth;
      if constexpr (Tiles::kLeftByDepth) {
        tiles.left[slot].template copy<C::kThreads>(p.a, p.k, p.m, depth, row);
      } else {
        tiles.left[slot].template copy<C::kThreads>(p.a, p.m, p.k, row, depth);
      }
      if constexpr (Tiles::kRightByDepth) {
        tiles.right[slot].template copy<C::kThreads>(p.b, p.k, p.n, depth, column);
      } else {
        tiles.right[slot].template copy<C::kThreads>(p.b, p.n, p.k, column, depth);
      }
    }
    ptx::cp_async_commit();  // an empty group at the end keeps the count of groups right
  };

  float acc[C::kWarpM / 16][C::kWarpN / 8][4] = {};
#pragma unroll
  for (int stage = 0; stage < C::kStages - 1; ++stage) start_stage(stage);
  for (int at = 0; at < count; ++at) {
    ptx::cp_async_wait<C::kStages - 2>();
    // This stage has arrived for everybody, and everybody is done with the slot that is filled next.
    __syncthreads();
    start_stage(at + C::kStages - 1);
    auto& left = tiles.left[at % C::kStages];
    auto& right = tiles.right[at % C::kStages];
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      uint32_t a[C::kWarpM / 16][4];
#pragma unroll
      for (int i = 0; i < C::kWarpM / 16; ++i) load_left<Tiles::kLeftByDepth>(a[i], left, warp_m + i * 16, k, lane);
#pragma unroll
      for (int j = 0; j < C::kWarpN / 16; ++j) {
        uint32_t b[4];
        load_right<Tiles::kRightByDepth>(b, right, warp_n + j * 16, k, lane);
        const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
        for (int i = 0; i < C::kWarpM / 16; ++i) {
          ptx::mma_m16n8k16_bf16(acc[i][2 * j], a[i], low);
          ptx::mma_m16n8k16_bf16(acc[i][2 * j + 1], a[i], high);
        }
      }
    }
  }
  ptx::cp_async_wait<0>();

  const int64_t split = static_cast<int64_t>(blockIdx.y) * p.m * p.n;
#pragma unroll
  for (int i = 0; i < C::kWarpM / 16; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t at_row = row + warp_m + i * 16 + half * 8 + lane / 4;
      if (at_row >= p.m) continue;
#pragma unroll
      for (int j = 0; j < C::kWarpN / 8; ++j) {
        const int64_t at_column = column + warp_n + j * 8 + lane % 4 * 2;
        if (at_column >= p.n) continue;
        const bool has_high = at_column + 1 < p.n, both = has_high && p.pairs;
        const int64_t at = split + at_row * p.n + at_column;
        if (p.f32_out) {
          put(static_cast<float*>(p.c) + at, acc[i][j][2 * half], acc[i][j][2 * half + 1], p.accumulate, has_high,
              both);
        } else {
          put(static_cast<bf16*>(p.c) + at, acc[i][j][2 * half], acc[i][j][2 * half + 1], p.accumulate, has_high, both);
        }
      }
    }
}

constexpr int kSumThreads = 256;

template <class T>
__global__ void __launch_bounds__(kSumThreads)
    sum_parts_kernel(const float* parts, T* c, int64_t count, int splits, bool accumulate) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
  if (at >= count) return;
  float sum = parts[at];
  for (int split = 1; split < splits; ++split) sum += parts[split * count + at];
  c[at] = from_float<T>(accumulate ? to_float(c[at]) + sum : sum);
}

template <class C>
void launch_config(Context& context, const MatmulArgs& args, bool may_split) {
  const int64_t tiles_m = ceil_div(args.m, C::kM), tiles_n = ceil_div(args.n, C::kN), depth = ceil_div(args.k, kDepth);
  int64_t splits = 1;
  if (may_split && tiles_m * tiles_n * 2 <= context.properties.multiprocessors) {
    splits = context.properties.multiprocessors / (tiles_m * tiles_n);
    // A part of fewer than 4 stages spends its time filling the pipeline.
    if (splits > depth / 4) splits = depth / 4;
    if (splits < 1) splits = 1;
  }
  const int64_t per_split = ceil_div(depth, splits);
  splits = ceil_div(depth, per_split);
  Problem problem{pointer<const bf16>(args.a),
                  pointer<const bf16>(args.b),
                  args.c.data,
                  args.m,
                  args.n,
                  args.k,
                  static_cast<int>(tiles_m),
                  static_cast<int>(tiles_n),
                  static_cast<int>(per_split),
                  args.accumulate,
                  args.c.dtype == DType::f32,
                  args.n % 2 == 0 && aligned(2 * size_of(args.c.dtype), args.c)};
  const int64_t count = args.m * args.n;
  float* parts = nullptr;
  if (splits > 1) {
    parts = static_cast<float*>(context.workspace->get(static_cast<size_t>(splits * count) * sizeof(float)));
    problem.c = parts;
    problem.accumulate = false;
    problem.f32_out = true;
    problem.pairs = args.n % 2 == 0;
  }
  dim3 grid = grid_of("matmul", tiles_m * tiles_n);
  grid.y = static_cast<unsigned>(splits);
  const auto run = [&](auto layout) {
    constexpr MatmulLayout kLayout = decltype(layout)::value;
    launch(context, "matmul", {grid, dim3(C::kThreads), sizeof(Shared<C, kLayout>)},
           matmul_tensor_cores_kernel<C, kLayout>, problem);
  };
  switch (args.layout) {
    case MatmulLayout::nn: run(std::integral_constant<MatmulLayout, MatmulLayout::nn>{}); break;
    case MatmulLayout::nt: run(std::integral_constant<MatmulLayout, MatmulLayout::nt>{}); break;
    case MatmulLayout::tn: run(std::integral_constant<MatmulLayout, MatmulLayout::tn>{}); break;
  }
  if (splits > 1) sum_parts(context, parts, args.c, count, splits, args.accumulate);
}

// What share of the time of all waves is spent on elements that exist.
double efficiency(const MatmulArgs& args, int64_t tile_m, int64_t tile_n, int multiprocessors) {
  const int64_t tiles = ceil_div(args.m, tile_m) * ceil_div(args.n, tile_n);
  const int64_t waves = ceil_div(tiles, multiprocessors);
  return static_cast<double>(args.m * args.n) / static_cast<double>(waves * multiprocessors * tile_m * tile_n);
}

}  // namespace

void sum_parts(Context& context, const float* parts, const TensorRef& c, int64_t count, int64_t splits,
               bool accumulate) {
  with_float("matmul", c.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(context, "matmul", {grid_of("matmul", ceil_div(count, kSumThreads)), dim3(kSumThreads)}, sum_parts_kernel<T>,
           parts, pointer<T>(c), count, static_cast<int>(splits), accumulate);
  });
}

bool fits_tensor_cores(const MatmulArgs& args) {
  if (args.a.dtype != DType::bf16 || args.b.dtype != DType::bf16 || !aligned(16, args.a, args.b)) return false;
  const int64_t row_of_a = args.layout == MatmulLayout::tn ? args.m : args.k;
  const int64_t row_of_b = args.layout == MatmulLayout::nt ? args.k : args.n;
  return row_of_a % 8 == 0 && row_of_b % 8 == 0;
}

void matmul_tensor_cores(Context& context, const MatmulArgs& args) {
  // The order of a sum must not depend on m: neither the split of k may, nor (for the compiler's order within it) the tile.
  if (args.invariance != Invariance::none) return launch_config<Medium>(context, args, false);
  const int multiprocessors = context.properties.multiprocessors;
  const bool has_large = context.properties.shared_bytes_per_block >= sizeof(Shared<Large, MatmulLayout::nt>);
  // A multiprocessor makes a large tile at 1, a medium one at 0.85 and a small one at 0.6 of what its tensor cores can do.
  const double large = has_large ? efficiency(args, Large::kM, Large::kN, multiprocessors) : 0;
  const double medium = 0.85 * efficiency(args, Medium::kM, Medium::kN, multiprocessors);
  const double small = 0.6 * efficiency(args, Small::kM, Small::kN, multiprocessors);
  if (large >= medium && large >= small) return launch_config<Large>(context, args, true);
  if (medium >= small) return launch_config<Medium>(context, args, true);
  launch_config<Small>(context, args, true);
}

}  // namespace alma::ALMA_CUDA::portable

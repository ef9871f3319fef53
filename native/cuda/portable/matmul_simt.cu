// Products without tensor cores: any dtypes, any alignment, all layouts. A block of 256 threads makes a tile of 64×64, each thread 4×4 of
// it, from tiles of 16 k in shared memory. One sum an element, in the order of k: the same bits whatever the tile's place.
#include "../shared_memory.cuh"
#include "matmul_kernels.h"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kTile = 64, kDepth = 16, kThreads = 256, kPerThread = 4;

struct Tiles {
  // One column more than needed: threads that store along k would all meet in one bank.
  float a[kDepth][kTile + 1];
  float b[kDepth][kTile + 1];
};

struct Problem {
  const void *a, *b;
  void* c;
  int64_t m, n, k;
  // Elements from one row of a (or b, as [k, n]) to the next, in each direction; one of the two is 1.
  int64_t a_row, a_depth, b_depth, b_column;
  int64_t tiles_n;
  bool accumulate;
};

// A tile of kDepth × kTile elements, those along the contiguous direction by neighbouring threads.
template <class T>
__device__ __forceinline__ void load_tile(float (&tile)[kDepth][kTile + 1], const T* source, int64_t first,
                                          int64_t count, int64_t stride, int64_t depth, int64_t k,
                                          int64_t depth_stride) {
#pragma unroll
  for (int i = 0; i < kTile * kDepth / kThreads; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * kThreads;
    const bool along_depth = depth_stride == 1;
    const int d = along_depth ? at % kDepth : at / kTile, x = along_depth ? at / kDepth : at % kTile;
    const bool inside = first + x < count && depth + d < k;
    tile[d][x] = inside ? to_float(source[(first + x) * stride + (depth + d) * depth_stride]) : 0.0f;
  }
}

template <class TA, class TB, class TC>
__global__ void __launch_bounds__(kThreads) matmul_simt_kernel(const Problem p) {
  ALMA_SHARED(Tiles, tiles);
  const int64_t row = blockIdx.x / p.tiles_n * kTile, column = blockIdx.x % p.tiles_n * kTile;
  const int ty = static_cast<int>(threadIdx.x) / 16, tx = static_cast<int>(threadIdx.x) % 16;
  float sums[kPerThread][kPerThread] = {};
  for (int64_t depth = 0; depth < p.k; depth += kDepth) {
    load_tile(tiles.a, static_cast<const TA*>(p.a), row, p.m, p.a_row, depth, p.k, p.a_depth);
    load_tile(tiles.b, static_cast<const TB*>(p.b), column, p.n, p.b_column, depth, p.k, p.b_depth);
    __syncthreads();
    // Only what there is of k: adding 0 · 0 would turn a sum of −0 into +0, and cost time at a ragged end.
    const int end = static_cast<int>(p.k - depth < kDepth ? p.k - depth : kDepth);
    for (int d = 0; d < end; ++d) {
      float a[kPerThread], b[kPerThread];
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) a[i] = tiles.a[d][ty + 16 * i];
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) b[j] = tiles.b[d][tx + 16 * j];
#pragma unroll
      for (int i = 0; i < kPerThread; ++i)
#pragma unroll
        for (int j = 0; j < kPerThread; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kPerThread; ++i)
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t at_row = row + ty + 16 * i, at_column = column + tx + 16 * j;
      if (at_row >= p.m || at_column >= p.n) continue;
      TC* out = static_cast<TC*>(p.c) + at_row * p.n + at_column;
      *out = from_float<TC>(p.accumulate ? to_float(*out) + sums[i][j] : sums[i][j]);
    }
}

}  // namespace

void matmul_simt(Context& context, const MatmulArgs& args) {
  const bool transposed_a = args.layout == MatmulLayout::tn, transposed_b = args.layout == MatmulLayout::nt;
  const int64_t tiles_n = ceil_div(args.n, kTile);
  const Problem problem{args.a.data,
                        args.b.data,
                        args.c.data,
                        args.m,
                        args.n,
                        args.k,
                        transposed_a ? 1 : args.k,
                        transposed_a ? args.m : 1,
                        transposed_b ? 1 : args.n,
                        transposed_b ? args.k : 1,
                        tiles_n,
                        args.accumulate};
  const LaunchShape shape{grid_of("matmul", ceil_div(args.m, kTile) * tiles_n), dim3(kThreads), sizeof(Tiles)};
  with_float("matmul", args.a.dtype, [&](auto a) {
    with_float("matmul", args.b.dtype, [&](auto b) {
      with_float("matmul", args.c.dtype, [&](auto c) {
        launch(context, "matmul", shape,
               matmul_simt_kernel<typename decltype(a)::type, typename decltype(b)::type, typename decltype(c)::type>,
               problem);
      });
    });
  });
}

}  // namespace alma::ALMA_CUDA::portable

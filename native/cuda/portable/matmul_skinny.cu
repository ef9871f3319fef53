// c[m, n] = a[m, k] · b[n, k]ᵀ for few rows of a: decoding. Bound by reading b once, so the tensor cores are used for what they save in
// instructions: b, the weights, is the left operand of the mma (16 of its rows), a the right one (8 of its rows a piece).
//
// A lane loads 16 bytes, 8 consecutive k of a row, and gives them to two mmas as if they were the k that the fragments ask for: any
// order of k is right as long as both operands have the same one. So no shared memory and no ldmatrix is in the way of the weights.
//
// The 8 warps of a block share 16 rows of b and take every eighth piece of 32 k; their sums are added in the order of the warps. What
// a row of a gets depends on k alone: the same bits for every m, and at every place.
//
// Bytes in flight: 2 rows × kUnroll pieces × 16 bytes a lane, 32 KiB a block, of which two share a multiprocessor for up to 16 rows
// (at most 126 registers), one for more. 4.3 TB/s over 132 multiprocessors need 28 KiB at 0.85 µs of latency. Not yet measured.
#include "../ptx/mma.cuh"
#include "../shared_memory.cuh"
#include "matmul_kernels.h"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps, kWeightRows = 16, kPiece = 32, kUnroll = 4;
constexpr int64_t kStep = kWarps * kPiece;  // from one piece of a warp to its next

template <int kTokens>
struct Sums {
  float of[kWarps][kWeightRows][kTokens + 1];
};

// 8 elements at column k of a row, zeros where there are none.
__device__ __forceinline__ uint4 load_row(const bf16* row, int64_t k, int64_t end) {
  uint4 words = __ldg(reinterpret_cast<const uint4*>(row + (k < end ? k : 0)));
  if (k >= end) words = make_uint4(0, 0, 0, 0);
  return words;
}

template <int kGroups, class TC>
__global__ void __launch_bounds__(kThreads, kGroups <= 2 ? 2 : 1)
    matmul_skinny_kernel(const bf16* a, const bf16* b, TC* c, int m, int64_t n, int64_t k) {
  constexpr int kTokens = 8 * kGroups;
  ALMA_SHARED(Sums<kTokens>, sums);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kWeightRows;
  const int64_t offset = lane % 4 * 8;
  // Rows that do not exist are read as the last one that does; nobody looks at their sums.
  const bf16* weights[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t row = first + lane / 4 + 8 * half;
    weights[half] = b + (row < n ? row : n - 1) * k;
  }
  const bf16* tokens[kGroups];
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    const int token = lane / 4 + 8 * group;
    tokens[group] = a + (token < m ? token : m - 1) * k;
  }

  float acc[kGroups][4] = {};
  uint4 next[kUnroll][2];
  const auto load_weights = [&](int64_t piece) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
#pragma unroll
      for (int half = 0; half < 2; ++half) next[u][half] = load_row(weights[half], piece + u * kStep + offset, k);
  };
  const int64_t first_piece = warp * kPiece;
  if (first_piece < k) load_weights(first_piece);
  for (int64_t piece = first_piece; piece < k; piece += kUnroll * kStep) {
    uint4 left[kUnroll][2];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
#pragma unroll
      for (int half = 0; half < 2; ++half) left[u][half] = next[u][half];
    // The next weights are under way while these are multiplied. In a branch of their own, because in a straight line ptxas puts each
    // load next to its use, which leaves three of them under way.
    if (piece + kUnroll * kStep < k) load_weights(piece + kUnroll * kStep);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const uint32_t low[4] = {left[u][0].x, left[u][1].x, left[u][0].y, left[u][1].y};
      const uint32_t high[4] = {left[u][0].z, left[u][1].z, left[u][0].w, left[u][1].w};
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        const uint4 right = load_row(tokens[group], piece + u * kStep + offset, k);
        const uint32_t right_low[2] = {right.x, right.y}, right_high[2] = {right.z, right.w};
        ptx::mma_m16n8k16_bf16(acc[group], low, right_low);
        ptx::mma_m16n8k16_bf16(acc[group], high, right_high);
      }
    }
  }
#pragma unroll
  for (int group = 0; group < kGroups; ++group)
#pragma unroll
    for (int i = 0; i < 4; ++i) sums.of[warp][lane / 4 + 8 * (i / 2)][lane % 4 * 2 + i % 2 + 8 * group] = acc[group][i];
  __syncthreads();
  for (int at = static_cast<int>(threadIdx.x); at < kWeightRows * kTokens; at += kThreads) {
    const int row = at % kWeightRows, token = at / kWeightRows;
    if (token >= m || first + row >= n) continue;
    float sum = sums.of[0][row][token];
#pragma unroll
    for (int other = 1; other < kWarps; ++other) sum += sums.of[other][row][token];
    c[token * n + first + row] = from_float<TC>(sum);
  }
}

template <int kGroups>
void launch_group(Context& context, const MatmulArgs& args, int64_t first, int rows) {
  const LaunchShape shape{grid_of("matmul", ceil_div(args.n, kWeightRows)), dim3(kThreads), sizeof(Sums<8 * kGroups>)};
  with_float("matmul", args.c.dtype, [&](auto tag) {
    using TC = typename decltype(tag)::type;
    launch(context, "matmul", shape, matmul_skinny_kernel<kGroups, TC>, pointer<const bf16>(args.a) + first * args.k,
           pointer<const bf16>(args.b), pointer<TC>(args.c) + first * args.n, rows, args.n, args.k);
  });
}

}  // namespace

void matmul_skinny(Context& context, const MatmulArgs& args) {
  for (int64_t first = 0; first < args.m; first += kSkinnyRows) {
    const int rows = static_cast<int>(args.m - first < kSkinnyRows ? args.m - first : kSkinnyRows);
    if (rows <= 8) {
      launch_group<1>(context, args, first, rows);
    } else if (rows <= 16) {
      launch_group<2>(context, args, first, rows);
    } else {
      launch_group<4>(context, args, first, rows);
    }
  }
}

}  // namespace alma::ALMA_CUDA::portable

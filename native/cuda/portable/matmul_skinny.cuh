// Products of few rows with weights: decoding. c[m, n] = a[m, k] · b[n, k]ᵀ, bound by reading b once, so the tensor cores are used for what
// they save in instructions: b, the weights, is the left operand of the mma (16 of its rows), a the right one (8 of its rows a piece).
//
// A lane loads 16 bytes, 8 consecutive k of a row, and gives them to two mmas as if they were the k that the fragments ask for: any
// order of k is right as long as both operands have the same one. So no shared memory and no ldmatrix is in the way of the weights.
//
// The 8 warps of a block share 16 rows of b and take every eighth piece of 32 k; their sums are added in the order of the warps. What
// a row of a gets depends on k alone: the same bits for every m, and at every place. Which 16 rows those are, and what becomes of the
// sums, is the Output's business: two and two of them meet in one thread (columns that RoPE turns together, a gate and its up).
//
// With kNorm, a is normalised (RMSNorm) on the way: c = inverse_rms(a) · ((a · weight) · bᵀ). The squares are summed beside the products,
// so that no pass over a comes before the first of them.
//
// Bytes in flight: 2 rows × kUnroll pieces × 16 bytes a lane, 32 KiB a block, of which two share a multiprocessor for up to 16 rows
// (at most 128 registers), one for more. 4.3 TB/s over 132 multiprocessors need 28 KiB at 0.85 µs of latency. Not yet measured.
//
// Launched early (programmatic dependent launch), a block whose weights are constants asks for its first 32 KiB, and has the L2 cache ask
// for its first 64 KiB, before it waits for the kernel before it.
#pragma once

#include "../ptx/grid_dependency.cuh"
#include "../ptx/mma.cuh"
#include "../shared_memory.cuh"
#include "dispatch.h"
#include "matmul_kernels.h"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {

namespace skinny {

constexpr int kWarps = 8, kThreads = 32 * kWarps, kWeightRows = 16, kPiece = 32, kUnroll = 4;
constexpr int kStep = kWarps * kPiece;          // from one piece of a warp to its next
constexpr int64_t kMostRows = 32;               // at a time; more are done in groups, each of which reads the weights
constexpr int kLine = 64, kPrefetchLines = 32;  // elements in 128 bytes; lines of a row

struct Input {
  const bf16* a;            // [m, k]
  const bf16* norm_weight;  // [k]
  int k, m;
  float epsilon;
  int early_blocks;  // that start while the kernel before may still run
};

// Row `at` of n rows of weights; rows that do not exist are read as the last one that does.
__device__ __forceinline__ const bf16* weight_row(const bf16* weights, int64_t at, int64_t n, int64_t k) {
  return weights + (at < n ? at : n - 1) * k;
}

template <int kTokens>
struct Sums {
  float of[kWarps][kWeightRows][kTokens + 1];
  float squares[kWarps][kTokens];
};

// 8 elements at column k of a row, zeros where there are none. Constants may come by the path that nobody writes behind.
template <bool kConstant>
__device__ __forceinline__ uint4 load_row(const bf16* row, int k, int end) {
  const auto* at = reinterpret_cast<const uint4*>(row + (k < end ? k : 0));
  uint4 words;
  if constexpr (kConstant) {
    words = __ldg(at);
  } else {
    words = *at;
  }
  if (k >= end) words = make_uint4(0, 0, 0, 0);
  return words;
}

// A pair of x times its weights; adds the squares of x.
__device__ __forceinline__ uint32_t weigh(uint32_t x, uint32_t weight, float& squares) {
  const float low = __uint_as_float(x << 16), high = __uint_as_float(x & 0xffff0000u);
  squares = fmaf(low, low, squares);
  squares = fmaf(high, high, squares);
  const __nv_bfloat162 pair =
      __floats2bfloat162_rn(low * __uint_as_float(weight << 16), high * __uint_as_float(weight & 0xffff0000u));
  uint32_t word;
  memcpy(&word, &pair, sizeof word);
  return word;
}

template <int kGroups, bool kNorm, class Output>
__global__ void __launch_bounds__(kThreads, kGroups <= 2 ? 2 : 1) kernel(const Input input, const Output output) {
  constexpr int kTokens = 8 * kGroups;
  constexpr bool kConstant = Output::kConstantWeights;
  ALMA_SHARED(Sums<kTokens>, sums);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int block = static_cast<int>(blockIdx.x), m = input.m;
  const int offset = lane % 4 * 8, k = input.k;
  const bf16* weights[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) weights[half] = output.weight_row(block, half, lane / 4);

  float acc[kGroups][4] = {}, squares[kGroups] = {};
  uint4 next[kUnroll][2];
  const auto load_weights = [&](int piece) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        next[u][half] = load_row<kConstant>(weights[half], piece + u * kStep + offset, k);
  };
  const int first_piece = warp * kPiece;
  if constexpr (!kConstant) ptx::grid_dependency_wait();
  if (first_piece < k) load_weights(first_piece);
  if constexpr (kConstant) {
    if (block < input.early_blocks) {
#pragma unroll
      for (int at = static_cast<int>(threadIdx.x); at < kWeightRows * kPrefetchLines; at += kThreads) {
        const int row = at / kPrefetchLines, column = at % kPrefetchLines * kLine;
        if (column < k) ptx::prefetch_to_l2(output.weight_row(block, row / 8, row % 8) + column);
      }
    }
    ptx::grid_dependency_wait();
  }
  ptx::grid_dependency_launch();

  const bf16* tokens[kGroups];
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    // Rows that do not exist are read as the last one that does; nobody looks at their sums.
    const int token = lane / 4 + 8 * group;
    tokens[group] = input.a + static_cast<int64_t>(token < m ? token : m - 1) * k;
  }
  for (int piece = first_piece; piece < k; piece += kUnroll * kStep) {
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
      uint4 scale;
      if constexpr (kNorm) scale = load_row<true>(input.norm_weight, piece + u * kStep + offset, k);
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        uint4 right = load_row<false>(tokens[group], piece + u * kStep + offset, k);
        if constexpr (kNorm) {
          right.x = weigh(right.x, scale.x, squares[group]);
          right.y = weigh(right.y, scale.y, squares[group]);
          right.z = weigh(right.z, scale.z, squares[group]);
          right.w = weigh(right.w, scale.w, squares[group]);
        }
        const uint32_t right_low[2] = {right.x, right.y}, right_high[2] = {right.z, right.w};
        ptx::mma_m16n8k16_bf16(acc[group], low, right_low);
        ptx::mma_m16n8k16_bf16(acc[group], high, right_high);
      }
    }
  }
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sums.of[warp][lane / 4 + 8 * (i / 2)][lane % 4 * 2 + i % 2 + 8 * group] = acc[group][i];
    if constexpr (kNorm) {
      squares[group] += __shfl_xor_sync(0xffffffffu, squares[group], 1);
      squares[group] += __shfl_xor_sync(0xffffffffu, squares[group], 2);
      if (lane % 4 == 0) sums.squares[warp][lane / 4 + 8 * group] = squares[group];
    }
  }
  __syncthreads();
  constexpr int kHalf = kWeightRows / 2;
  for (int at = static_cast<int>(threadIdx.x); at < kHalf * m; at += kThreads) {
    const int row = at % kHalf, token = at / kHalf;
    float low = sums.of[0][row][token], high = sums.of[0][row + kHalf][token];
#pragma unroll
    for (int other = 1; other < kWarps; ++other) {
      low += sums.of[other][row][token];
      high += sums.of[other][row + kHalf][token];
    }
    if constexpr (kNorm) {
      float total = sums.squares[0][token];
#pragma unroll
      for (int other = 1; other < kWarps; ++other) total += sums.squares[other][token];
      const float inverse = 1.0f / sqrtf(total / static_cast<float>(k) + input.epsilon);
      low *= inverse;
      high *= inverse;
    }
    output.write(block, row, token, low, high);
  }
}

// Whether bf16 rows of k elements can be read 16 bytes at a time.
template <class... Refs>
bool takes(int64_t k, const Refs&... refs) {
  return ((refs.dtype == DType::bf16) && ...) && aligned(16, refs...) && k > 0 && k % 8 == 0 && k < kSkinnyDepth;
}

template <int kGroups, bool kNorm, class Output>
void launch_group(Context& context, const char* op, int64_t blocks, const Input& input, const Output& output) {
  LaunchShape shape{grid_of(op, blocks), dim3(kThreads), sizeof(Sums<8 * kGroups>)};
  shape.early_start = true;
  launch(context, op, shape, kernel<kGroups, kNorm, Output>, input, output);
}

// `output.first`: the row of a that the call's first one is.
template <bool kNorm, class Output>
void run(Context& context, const char* op, int64_t rows, int64_t blocks, Input input, Output output) {
  const bf16* const a = input.a;
  for (int64_t first = 0; first < rows; first += kMostRows) {
    input.m = static_cast<int>(rows - first < kMostRows ? rows - first : kMostRows);
    input.a = a + first * int64_t{input.k};
    input.early_blocks = context.properties.multiprocessors * (input.m <= 16 ? 2 : 1);
    output.first = first;
    if (input.m <= 8) {
      launch_group<1, kNorm>(context, op, blocks, input, output);
    } else if (input.m <= 16) {
      launch_group<2, kNorm>(context, op, blocks, input, output);
    } else {
      launch_group<4, kNorm>(context, op, blocks, input, output);
    }
  }
}

}  // namespace skinny

}  // namespace alma::ALMA_CUDA::portable

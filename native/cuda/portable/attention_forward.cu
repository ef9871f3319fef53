// Attention forward on tensor cores (FlashAttention-2: Dao, 2023). A block takes 128 stacked rows of a sequence and kv head, each of its
// 4 warps 32 of them: a fragment of k or v that is read from shared memory then serves two products. Keys come in blocks of 64, the
// next one is copied while the current one is used; scores never leave the registers.
//
// head_dim 128: 246 registers (sm_80) to 252 (sm_90a), 96 KiB; 64: 175 to 182, 48 KiB. A warp reads 24 KiB of fragments for 128 products
// of 16×8×16: 192 cycles of shared memory against about 106 of tensor cores, so that shared memory is the limit, at 630 TFLOP/s on an
// H200. Predicted: 350 TFLOP/s for long sequences, 190 for causal ones of 512 tokens; not yet measured.
#include "../shared_memory.cuh"
#include "attention_kernels.h"
#include "attention_plan.h"
#include "attention_tiles.cuh"
#include "dispatch.h"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kThreads = 128;
constexpr int kM = 2;  // 16-row pieces of a warp
constexpr int kRows = kThreads / 32 * 16 * kM;
constexpr int kKeys = 64;       // of a copy
constexpr int kScoreKeys = 32;  // of a product

// 96 KiB for a head_dim of 128: two blocks on a multiprocessor of sm_90, one on sm_86 and sm_89.
template <int kColumns>
struct ForwardTiles {
  bf16 q[kRows * kColumns];
  bf16 k[2][kKeys * kColumns];
  bf16 v[2][kKeys * kColumns];
};

template <int kColumns, bool kPaged>
__global__ void __launch_bounds__(kThreads, 2)
    attention_kernel(const bf16* q, const bf16* k, const bf16* v, bf16* out, float* log_sum_exp, AttentionBounds bounds,
                     const AttentionTile* list, const int* count, ValueError* error) {
  ALMA_SHARED(ForwardTiles<kColumns>, tiles);
  const int item = static_cast<int>(blockIdx.x) / bounds.kv_heads;
  const int kv_head = static_cast<int>(blockIdx.x) - item * bounds.kv_heads;
  if (item >= *count) return;
  const AttentionTile tile = list[item];
  const Sequence& sequence = tile.sequence;
  const int thread = static_cast<int>(threadIdx.x), lane_of_warp = thread % 32, warp_row = thread / 32 * 16 * kM;
  const int rows = min(kRows, sequence.rows(bounds) - tile.first);
  const int head_dim = bounds.head_dim;
  const int last_key = sequence.limit(bounds, tile.first + rows - 1);
  const int blocks = (last_key + kKeys - 1) / kKeys;

  const auto query_row = [&](int row) {
    return row < rows ? q + sequence.query_row(bounds, kv_head, tile.first + row) * head_dim : nullptr;
  };
  const KeyRows<kPaged> key_rows(bounds, sequence, tile.index, error);
  const auto copy_keys = [&](int block) {
    copy_key_tiles<kColumns, kKeys, kThreads>(tiles.k[block % 2], tiles.v[block % 2], k, v, bounds, key_rows, kv_head,
                                              block * kKeys, last_key, thread);
    ptx::cp_async_commit();
  };

  copy_tile<kColumns, kRows, kThreads>(tiles.q, q, head_dim, thread, query_row);
  if (blocks > 0) copy_keys(0);
  ptx::cp_async_commit();

  // The fewest and the most keys that a row of the warp sees.
  const bool has_rows = warp_row < rows;
  const int fewest = sequence.limit(bounds, tile.first + warp_row);
  const int most = has_rows ? sequence.limit(bounds, tile.first + min(warp_row + 16 * kM, rows) - 1) : 0;

  const float scale = bounds.scale * kLog2E;  // exp(x) = 2^(x · log2 e)
  float acc[kM][kColumns / 8][4] = {};
  float highest[kM][2], total[kM][2] = {};
#pragma unroll
  for (int m = 0; m < kM; ++m) highest[m][0] = highest[m][1] = kNegativeInfinity;

  for (int block = 0; block < blocks; ++block) {
    ptx::cp_async_wait<0>();
    __syncthreads();  // this block of keys has arrived for all, and nobody uses the one before any more
    if (block + 1 < blocks) copy_keys(block + 1);
      // Half a block at a time: the scores of all 64 keys do not fit into the registers beside the sums.
#pragma unroll 1
    for (int part = 0; part < kKeys; part += kScoreKeys) {
      const int first_key = block * kKeys + part;
      if (first_key >= most) break;
      const int lane = opaque_index(lane_of_warp);

      float scores[kM][kScoreKeys / 8][4] = {};
      multiply_rows<kColumns, kM, kScoreKeys>(scores, tiles.q, warp_row, tiles.k[block % 2] + part * kColumns, lane);
      if (first_key + kScoreKeys > fewest) {
#pragma unroll
        for (int m = 0; m < kM; ++m)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int row = tile.first + warp_row + m * 16 + half * 8 + lane / 4;
            const int seen = sequence.limit(bounds, row) - first_key - 2 * (lane % 4);
#pragma unroll
            for (int n = 0; n < kScoreKeys / 8; ++n)
#pragma unroll
              for (int e = 0; e < 2; ++e)
                if (n * 8 + e >= seen) scores[m][n][2 * half + e] = kNegativeInfinity;
          }
      }
      float factors[kM][2];
      bool rises = false;
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          rises |= online_softmax(scores[m], half, scale, highest[m][half], total[m][half], factors[m][half]);
      // Most blocks after the first few raise no maximum: all factors are 1.
      if (__any_sync(0xffffffffu, rises)) {
#pragma unroll
        for (int m = 0; m < kM; ++m)
#pragma unroll
          for (int n = 0; n < kColumns / 8; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) acc[m][n][e] *= factors[m][e / 2];
      }
      uint32_t probabilities[kM][kScoreKeys / 8][2];
      pack_accumulator(probabilities, scores);
      multiply_columns<kColumns, kM, kScoreKeys>(acc, probabilities, tiles.v[block % 2] + part * kColumns, lane);
    }
  }
  if (blocks == 0) {  // q's copies, by all threads, end before its tile becomes the way out
    ptx::cp_async_wait<0>();
    __syncthreads();
  }
  if (!has_rows) return;

#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      total[m][half] = row_sum(total[m][half]);
      const int row = warp_row + m * 16 + half * 8 + lane_of_warp / 4;
      if (log_sum_exp == nullptr || lane_of_warp % 4 != 0 || row >= rows) continue;
      const float natural =
          total[m][half] == 0 ? kNegativeInfinity : fmaf(highest[m][half], bounds.scale, logf(total[m][half]));
      log_sum_exp[sequence.query_row(bounds, kv_head, tile.first + row)] = natural;
    }
  store_accumulator<kColumns, kM>(
      acc, tiles.q, warp_row, head_dim, lane_of_warp,
      [&](int m, int half) { return total[m][half] == 0 ? 0.0f : 1.0f / total[m][half]; },
      [&](int row) {
        return row < rows ? out + sequence.query_row(bounds, kv_head, tile.first + row) * head_dim : nullptr;
      });
}

template <int kColumns, bool kPaged>
void run(Context& context, const AttentionArgs& args, const AttentionBounds& bounds) {
  char* memory = static_cast<char*>(context.workspace->get(tile_list_bytes(bounds, TileKind::rows, kRows)));
  const TileList list = place_tile_list(bounds, TileKind::rows, kRows, memory);
  plan_attention(context, bounds, list);
  launch(context, "attention",
         {grid_of("attention", static_cast<int64_t>(list.capacity) * bounds.kv_heads), dim3(kThreads),
          sizeof(ForwardTiles<kColumns>)},
         attention_kernel<kColumns, kPaged>, pointer<bf16>(args.q), pointer<bf16>(args.k), pointer<bf16>(args.v),
         pointer<bf16>(args.out), pointer<float>(args.log_sum_exp), bounds, list.tiles, list.count,
         context.value_error);
}

}  // namespace

void attention_forward_tiles(Context& context, const AttentionArgs& args, const AttentionBounds& bounds) {
  with_bool(bounds.head_dim <= 64, [&](auto narrow) {
    with_bool(bounds.block_table != nullptr, [&](auto paged) {
      run<decltype(narrow)::value ? 64 : 128, decltype(paged)::value>(context, args, bounds);
    });
  });
}

}  // namespace alma::ALMA_CUDA::portable

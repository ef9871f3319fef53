// Attention forward for any dtype and head_dim, on the ordinary cores: f32 models, and heads that do not suit the tensor cores.
#include "attention_generic.cuh"
#include "attention_kernels.h"
#include "attention_plan.h"
#include "dispatch.h"

namespace alma::ALMA_CUDA::portable {
namespace {

template <class T, int kMaxDim, bool kPaged>
__global__ void __launch_bounds__(kGenericThreads, 4)
    generic_kernel(const T* q, const T* k, const T* v, T* out, float* log_sum_exp, AttentionBounds bounds,
                   const AttentionTile* list, const int* count, ValueError* error) {
  using Tiles = GenericTiles<kMaxDim, 1>;
  ALMA_SHARED(Tiles, tiles);
  const int item = static_cast<int>(blockIdx.x) / bounds.kv_heads;
  const int kv_head = static_cast<int>(blockIdx.x) - item * bounds.kv_heads;
  if (item >= *count) return;
  const AttentionTile tile = list[item];
  const Sequence& sequence = tile.sequence;
  const int rows = min(kOwnRows, sequence.rows(bounds) - tile.first), columns = bounds.head_dim;
  const int row = static_cast<int>(threadIdx.x) / kLanesPerRow, lane = static_cast<int>(threadIdx.x) % kLanesPerRow;
  const KeyRows<kPaged> key_rows(bounds, sequence, tile.index, error);
  const int limit = row < rows ? sequence.limit(bounds, tile.first + row) : 0;
  const int last_key = sequence.limit(bounds, tile.first + rows - 1);

  clear_sums(tiles, 0, columns);
  float highest = -__builtin_inff(), total = 0;
  for (int first = 0; first < last_key; first += kOtherRows) {
    const auto key_row = [&](const T* base, int i) -> const T* {
      const int64_t at = first + i < last_key ? key_rows(first + i) : -1;
      return at < 0 ? nullptr : base + (at * bounds.kv_heads + kv_head) * columns;
    };
    float scores[kOthersPerLane];
    dot_rows(
        tiles,
        [&](int r) -> const T* {
          return r < rows ? q + sequence.query_row(bounds, kv_head, tile.first + r) * columns : nullptr;
        },
        [&](int i) { return key_row(k, i); }, columns, scores);
    float best = highest;
#pragma unroll
    for (int i = 0; i < kOthersPerLane; ++i) {
      scores[i] = first + lane + kLanesPerRow * i < limit ? scores[i] * bounds.scale : -__builtin_inff();
      best = fmaxf(best, scores[i]);
    }
    best = lanes_max(best);
    const float subtract = best == -__builtin_inff() ? 0.0f : best;
    const float factor = best == highest ? 1.0f : expf(highest - subtract);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kOthersPerLane; ++i) {
      const float p = expf(scores[i] - subtract);
      tiles.weights[0][row][lane + kLanesPerRow * i] = p;
      sum += p;
    }
    highest = best;
    total = total * factor + lanes_sum(sum);
    add_rows(
        tiles, 0, factor, [&](int i) { return key_row(v, i); }, columns);
  }
  if (row >= rows) return;
  const int64_t at = sequence.query_row(bounds, kv_head, tile.first + row);
  store_sums(tiles, 0, total == 0 ? 0.0f : 1.0f / total, out + at * columns, columns);
  if (log_sum_exp != nullptr && lane == 0) log_sum_exp[at] = total == 0 ? -__builtin_inff() : highest + logf(total);
}

template <class T, int kMaxDim, bool kPaged>
void run(Context& context, const AttentionArgs& args, const AttentionBounds& bounds) {
  char* memory = static_cast<char*>(context.workspace->get(tile_list_bytes(bounds, TileKind::rows, kOwnRows)));
  const TileList list = place_tile_list(bounds, TileKind::rows, kOwnRows, memory);
  plan_attention(context, bounds, list);
  launch(context, "attention",
         {grid_of("attention", static_cast<int64_t>(list.capacity) * bounds.kv_heads), dim3(kGenericThreads),
          sizeof(GenericTiles<kMaxDim, 1>)},
         generic_kernel<T, kMaxDim, kPaged>, pointer<T>(args.q), pointer<T>(args.k), pointer<T>(args.v),
         pointer<T>(args.out), pointer<float>(args.log_sum_exp), bounds, list.tiles, list.count, context.value_error);
}

}  // namespace

void attention_forward_generic(Context& context, const AttentionArgs& args, const AttentionBounds& bounds) {
  with_float("attention", args.q.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_bool(bounds.head_dim <= 128, [&](auto narrow) {
      with_bool(bounds.block_table != nullptr, [&](auto paged) {
        run<T, decltype(narrow)::value ? 128 : kMaxGenericHeadDim, decltype(paged)::value>(context, args, bounds);
      });
    });
  });
}

}  // namespace alma::ALMA_CUDA::portable

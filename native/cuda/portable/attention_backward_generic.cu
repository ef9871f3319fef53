// Gradient of attention for any dtype and head_dim (FlashAttention, algorithm 4), on the ordinary cores:
//   dV = Pᵀ·dO    dP = dO·Vᵀ    dS = P ∘ (dP − D), D = rowsum(dO ∘ O)    dQ = scale · dS·K    dK = scale · dSᵀ·Q
// One kernel over the query rows for dQ, which also leaves D for the other one, over the keys for dK and dV: sums stay in one block.
#include "attention_generic.cuh"
#include "attention_kernels.h"
#include "attention_plan.h"
#include "dispatch.h"

namespace alma::ALMA_CUDA::portable {
namespace {

template <class T>
struct Operands {
  const T *q, *k, *v, *out, *dout;
  const float* log_sum_exp;
  float* delta;  // D, [total_q, heads]
  T *dq, *dk, *dv;
};

__device__ inline float probability(float score, float log_sum_exp) {
  return log_sum_exp == -__builtin_inff() ? 0.0f : expf(score - log_sum_exp);
}

template <class T, int kMaxDim>
__global__ void __launch_bounds__(kGenericThreads, 4)
    rows_kernel(Operands<T> o, AttentionBounds bounds, const AttentionTile* list, const int* count) {
  using Tiles = GenericTiles<kMaxDim, 1>;
  ALMA_SHARED(Tiles, tiles);
  const int item = static_cast<int>(blockIdx.x) / bounds.kv_heads;
  const int kv_head = static_cast<int>(blockIdx.x) - item * bounds.kv_heads;
  if (item >= *count) return;
  const AttentionTile tile = list[item];
  const Sequence& sequence = tile.sequence;
  const int rows = min(kOwnRows, sequence.rows(bounds) - tile.first), columns = bounds.head_dim;
  const int row = static_cast<int>(threadIdx.x) / kLanesPerRow, lane = static_cast<int>(threadIdx.x) % kLanesPerRow;
  const int limit = row < rows ? sequence.limit(bounds, tile.first + row) : 0;
  const int last_key = sequence.limit(bounds, tile.first + rows - 1);
  const auto query_row = [&](const T* base, int r) -> const T* {
    return r < rows ? base + sequence.query_row(bounds, kv_head, tile.first + r) * columns : nullptr;
  };

  const int64_t at = row < rows ? sequence.query_row(bounds, kv_head, tile.first + row) : 0;
  // In the order of dot_rows: where one key has all the weight, dP − D is exactly 0.
  float delta = 0;
  if (row < rows) {
#pragma unroll 8
    for (int c = 0; c < columns; ++c)
      delta = fmaf(to_float(o.dout[at * columns + c]), to_float(o.out[at * columns + c]), delta);
  }
  if (row < rows && lane == 0) o.delta[at] = delta;
  const float log_sum_exp = row < rows ? o.log_sum_exp[at] : 0.0f;

  clear_sums(tiles, 0, columns);
  for (int first = 0; first < last_key; first += kOtherRows) {
    const auto key_row = [&](const T* base, int i) -> const T* {
      if (first + i >= last_key) return nullptr;
      return base + ((static_cast<int64_t>(sequence.k_begin) + first + i) * bounds.kv_heads + kv_head) * columns;
    };
    float scores[kOthersPerLane], dp[kOthersPerLane];
    dot_rows(
        tiles, [&](int r) { return query_row(o.q, r); }, [&](int i) { return key_row(o.k, i); }, columns, scores);
    dot_rows(
        tiles, [&](int r) { return query_row(o.dout, r); }, [&](int i) { return key_row(o.v, i); }, columns, dp);
#pragma unroll
    for (int i = 0; i < kOthersPerLane; ++i) {
      const int j = lane + kLanesPerRow * i;
      const bool seen = first + j < limit;
      tiles.weights[0][row][j] = seen ? probability(scores[i] * bounds.scale, log_sum_exp) * (dp[i] - delta) : 0.0f;
    }
    add_rows(
        tiles, 0, 1.0f, [&](int i) { return key_row(o.k, i); }, columns);
  }
  if (row < rows) store_sums(tiles, 0, bounds.scale, o.dq + at * columns, columns);
}

template <class T, int kMaxDim>
__global__ void __launch_bounds__(kGenericThreads, 4)
    keys_kernel(Operands<T> o, AttentionBounds bounds, const AttentionTile* list, const int* count) {
  using Tiles = GenericTiles<kMaxDim, 2>;
  ALMA_SHARED(Tiles, tiles);
  const int item = static_cast<int>(blockIdx.x) / bounds.kv_heads;
  const int kv_head = static_cast<int>(blockIdx.x) - item * bounds.kv_heads;
  if (item >= *count) return;
  const AttentionTile tile = list[item];
  const Sequence& sequence = tile.sequence;
  const int keys = min(kOwnRows, sequence.k_length - tile.first), rows = sequence.rows(bounds);
  const int columns = bounds.head_dim;
  const int key = static_cast<int>(threadIdx.x) / kLanesPerRow, lane = static_cast<int>(threadIdx.x) % kLanesPerRow;
  const auto key_row = [&](const T* base, int i) -> const T* {
    if (i >= keys) return nullptr;
    return base + ((static_cast<int64_t>(sequence.k_begin) + tile.first + i) * bounds.kv_heads + kv_head) * columns;
  };

  clear_sums(tiles, 0, columns);
  clear_sums(tiles, 1, columns);
  const int begin = sequence.first_row(bounds, tile.first) / kOtherRows * kOtherRows;
  for (int first = begin; first < rows; first += kOtherRows) {
    const auto query_row = [&](const T* base, int r) -> const T* {
      return first + r < rows ? base + sequence.query_row(bounds, kv_head, first + r) * columns : nullptr;
    };
    float scores[kOthersPerLane], dp[kOthersPerLane];
    dot_rows(
        tiles, [&](int i) { return key_row(o.k, i); }, [&](int r) { return query_row(o.q, r); }, columns, scores);
    dot_rows(
        tiles, [&](int i) { return key_row(o.v, i); }, [&](int r) { return query_row(o.dout, r); }, columns, dp);
#pragma unroll
    for (int i = 0; i < kOthersPerLane; ++i) {
      const int r = lane + kLanesPerRow * i;
      float p = 0, ds = 0;
      if (key < keys && first + r < rows && tile.first + key < sequence.limit(bounds, first + r)) {
        const int64_t at = sequence.query_row(bounds, kv_head, first + r);
        p = probability(scores[i] * bounds.scale, o.log_sum_exp[at]);
        ds = p * (dp[i] - o.delta[at]);
      }
      tiles.weights[0][key][r] = p;
      tiles.weights[1][key][r] = ds;
    }
    add_rows(
        tiles, 0, 1.0f, [&](int r) { return query_row(o.dout, r); }, columns);
    add_rows(
        tiles, 1, 1.0f, [&](int r) { return query_row(o.q, r); }, columns);
  }
  if (key >= keys) return;
  const int64_t at = (static_cast<int64_t>(sequence.k_begin) + tile.first + key) * bounds.kv_heads + kv_head;
  store_sums(tiles, 0, 1.0f, o.dv + at * columns, columns);
  store_sums(tiles, 1, bounds.scale, o.dk + at * columns, columns);
}

template <class T, int kMaxDim>
void run(Context& context, const AttentionBackwardArgs& args, const AttentionBounds& bounds) {
  const char* op = "attention_backward";
  const size_t lists =
      tile_list_bytes(bounds, TileKind::rows, kOwnRows) + tile_list_bytes(bounds, TileKind::keys, kOwnRows);
  const size_t delta_bytes = sizeof(float) * static_cast<size_t>(bounds.total_q * bounds.heads);
  char* memory = static_cast<char*>(context.workspace->get(lists + delta_bytes));
  const TileList rows = place_tile_list(bounds, TileKind::rows, kOwnRows, memory);
  const TileList keys = place_tile_list(bounds, TileKind::keys, kOwnRows, memory);
  plan_attention_backward(context, bounds, rows, keys);
  const Operands<T> operands{pointer<T>(args.q),
                             pointer<T>(args.k),
                             pointer<T>(args.v),
                             pointer<T>(args.out),
                             pointer<T>(args.dout),
                             pointer<float>(args.log_sum_exp),
                             reinterpret_cast<float*>(memory),
                             pointer<T>(args.dq),
                             pointer<T>(args.dk),
                             pointer<T>(args.dv)};
  const auto grid = [&](const TileList& list) {
    return grid_of(op, static_cast<int64_t>(list.capacity) * bounds.kv_heads);
  };
  launch(context, op, {grid(rows), dim3(kGenericThreads), sizeof(GenericTiles<kMaxDim, 1>)}, rows_kernel<T, kMaxDim>,
         operands, bounds, rows.tiles, rows.count);
  launch(context, op, {grid(keys), dim3(kGenericThreads), sizeof(GenericTiles<kMaxDim, 2>)}, keys_kernel<T, kMaxDim>,
         operands, bounds, keys.tiles, keys.count);
}

}  // namespace

void attention_backward_generic(Context& context, const AttentionBackwardArgs& args, const AttentionBounds& bounds) {
  with_float("attention_backward", args.q.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_bool(bounds.head_dim <= 128,
              [&](auto narrow) { run<T, decltype(narrow)::value ? 128 : kMaxGenericHeadDim>(context, args, bounds); });
  });
}

}  // namespace alma::ALMA_CUDA::portable

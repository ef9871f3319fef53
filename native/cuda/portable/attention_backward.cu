// Gradient of attention on tensor cores (FlashAttention-2, algorithm 2), without atomics:
//   dV = Pᵀ·dO    dP = dO·Vᵀ    dS = P ∘ (dP − D), D = rowsum(dO ∘ O)    dQ = scale · dS·K    dK = scale · dSᵀ·Q
// One kernel over the query rows for dQ, which leaves D for the other one, over the keys for dK and dV. Together they compute S and dP
// twice, 7 products for 5; sums stay in the registers of one warp, whose order is fixed. P and dS never leave the registers either: the
// second kernel computes their transposes, which have the layout that its products need.
//
// head_dim 128: rows_kernel 254 registers, 97 KiB; keys_kernel 245, 97 KiB; two blocks on a multiprocessor of sm_90, one on sm_86 and
// sm_89. Shared memory is the limit of both: 570 and 380 TFLOP/s on an H200. Predicted, with 5 products counted: 190 TFLOP/s for long
// sequences, 110 for causal ones of 512 tokens; not yet measured.
#include "../hopper/attention_kernels.h"
#include "../shared_memory.cuh"
#include "attention_kernels.h"
#include "attention_plan.h"
#include "attention_tiles.cuh"
#include "dispatch.h"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kThreads = 128;

struct Operands {
  const bf16 *q, *k, *v, *out, *dout;
  const float* log_sum_exp;
  float* delta;  // D, [total_q, heads]
  bf16 *dq, *dk, *dv;
};

// ---- dQ: 128 rows a block, 32 a warp; 32 keys at a time ----

constexpr int kM = 2;
constexpr int kRows = kThreads / 32 * 16 * kM;
constexpr int kRowsKeys = 32;

template <int kColumns>
struct RowsTiles {
  bf16 q[kRows * kColumns];
  bf16 dout[kRows * kColumns];
  bf16 k[2][kRowsKeys * kColumns];
  bf16 v[2][kRowsKeys * kColumns];
  float log_sum_exp[kRows];  // to the base 2; +∞ makes every probability of a row 0
  float delta[kRows];
};

// D of a warp's 32 rows, for this kernel and, by way of memory, for the next.
template <int kColumns, class QueryRow>
__device__ __forceinline__ void compute_delta(const Operands& o, RowsTiles<kColumns>& tiles, int warp_row, int rows,
                                              int head_dim, int lane, const QueryRow& query_row) {
  constexpr int kChunks = kColumns / 8, kStep = 32 / kChunks;
  const int chunk = lane % kChunks;
#pragma unroll 4
  for (int i = 0; i < 16 * kM / kStep; ++i) {
    const int row = warp_row + i * kStep + lane / kChunks;
    const bool exists = row < rows;
    const int64_t at = exists ? query_row(row) : 0;
    float sum = 0;
    if (exists && chunk * 8 < head_dim) {
      const Vector<bf16, 8> a = load_vector<8>(o.out + at * head_dim + chunk * 8);
      const Vector<bf16, 8> b = load_vector<8>(tiles.dout + tile_offset<kColumns>(row, chunk));
#pragma unroll
      for (int e = 0; e < 8; ++e) sum = fmaf(a[e], b[e], sum);
    }
#pragma unroll
    for (int distance = 1; distance < kChunks; distance *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (chunk != 0) continue;
    const float natural = exists ? o.log_sum_exp[at] : kNegativeInfinity;
    tiles.log_sum_exp[row] = natural == kNegativeInfinity ? -kNegativeInfinity : natural * kLog2E;
    tiles.delta[row] = sum;
    if (exists) o.delta[at] = sum;
  }
  __syncwarp();
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads, 2)
    rows_kernel(Operands o, AttentionBounds bounds, const AttentionTile* list, const int* count) {
  ALMA_SHARED(RowsTiles<kColumns>, tiles);
  const int item = static_cast<int>(blockIdx.x) / bounds.kv_heads;
  const int kv_head = static_cast<int>(blockIdx.x) - item * bounds.kv_heads;
  if (item >= *count) return;
  const AttentionTile tile = list[item];
  const Sequence& sequence = tile.sequence;
  const int thread = static_cast<int>(threadIdx.x), lane_of_warp = thread % 32, warp_row = thread / 32 * 16 * kM;
  const int rows = min(kRows, sequence.rows(bounds) - tile.first), head_dim = bounds.head_dim;
  const int last_key = sequence.limit(bounds, tile.first + rows - 1);
  const int blocks = (last_key + kRowsKeys - 1) / kRowsKeys;
  const KeyRows<false> key_rows(bounds, sequence, tile.index, nullptr);

  const auto query_row = [&](int row) { return sequence.query_row(bounds, kv_head, tile.first + row); };
  const auto copy_keys = [&](int block) {
    copy_key_tiles<kColumns, kRowsKeys, kThreads>(tiles.k[block % 2], tiles.v[block % 2], o.k, o.v, bounds, key_rows,
                                                  kv_head, block * kRowsKeys, last_key, thread);
  };
  copy_tile<kColumns, kRows, kThreads>(tiles.q, o.q, head_dim, thread,
                                       [&](int row) { return row < rows ? o.q + query_row(row) * head_dim : nullptr; });
  copy_tile<kColumns, kRows, kThreads>(tiles.dout, o.dout, head_dim, thread, [&](int row) {
    return row < rows ? o.dout + query_row(row) * head_dim : nullptr;
  });
  if (blocks > 0) copy_keys(0);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncthreads();

  const bool has_rows = warp_row < rows;
  compute_delta(o, tiles, warp_row, rows, head_dim, lane_of_warp, query_row);
  const int fewest = sequence.limit(bounds, tile.first + warp_row);
  const int most = has_rows ? sequence.limit(bounds, tile.first + min(warp_row + 16 * kM, rows) - 1) : 0;
  const float scale = bounds.scale * kLog2E;
  float acc[kM][kColumns / 8][4] = {};

  for (int block = 0; block < blocks; ++block) {
    if (block > 0) {
      ptx::cp_async_wait<0>();
      __syncthreads();
    }
    if (block + 1 < blocks) copy_keys(block + 1);
    ptx::cp_async_commit();
    const int first_key = block * kRowsKeys;
    if (first_key >= most) continue;
    const int lane = opaque_index(lane_of_warp);

    float p[kM][kRowsKeys / 8][4] = {}, ds[kM][kRowsKeys / 8][4] = {};
    multiply_rows<kColumns, kM, kRowsKeys>(p, tiles.q, warp_row, tiles.k[block % 2], lane);
    multiply_rows<kColumns, kM, kRowsKeys>(ds, tiles.dout, warp_row, tiles.v[block % 2], lane);
    const bool masked = first_key + kRowsKeys > fewest;
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = warp_row + m * 16 + half * 8 + lane / 4;
        const float log_sum_exp = tiles.log_sum_exp[row], delta = tiles.delta[row];
        const int seen = masked ? sequence.limit(bounds, tile.first + row) - first_key - 2 * (lane % 4) : kRowsKeys;
#pragma unroll
        for (int n = 0; n < kRowsKeys / 8; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int i = 2 * half + e;
            const float probability = ptx::exp2_approximate(fmaf(p[m][n][i], scale, -log_sum_exp));
            ds[m][n][i] = n * 8 + e < seen ? probability * (ds[m][n][i] - delta) : 0.0f;
          }
      }
    uint32_t packed[kM][kRowsKeys / 8][2];
    pack_accumulator(packed, ds);
    multiply_columns<kColumns, kM, kRowsKeys>(acc, packed, tiles.k[block % 2], lane);
  }
  if (!has_rows) return;
  store_accumulator<kColumns, kM>(
      acc, tiles.q, warp_row, head_dim, lane_of_warp, [&](int, int) { return bounds.scale; },
      [&](int row) { return row < rows ? o.dq + query_row(row) * head_dim : nullptr; });
}

// ---- dK and dV: 64 keys a block, 16 a warp; 64 rows at a time ----

constexpr int kKeys = kThreads / 32 * 16;
constexpr int kKeysRows = 64;  // of a copy
constexpr int kPartRows = 32;  // of a product

template <int kColumns>
struct KeysTiles {
  bf16 k[kKeys * kColumns];
  bf16 v[kKeys * kColumns];
  bf16 q[2][kKeysRows * kColumns];
  bf16 dout[2][kKeysRows * kColumns];
  float log_sum_exp[2][kKeysRows];  // to the base 2
  float delta[2][kKeysRows];
};

template <int kColumns>
__global__ void __launch_bounds__(kThreads, 2)
    keys_kernel(Operands o, AttentionBounds bounds, const AttentionTile* list, const int* count) {
  ALMA_SHARED(KeysTiles<kColumns>, tiles);
  const int item = static_cast<int>(blockIdx.x) / bounds.kv_heads;
  const int kv_head = static_cast<int>(blockIdx.x) - item * bounds.kv_heads;
  if (item >= *count) return;
  const AttentionTile tile = list[item];
  const Sequence& sequence = tile.sequence;
  const int thread = static_cast<int>(threadIdx.x), lane_of_warp = thread % 32, warp_key = thread / 32 * 16;
  const int keys = min(kKeys, sequence.k_length - tile.first), rows = sequence.rows(bounds);
  const int head_dim = bounds.head_dim;
  const KeyRows<false> key_rows(bounds, sequence, tile.index, nullptr);

  const auto copy_rows = [&](int first, int stage) {
    const auto offset = [&](int row) { return sequence.query_row(bounds, kv_head, first + row) * head_dim; };
    copy_tile<kColumns, kKeysRows, kThreads>(tiles.q[stage], o.q, head_dim, thread,
                                             [&](int row) { return first + row < rows ? o.q + offset(row) : nullptr; });
    copy_tile<kColumns, kKeysRows, kThreads>(tiles.dout[stage], o.dout, head_dim, thread, [&](int row) {
      return first + row < rows ? o.dout + offset(row) : nullptr;
    });
    if (thread < kKeysRows) {
      const bool exists = first + thread < rows;
      const int64_t at = exists ? sequence.query_row(bounds, kv_head, first + thread) : 0;
      const float natural = exists ? o.log_sum_exp[at] : kNegativeInfinity;
      // +∞ makes every probability 0: of rows that do not exist, and of those that see no key.
      tiles.log_sum_exp[stage][thread] = natural == kNegativeInfinity ? -kNegativeInfinity : natural * kLog2E;
      tiles.delta[stage][thread] = exists ? o.delta[at] : 0.0f;
    }
  };

  const int begin = min(sequence.first_row(bounds, tile.first) / kKeysRows * kKeysRows, rows);
  copy_key_tiles<kColumns, kKeys, kThreads>(tiles.k, tiles.v, o.k, o.v, bounds, key_rows, kv_head, tile.first,
                                            sequence.k_length, thread);
  if (begin < rows) copy_rows(begin, 0);
  ptx::cp_async_commit();

  const float scale = bounds.scale * kLog2E;
  float dk[1][kColumns / 8][4] = {}, dv[1][kColumns / 8][4] = {};
  for (int first = begin, stage = 0; first < rows; first += kKeysRows, stage ^= 1) {
    ptx::cp_async_wait<0>();
    __syncthreads();  // these rows have arrived for all, and nobody uses the ones before any more
    if (first + kKeysRows < rows) copy_rows(first + kKeysRows, stage ^ 1);
    ptx::cp_async_commit();
    if (warp_key >= keys) continue;
      // Half of the rows at a time: dk and dv take most of the registers.
#pragma unroll 1
    for (int part = 0; part < kKeysRows; part += kPartRows) {
      if (sequence.limit(bounds, first + part + kPartRows - 1) <= tile.first + warp_key) continue;  // sees no key here
      const int lane = opaque_index(lane_of_warp);
      const bf16* const q = tiles.q[stage] + part * kColumns;
      const bf16* const dout = tiles.dout[stage] + part * kColumns;
      const bool masked = sequence.limit(bounds, first + part) < tile.first + warp_key + 16;

      // Transposed: keys are the rows of the accumulators, query rows their columns.
      float p[1][kPartRows / 8][4] = {}, ds[1][kPartRows / 8][4] = {};
      multiply_rows<kColumns, 1, kPartRows>(p, tiles.k, warp_key, q, lane);
      multiply_rows<kColumns, 1, kPartRows>(ds, tiles.v, warp_key, dout, lane);
#pragma unroll
      for (int n = 0; n < kPartRows / 8; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int row = part + n * 8 + 2 * (lane % 4) + e;
          const float log_sum_exp = tiles.log_sum_exp[stage][row], delta = tiles.delta[stage][row];
          const int seen = masked ? sequence.limit(bounds, first + row) - tile.first - warp_key - lane / 4 : 16;
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int i = 2 * half + e;
            const float probability = ptx::exp2_approximate(fmaf(p[0][n][i], scale, -log_sum_exp));
            p[0][n][i] = half * 8 < seen ? probability : 0.0f;
            ds[0][n][i] = half * 8 < seen ? probability * (ds[0][n][i] - delta) : 0.0f;
          }
        }
      uint32_t packed[1][kPartRows / 8][2];
      pack_accumulator(packed, p);
      multiply_columns<kColumns, 1, kPartRows>(dv, packed, dout, lane);
      pack_accumulator(packed, ds);
      multiply_columns<kColumns, 1, kPartRows>(dk, packed, q, lane);
    }
  }
  if (begin >= rows) {  // the copies of k and v, by all threads, end before their tiles become the way out
    ptx::cp_async_wait<0>();
    __syncthreads();
  }
  const auto out_row = [&](bf16* base, int key) {
    const int64_t at = static_cast<int64_t>(sequence.k_begin) + tile.first + key;
    return key < keys ? base + (at * bounds.kv_heads + kv_head) * head_dim : nullptr;
  };
  store_accumulator<kColumns, 1>(
      dk, tiles.k, warp_key, head_dim, lane_of_warp, [&](int, int) { return bounds.scale; },
      [&](int key) { return out_row(o.dk, key); });
  store_accumulator<kColumns, 1>(
      dv, tiles.v, warp_key, head_dim, lane_of_warp, [](int, int) { return 1.0f; },
      [&](int key) { return out_row(o.dv, key); });
}

template <int kColumns>
void run(Context& context, const AttentionBackwardArgs& args, const AttentionBounds& bounds) {
  const char* op = "attention_backward";
  const bool hopper = hopper::takes_attention_backward(context, args.shape);
  const int keys_of_tile = hopper ? hopper::kBackwardTile : kKeys;
  const size_t lists =
      tile_list_bytes(bounds, TileKind::rows, kRows) + tile_list_bytes(bounds, TileKind::keys, keys_of_tile);
  const size_t delta_bytes = sizeof(float) * static_cast<size_t>(bounds.total_q * bounds.heads);
  char* memory = static_cast<char*>(context.workspace->get(lists + delta_bytes));
  const TileList rows = place_tile_list(bounds, TileKind::rows, kRows, memory);
  const TileList keys = place_tile_list(bounds, TileKind::keys, keys_of_tile, memory);
  plan_attention_backward(context, bounds, rows, keys);
  const Operands operands{pointer<bf16>(args.q),
                          pointer<bf16>(args.k),
                          pointer<bf16>(args.v),
                          pointer<bf16>(args.out),
                          pointer<bf16>(args.dout),
                          pointer<float>(args.log_sum_exp),
                          reinterpret_cast<float*>(memory),
                          pointer<bf16>(args.dq),
                          pointer<bf16>(args.dk),
                          pointer<bf16>(args.dv)};
  const auto grid = [&](const TileList& list) {
    return grid_of(op, static_cast<int64_t>(list.capacity) * bounds.kv_heads);
  };
  if (hopper) {
    static_assert(kRows == hopper::kBackwardTile);
    hopper::attention_backward_rows(context, args, bounds, rows, operands.delta);
    return hopper::attention_backward_keys(context, args, bounds, keys, operands.delta);
  }
  launch(context, op, {grid(rows), dim3(kThreads), sizeof(RowsTiles<kColumns>)}, rows_kernel<kColumns>, operands,
         bounds, rows.tiles, rows.count);
  launch(context, op, {grid(keys), dim3(kThreads), sizeof(KeysTiles<kColumns>)}, keys_kernel<kColumns>, operands,
         bounds, keys.tiles, keys.count);
}

}  // namespace

void attention_backward_tiles(Context& context, const AttentionBackwardArgs& args, const AttentionBounds& bounds) {
  if (bounds.head_dim <= 64) return run<64>(context, args, bounds);
  run<128>(context, args, bounds);
}

}  // namespace alma::ALMA_CUDA::portable

// dQ of attention by wgmma, and D for attention_backward_keys.cu (portable/attention_backward.cu has the formulas). A block takes 128 query rows
// of a sequence and kv head, warpgroups 1 and 2 have 64 each; a thread of warpgroup 0 copies blocks of 64 keys and values ahead. dS goes
// from registers to tensor cores. Sums stay in registers: their order is fixed.
#include "attention_backward.cuh"

namespace alma::ALMA_CUDA::hopper {
namespace {

using namespace backward;

constexpr int kRows = kTile, kKeys = kBlock;

template <int kColumns>
struct Shared {
  alignas(1024) bf16 q[kRows * kColumns];
  alignas(1024) bf16 dout[kRows * kColumns];
  alignas(1024) bf16 k[kStages][kKeys * kColumns];
  alignas(1024) bf16 v[kStages][kKeys * kColumns];
  alignas(1024) bf16 out[kRows * kColumns];
  ptx::Mbarrier rows_full, full[kStages], empty[kStages];
};

struct Parameters {
  TensorMap q, k, v, dout_map;
  AttentionBounds bounds;
  const AttentionTile* list;
  const int* count;
  const bf16 *out, *dout;
  const float* log_sum_exp;
  float* delta;
  bf16* dq;
};

template <int kColumns>
__device__ __forceinline__ void produce(const Parameters& p, Shared<kColumns>& shared, const AttentionTile& tile,
                                        int kv_head, int last_key) {
  if (threadIdx.x != 0) return;
  const portable::Sequence& sequence = tile.sequence;
  const int head = kv_head * p.bounds.group, token = sequence.q_begin + tile.first / p.bounds.group;
  ptx::mbarrier_arrive_expect(&shared.rows_full, 2 * kRows * kColumns * 2);
  load_tile<kColumns>(shared.q, &p.q, &shared.rows_full, kRows, head, token);
  load_tile<kColumns>(shared.dout, &p.dout_map, &shared.rows_full, kRows, head, token);
  Ring ring;
  for (int first = 0; first < last_key; first += kKeys) {
    ptx::mbarrier_wait(&shared.empty[ring.stage], ring.parity ^ 1);
    ptx::Mbarrier* full = &shared.full[ring.stage];
    ptx::mbarrier_arrive_expect(full, 2 * kKeys * kColumns * 2);
    load_tile<kColumns>(shared.k[ring.stage], &p.k, full, kKeys, kv_head, sequence.k_begin + first);
    load_tile<kColumns>(shared.v[ring.stage], &p.v, full, kKeys, kv_head, sequence.k_begin + first);
    ring.advance();
  }
}

// D of a row, by the four lanes that share it in an accumulator.
__device__ __forceinline__ float delta_of(const bf16* out, const bf16* dout, int head_dim, int lane) {
  float sum = 0;
  for (int column = lane % 4 * 8; column < head_dim; column += 32) {
    const Vector<bf16, 8> a = load_vector<8>(out + column), b = load_vector<8>(dout + column);
#pragma unroll
    for (int e = 0; e < 8; ++e) sum = fmaf(a[e], b[e], sum);
  }
  return sum;
}

template <int kColumns>
__device__ __forceinline__ void consume(const Parameters& p, Shared<kColumns>& shared, const AttentionTile& tile,
                                        int kv_head, int rows, int last_key) {
  const portable::Sequence& sequence = tile.sequence;
  const int consumer = static_cast<int>(threadIdx.x) / 128 - 1, thread = static_cast<int>(threadIdx.x) % 128;
  const int lane = thread % 32, warp_row = consumer * 64 + thread / 32 * 16, head_dim = p.bounds.head_dim;
  const float scale = p.bounds.scale * portable::kLog2E;
  float log_sum_exp[2], delta[2];  // to the base 2; +∞ makes every probability of a row 0
  int limit[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp_row + half * 8 + lane / 4;
    const bool exists = row < rows;
    const int64_t at = exists ? sequence.query_row(p.bounds, kv_head, tile.first + row) : 0;
    delta[half] = exists ? delta_of(p.out + at * head_dim, p.dout + at * head_dim, head_dim, lane) : 0.0f;
    delta[half] += __shfl_xor_sync(0xffffffffu, delta[half], 1);
    delta[half] += __shfl_xor_sync(0xffffffffu, delta[half], 2);
    if (exists && lane % 4 == 0) p.delta[at] = delta[half];
    const float natural = exists ? p.log_sum_exp[at] : kNegativeInfinity;
    log_sum_exp[half] = natural == kNegativeInfinity ? -kNegativeInfinity : natural * portable::kLog2E;
    limit[half] = exists ? sequence.limit(p.bounds, tile.first + row) : 0;
  }
  // Keys that all rows of the warp see.
  const int fewest = warp_row < rows ? sequence.limit(p.bounds, tile.first + warp_row) : 0;

  float dq[1][kColumns / 8][4] = {};
  Ring ring;
  ptx::mbarrier_wait(&shared.rows_full, 0);
  for (int first = 0; first < last_key; first += kKeys) {
    ptx::mbarrier_wait(&shared.full[ring.stage], ring.parity);
    if (sequence.k_length - first < kKeys) {
      clear_rows<kColumns>(shared.k[ring.stage], sequence.k_length - first, static_cast<int>(threadIdx.x) - 128, 256);
      ptx::fence_proxy_async();
      ptx::barrier_sync(kConsumersBarrier, 256);
    }
    float probabilities[1][kKeys / 8][4], ds[1][kKeys / 8][4];
    ptx::keep(flat(probabilities));
    ptx::keep(flat(ds));
    ptx::wgmma_fence();
    issue_scores<kColumns>(probabilities, shared.q, shared.k[ring.stage], consumer);
    ptx::wgmma_commit();
    issue_scores<kColumns>(ds, shared.dout, shared.v[ring.stage], consumer);
    ptx::wgmma_commit();
    // Exponentials are computed while the second product runs.
    ptx::wgmma_wait<1>();
    ptx::keep(flat(probabilities));
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& score = probabilities[0][n][i];
        score = ptx::exp2_approximate(fmaf(score, scale, -log_sum_exp[i / 2]));
      }
    ptx::wgmma_wait<0>();
    ptx::keep(flat(ds));
    const bool masked = first + kKeys > fewest;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int seen = masked ? limit[half] - first - 2 * (lane % 4) : kKeys;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int i = 2 * half + e;
          const float value = probabilities[0][n][i] * (ds[0][n][i] - delta[half]);
          ds[0][n][i] = n * 8 + e < seen ? value : 0.0f;
        }
    }
    uint32_t words[1][kKeys / 8][2];
    portable::pack_accumulator(words, ds);
    ptx::keep(flat(dq));
    ptx::wgmma_fence();
    issue_sums<kColumns>(dq, words, shared.k[ring.stage]);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::keep(flat(dq));
    if (thread == 0) ptx::mbarrier_arrive(&shared.empty[ring.stage]);
    ring.advance();
  }
  portable::store_accumulator<kColumns, 1>(
      dq, shared.out, warp_row, head_dim, lane, [&](int, int) { return p.bounds.scale; },
      [&](int row) {
        return row < rows ? p.dq + sequence.query_row(p.bounds, kv_head, tile.first + row) * head_dim : nullptr;
      });
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads, 1) rows_kernel(const __grid_constant__ Parameters p) {
  ALMA_SHARED(Shared<kColumns>, shared);
  const int item = static_cast<int>(blockIdx.x) / p.bounds.kv_heads;
  const int kv_head = static_cast<int>(blockIdx.x) - item * p.bounds.kv_heads;
  if (item >= *p.count) return;
  const AttentionTile tile = p.list[item];
  const int rows = min(kRows, tile.sequence.rows(p.bounds) - tile.first);
  const int last_key = tile.sequence.limit(p.bounds, tile.first + rows - 1);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&shared.rows_full, 1);
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage) {
      ptx::mbarrier_init(&shared.full[stage], 1);
      ptx::mbarrier_init(&shared.empty[stage], 2);
    }
    ptx::mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    ptx::decrease_registers<kProducerRegisters>();
    produce<kColumns>(p, shared, tile, kv_head, last_key);
  } else {
    ptx::increase_registers<kConsumerRegisters>();
    consume<kColumns>(p, shared, tile, kv_head, rows, last_key);
  }
}

template <int kColumns>
void run(Context& context, const AttentionBackwardArgs& args, const AttentionBounds& bounds,
         const portable::TileList& list, float* delta) {
  const Parameters parameters{
      map_of("attention_backward", args.q, bounds.total_q, bounds, bounds.heads, bounds.group, kRows),
      map_of("attention_backward", args.k, bounds.total_k, bounds, bounds.kv_heads, 1, kKeys),
      map_of("attention_backward", args.v, bounds.total_k, bounds, bounds.kv_heads, 1, kKeys),
      map_of("attention_backward", args.dout, bounds.total_q, bounds, bounds.heads, bounds.group, kRows),
      bounds,
      list.tiles,
      list.count,
      pointer<bf16>(args.out),
      pointer<bf16>(args.dout),
      pointer<float>(args.log_sum_exp),
      delta,
      pointer<bf16>(args.dq)};
  launch(context, "attention_backward",
         {grid_of("attention_backward", static_cast<int64_t>(list.capacity) * bounds.kv_heads), dim3(kThreads),
          sizeof(Shared<kColumns>)},
         rows_kernel<kColumns>, parameters);
}

}  // namespace

void attention_backward_rows(Context& context, const AttentionBackwardArgs& args, const AttentionBounds& bounds,
                             const portable::TileList& list, float* delta) {
  if (bounds.head_dim <= 64) return run<64>(context, args, bounds, list, delta);
  run<128>(context, args, bounds, list, delta);
}

}  // namespace alma::ALMA_CUDA::hopper

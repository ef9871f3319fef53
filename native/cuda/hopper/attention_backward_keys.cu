// dK and dV of attention by wgmma, after attention_backward_rows.cu, which leaves D (portable/attention_backward.cu has the formulas). A
// block takes 128 keys of a sequence and kv head, warpgroups 1 and 2 have 64 each; a thread of warpgroup 0 copies blocks of 64 query rows
// of q and dout ahead, its last two warps their log-sum-exp and D. P and dS are computed transposed and go from registers to tensor cores.
// Sums stay in registers: their order is fixed.
#include "attention_backward.cuh"

namespace alma::ALMA_CUDA::hopper {
namespace {

using namespace backward;

constexpr int kKeys = kTile, kRows = kBlock;

template <int kColumns>
struct Shared {
  alignas(1024) bf16 k[kKeys * kColumns];
  alignas(1024) bf16 v[kKeys * kColumns];
  alignas(1024) bf16 q[kStages][kRows * kColumns];
  alignas(1024) bf16 dout[kStages][kRows * kColumns];
  alignas(1024) bf16 out[kKeys * kColumns];
  float log_sum_exp[kStages][kRows];  // to the base 2; +∞ makes every probability 0
  float delta[kStages][kRows];
  ptx::Mbarrier keys_full, full[kStages], empty[kStages];
};

struct Parameters {
  TensorMap q, k, v, dout;
  AttentionBounds bounds;
  const AttentionTile* list;
  const int* count;
  const float *log_sum_exp, *delta;
  bf16 *dk, *dv;
};

template <int kColumns>
__device__ __forceinline__ void produce(const Parameters& p, Shared<kColumns>& shared, const AttentionTile& tile,
                                        int kv_head, int begin, int rows) {
  const portable::Sequence& sequence = tile.sequence;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    ptx::mbarrier_arrive_expect(&shared.keys_full, 2 * kKeys * kColumns * 2);
    load_tile<kColumns>(shared.k, &p.k, &shared.keys_full, kKeys, kv_head, sequence.k_begin + tile.first);
    load_tile<kColumns>(shared.v, &p.v, &shared.keys_full, kKeys, kv_head, sequence.k_begin + tile.first);
  }
  if (thread != 0 && thread < 64) return;
  Ring ring;
  for (int first = begin; first < rows; first += kRows) {
    ptx::mbarrier_wait(&shared.empty[ring.stage], ring.parity ^ 1);
    ptx::Mbarrier* full = &shared.full[ring.stage];
    if (thread == 0) {
      ptx::mbarrier_arrive_expect(full, 2 * kRows * kColumns * 2);
      const int head = kv_head * p.bounds.group, token = sequence.q_begin + first / p.bounds.group;
      load_tile<kColumns>(shared.q[ring.stage], &p.q, full, kRows, head, token);
      load_tile<kColumns>(shared.dout[ring.stage], &p.dout, full, kRows, head, token);
    } else {
      const int row = thread - 64;
      const bool exists = first + row < rows;
      const int64_t at = exists ? sequence.query_row(p.bounds, kv_head, first + row) : 0;
      const float natural = exists ? p.log_sum_exp[at] : kNegativeInfinity;
      shared.log_sum_exp[ring.stage][row] =
          natural == kNegativeInfinity ? -kNegativeInfinity : natural * portable::kLog2E;
      shared.delta[ring.stage][row] = exists ? p.delta[at] : 0.0f;
      ptx::mbarrier_arrive(full);
    }
    ring.advance();
  }
}

template <int kColumns>
__device__ __forceinline__ void consume(const Parameters& p, Shared<kColumns>& shared, const AttentionTile& tile,
                                        int kv_head, int begin, int rows) {
  const portable::Sequence& sequence = tile.sequence;
  const int consumer = static_cast<int>(threadIdx.x) / 128 - 1, thread = static_cast<int>(threadIdx.x) % 128;
  const int lane = thread % 32, warp_key = consumer * 64 + thread / 32 * 16, first_key = tile.first + warp_key;
  const float scale = p.bounds.scale * portable::kLog2E;
  float dk[1][kColumns / 8][4] = {}, dv[1][kColumns / 8][4] = {};
  Ring ring;
  ptx::mbarrier_wait(&shared.keys_full, 0);
  for (int first = begin; first < rows; first += kRows) {
    ptx::mbarrier_wait(&shared.full[ring.stage], ring.parity);
    if (rows - first < kRows) {
      clear_rows<kColumns>(consumer == 0 ? shared.q[ring.stage] : shared.dout[ring.stage], rows - first, thread, 128);
      ptx::fence_proxy_async();
      ptx::barrier_sync(kConsumersBarrier, 256);
    }
    float probabilities[1][kRows / 8][4], ds[1][kRows / 8][4];
    ptx::keep(flat(probabilities));
    ptx::keep(flat(ds));
    ptx::wgmma_fence();
    issue_scores<kColumns>(probabilities, shared.k, shared.q[ring.stage], consumer);
    issue_scores<kColumns>(ds, shared.v, shared.dout[ring.stage], consumer);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::keep(flat(probabilities));
    ptx::keep(flat(ds));
    const bool masked = sequence.limit(p.bounds, first) < first_key + 16;
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int row = n * 8 + 2 * (lane % 4) + e;
        const float log_sum_exp = shared.log_sum_exp[ring.stage][row], delta = shared.delta[ring.stage][row];
        const int seen = masked ? sequence.limit(p.bounds, first + row) - first_key - lane / 4 : 16;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int i = 2 * half + e;
          const float probability = ptx::exp2_approximate(fmaf(probabilities[0][n][i], scale, -log_sum_exp));
          probabilities[0][n][i] = half * 8 < seen ? probability : 0.0f;
          ds[0][n][i] = half * 8 < seen ? probability * (ds[0][n][i] - delta) : 0.0f;
        }
      }
    uint32_t p_words[1][kRows / 8][2], ds_words[1][kRows / 8][2];
    portable::pack_accumulator(p_words, probabilities);
    portable::pack_accumulator(ds_words, ds);
    ptx::keep(flat(dv));
    ptx::keep(flat(dk));
    ptx::wgmma_fence();
    issue_sums<kColumns>(dv, p_words, shared.dout[ring.stage]);
    issue_sums<kColumns>(dk, ds_words, shared.q[ring.stage]);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::keep(flat(dv));
    ptx::keep(flat(dk));
    // All threads have read the row's log-sum-exp and D.
    ptx::mbarrier_arrive(&shared.empty[ring.stage]);
    ring.advance();
  }
  const int keys = min(kKeys, sequence.k_length - tile.first), head_dim = p.bounds.head_dim;
  const auto out_row = [&](bf16* base, int key) {
    const int64_t at = static_cast<int64_t>(sequence.k_begin) + tile.first + key;
    return key < keys ? base + (at * p.bounds.kv_heads + kv_head) * head_dim : nullptr;
  };
  portable::store_accumulator<kColumns, 1>(
      dk, shared.out, warp_key, head_dim, lane, [&](int, int) { return p.bounds.scale; },
      [&](int key) { return out_row(p.dk, key); });
  portable::store_accumulator<kColumns, 1>(
      dv, shared.out, warp_key, head_dim, lane, [](int, int) { return 1.0f; },
      [&](int key) { return out_row(p.dv, key); });
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads, 1) keys_kernel(const __grid_constant__ Parameters p) {
  ALMA_SHARED(Shared<kColumns>, shared);
  const int item = static_cast<int>(blockIdx.x) / p.bounds.kv_heads;
  const int kv_head = static_cast<int>(blockIdx.x) - item * p.bounds.kv_heads;
  if (item >= *p.count) return;
  const AttentionTile tile = p.list[item];
  const int rows = tile.sequence.rows(p.bounds);
  const int begin = min(tile.sequence.first_row(p.bounds, tile.first) / kRows * kRows, rows);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&shared.keys_full, 1);
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage) {
      ptx::mbarrier_init(&shared.full[stage], 1 + kRows);
      ptx::mbarrier_init(&shared.empty[stage], 256);
    }
    ptx::mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    ptx::decrease_registers<kProducerRegisters>();
    produce<kColumns>(p, shared, tile, kv_head, begin, rows);
  } else {
    ptx::increase_registers<kConsumerRegisters>();
    consume<kColumns>(p, shared, tile, kv_head, begin, rows);
  }
}

template <int kColumns>
void run(Context& context, const AttentionBackwardArgs& args, const AttentionBounds& bounds,
         const portable::TileList& list, const float* delta) {
  const Parameters parameters{
      map_of("attention_backward", args.q, bounds.total_q, bounds, bounds.heads, bounds.group, kRows),
      map_of("attention_backward", args.k, bounds.total_k, bounds, bounds.kv_heads, 1, kKeys),
      map_of("attention_backward", args.v, bounds.total_k, bounds, bounds.kv_heads, 1, kKeys),
      map_of("attention_backward", args.dout, bounds.total_q, bounds, bounds.heads, bounds.group, kRows),
      bounds,
      list.tiles,
      list.count,
      pointer<float>(args.log_sum_exp),
      delta,
      pointer<bf16>(args.dk),
      pointer<bf16>(args.dv)};
  launch(context, "attention_backward",
         {grid_of("attention_backward", static_cast<int64_t>(list.capacity) * bounds.kv_heads), dim3(kThreads),
          sizeof(Shared<kColumns>)},
         keys_kernel<kColumns>, parameters);
}

}  // namespace

bool takes_attention_backward(const Context& context, const AttentionShape& shape) {
  return context.properties.compute_capability == 90 && 64 % (shape.heads / shape.kv_heads) == 0 && shape.total_q > 0 &&
         shape.total_k > 0;
}

void attention_backward_keys(Context& context, const AttentionBackwardArgs& args, const AttentionBounds& bounds,
                             const portable::TileList& list, const float* delta) {
  if (bounds.head_dim <= 64) return run<64>(context, args, bounds, list, delta);
  run<128>(context, args, bounds, list, delta);
}

}  // namespace alma::ALMA_CUDA::hopper

// Attention forward by wgmma (FlashAttention-3: Shah et al., 2024). A block takes tiles of 128 stacked rows of a sequence and kv head until
// there are none, the longest first. A thread of warpgroup 0 copies q and blocks of 128 keys and values; warpgroups 1 and 2 have 64
// rows each. The scores of a block and the product of the one before with its values are issued together: the softmax runs while the
// tensor cores do the latter. Probabilities go from registers to tensor cores, and the next tile's copies begin before this one's end.
//
// A tile's rows are (token, head of the group): a box of q of 128 / group tokens, `group` heads and 64 columns has just this order.
// Copies take more rows than a sequence has, from its neighbours or beyond the tensor: their scores are masked, and their values are
// overwritten by zeros, because 0 · NaN would be seen.
#include "attention_tiles.cuh"

namespace alma::ALMA_CUDA::hopper {
namespace {

constexpr int kRows = 128, kKeys = 128, kConsumers = 2;
constexpr int kValuesBarrier = 1;

// Columns come in pieces of 64: rows of 128 bytes.
template <int kColumns>
struct Shared {
  alignas(1024) bf16 q[kRows * kColumns];
  alignas(1024) bf16 k[kStages][kKeys * kColumns];
  alignas(1024) bf16 v[kStages][kKeys * kColumns];
  alignas(1024) bf16 out[kRows * kColumns];
  ptx::Mbarrier q_full, q_empty, k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];
};

struct Parameters {
  TensorMap q, k, v;
  AttentionBounds bounds;
  const AttentionTile* list;
  const int* count;
  bf16* out;
  float* log_sum_exp;
};

struct Work {
  AttentionTile tile;
  int kv_head, rows, last_key, blocks;

  __device__ Work(const Parameters& p, int item)
      : tile(p.list[item / p.bounds.kv_heads]), kv_head(item % p.bounds.kv_heads) {
    rows = min(kRows, tile.sequence.rows(p.bounds) - tile.first);
    last_key = tile.sequence.limit(p.bounds, tile.first + rows - 1);
    blocks = (last_key + kKeys - 1) / kKeys;
  }
};

template <int kColumns>
__device__ __forceinline__ void produce(const Parameters& p, Shared<kColumns>& shared) {
  Ring ring;
  unsigned tiles = 0;
  const int items = *p.count * p.bounds.kv_heads;
  const auto load = [](bf16* to, const TensorMap* map, ptx::Mbarrier* full, int rows, int head, int row) {
    ptx::mbarrier_arrive_expect(full, static_cast<uint32_t>(rows * kColumns * 2));
    load_tile<kColumns>(to, map, full, rows, head, row);
  };
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    const Work work(p, item);
    if (work.blocks == 0) continue;
    const portable::Sequence& sequence = work.tile.sequence;
    ptx::mbarrier_wait(&shared.q_empty, (tiles++ & 1) ^ 1);
    load(shared.q, &p.q, &shared.q_full, kRows, work.kv_head * p.bounds.group,
         sequence.q_begin + work.tile.first / p.bounds.group);
    for (int block = 0; block < work.blocks; ++block) {
      const int row = sequence.k_begin + block * kKeys, stage = ring.stage;
      ptx::mbarrier_wait(&shared.k_empty[stage], ring.parity ^ 1);
      load(shared.k[stage], &p.k, &shared.k_full[stage], kKeys, work.kv_head, row);
      ptx::mbarrier_wait(&shared.v_empty[stage], ring.parity ^ 1);
      load(shared.v[stage], &p.v, &shared.v_full[stage], kKeys, work.kv_head, row);
      ring.advance();
    }
  }
}

template <int kColumns>
struct Consumer {
  const Parameters& p;
  Shared<kColumns>& shared;
  int consumer, thread;
  float scores[1][kKeys / 8][4];
  float acc[1][kColumns / 8][4];
  uint32_t probabilities[1][kKeys / 8][2];

  // Issues scores = q · kᵀ.
  __device__ __forceinline__ void issue_scores(int stage) {
#pragma unroll
    for (int column = 0; column < kColumns; column += 16) {
      const int piece = column / 64 * 64, step = column % 64;
      const uint64_t a = ptx::operand<Major::k>(shared.q + piece * kRows + consumer * 64 * 64 + step);
      const uint64_t b = ptx::operand<Major::k>(shared.k[stage] + piece * kKeys + step);
      ptx::wgmma_n128<Major::k, Major::k>(flat(scores), a, b, column > 0);
    }
    ptx::wgmma_commit();
  }

  // Issues acc += probabilities · v.
  __device__ __forceinline__ void issue_values(int stage, bool add) {
#pragma unroll
    for (int key = 0; key < kKeys; key += 16) {
      const auto& words = probabilities[0];
      const uint32_t a[4] = {words[key / 8][0], words[key / 8][1], words[key / 8 + 1][0], words[key / 8 + 1][1]};
      const uint64_t b = ptx::operand<Major::mn>(shared.v[stage] + key * 64, kKeys * 128);
      if constexpr (kColumns == 128) {
        ptx::wgmma_n128<Major::mn>(flat(acc), a, b, add || key > 0);
      } else {
        ptx::wgmma_n64<Major::mn>(flat(acc), a, b, add || key > 0);
      }
    }
    ptx::wgmma_commit();
  }

  // Zeros instead of the values behind the last key that any row sees; each consumer does half of them.
  __device__ __forceinline__ void clear_values(int stage, int seen) {
    constexpr int kChunks = kColumns / 8;
    for (int i = seen * kChunks + consumer * 128 + thread; i < kKeys * kChunks; i += 128 * kConsumers) {
      const int row = i / kChunks, chunk = i % kChunks;
      bf16* at = shared.v[stage] + chunk / 8 * 64 * kKeys + row * 64 + ((chunk % 8) ^ (row & 7)) * 8;
      *reinterpret_cast<uint4*>(at) = make_uint4(0, 0, 0, 0);
    }
    ptx::fence_proxy_async();
    ptx::barrier_sync(kValuesBarrier, 128 * kConsumers);
  }

  __device__ __forceinline__ void run(const Work& work, Ring& ring, unsigned q_parity) {
    const portable::Sequence& sequence = work.tile.sequence;
    const int lane = thread % 32, warp_row = consumer * 64 + thread / 32 * 16;
    const float scale = p.bounds.scale * portable::kLog2E;
    float highest[2] = {kNegativeInfinity, kNegativeInfinity}, total[2] = {}, factors[2];

    const auto mask_and_softmax = [&](int block) {
      const int first_key = block * kKeys;
      const int fewest = sequence.limit(p.bounds, work.tile.first + warp_row);
      if (first_key + kKeys > fewest) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = work.tile.first + min(warp_row + half * 8 + lane / 4, work.rows - 1);
          const int seen = sequence.limit(p.bounds, row) - first_key - 2 * (lane % 4);
#pragma unroll
          for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
            for (int e = 0; e < 2; ++e)
              if (n * 8 + e >= seen) scores[0][n][2 * half + e] = kNegativeInfinity;
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half)
        portable::online_softmax(scores[0], half, scale, highest[half], total[half], factors[half]);
    };
    const auto wait_for_values = [&](const Ring& at, int block) {
      ptx::mbarrier_wait(&shared.v_full[at.stage], at.parity);
      const int seen = work.last_key - block * kKeys;
      if (seen < kKeys) clear_values(at.stage, seen);
    };

    ptx::mbarrier_wait(&shared.q_full, q_parity);
    ptx::mbarrier_wait(&shared.k_full[ring.stage], ring.parity);
    ptx::keep(flat(scores));
    ptx::wgmma_fence();
    issue_scores(ring.stage);
    ptx::wgmma_wait<0>();
    ptx::keep(flat(scores));
    if (thread == 0) ptx::mbarrier_arrive(&shared.k_empty[ring.stage]);
    mask_and_softmax(0);
    portable::pack_accumulator(probabilities, scores);
    for (int block = 1; block < work.blocks; ++block) {
      const Ring before = ring;
      ring.advance();
      ptx::mbarrier_wait(&shared.k_full[ring.stage], ring.parity);
      wait_for_values(before, block - 1);
      ptx::keep(flat(scores));
      ptx::keep(flat(acc));
      ptx::wgmma_fence();
      issue_scores(ring.stage);
      issue_values(before.stage, block > 1);
      ptx::wgmma_wait<1>();
      ptx::keep(flat(scores));
      if (thread == 0) ptx::mbarrier_arrive(&shared.k_empty[ring.stage]);
      mask_and_softmax(block);
      ptx::wgmma_wait<0>();
      ptx::keep(flat(acc));
      if (thread == 0) ptx::mbarrier_arrive(&shared.v_empty[before.stage]);
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[0][n][e] *= factors[e / 2];
      portable::pack_accumulator(probabilities, scores);
    }
    if (thread == 0) ptx::mbarrier_arrive(&shared.q_empty);
    wait_for_values(ring, work.blocks - 1);
    ptx::keep(flat(acc));
    ptx::wgmma_fence();
    issue_values(ring.stage, work.blocks > 1);
    ptx::wgmma_wait<0>();
    ptx::keep(flat(acc));
    if (thread == 0) ptx::mbarrier_arrive(&shared.v_empty[ring.stage]);
    ring.advance();
    finish(work, highest, total);
  }

  __device__ __forceinline__ void finish(const Work& work, const float (&highest)[2], float (&total)[2]) {
    const portable::Sequence& sequence = work.tile.sequence;
    const int lane = thread % 32, warp_row = consumer * 64 + thread / 32 * 16, head_dim = p.bounds.head_dim;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      total[half] = portable::row_sum(total[half]);
      const int row = warp_row + half * 8 + lane / 4;
      if (p.log_sum_exp == nullptr || lane % 4 != 0 || row >= work.rows) continue;
      p.log_sum_exp[sequence.query_row(p.bounds, work.kv_head, work.tile.first + row)] =
          total[half] == 0 ? kNegativeInfinity : fmaf(highest[half], p.bounds.scale, logf(total[half]));
    }
    portable::store_accumulator<kColumns, 1>(
        acc, shared.out, warp_row, head_dim, lane,
        [&](int, int half) { return total[half] == 0 ? 0.0f : 1.0f / total[half]; },
        [&](int row) {
          return row < work.rows ? p.out + sequence.query_row(p.bounds, work.kv_head, work.tile.first + row) * head_dim
                                 : nullptr;
        });
  }

  // Rows that see no key at all.
  __device__ __forceinline__ void finish_empty(const Work& work) {
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) acc[0][n][e] = 0;
    float total[2] = {};
    finish(work, {kNegativeInfinity, kNegativeInfinity}, total);
  }
};

template <int kColumns>
__global__ void __launch_bounds__(kThreads, 1) attention_kernel(const __grid_constant__ Parameters p) {
  ALMA_SHARED(Shared<kColumns>, shared);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&shared.q_full, 1);
    ptx::mbarrier_init(&shared.q_empty, kConsumers);
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage) {
      ptx::mbarrier_init(&shared.k_full[stage], 1);
      ptx::mbarrier_init(&shared.v_full[stage], 1);
      ptx::mbarrier_init(&shared.k_empty[stage], kConsumers);
      ptx::mbarrier_init(&shared.v_empty[stage], kConsumers);
    }
    ptx::mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    ptx::decrease_registers<kProducerRegisters>();
    if (threadIdx.x == 0) produce<kColumns>(p, shared);
    return;
  }
  ptx::increase_registers<kConsumerRegisters>();
  Consumer<kColumns> consumer{
      p, shared, static_cast<int>(threadIdx.x) / 128 - 1, static_cast<int>(threadIdx.x) % 128, {}, {}, {}};
  Ring ring;
  unsigned tiles = 0;
  const int items = *p.count * p.bounds.kv_heads;
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    const Work work(p, item);
    if (work.blocks == 0) {
      consumer.finish_empty(work);
    } else {
      consumer.run(work, ring, tiles++ & 1);
    }
  }
}

template <int kColumns>
void run(Context& context, const AttentionArgs& args, const AttentionBounds& bounds) {
  using portable::TileKind;
  char* memory = static_cast<char*>(context.workspace->get(portable::tile_list_bytes(bounds, TileKind::rows, kRows)));
  const portable::TileList list = portable::place_tile_list(bounds, TileKind::rows, kRows, memory);
  portable::plan_attention(context, bounds, list);
  static_assert(kRows == kKeys);
  const Parameters parameters{map_of("attention", args.q, bounds.total_q, bounds, bounds.heads, bounds.group, kRows),
                              map_of("attention", args.k, bounds.total_k, bounds, bounds.kv_heads, 1, kRows),
                              map_of("attention", args.v, bounds.total_k, bounds, bounds.kv_heads, 1, kRows),
                              bounds,
                              list.tiles,
                              list.count,
                              pointer<bf16>(args.out),
                              pointer<float>(args.log_sum_exp)};
  const int64_t items = static_cast<int64_t>(list.capacity) * bounds.kv_heads;
  const int64_t blocks = items < context.properties.multiprocessors ? items : context.properties.multiprocessors;
  launch(context, "attention", {grid_of("attention", blocks), dim3(kThreads), sizeof(Shared<kColumns>)},
         attention_kernel<kColumns>, parameters);
}

}  // namespace

bool takes_attention(const Context& context, const AttentionArgs& args) {
  const AttentionShape& shape = args.shape;
  return context.properties.compute_capability == 90 && shape.invariance == Invariance::none &&
         shape.block_table.data == nullptr && 64 % (shape.heads / shape.kv_heads) == 0 && shape.total_q > 0 &&
         shape.total_k > 0;
}

void attention_forward(Context& context, const AttentionArgs& args, const AttentionBounds& bounds) {
  if (bounds.head_dim <= 64) return run<64>(context, args, bounds);
  run<128>(context, args, bounds);
}

}  // namespace alma::ALMA_CUDA::hopper

#include "../shared_memory.cuh"
#include "attention_plan.h"
#include "dispatch.h"
#include "reduce.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kThreads = 512;
constexpr int kBuckets = 64;  // of work; within a bucket any order will do

struct Plan {
  int buckets[kBuckets];
  int partial[kMaxWarps];
  float partial_max[kMaxWarps];
  int carry;
  int disordered;
};

struct TileLists {
  TileList of[2];
};

__device__ int tiles_of(const AttentionBounds& bounds, const TileList& list, const Sequence& sequence) {
  const int extent = list.kind == TileKind::keys ? sequence.k_length : sequence.rows(bounds);
  return (extent + list.tile_size - 1) / list.tile_size;
}

// Keys that the rows of a tile see, or rows that see its keys; 1 for the costs of any tile.
__device__ int work_of(const AttentionBounds& bounds, const TileList& list, const Sequence& sequence, int first) {
  if (list.kind == TileKind::keys) return 1 + max(0, sequence.rows(bounds) - sequence.first_row(bounds, first));
  return 1 + sequence.limit(bounds, min(first + list.tile_size, sequence.rows(bounds)) - 1);
}

// Sequences that lie one after the other are the common case; else every pair is looked at.
__device__ void check_shared_rows(const AttentionBounds& bounds, Plan& plan, ValueError* error) {
  for (int i = 1 + static_cast<int>(threadIdx.x); i < bounds.batch; i += kThreads)
    if (bounds.k_begin[i] < bounds.k_end[i - 1]) atomicOr(&plan.disordered, 1);
  __syncthreads();
  if (plan.disordered == 0) return;
  for (int i = 1 + static_cast<int>(threadIdx.x); i < bounds.batch; i += kThreads) {
    const int begin = bounds.k_begin[i], end = bounds.k_end[i];
    for (int j = 0; j < i; ++j)
      if (begin < bounds.k_end[j] && bounds.k_begin[j] < end)
        report_value(error, ValueCheck::attention_backward_shared_rows, begin, bounds.k_begin[j]);
  }
}

template <bool kBackward>
__global__ void __launch_bounds__(kThreads) plan_kernel(AttentionBounds bounds, TileLists lists, ValueError* error) {
  ALMA_SHARED(Plan, plan);
  const TileList list = blockIdx.x == 0 ? lists.of[0] : lists.of[1];
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kBuckets) plan.buckets[thread] = 0;
  if (thread == 0) {
    plan.carry = 0;
    plan.disordered = 0;
  }
  __syncthreads();
  if (kBackward && blockIdx.x == 0) check_shared_rows(bounds, plan, error);

  float most = 1;
  for (int base = 0; base < bounds.batch; base += kThreads) {
    const int i = base + thread;
    const Sequence sequence = i < bounds.batch ? load_sequence<kBackward>(bounds, i, error) : Sequence{0, 0, 0, 0};
    const int tiles = tiles_of(bounds, list, sequence);
    if (tiles > 0) {
      const int longest = list.kind == TileKind::keys ? 0 : (tiles - 1) * list.tile_size;
      most = fmaxf(most, static_cast<float>(work_of(bounds, list, sequence, longest)));
    }
    const int before = plan.carry + block_exclusive_sum(tiles, plan.partial);
    if (i < bounds.batch) list.before[i] = before;
    __syncthreads();
    if (thread == kThreads - 1) plan.carry = before + tiles;
    __syncthreads();
  }
  most = block_max(most, plan.partial_max);
  const int count = min(plan.carry, list.capacity);

  // The first pass counts the tiles of every bucket, the second puts each in its place.
  for (int pass = 0; pass < 2; ++pass) {
    for (int item = thread; item < count; item += kThreads) {
      int low = 0, high = bounds.batch;  // the last sequence with before ≤ item: it has tiles, empty ones come earlier
      while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        if (list.before[middle] <= item) {
          low = middle;
        } else {
          high = middle;
        }
      }
      const Sequence sequence = load_sequence<kBackward>(bounds, low, error);
      const int first = (item - list.before[low]) * list.tile_size;
      const float share = static_cast<float>(work_of(bounds, list, sequence, first)) / most;
      const int bucket = kBuckets - 1 - min(kBuckets - 1, static_cast<int>(share * (kBuckets - 1)));
      const int place = atomicAdd(&plan.buckets[bucket], 1);
      if (pass == 1) list.tiles[place] = {sequence, low, first, {0, 0}};
    }
    __syncthreads();
    if (pass == 0 && thread == 0) {
      int sum = 0;
      for (int bucket = 0; bucket < kBuckets; ++bucket) {
        const int size = plan.buckets[bucket];
        plan.buckets[bucket] = sum;
        sum += size;
      }
      *list.count = count;
    }
    __syncthreads();
  }
}

constexpr size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }

int64_t capacity_of(const AttentionBounds& bounds, TileKind kind, int tile_size) {
  const int64_t extent = kind == TileKind::keys ? bounds.total_k : bounds.total_q * bounds.group;
  return ceil_div(extent, tile_size) + bounds.batch;
}

}  // namespace

size_t tile_list_bytes(const AttentionBounds& bounds, TileKind kind, int tile_size) {
  return rounded(sizeof(int)) + rounded(sizeof(int) * static_cast<size_t>(bounds.batch)) +
         rounded(sizeof(AttentionTile) * static_cast<size_t>(capacity_of(bounds, kind, tile_size)));
}

TileList place_tile_list(const AttentionBounds& bounds, TileKind kind, int tile_size, char*& memory) {
  TileList list{nullptr, nullptr, nullptr, static_cast<int>(capacity_of(bounds, kind, tile_size)), tile_size, kind};
  list.count = reinterpret_cast<int*>(memory);
  list.before = reinterpret_cast<int*>(memory + rounded(sizeof(int)));
  list.tiles = reinterpret_cast<AttentionTile*>(memory + rounded(sizeof(int)) +
                                                rounded(sizeof(int) * static_cast<size_t>(bounds.batch)));
  memory += tile_list_bytes(bounds, kind, tile_size);
  return list;
}

void plan_attention(Context& context, const AttentionBounds& bounds, const TileList& list) {
  launch(context, "attention", {dim3(1), dim3(kThreads), sizeof(Plan)}, plan_kernel<false>, bounds,
         TileLists{{list, list}}, context.value_error);
}

void plan_attention_backward(Context& context, const AttentionBounds& bounds, const TileList& rows,
                             const TileList& keys) {
  launch(context, "attention_backward", {dim3(2), dim3(kThreads), sizeof(Plan)}, plan_kernel<true>, bounds,
         TileLists{{rows, keys}}, context.value_error);
}

}  // namespace alma::ALMA_CUDA::portable

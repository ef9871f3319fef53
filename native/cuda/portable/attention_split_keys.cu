// Attention of few query rows to many keys (decoding; Flash-Decoding: Dao et al., 2023). Keys are split into pieces of 128, each of which
// one block takes: 4 warps, 32 keys each. Pieces leave sums, totals and maxima in memory, and the last block to come to a tile of rows
// merges its pieces in order (a second kernel does, where there are too few counters to find out who is last). The pieces of a sequence
// begin at its first key whatever else is in the call, so that a row's bits depend on its own keys alone.
//
// head_dim 128: 167 registers, 69 KiB, three blocks on a multiprocessor of sm_90, whose 192 KiB of copies are under way at a time: what
// memory needs to be busy is a sixth of that. Predicted: 80 % of the bandwidth from 16 MiB of keys and values on; not yet measured. Sums
// of pieces are 1 part in 64 of the bytes for one query row a kv head.
//
// Lengths are on the device only: blocks find their work by going through the sequences, a fixed grid takes it in turn.
#include "../ptx/grid_dependency.cuh"
#include "../shared_memory.cuh"
#include "attention_kernels.h"
#include "attention_tiles.cuh"
#include "dispatch.h"
#include "reduce.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kTileRows = 16;
constexpr int kWarpKeys = 32;
constexpr int kPieceKeys = kWarps * kWarpKeys;

// Where the pieces' results are: for each of `slots` places and each head a sum of head_dim columns, a maximum (of scores to the base 2)
// and a total. Token t of sequence i has as many places as the sequence has pieces. Where sequences share keys there may be too few
// places: later sequences then have one a token, and a block works off all of a row's pieces.
struct Pieces {
  float* sums;
  float2* states;  // maximum, total
  int64_t capacity;
  unsigned* arrivals;  // of each first query row of a tile; null: merge_kernel merges
};

// A sequence and what is known of its pieces.
struct Found {
  Sequence sequence;
  int index, pieces;
  bool crowded;  // one place for all pieces
  int item;      // of the sequence's items: (tile of rows, piece), or tile of rows where crowded
  int64_t place;

  __device__ int64_t place_of(int token, int piece) const {
    return crowded ? place + token : place + static_cast<int64_t>(token) * pieces + piece;
  }
};

// The sequence that item `item` of all belongs to, or the one of query row `token` where that is not negative; false where there is
// none. All lanes of a warp come here, each looks at every 32nd sequence.
// Of sequences without keys there are items only where their zeros are written as well.
__device__ bool find_sequence(const AttentionBounds& bounds, const Pieces& out, long long item, int token,
                              ValueError* error, Found& found) {
  const int64_t capacity = out.capacity;
  const int lane = static_cast<int>(threadIdx.x % 32);
  long long places_before = 0, items_before = 0;
  for (int base = 0; base < bounds.batch; base += 32) {
    const int i = base + lane;
    const Sequence sequence = i < bounds.batch ? load_sequence<false>(bounds, i, error) : Sequence{0, 0, 0, 0};
    const int pieces = (sequence.k_length + kPieceKeys - 1) / kPieceKeys;
    const int tiles = (sequence.rows(bounds) + kTileRows - 1) / kTileRows;
    const long long places = static_cast<long long>(sequence.q_length) * pieces;
    long long places_to = places;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const long long below = __shfl_up_sync(kAllLanes, places_to, distance);
      if (lane >= distance) places_to += below;
    }
    places_to += places_before;
    const bool crowded = places_to > capacity;
    const bool one_each = crowded || (pieces == 0 && out.arrivals != nullptr);
    const long long items = one_each ? tiles : static_cast<long long>(tiles) * pieces;
    long long items_to = items;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const long long below = __shfl_up_sync(kAllLanes, items_to, distance);
      if (lane >= distance) items_to += below;
    }
    items_to += items_before;
    const bool mine = token >= 0 ? token >= sequence.q_begin && token - sequence.q_begin < sequence.q_length
                                 : item >= items_to - items && item < items_to;
    const unsigned ballot = __ballot_sync(kAllLanes, mine);
    if (ballot != 0) {
      const int source = __ffs(static_cast<int>(ballot)) - 1;
      found.sequence.q_begin = __shfl_sync(kAllLanes, sequence.q_begin, source);
      found.sequence.q_length = __shfl_sync(kAllLanes, sequence.q_length, source);
      found.sequence.k_begin = __shfl_sync(kAllLanes, sequence.k_begin, source);
      found.sequence.k_length = __shfl_sync(kAllLanes, sequence.k_length, source);
      found.index = base + source;
      found.pieces = __shfl_sync(kAllLanes, pieces, source);
      found.crowded = __shfl_sync(kAllLanes, crowded ? 1 : 0, source) != 0;
      found.item = static_cast<int>(item - __shfl_sync(kAllLanes, items_to - items, source));
      // Sequences before a crowded one are not always: its place is its first query row's, behind those of all pieces.
      found.place =
          found.crowded ? capacity + found.sequence.q_begin : __shfl_sync(kAllLanes, places_to - places, source);
      return true;
    }
    places_before = __shfl_sync(kAllLanes, places_to, 31);
    items_before = __shfl_sync(kAllLanes, items_to, 31);
  }
  return false;
}

// The state of a row, or part of its columns, after one more piece.
struct Merge {
  float maximum, total, old_factor, new_factor;

  __device__ Merge(float2 before, float2 piece) {
    maximum = fmaxf(before.x, piece.x);
    const float subtract = maximum == kNegativeInfinity ? 0.0f : maximum;
    old_factor = exp2f(before.x - subtract);
    new_factor = exp2f(piece.x - subtract);
    total = fmaf(before.y, old_factor, piece.y * new_factor);
  }
  __device__ float sum(float before, float piece) const { return fmaf(before, old_factor, piece * new_factor); }
};

template <int kColumns>
struct PieceTiles {
  bf16 q[kTileRows * kColumns];
  // Of one warp each; later its sums, f32[16, kColumns].
  struct {
    bf16 k[kWarpKeys * kColumns];
    bf16 v[kWarpKeys * kColumns];
  } warp[kWarps];
  float2 states[kWarps][kTileRows];
  float2 previous[kTileRows];
  bool last;
};

// Column of a warp's sums in shared memory: the 8 rows that a store goes to lie in different banks.
__device__ __forceinline__ int sum_column(int row, int column) { return column ^ (row & 7) << 3; }

template <int kColumns, bool kPaged>
__device__ __forceinline__ void compute_piece(PieceTiles<kColumns>& tiles, const bf16* k, const bf16* v,
                                              const AttentionBounds& bounds, const Found& found, int kv_head,
                                              int first_row, int rows, int piece, ValueError* error) {
  const Sequence& sequence = found.sequence;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int last_key = sequence.limit(bounds, first_row + rows - 1);
  const int first_key = piece * kPieceKeys + warp * kWarpKeys;
  auto& mine = tiles.warp[warp];
  const KeyRows<kPaged> key_rows(bounds, sequence, found.index, error);
  copy_key_tiles<kColumns, kWarpKeys, 32>(mine.k, mine.v, k, v, bounds, key_rows, kv_head, first_key, last_key, lane);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncthreads();  // q has been copied by all; the keys are the warp's own

  float scores[1][kWarpKeys / 8][4] = {};
  multiply_rows<kColumns, 1, kWarpKeys>(scores, tiles.q, 0, mine.k, lane);
  float highest[2], total[2] = {}, factor;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + half * 8 + lane / 4;
    const int seen = sequence.limit(bounds, row) - first_key - 2 * (lane % 4);
#pragma unroll
    for (int n = 0; n < kWarpKeys / 8; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        if (n * 8 + e >= seen) scores[0][n][2 * half + e] = kNegativeInfinity;
    highest[half] = kNegativeInfinity;
    const float scale = bounds.scale * kLog2E;
    online_softmax(scores[0], half, scale, highest[half], total[half], factor);
    total[half] = row_sum(total[half]);
    if (lane % 4 == 0) tiles.states[warp][half * 8 + lane / 4] = make_float2(highest[half] * scale, total[half]);
  }
  uint32_t probabilities[1][kWarpKeys / 8][2];
  pack_accumulator(probabilities, scores);
  float acc[1][kColumns / 8][4] = {};
  multiply_columns<kColumns, 1, kWarpKeys>(acc, probabilities, mine.v, lane);
  __syncwarp();  // the warp's keys have been used: sums take their place
  float* const sums = reinterpret_cast<float*>(&mine);
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = half * 8 + lane / 4;
      *reinterpret_cast<float2*>(sums + row * kColumns + sum_column(row, n * 8 + 2 * (lane % 4))) =
          make_float2(acc[0][n][2 * half], acc[0][n][2 * half + 1]);
    }
  __syncthreads();
}

// Writes a piece's result, or merges it into what is there: element e is always the same thread's.
template <int kColumns>
__device__ __forceinline__ void write_piece(PieceTiles<kColumns>& tiles, const AttentionBounds& bounds,
                                            const Pieces& out, const Found& found, int kv_head, int first_row, int rows,
                                            int piece) {
  const int thread = static_cast<int>(threadIdx.x);
  const bool merges = found.crowded && piece > 0;
  const auto place_of = [&](int row) {
    const int stacked = first_row + row, token = Sequence::token_of(bounds, stacked);
    return found.place_of(token, piece) * bounds.heads + kv_head * bounds.group + (stacked - token * bounds.group);
  };
  if (merges) {
    if (thread < rows) tiles.previous[thread] = out.states[place_of(thread)];
    __syncthreads();
  }
  for (int e = thread; e < rows * kColumns; e += kThreads) {
    const int row = e / kColumns, column = e % kColumns;
    float maximum = kNegativeInfinity;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) maximum = fmaxf(maximum, tiles.states[w][row].x);
    const float subtract = maximum == kNegativeInfinity ? 0.0f : maximum;
    float sum = 0, total = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float factor = exp2f(tiles.states[w][row].x - subtract);
      const float* sums = reinterpret_cast<const float*>(&tiles.warp[w]);
      sum = fmaf(sums[row * kColumns + sum_column(row, column)], factor, sum);
      total = fmaf(tiles.states[w][row].y, factor, total);
    }
    float2 state = make_float2(maximum, total);
    const int64_t place = place_of(row);
    if (column < bounds.head_dim) {
      float* const at = out.sums + place * bounds.head_dim + column;
      *at = merges ? Merge(tiles.previous[row], state).sum(*at, sum) : sum;
    }
    if (column != 0) continue;
    if (merges) {
      const Merge merge(tiles.previous[row], state);
      state = make_float2(merge.maximum, merge.total);
    }
    out.states[place] = state;
  }
  __syncthreads();
}

// What the pieces of a query row have become.
struct Result {
  bf16* out;
  float* log_sum_exp;
};

// A warp merges the pieces of one query row; lane l has the columns l, l + 32, …
template <int kColumns>
__device__ __forceinline__ void merge_row(const Result& result, const Pieces& pieces, const AttentionBounds& bounds,
                                          const Found& found, int token, int head) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int places = found.crowded ? min(found.pieces, 1) : found.pieces;
  const int64_t first = found.place_of(token, 0);
  const int64_t query_row = (static_cast<int64_t>(found.sequence.q_begin) + token) * bounds.heads + head;
  float sums[kColumns / 32] = {};
  float2 state = make_float2(kNegativeInfinity, 0);
#pragma unroll 4
  for (int place = 0; place < places; ++place) {
    const int64_t at = (first + place) * bounds.heads + head;
    const Merge merge(state, pieces.states[at]);
    state = make_float2(merge.maximum, merge.total);
#pragma unroll
    for (int i = 0; i < kColumns / 32; ++i) {
      const int column = lane + 32 * i;
      if (column < bounds.head_dim) sums[i] = merge.sum(sums[i], pieces.sums[at * bounds.head_dim + column]);
    }
  }
  const float inverse = state.y == 0 ? 0.0f : 1.0f / state.y;
#pragma unroll
  for (int i = 0; i < kColumns / 32; ++i) {
    const int column = lane + 32 * i;
    if (column < bounds.head_dim)
      result.out[query_row * bounds.head_dim + column] = __float2bfloat16_rn(sums[i] * inverse);
  }
  if (result.log_sum_exp != nullptr && lane == 0)
    result.log_sum_exp[query_row] = state.y == 0 ? kNegativeInfinity : fmaf(state.x, kLn2, logf(state.y));
}

// Whether all other pieces of the tile have been written; they are seen then. All threads of the block come here.
__device__ __forceinline__ bool is_last(unsigned* arrivals, int pieces, bool& last) {
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicInc(arrivals, static_cast<unsigned>(pieces - 1)) == static_cast<unsigned>(pieces - 1);
    __threadfence();
  }
  __syncthreads();
  return last;
}

template <int kColumns, bool kPaged>
__global__ void __launch_bounds__(kThreads, 3) pieces_kernel(const bf16* q, const bf16* k, const bf16* v, Pieces out,
                                                             Result result, AttentionBounds bounds, ValueError* error) {
  ptx::grid_dependency_wait();
  ptx::grid_dependency_launch();
  ALMA_SHARED(PieceTiles<kColumns>, tiles);
  const int head_dim = bounds.head_dim;
  for (long long work = blockIdx.x;; work += gridDim.x) {
    Found found;
    const long long item = work / bounds.kv_heads;
    const int kv_head = static_cast<int>(work - item * bounds.kv_heads);
    if (!find_sequence(bounds, out, item, -1, error, found)) return;
    const Sequence& sequence = found.sequence;
    const bool one_item = found.crowded || found.pieces == 0;
    const int tile = one_item ? found.item : found.item / found.pieces;
    const int first_row = tile * kTileRows, rows = min(kTileRows, sequence.rows(bounds) - first_row);
    const int begin = one_item ? 0 : found.item % found.pieces;
    const int end = one_item ? found.pieces : begin + 1;
    if (begin < end)
      copy_tile<kColumns, kTileRows, kThreads>(tiles.q, q, head_dim, static_cast<int>(threadIdx.x), [&](int row) {
        return row < rows ? q + sequence.query_row(bounds, kv_head, first_row + row) * head_dim : nullptr;
      });
    for (int piece = begin; piece < end; ++piece) {
      compute_piece<kColumns, kPaged>(tiles, k, v, bounds, found, kv_head, first_row, rows, piece, error);
      write_piece(tiles, bounds, out, found, kv_head, first_row, rows, piece);
    }
    if (out.arrivals == nullptr) continue;
    if (!one_item && found.pieces > 1 &&
        !is_last(out.arrivals + sequence.query_row(bounds, kv_head, first_row), found.pieces, tiles.last))
      continue;
    for (int row = static_cast<int>(threadIdx.x) / 32; row < rows; row += kWarps) {
      const int stacked = first_row + row, token = Sequence::token_of(bounds, stacked);
      merge_row<kColumns>(result, out, bounds, found, token, kv_head * bounds.group + stacked - token * bounds.group);
    }
  }
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads, 8)
    merge_kernel(Result result, Pieces pieces, AttentionBounds bounds, ValueError* error) {
  ptx::grid_dependency_wait();
  ptx::grid_dependency_launch();
  const int64_t query_row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (query_row >= bounds.total_q * bounds.heads) return;
  const int token = static_cast<int>(query_row / bounds.heads), head = static_cast<int>(query_row % bounds.heads);
  Found found;
  if (find_sequence(bounds, pieces, 0, token, error, found))
    merge_row<kColumns>(result, pieces, bounds, found, token - found.sequence.q_begin, head);
}

template <int kColumns, bool kPaged>
void run(Context& context, const AttentionArgs& args, const AttentionBounds& bounds) {
  // Pieces of all sequences where they do not share keys, and each has about as many tokens as the others.
  const int64_t pieces =
      kPaged ? bounds.batch * ceil_div(static_cast<int64_t>(bounds.blocks_per_sequence) * bounds.block_size, kPieceKeys)
             : ceil_div(bounds.total_k, kPieceKeys) + bounds.batch;
  const int64_t capacity = pieces * ceil_div(bounds.total_q, bounds.batch);
  const int64_t places = (capacity + bounds.total_q) * bounds.heads;
  const size_t state_bytes = sizeof(float2) * static_cast<size_t>(places);
  char* memory = static_cast<char*>(
      context.workspace->get(state_bytes + sizeof(float) * static_cast<size_t>(places * bounds.head_dim)));
  const bool merges = bounds.total_q * bounds.heads <= kArrivalCounters;
  const Pieces out{reinterpret_cast<float*>(memory + state_bytes), reinterpret_cast<float2*>(memory), capacity,
                   merges ? context.arrivals : nullptr};
  const Result result{pointer<bf16>(args.out), pointer<float>(args.log_sum_exp)};

  const int64_t tiles = ceil_div(bounds.group, kTileRows) * bounds.kv_heads;
  const int64_t resident = static_cast<int64_t>(context.properties.multiprocessors) * 3;
  const int64_t most = (capacity + bounds.total_q) * tiles;
  LaunchShape shape{grid_of("attention", most < resident ? most : resident), dim3(kThreads),
                    sizeof(PieceTiles<kColumns>)};
  shape.early_start = true;
  launch(context, "attention", shape, pieces_kernel<kColumns, kPaged>, pointer<bf16>(args.q), pointer<bf16>(args.k),
         pointer<bf16>(args.v), out, result, bounds, context.value_error);
  if (out.arrivals != nullptr) return;
  LaunchShape merge{grid_of("attention", ceil_div(bounds.total_q * bounds.heads, kWarps)), dim3(kThreads)};
  merge.early_start = true;
  launch(context, "attention", merge, merge_kernel<kColumns>, result, out, bounds, context.value_error);
}

}  // namespace

void attention_split_keys(Context& context, const AttentionArgs& args, const AttentionBounds& bounds) {
  with_bool(bounds.head_dim <= 64, [&](auto narrow) {
    with_bool(bounds.block_table != nullptr, [&](auto paged) {
      run<decltype(narrow)::value ? 64 : 128, decltype(paged)::value>(context, args, bounds);
    });
  });
}

}  // namespace alma::ALMA_CUDA::portable

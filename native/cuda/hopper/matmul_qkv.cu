// qkv: columns of q, k and v in one launch. The two columns that RoPE turns together, c and c + head_dim / 2, are d[i] and
// d[i + head_dim / 4] of one thread, as a tile holds whole heads. Cosines and sines are on their way while the last product runs.
#include "fused_matmul.h"
#include "matmul_kernel.cuh"
#include "matmul_store.cuh"

namespace alma::ALMA_CUDA::hopper {
namespace {

// Whose columns a tile has, and the first of them.
struct Section {
  int which, column;
};
template <class C>
__device__ __forceinline__ Section section_of(const QkvProblem& p, int tile_n) {
  if (tile_n < p.tiles[0]) return {0, tile_n * C::kN};
  tile_n -= p.tiles[0];
  if (tile_n < p.tiles[1]) return {1, tile_n * C::kN};
  return {2, (tile_n - p.tiles[1]) * C::kN};
}

template <class C, int kHeadDim>
struct QkvEpilogue {
  using Problem = QkvProblem;
  // Pairs of columns that a thread has in half a head, of its two rows; how many of them have registers for their cosines and sines.
  static constexpr int kHalf = kHeadDim / 2, kPairs = 2 * (kHalf / 8);
  static constexpr int kSlots = C::kN == 256 ? kPairs / 2 : kPairs;
  static_assert(C::kN % kHeadDim == 0);

  const Problem& p;
  PieceStore<C> pieces;
  Section section;
  int position[2];  // of this thread's upper and lower row
  Vector<float, 2> cosine[kSlots], sine[kSlots];

  __device__ __forceinline__ QkvEpilogue(const Problem& problem, MatmulShared<C>& shared, int consumer, int thread)
      : p(problem), pieces{shared, consumer, thread} {}

  __device__ __forceinline__ static void prefetch(const Problem& p) {
#pragma unroll
    for (const TensorMap& map : p.weights) ptx::prefetch_tensor_map(&map);
  }
  __device__ __forceinline__ static void load_columns(const Problem& p, bf16* to, ptx::Mbarrier* full, int tile_n,
                                                      int k, int rank) {
    constexpr int kOwn = C::kN / C::kCluster;
    const Section section = section_of<C>(p, tile_n);
    load_shared_tile<C>(to + rank * kOwn * C::kDepth, &p.weights[section.which], full, k, section.column + rank * kOwn);
  }

  __device__ __forceinline__ void begin(const TilePlace& place, int m) {
    section = section_of<C>(p, place.n);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t row = m + pieces.thread / 32 * 16 + pieces.thread % 32 / 4 + half * 8;
      position[half] = 0;
      if (section.which == 2 || row >= p.rows) continue;
      const int at = p.positions[row];
      if (check_index(p.error, ValueCheck::rope_position, at, p.max_positions)) position[half] = at;
    }
  }
  __device__ __forceinline__ void before_last() {
    if (section.which == 2) return;
#pragma unroll
    for (int pair = 0; pair < kSlots; ++pair) load(pair);
  }
  __device__ __forceinline__ void load(int pair) {
    const int row = pair / (kPairs / 2), at = position[row] * kHalf + pieces.thread % 4 * 2 + pair % (kPairs / 2) * 8;
    cosine[pair % kSlots] = load_vector<2>(p.cosine + at);
    sine[pair % kSlots] = load_vector<2>(p.sine + at);
  }
  __device__ __forceinline__ void turn(float (&d)[C::kN / 2]) {
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      const int at = pair % (kPairs / 2) * 4 + pair / (kPairs / 2) * 2;
#pragma unroll
      for (int head = 0; head < C::kN / kHeadDim; ++head)
#pragma unroll
        for (int lane = 0; lane < 2; ++lane) {
          float& low = d[head * kHalf + at + lane];
          float& high = d[head * kHalf + kHeadDim / 4 + at + lane];
          const float c = cosine[pair % kSlots].elements[lane], s = sine[pair % kSlots].elements[lane];
          const float turned = low * c - high * s;
          high = high * c + low * s;
          low = turned;
        }
      if (pair + kSlots < kPairs) load(pair + kSlots);
    }
  }
  __device__ __forceinline__ void finish(float (&d)[C::kN / 2], const TilePlace&, int m) {
    if (section.which != 2) turn(d);
#pragma unroll
    for (int piece = 0; piece < C::kN / 64; ++piece)
      pieces.store(&p.out[section.which], section.column + piece * 64, m,
                   [&](int i) { return pack_words(d[piece * 32 + i], d[piece * 32 + i + 1]); });
  }
  __device__ __forceinline__ void end() { pieces.end(); }
};

}  // namespace

void launch_qkv(const Context& context, const MatmulPlan& plan, const QkvProblem& problem, int64_t head_dim) {
  with_fused_tile<MatmulConfig, 2>(plan, [&](auto config) {
    using C = decltype(config);
    if (head_dim == 128) return launch_tiles<C, QkvEpilogue<C, 128>>(context, "qkv", problem);
    launch_tiles<C, QkvEpilogue<C, 64>>(context, "qkv", problem);
  });
}

}  // namespace alma::ALMA_CUDA::hopper

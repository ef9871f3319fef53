// linear_add: the residual of a tile comes by bulk copies while its products run, into the buffers that the sum is then stored from: one
// for every 64 columns.
#include "fused_matmul.h"
#include "matmul_kernel.cuh"
#include "matmul_store.cuh"

namespace alma::ALMA_CUDA::hopper {
namespace {

template <class C>
struct LinearAddEpilogue {
  using Problem = LinearAddProblem;
  static constexpr int kPieces = C::kN / 64;
  static_assert(C::kBuffers == kPieces);

  const Problem& p;
  MatmulShared<C>& shared;
  PieceStore<C> pieces;
  unsigned parity = 0;

  __device__ __forceinline__ LinearAddEpilogue(const Problem& problem, MatmulShared<C>& shared_, int consumer,
                                               int thread)
      : p(problem), shared(shared_), pieces{shared_, consumer, thread} {}

  __device__ __forceinline__ static void prefetch(const Problem& p) {
    ptx::prefetch_tensor_map(&p.b);
    ptx::prefetch_tensor_map(&p.residual);
  }
  __device__ __forceinline__ static void load_columns(const Problem& p, bf16* to, ptx::Mbarrier* full, int tile_n,
                                                      int k, int rank) {
    constexpr int kOwn = C::kN / C::kCluster;
    load_shared_tile<C>(to + rank * kOwn * C::kDepth, &p.b, full, k, tile_n * C::kN + rank * kOwn);
  }

  // The last tile's stores have been read by now, or nearly so.
  __device__ __forceinline__ void begin(const TilePlace& place, int m) {
    if (pieces.thread != 0) return;
    ptx::bulk_wait_read<0>();
    ptx::Mbarrier* loaded = &shared.loaded[pieces.consumer];
    ptx::mbarrier_arrive_expect(loaded, kPieces * 64 * 64 * 2);
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece)
      ptx::tensor_load_2d(shared.c[pieces.consumer][piece], &p.residual, loaded, place.n * C::kN + piece * 64, m);
  }
  __device__ __forceinline__ void before_last() {}
  __device__ __forceinline__ void finish(const float (&d)[C::kN / 2], const TilePlace& place, int m) {
    ptx::mbarrier_wait(&shared.loaded[pieces.consumer], parity);
    parity ^= 1;
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      bf16* buffer = shared.c[pieces.consumer][piece];
#pragma unroll
      for (int chunk = 0; chunk < 8; chunk += 2) {
        uint32_t words[4];
        ptx::ldmatrix_x4(words, pieces.at(buffer, chunk));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int at = piece * 32 + chunk * 4 + 2 * i;
          words[i] =
              pack_words(__uint_as_float(words[i] << 16) + d[at], __uint_as_float(words[i] & 0xffff0000u) + d[at + 1]);
        }
        ptx::stmatrix_x4(pieces.at(buffer, chunk), words);
      }
      ptx::fence_proxy_async();
      pieces.meet();
      if (pieces.thread == 0) {
        ptx::tensor_store_2d(&p.out, buffer, place.n * C::kN + piece * 64, m);
        ptx::bulk_commit();
      }
    }
  }
  __device__ __forceinline__ void end() { pieces.end(); }
};

}  // namespace

void launch_linear_add(const Context& context, const MatmulPlan& plan, const LinearAddProblem& problem) {
  with_fused_tile<MatmulConfig, 0>(plan, [&](auto config) {
    using C = decltype(config);
    launch_tiles<C, LinearAddEpilogue<C>>(context, "linear_add", problem);
  });
}

}  // namespace alma::ALMA_CUDA::hopper

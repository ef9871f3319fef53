// gate_up: a gate and its up meet in one thread, which has d[i] of the one and d[i + kN / 4] of the other.
#include "../portable/sigmoid.cuh"
#include "fused_matmul.h"
#include "matmul_kernel.cuh"
#include "matmul_store.cuh"

namespace alma::ALMA_CUDA::hopper {
namespace {

template <class C>
struct GateUpEpilogue {
  using Problem = GateUpProblem;
  static constexpr int kHalf = C::kN / 2;

  const Problem& p;
  PieceStore<C> pieces;

  __device__ __forceinline__ GateUpEpilogue(const Problem& problem, MatmulShared<C>& shared, int consumer, int thread)
      : p(problem), pieces{shared, consumer, thread} {}

  __device__ __forceinline__ static void prefetch(const Problem& p) {
    ptx::prefetch_tensor_map(&p.weights[0]);
    ptx::prefetch_tensor_map(&p.weights[1]);
  }
  // In a cluster of two, one block copies the gate's columns and the other up's.
  __device__ __forceinline__ static void load_columns(const Problem& p, bf16* to, ptx::Mbarrier* full, int tile_n,
                                                      int k, int rank) {
#pragma unroll
    for (int i = 0; i < 2; i += C::kCluster) {
      const int half = i + rank;
      load_shared_tile<C>(to + half * kHalf * C::kDepth, &p.weights[half], full, k, tile_n * kHalf);
    }
  }
  __device__ __forceinline__ void begin(const TilePlace&, int) {}
  __device__ __forceinline__ void before_last() {}

  // From gate and up as they are stored, so that the backward pass computes the same.
  __device__ __forceinline__ static float activation(float gate, float up) {
    const float g = rounded_to<bf16>(gate);
    return g * sigmoid<bf16>(g) * rounded_to<bf16>(up);
  }
  __device__ __forceinline__ void finish(const float (&d)[C::kN / 2], const TilePlace& place, int m) {
#pragma unroll
    for (int piece = 0; piece < kHalf / 64; ++piece) {
      const int n = place.n * kHalf + piece * 64, gate = piece * 32, up = C::kN / 4 + gate;
      if (p.keeps) {
        pieces.store(&p.gate, n, m, [&](int i) { return pack_words(d[gate + i], d[gate + i + 1]); });
        pieces.store(&p.up, n, m, [&](int i) { return pack_words(d[up + i], d[up + i + 1]); });
      }
      if (p.has_out) {
        pieces.store(&p.out, n, m, [&](int i) {
          return pack_words(activation(d[gate + i], d[up + i]), activation(d[gate + i + 1], d[up + i + 1]));
        });
      }
    }
  }
  __device__ __forceinline__ void end() { pieces.end(); }
};

}  // namespace

void launch_gate_up(const Context& context, const MatmulPlan& plan, const GateUpProblem& problem) {
  with_fused_tile<MatmulConfig, 2>(plan, [&](auto config) {
    using C = decltype(config);
    launch_tiles<C, GateUpEpilogue<C>>(context, "gate_up", problem);
  });
}

}  // namespace alma::ALMA_CUDA::hopper

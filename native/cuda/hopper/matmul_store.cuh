// A tile of sums is stored as it is: in bf16 by bulk stores from shared memory, or from registers where those do not take c.
#pragma once

#include "../ptx/fence.cuh"
#include "../ptx/named_barrier.cuh"
#include "../ptx/stmatrix.cuh"
#include "matmul_pipeline.cuh"

namespace alma::ALMA_CUDA::hopper {

__device__ __forceinline__ uint32_t pack_words(float low, float high) {
  const float values[2] = {low, high};
  const Vector<bf16, 2> pair = pack<bf16>(values);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// A consumer's bulk stores of 64 rows × 64 columns of bf16, through its buffers in turn.
template <class C>
struct PieceStore {
  MatmulShared<C>& shared;
  int consumer, thread, stores = 0;

  // Where this thread's 16 bytes of chunk 0 or 1 of its row lie in a buffer; those of the next chunks are at `chunk` XORed in.
  __device__ __forceinline__ bf16* at(bf16* buffer, int chunk) const {
    const int row = thread / 32 * 16 + thread % 16, half = thread % 32 / 16;
    return buffer + row * 64 + ((chunk + half) ^ (row & 7)) * 8;
  }
  __device__ __forceinline__ void meet() const { ptx::barrier_sync(1 + consumer, 128); }

  // word(i): the pair of columns from column i / 4 · 8 + thread % 4 · 2 on, of this thread's upper row (i % 4 == 0) or lower row (2).
  template <class Word>
  __device__ __forceinline__ void store(const TensorMap* map, int n, int m, const Word& word) {
    bf16* buffer = shared.c[consumer][stores++ & 1];
    if (thread == 0) ptx::bulk_wait_read<1>();
    meet();
#pragma unroll
    for (int chunk = 0; chunk < 8; chunk += 2) {
      uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) words[i] = word(chunk * 4 + 2 * i);
      ptx::stmatrix_x4(at(buffer, chunk), words);
    }
    ptx::fence_proxy_async();
    meet();
    if (thread == 0) {
      // Rows and columns that the tensor does not have are not written.
      ptx::tensor_store_2d(map, buffer, n, m);
      ptx::bulk_commit();
    }
  }
  __device__ __forceinline__ void end() const {
    if (thread == 0) ptx::bulk_wait_read<0>();
  }
};

// What a product has of its own, whatever is done with its sums.
template <class C>
struct PlainProduct {
  using Problem = MatmulProblem;

  __device__ __forceinline__ static void prefetch(const Problem& p) { ptx::prefetch_tensor_map(&p.b); }
  __device__ __forceinline__ static void load_columns(const Problem& p, bf16* to, ptx::Mbarrier* full, int tile_n,
                                                      int k, int rank) {
    // The columns of b that this block copies, for all blocks of the cluster.
    constexpr int kOwn = C::kN / C::kCluster;
    const int n = tile_n * C::kN + rank * kOwn;
    bf16* b = to + rank * kOwn * C::kDepth;
    if constexpr (C::kB == Major::k) {
      load_shared_tile<C>(b, &p.b, full, k, n);
    } else {
#pragma unroll
      for (int i = 0; i < kOwn; i += 64) load_shared_tile<C>(b + i * C::kDepth, &p.b, full, n + i, k);
    }
  }
  __device__ __forceinline__ void begin(const TilePlace&, int) {}
  __device__ __forceinline__ void before_last() {}
};

template <class C>
struct BulkEpilogue : PlainProduct<C> {
  const MatmulProblem& p;
  PieceStore<C> pieces;

  __device__ __forceinline__ BulkEpilogue(const MatmulProblem& problem, MatmulShared<C>& shared, int consumer,
                                          int thread)
      : p(problem), pieces{shared, consumer, thread} {}
  __device__ __forceinline__ void finish(const float (&d)[C::kN / 2], const TilePlace& place, int m) {
#pragma unroll
    for (int piece = 0; piece < C::kN / 64; ++piece)
      pieces.store(&p.c, place.n * C::kN + piece * 64, m,
                   [&](int i) { return pack_words(d[piece * 32 + i], d[piece * 32 + i + 1]); });
  }
  __device__ __forceinline__ void end() { pieces.end(); }
};

// Two neighbouring elements of c, in one word where they are.
template <class T>
__device__ __forceinline__ void put(T* c, float low, float high, bool has_high, const MatmulProblem& p) {
  if (p.pairs) {
    if (p.accumulate) {
      const Vector<T, 2> before = load_vector<2>(c);
      low += before[0];
      high += before[1];
    }
    const float values[2] = {low, high};
    return store_vector<2>(c, pack<T>(values));
  }
  c[0] = from_float<T>(p.accumulate ? to_float(c[0]) + low : low);
  if (has_high) c[1] = from_float<T>(p.accumulate ? to_float(c[1]) + high : high);
}

// Any c, from registers: 4 threads write 8 neighbouring elements of a row.
template <class C>
__device__ __forceinline__ void store_direct(const MatmulProblem& p, const float (&d)[C::kN / 2], int m, int n,
                                             int split, int thread) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t row = m + thread / 32 * 16 + thread % 32 / 4 + half * 8;
    if (row >= p.m) continue;
#pragma unroll
    for (int i = 0; i < C::kN / 8; ++i) {
      const int64_t column = n + i * 8 + thread % 4 * 2;
      if (column >= p.n) continue;
      const int64_t at = (split * p.m + row) * p.n + column;
      const float low = d[4 * i + 2 * half], high = d[4 * i + 2 * half + 1];
      if (p.f32_out) {
        put(static_cast<float*>(p.c_data) + at, low, high, column + 1 < p.n, p);
      } else {
        put(static_cast<bf16*>(p.c_data) + at, low, high, column + 1 < p.n, p);
      }
    }
  }
}

template <class C>
struct DirectEpilogue : PlainProduct<C> {
  const MatmulProblem& p;
  int thread;

  __device__ __forceinline__ DirectEpilogue(const MatmulProblem& problem, MatmulShared<C>&, int, int thread_)
      : p(problem), thread(thread_) {}
  __device__ __forceinline__ void finish(const float (&d)[C::kN / 2], const TilePlace& place, int m) {
    store_direct<C>(p, d, m, place.n * C::kN, place.split, thread);
  }
  __device__ __forceinline__ void end() {}
};

}  // namespace alma::ALMA_CUDA::hopper

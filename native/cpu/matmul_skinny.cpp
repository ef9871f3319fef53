// The products of decoding: a few activation rows times a large weight matrix, c[m, n] = a[m, k] · b[n, k]ᵀ. Bound by memory:
// every weight is read once, in order. An element's sum depends neither on m nor on its place, so a token's logits are the same
// in every batch of up to kSkinnyRows.
#include "matmul_skinny.h"

#include "parallel.h"

namespace alma::cpu::ALMA_ISA {
namespace {

template <class TC>
ALMA_INLINE void put(TC* out, float value, bool add) {
  from_float(out, add ? value + to_float(*out) : value);
}

// Rows kRows of b at a time, all kM rows of a: kRows · kM accumulators. c is [kM, n], `out` points at its first column here.
template <int kM, int kRows, class TB, class TC>
ALMA_INLINE void dot_rows(const float* a, int64_t k, const TB* b, TC* out, int64_t n, bool add) {
  F acc[kM][kRows] = {};
  for_lanes(k, [&](int64_t p, int lanes) ALMA_LAMBDA {
    F weights[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) weights[r] = load(b + r * k + p, lanes);
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i) {
      const F x = load(a + i * k + p, lanes);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) acc[i][r] = x * weights[r] + acc[i][r];
    }
  });
#pragma GCC unroll 8
  for (int i = 0; i < kM; ++i)
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) put(out + i * n + r, sum(acc[i][r]), add);
}

template <int kM, class TB, class TC>
void multiply(ThreadPool& pool, const float* a, const TB* b, TC* c, int64_t n, int64_t k, bool add) {
  constexpr int kRows = kM <= 3 ? 4 : kM <= 6 ? 2 : 1;
  // Ranges of about 128 KiB of weights: long enough to stream, short enough to balance.
  const int64_t grain = round_up(max<int64_t>(1, 131072 / static_cast<int64_t>(sizeof(TB)) / k), kRows);
  parallel_ranges(pool, n, grain, [&](int64_t begin, int64_t end, int) {
    int64_t row = begin;
    for (; row + kRows <= end; row += kRows) dot_rows<kM, kRows>(a, k, b + row * k, c + row, n, add);
    for (; row < end; ++row) dot_rows<kM, 1>(a, k, b + row * k, c + row, n, add);
  });
}

template <class TB, class TC>
void multiply_rows(ThreadPool& pool, const float* a, const TB* b, TC* c, int64_t m, int64_t n, int64_t k, bool add) {
  switch (m) {
    case 1: return multiply<1>(pool, a, b, c, n, k, add);
    case 2: return multiply<2>(pool, a, b, c, n, k, add);
    case 3: return multiply<3>(pool, a, b, c, n, k, add);
    case 4: return multiply<4>(pool, a, b, c, n, k, add);
    case 5: return multiply<5>(pool, a, b, c, n, k, add);
    case 6: return multiply<6>(pool, a, b, c, n, k, add);
    case 7: return multiply<7>(pool, a, b, c, n, k, add);
    default: return multiply<8>(pool, a, b, c, n, k, add);
  }
}

}  // namespace

void matmul_skinny(ThreadPool& pool, const MatmulArgs& args) {
  const float* a = pointer<float>(args.a);
  if (args.a.dtype == DType::bf16) {
    float* wide = static_cast<float*>(pool.scratch(0, kSharedSlot, sizeof(float) * static_cast<size_t>(args.m * args.k)));
    const bf16* narrow_a = pointer<bf16>(args.a);
    for_lanes(args.m * args.k, [&](int64_t i, int lanes) ALMA_LAMBDA { store(wide + i, load(narrow_a + i, lanes), lanes); });
    a = wide;
  } else if (args.a.dtype != DType::f32) {
    fail("matmul", "needs a float tensor (f32 or bf16)");
  }
  with_float("matmul", args.b.dtype, [&](auto tag_b) {
    with_float("matmul", args.c.dtype, [&](auto tag_c) {
      using TB = typename decltype(tag_b)::type;
      using TC = typename decltype(tag_c)::type;
      multiply_rows(pool, a, pointer<TB>(args.b), pointer<TC>(args.c), args.m, args.n, args.k, args.accumulate);
    });
  });
}

}  // namespace alma::cpu::ALMA_ISA

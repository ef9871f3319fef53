// The products of decoding: a few activation rows times a large weight matrix, c[m, n] = a[m, k] · b[n, k]ᵀ. Bound by memory:
// every weight is read once, in order. An element's sum depends neither on m nor on its place, so a token's logits are the same
// in every batch of up to kSkinnyRows.
#include "matmul_skinny.h"

#include "parallel.h"

namespace alma::cpu::ALMA_ISA {
namespace {

struct Output {
  TensorRef c;
  int64_t n;
  bool add;
};

// c[i, column] of f32 or bf16.
ALMA_INLINE void put(const Output& out, int64_t i, int64_t column, float value) {
  if (out.c.dtype == DType::f32) {
    float* at = pointer<float>(out.c, i * out.n + column);
    *at = out.add ? *at + value : value;
  } else {
    bf16* at = pointer<bf16>(out.c, i * out.n + column);
    from_float(at, out.add ? to_float(*at) + value : value);
  }
}

// kRows rows of b (fewer at the end) with all kM rows of a: kRows · kM accumulators.
template <int kM, int kRows, class TB>
ALMA_INLINE void dot_rows(const float* a, int64_t k, const TB* b, int64_t rows, const Output& out, int64_t column) {
  const TB* row[kRows];
  for (int r = 0; r < kRows; ++r) row[r] = b + min<int64_t>(r, rows - 1) * k;
  F acc[kM][kRows] = {};
  for_lanes(k, [&](int64_t p, int lanes) ALMA_LAMBDA {
    F weights[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) weights[r] = load(row[r] + p, lanes);
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i) {
      const F x = load(a + i * k + p, lanes);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) acc[i][r] = x * weights[r] + acc[i][r];
    }
  });
  float sums[kM * kRows];
#pragma GCC unroll 8
  for (int i = 0; i < kM; ++i)
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[i * kRows + r] = sum(acc[i][r]);
  for (int i = 0; i < kM; ++i)
    for (int r = 0; r < min<int64_t>(kRows, rows); ++r) put(out, i, column + r, sums[i * kRows + r]);
}

template <int kM, class TB>
void multiply(ThreadPool& pool, const float* a, const TB* b, int64_t k, const Output& out) {
  constexpr int kRows = kM <= 3 ? 4 : kM <= 6 ? 2 : 1;
  // Ranges of about 128 KiB of weights: long enough to stream, short enough to balance.
  const int64_t grain = round_up(max<int64_t>(1, 131072 / static_cast<int64_t>(sizeof(TB)) / k), kRows);
  parallel_ranges(pool, out.n, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; row += kRows) dot_rows<kM, kRows>(a, k, b + row * k, end - row, out, row);
  });
}

template <class TB>
void multiply_rows(ThreadPool& pool, const float* a, const TB* b, int64_t m, int64_t k, const Output& out) {
  switch (m) {
    case 1: return multiply<1>(pool, a, b, k, out);
    case 2: return multiply<2>(pool, a, b, k, out);
    case 3: return multiply<3>(pool, a, b, k, out);
    case 4: return multiply<4>(pool, a, b, k, out);
    case 5: return multiply<5>(pool, a, b, k, out);
    case 6: return multiply<6>(pool, a, b, k, out);
    case 7: return multiply<7>(pool, a, b, k, out);
    default: return multiply<8>(pool, a, b, k, out);
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
    using TB = typename decltype(tag_b)::type;
    multiply_rows(pool, a, pointer<TB>(args.b), args.m, args.k, Output{args.c, args.n, args.accumulate});
  });
}

}  // namespace alma::cpu::ALMA_ISA

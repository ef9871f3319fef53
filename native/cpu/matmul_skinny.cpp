// The products of decoding: a few activation rows times a large weight matrix, c[m, n] = a[m, k] · b[n, k]ᵀ. Bound by memory:
// every weight is read once, in order. An element's sum depends neither on m nor on its place, so a token's logits are the same
// in every batch that comes here.
#include "matmul_skinny.h"

#include "parallel.h"

namespace alma::cpu::ALMA_ISA {
namespace {

// Rows of b that are worked on together, a multiple of every kRows below. Of these, so many columns at a time that the
// activations of all rows stay in L1: kActivations floats, 16 KiB on AVX2.
constexpr int64_t kBlockRows = 12;
constexpr int64_t kActivations = 512 * W;

struct Output {
  TensorRef c;
  int64_t m, n;
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

// Activation rows go in groups of at most 4: their sums with several rows of b have to fit the registers.
constexpr int64_t kMaxGroups = ceil_div(kSkinnyRows, 4);
int64_t group_rows(int64_t m) { return ceil_div(m, ceil_div(m, 4)); }

// a as [group][k / W][kM][W]: what one step needs lies together. Rows of a power of two would all fall into the same cache set
// (8 rows of k = 4096 took 4 times as long). Rows beyond m and columns beyond k are zero.
template <class TA>
void pack_activations(const TA* a, int64_t m, int64_t kM, int64_t k, float* out) {
  for (int64_t first = 0; first < m; first += kM, out += kM * round_up(k, W))
    for_lanes(k, [&](int64_t p, int lanes) ALMA_LAMBDA {
      for (int64_t i = 0; i < kM; ++i)
        store(out + p * kM + i * W, first + i < m ? load(a + (first + i) * k + p, lanes) : F{});
    });
}

// sums[kM · kRows] += the products of `depth` columns of kRows rows of b with all rows of a. What comes `next` elements after
// these rows is prefetched: in such pieces the processor does not see far enough ahead by itself.
template <int kM, int kRows, class TB>
ALMA_INLINE void dot_rows(const float* a, const TB* const (&row)[kRows], int64_t next, int64_t depth, F* sums) {
  F acc[kM][kRows];
#pragma GCC unroll 8
  for (int i = 0; i < kM; ++i)
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) acc[i][r] = sums[i * kRows + r];
  for_lanes(depth, [&](int64_t p, int lanes) ALMA_LAMBDA {
    F weights[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      weights[r] = load(row[r] + p, lanes);
      __builtin_prefetch(row[r] + next + p);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i) {
      const F x = load(a + p * kM + i * W);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) acc[i][r] = x * weights[r] + acc[i][r];
    }
  });
#pragma GCC unroll 8
  for (int i = 0; i < kM; ++i)
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[i * kRows + r] = acc[i][r];
}

template <int kM, class TB>
void multiply(ThreadPool& pool, const float* a, const TB* b, int64_t k, const Output& out) {
  constexpr int kRows = kM <= 2 ? 4 : 3;  // streams of weights; with the sums no more than 16 registers
  const int64_t groups = ceil_div(out.m, kM), group_stride = kM * round_up(k, W);
  const int64_t depth = kActivations / (groups * kM) / W * W;
  // 8 ranges a thread, for balance.
  const int64_t grain = round_up(ceil_div(out.n, 8 * pool.threads()), kBlockRows);
  parallel_ranges(pool, out.n, out.n * k * out.m < (1 << 17) ? out.n : grain,
                  [&](int64_t range_begin, int64_t range_end, int) {
                    for (int64_t begin = range_begin; begin < range_end; begin += kBlockRows) {
                      const int64_t end = min(range_end, begin + kBlockRows);
                      F sums[kMaxGroups][kBlockRows * kM];
                      for (int64_t g = 0; g < groups; ++g)
                        for (int64_t i = 0; i < kBlockRows * kM; ++i) sums[g][i] = F{};
                      for (int64_t p = 0; p < k; p += depth)
                        for (int64_t first = begin; first < end; first += kRows) {
                          const TB* row[kRows];  // the last row again where there are no kRows left
                          for (int r = 0; r < kRows; ++r) row[r] = b + min(first + r, end - 1) * k + p;
                          for (int64_t g = 0; g < groups; ++g)
                            dot_rows<kM, kRows>(a + g * group_stride + p * kM, row, kRows * k, min(depth, k - p),
                                                sums[g] + (first - begin) * kM);
                        }
                      for (int64_t first = begin; first < end; first += kRows)
                        for (int64_t i = 0; i < out.m; ++i)
                          for (int64_t r = 0; r < min<int64_t>(kRows, end - first); ++r)
                            put(out, i, first + r, sum(sums[i / kM][(first - begin) * kM + i % kM * kRows + r]));
                    }
                  });
}

}  // namespace

namespace {

void multiply_rows(ThreadPool& pool, const MatmulArgs& args) {
  const int64_t rows = group_rows(args.m), k = args.k;
  float* a = static_cast<float*>(
      pool.scratch(0, kSharedSlot, sizeof(float) * static_cast<size_t>(round_up(args.m, rows) * round_up(k, W))));
  with_float("matmul", args.a.dtype,
             [&](auto tag) { pack_activations(pointer<typename decltype(tag)::type>(args.a), args.m, rows, k, a); });
  const Output out{args.c, args.m, args.n, args.accumulate};
  with_float("matmul", args.b.dtype, [&](auto tag) {
    const auto* b = pointer<typename decltype(tag)::type>(args.b);
    switch (rows) {
      case 1: return multiply<1>(pool, a, b, k, out);
      case 2: return multiply<2>(pool, a, b, k, out);
      case 3: return multiply<3>(pool, a, b, k, out);
      default: return multiply<4>(pool, a, b, k, out);
    }
  });
}

}  // namespace

void matmul_skinny(ThreadPool& pool, const MatmulArgs& args) {
  if (args.m <= kSkinnyRows) return multiply_rows(pool, args);
  // Passes of nearly equal size: the last one reads the weights for as many rows as the others.
  const int64_t rows = round_up(ceil_div(args.m, ceil_div(args.m, kSkinnyRows)), 4);
  for (int64_t first = 0; first < args.m; first += rows) {
    MatmulArgs pass = args;
    pass.m = min(rows, args.m - first);
    pass.a.data = pointer<char>(args.a, first * args.k * (args.a.dtype == DType::f32 ? 4 : 2));
    pass.c.data = pointer<char>(args.c, first * args.n * (args.c.dtype == DType::f32 ? 4 : 2));
    multiply_rows(pool, pass);
  }
}

}  // namespace alma::cpu::ALMA_ISA

// The sums of the skinny products: rows of weights times a group of activation rows, whose sums with several rows of weights fit the
// registers.
#pragma once

#include "simd.h"

namespace alma::cpu::ALMA_ISA {

// Columns of a cache line of weights, the step of the inner loop.
template <class TB>
constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(TB));
// How far ahead weights are fetched where a product does nothing but read them; otherwise there is time for a piece. Found by trying: with AVX-512
// on Zen 5, 6 lines read 35 GB/s where 24 read 45 to 50.
template <class TB>
constexpr int64_t kAhead = (W == 16 ? 24 : 6) * kLine<TB>;

// The rows of a group as [column / W][rows][W]: what one step needs lies together. Rows of a power of two would all fall into the same cache
// set. For bf16 weights, whose pairs are widened in place, the even ones of 2 W columns make a vector and the odd ones the next. Columns
// beyond k are zero.
template <class TB, class TA>
void pack_activations(const TA* a, int64_t rows, int64_t k, float* out) {
  for (int64_t p = 0; p < k; p += kLine<TB>, out += rows * kLine<TB>)
    for (int64_t i = 0; i < rows; ++i) {
      F line[kLine<TB> / W] = {};
      const TA* const from = a + i * k + p;
      for (int64_t v = 0; v < kLine<TB> / W && p + v * W < k; ++v)
        line[v] = load(from + v * W, static_cast<int>(min<int64_t>(W, k - p - v * W)));
      if constexpr (sizeof(TB) == 2)
        for (int64_t v = 0; v < kLine<TB> / W; v += 2) {
          const F even = unzip_even(line[v], line[v + 1]);
          line[v + 1] = unzip_odd(line[v], line[v + 1]);
          line[v] = even;
        }
      for (int64_t v = 0; v < kLine<TB> / W; ++v) store(out + (v * rows + i) * W, line[v]);
    }
}

// What a row of a group and kRows rows of weights have added up to.
template <int kRows>
struct RowSums {
  F of[kRows];
};

// The sums of kM rows in registers; in memory they are W apart.
template <int kM, int kRows>
struct Sums {
  F of[kM][kRows];

  ALMA_INLINE Sums from(const RowSums<kRows>* total, bool begins) {
    Sums sums = {};
    if (begins) return sums;
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i)
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sums.of[i][r] = total[i * W].of[r];
    return sums;
  }
  __attribute__((always_inline)) void save(RowSums<kRows>* total) const {
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i)
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) total[i * W].of[r] = of[i][r];
  }
};

template <int kM, int kRows>
ALMA_INLINE void multiply_add(const float* x, const F (&weights)[kRows], Sums<kM, kRows>& sums) {
#pragma GCC unroll 8
  for (int i = 0; i < kM; ++i) {
    const F row = load(x + i * W);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) add_product(sums.of[i][r], row, weights[r]);
  }
}

// A line of kRows rows of weights times the same columns of kM rows of a.
template <int kM, int kRows>
ALMA_INLINE void multiply_line(const float* a, const float* const (&row)[kRows], int64_t p, Sums<kM, kRows>& sums) {
#pragma GCC unroll 8
  for (int64_t c = 0; c < kLine<float>; c += W) {
    F weights[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) weights[r] = load(row[r] + p + c);
    multiply_add<kM, kRows>(a + c * kM, weights, sums);
  }
}
template <int kM, int kRows>
ALMA_INLINE void multiply_line(const float* a, const bf16* const (&row)[kRows], int64_t p, Sums<kM, kRows>& sums) {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
#pragma GCC unroll 8
  for (int64_t c = 0; c < kLine<bf16>; c += 2 * W) {
    F weights[kRows];
    const auto pairs = [&](int r) ALMA_LAMBDA {
      return reinterpret_cast<U>(load(reinterpret_cast<const int32_t*>(row[r] + p + c)));
    };
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) weights[r] = as_float(pairs(r) << 16);
    multiply_add<kM, kRows>(a + c * kM, weights, sums);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) weights[r] = as_float(pairs(r) & 0xffff0000u);
    multiply_add<kM, kRows>(a + (c + W) * kM, weights, sums);
  }
}

// Rows of weights, from a common column on.
template <int kRows, class TB>
struct Rows {
  const TB* at[kRows];
  __attribute__((always_inline)) Rows from(int64_t column) const {
    Rows later;
    for (int r = 0; r < kRows; ++r) later.at[r] = at[r] + column;
    return later;
  }
};

// sums += the products of `columns` columns, whole lines, of kRows rows of b with the rows of a group. For every `each` lines, a line of
// `ahead` is fetched.
template <int kM, int kRows, class TB>
ALMA_INLINE void dot_lines(const float* a, const Rows<kRows, TB>& rows, const Rows<kRows, TB>& ahead, int64_t each,
                           int64_t columns, Sums<kM, kRows>& sums) {
  int64_t at = 0;
  for (int64_t p = 0; p < columns; at += kLine<TB>) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) __builtin_prefetch(ahead.at[r] + at);
    const int64_t stop = min(columns, p + each * kLine<TB>);
    for (; p < stop; p += kLine<TB>) multiply_line<kM, kRows>(a + p * kM, rows.at, p, sums);
  }
}

// A function of its own: what is around it must not take registers from the sums.
template <int kM, int kRows, class TB>
__attribute__((noinline)) static void dot_apart(const float* a, const Rows<kRows, TB>& rows,
                                                const Rows<kRows, TB>& ahead, int64_t each, int64_t columns,
                                                bool begins, RowSums<kRows>* total) {
  const Rows<kRows, TB> row = rows, further = ahead;
  auto sums = Sums<kM, kRows>::from(total, begins);
  dot_lines<kM, kRows, TB>(a, row, further, each, columns, sums);
  sums.save(total);
}

// One or two rows, for which the weights are hardly there in time: those kAhead further on are fetched, then what comes next.
template <int kM, int kRows, class TB>
ALMA_INLINE void dot_few(const float* a, const Rows<kRows, TB>& rows, const Rows<kRows, TB>& next, int64_t columns,
                         bool begins, RowSums<kRows>* total) {
  const int64_t near = max<int64_t>(0, columns - kAhead<TB>);
  auto sums = Sums<kM, kRows>::from(total, begins);
  dot_lines<kM, kRows, TB>(a, rows, rows.from(kAhead<TB>), 1, near, sums);
  dot_lines<kM, kRows, TB>(a + near * kM, rows.from(near), next, 1, columns - near, sums);
  sums.save(total);
}

// The last columns of a row that is no multiple of a line, with zeros behind.
template <int kM, int kRows, class TB>
__attribute__((noinline)) static void dot_rest(const float* a, const Rows<kRows, TB>& rows, int64_t rest,
                                               RowSums<kRows>* total) {
  TB lines[kRows][kLine<TB>] = {};
  const TB* at[kRows];
  for (int r = 0; r < kRows; ++r) {
    __builtin_memcpy(lines[r], rows.at[r], static_cast<size_t>(rest) * sizeof(TB));
    at[r] = lines[r];
  }
  auto sums = Sums<kM, kRows>::from(total, false);
  multiply_line<kM, kRows>(a, at, 0, sums);
  sums.save(total);
}

}  // namespace alma::cpu::ALMA_ISA

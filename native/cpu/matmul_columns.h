// Very few rows of C, with the bits of the packed product: what would be a panel of b is made in registers and multiplied at once.
#pragma once

#include "matmul_pack.h"
#include "micro_kernel.h"

namespace alma::cpu::ALMA_ISA {

// c[rows, cols] = or += a · b: `columns` is b, k contiguous, its columns from `first` on, k from k_begin; a is a panel of kMR rows that begins there.
// An element adds its products in parts of `part` units, in the order of the register block.
struct ColumnsArgs {
  int64_t first, cols, k_begin, units, part;
  const float* a;
  int64_t rows;
  float* c;
  int64_t c_stride;
  bool add;
};

// The sums of kRows ≥ args.rows rows; of a panel all rows can be read.
template <int kRows, class Product, class Units, class T>
static void multiply_columns_of(const Operand<T>& columns, const ColumnsArgs& args) {
  using Step = RowVectors<W, Units, T>;
  constexpr int64_t kAhead = 2 * 64 / static_cast<int64_t>(sizeof(T));  // two lines of memory
  const int64_t elements = min(args.units * Units::kSize, columns.k - args.k_begin);
  const T* data = columns.data + args.first * columns.stride + args.k_begin;
  for (int64_t j = 0; j < args.cols; j += W) {
    const int64_t cols = min<int64_t>(W, args.cols - j);
    const T* row[W];
    for (int i = 0; i < W; ++i) row[i] = data + (j + min<int64_t>(i, cols - 1)) * columns.stride;
    for (int64_t begin = 0; begin < args.units; begin += args.part) {
      const int64_t end = min(args.units, begin + args.part);
      F sum[kRows] = {};
      const auto add_unit = [&](int64_t unit, F b) ALMA_LAMBDA {
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) sum[r] = Product::multiply_add(splat(args.a[unit * kMR + r]), b, sum[r]);
      };
      int64_t u = begin;
      for (; u + Step::kCount <= end && (u + Step::kCount) * Units::kSize <= elements; u += Step::kCount) {
        F block[W];
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) {
          const T* const from = row[i] + u * Units::kSize;
          __builtin_prefetch(from + kAhead);
          block[i] = Units::load_along(from);
        }
        Step::for_units(block, [&](int i, F unit) ALMA_LAMBDA { add_unit(u + i, unit); });
      }
      for (; u < end; u += Step::kCount) {
        const int64_t at = u * Units::kSize, count = min<int64_t>(Step::kElements, elements - at);
        F block[W];
        for (int i = 0; i < W; ++i) block[i] = Step::load_some(row[i] + at, count);
        float units[Step::kCount * W];
        Step::write(block, units);
        for (int64_t i = 0; i < min<int64_t>(Step::kCount, end - u); ++i) add_unit(u + i, load(units + i * W));
      }
      for (int64_t r = 0; r < args.rows; ++r) {
        float* const c = args.c + r * args.c_stride + j;
        const int lanes = static_cast<int>(cols);
        store(c, args.add || begin > 0 ? load(c, lanes) + sum[r] : sum[r], lanes);
      }
    }
  }
}

// Rows of C up to which it is of use: one panel of a.
constexpr int64_t kColumnsRows = kMR;

// Numbers of rows that are compiled: every one up to 4, then 6, 8, 11 and 14.
constexpr int fewer_rows(int rows) { return rows <= 4 ? rows - 1 : rows <= 8 ? rows - 2 : rows - 3; }

template <class Product, class Units, int kRows = kMR, class T>
static void multiply_columns(const Operand<T>& columns, const ColumnsArgs& args) {
  if (args.rows > fewer_rows(kRows)) return multiply_columns_of<kRows, Product, Units>(columns, args);
  if constexpr (kRows > 1) multiply_columns<Product, Units, fewer_rows(kRows)>(columns, args);
}

}  // namespace alma::cpu::ALMA_ISA

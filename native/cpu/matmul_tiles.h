// Tiles of C from panels of both operands.
#pragma once

#include "matmul_problem.h"
#include "meanwhile.h"

namespace alma::cpu::ALMA_ISA {

// A number of rows as whole panels of a.
template <class Product>
constexpr int64_t whole_panels(int64_t rows) {
  return round_up(rows, Product::kRows);
}

// The first `rows` rows of a block, from panels. Few rows take fewer registers.
template <class Product, bool kEachUnit>
ALMA_INLINE void multiply_rows(Product, int64_t rows, int64_t depth, const float* a, const float* b, F (&acc)[kMR][2],
                               Meanwhile<kMR>& meanwhile) {
  const StoresAndFetches<kMR, kEachUnit> other{meanwhile};
  if (rows > 2 * kMR / 3) return multiply_block<Product>(depth, a, 1, kMR, b, kNR, acc, other);
  if (rows > kMR / 3) return multiply_block<Product, 2 * kMR / 3>(depth, a, 1, kMR, b, kNR, acc, other);
  multiply_block<Product, kMR / 3>(depth, a, 1, kMR, b, kNR, acc, other);
}
#if defined(ALMA_AMX)
template <class Product, bool kEachUnit>
ALMA_INLINE void multiply_rows(AmxProduct, int64_t rows, int64_t depth, const float* a, const float* b,
                               F (&acc)[AmxProduct::kRows][2], Meanwhile<AmxProduct::kRows>&) {
  AmxProduct::multiply(depth, a, b, rows > AmxProduct::kTile, acc);
}
#endif

// Panels of an operand, `stride` floats apart.
struct Panels {
  const float* data;
  int64_t stride;
  Panels from(int64_t panel, int64_t offset) const { return {data + panel * stride + offset, stride}; }
};

// c[rows, cols] = or += the products of `depth` units: of what a tile needs of b each panel stays in L1 for all of a's. `next` is what is read
// after this, or null. Meanwhile a share of what is to be fetched is asked for with each block of registers, or a small one with each unit; the
// last block's results may be left to be stored.
template <class Product, bool kEachUnit = false>
static void compute_depth(const Panels& a, const Panels& b, int64_t depth, int64_t rows, int64_t cols, float* c,
                          int64_t c_stride, bool add, const float* next, Meanwhile<Product::kRows>& meanwhile) {
  for (int64_t j = 0; j < cols; j += kNR) {
    const float* b_panel = b.data + j / kNR * b.stride;
    // The next panel of b comes from far away: a piece of it is fetched with each block of this one, where processors do not foresee it.
    const char* ahead = reinterpret_cast<const char*>(W == 16 ? nullptr : j + kNR < cols ? b_panel + b.stride : next);
    const int64_t bytes = ahead != nullptr ? depth * kNR * static_cast<int64_t>(sizeof(float)) : 0;
    const int64_t piece = round_up(ceil_div(bytes, ceil_div(rows, Product::kRows)), 64);
    for (int64_t i = 0; i < rows; i += Product::kRows) {
      for (const char *line = ahead, *end = ahead + piece; line < end; line += 64) __builtin_prefetch(line, 0, 2);
      ahead += piece;
      float* out = c + i * c_stride + j;
      for (int row = 0; row < Product::kRows; ++row)
        for (int at = 0; at < kNR; at += 16) __builtin_prefetch(out + row * c_stride + at, 1);
      F acc[Product::kRows][2];
      if (!kEachUnit) meanwhile.fetch.some();
      multiply_rows<Product, kEachUnit>(Product{}, rows - i, depth, a.data + i / Product::kRows * a.stride, b_panel,
                                        acc, meanwhile);
      const bool whole = rows - i >= Product::kRows && cols - j >= kNR;
      if (whole && Product::kMeanwhile) {
        meanwhile.stores.put(acc, out, c_stride, add);
      } else if (whole) {
        store_block(acc, out, c_stride, add);
      } else {
        store_edge(acc, out, c_stride, static_cast<int>(min<int64_t>(Product::kRows, rows - i)),
                   static_cast<int>(min<int64_t>(kNR, cols - j)), add);
      }
    }
  }
}

// Tile of C: rows [0, rows) and columns [0, cols) of the panels at a and b.
template <class Product>
static void compute_tile(const Panels& a, const Panels& b, int64_t units, int64_t rows, int64_t cols, float* c,
                         int64_t c_stride, bool add) {
  const int64_t part = part_of(units);
  Meanwhile<Product::kRows> meanwhile;
  for (int64_t u = 0; u < units; u += part) {
    const int64_t depth = min(part, units - u);
    const float* next = u + depth < units ? b.data + (u + depth) * kNR : nullptr;
    compute_depth<Product>(a.from(0, u * Product::kRows), b.from(0, u * kNR), depth, rows, cols, c, c_stride,
                           add || u > 0, next, meanwhile);
  }
  meanwhile.stores.finish();
}

}  // namespace alma::cpu::ALMA_ISA

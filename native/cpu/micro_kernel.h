// The register block of all matrix products: acc[kMR][2 vectors] += a[kMR, k] · b[k, 2·W].
//
// Rows of accumulators are chosen to fill the register file: AVX2 has 16 registers (12 accumulators, 2 of b, 1 of a), AVX-512
// and NEON have 32, SSE2 has 16 but needs temporaries for the product (it has no FMA).
#pragma once

#include "simd.h"

namespace alma::cpu::ALMA_ISA {

#if ALMA_SIMD_WIDTH == 16
constexpr int kMR = 14;
#elif ALMA_SIMD_WIDTH == 8
constexpr int kMR = 6;
#elif defined(__aarch64__)
constexpr int kMR = 8;
#else
constexpr int kMR = 4;
#endif
constexpr int kNR = 2 * W;

// Multiplication by vectors.
struct VectorProduct {
  static constexpr int kRows = kMR;         // of a register block
  static constexpr int64_t kDepth = 1;      // units that are multiplied at a time
  static constexpr bool kMeanwhile = true;  // something else can be done between units
  struct Session {};                        // what a thread holds meanwhile
};

// Of f32 units.
struct F32Product : VectorProduct {
  ALMA_INLINE F multiply_add(F a, F b, F c) { return a * b + c; }
};

// Nothing is done meanwhile.
struct Nothing {
  static constexpr int kPieces = 1;
  ALMA_LAMBDA void each_unit() const {}
  ALMA_LAMBDA void each_piece() const {}
};

// a(i, p) = a[i · row_stride + p · step], b(p, j) = b[p · b_stride + j]; of the block's rows the first kRows, the others
// become zero. `other` is what is done between the units, and between pieces of them.
template <class Product = F32Product, int kRows = kMR, class Other = Nothing>
ALMA_INLINE void multiply_block(int64_t k, const float* a, int64_t row_stride, int64_t step, const float* b,
                                int64_t b_stride, F (&acc)[kMR][2], const Other& other = {}) {
  F sum[kRows][2] = {};
  for (int piece = 1; piece <= Other::kPieces; ++piece) {
    other.each_piece();
    const int64_t units = k / Other::kPieces + (piece < Other::kPieces ? 0 : k % Other::kPieces);
    for (int64_t p = 0; p < units; ++p) {
      other.each_unit();
      const F b0 = load(b), b1 = load(b + W);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const F broadcast = splat(a[i * row_stride]);
        sum[i][0] = Product::multiply_add(broadcast, b0, sum[i][0]);
        sum[i][1] = Product::multiply_add(broadcast, b1, sum[i][1]);
      }
      a += step;
      b += b_stride;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    acc[i][0] = sum[i][0];
    acc[i][1] = sum[i][1];
  }
  for (int i = kRows; i < kMR; ++i) acc[i][0] = acc[i][1] = F{};
}

// c = or += the block. c has room for all its rows and kNR columns.
template <int kRows>
ALMA_INLINE void store_block(const F (&acc)[kRows][2], float* c, int64_t c_stride, bool add) {
  if (add) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      store(c + i * c_stride, load(c + i * c_stride) + acc[i][0]);
      store(c + i * c_stride + W, load(c + i * c_stride + W) + acc[i][1]);
    }
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      store(c + i * c_stride, acc[i][0]);
      store(c + i * c_stride + W, acc[i][1]);
    }
  }
}

// The same for a block that reaches over the edge of c.
template <int kRows>
static void store_edge(const F (&acc)[kRows][2], float* c, int64_t c_stride, int rows, int cols, bool add) {
  float block[kRows * kNR];
  for (int i = 0; i < rows; ++i) {
    store(block + i * kNR, acc[i][0]);
    store(block + i * kNR + W, acc[i][1]);
  }
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < cols; ++j) {
      const float value = block[i * kNR + j];
      c[i * c_stride + j] = add ? c[i * c_stride + j] + value : value;
    }
}

// How much of a product a panel of kMR rows needs; the rest is known to be zero or is never read.
struct Extent {
  int64_t cols, k_begin, k_end;
};

// The products of panels of kMR rows of a with panels of kNR columns of b, extents[i] for the rows [i · kMR, (i + 1) · kMR); put(acc, i, j) takes
// that of row i and column j. b_panel is the distance between column blocks of b: kNR in a row-major b, k · kNR in packed panels.
template <class Put>
ALMA_INLINE void for_tiles(int64_t rows, const Extent* extents, const float* a, int64_t row_stride, int64_t step,
                           const float* b, int64_t b_stride, int64_t b_panel, const Put& put) {
  bool more = true;
  for (int64_t j = 0; more; j += kNR) {
    more = false;
    for (int64_t i = 0; i < rows; i += kMR) {
      const Extent extent = extents[i / kMR];
      if (j >= extent.cols) continue;
      more = more || j + kNR < extent.cols;
      F acc[kMR][2];
      multiply_block(extent.k_end - extent.k_begin, a + i * row_stride + extent.k_begin * step, row_stride, step,
                     b + j / kNR * b_panel + extent.k_begin * b_stride, b_stride, acc);
      put(acc, i, j);
    }
  }
}

// c[rows, …] (+)= a · b in scratch memory. rows is rounded up to kMR and cols to kNR, and all three have room for that.
static inline void multiply_tiles(int64_t rows, const Extent* extents, const float* a, int64_t row_stride, int64_t step,
                                  const float* b, int64_t b_stride, int64_t b_panel, float* c, int64_t c_stride,
                                  bool add) {
  for_tiles(rows, extents, a, row_stride, step, b, b_stride, b_panel,
            [&](const F(&acc)[kMR][2], int64_t i, int64_t j)
                ALMA_LAMBDA { store_block(acc, c + i * c_stride + j, c_stride, add); });
}

}  // namespace alma::cpu::ALMA_ISA

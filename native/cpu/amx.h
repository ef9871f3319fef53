// Products of pairs of bf16 by AMX: a tile is 16 rows of 64 bytes, and one instruction (tdpbf16ps) multiplies the 16 pairs of each row of a with 16
// rows of pairs of b. Where the processor lacks it, what it computes is computed one after the other (tests only).
#pragma once

#include "matmul_pack.h"
#include "micro_kernel.h"

namespace alma::cpu::ALMA_ISA {

// The register block: 2 × 2 tiles of sums.
struct AmxProduct {
  static constexpr int64_t kTile = 16;  // rows of a tile, and units of k in a row of a
  static constexpr int kRows = 2 * kTile;
  static constexpr int64_t kDepth = kTile;
  static constexpr bool kMeanwhile = false;

  // While it lives, its thread has tiles. They are given back at the end, or switching threads would save them.
  struct Session {
    Session() {
#if defined(__AMX_TILE__)
      // Palette 1, and for each of 8 tiles the bytes of its rows and their number.
      alignas(64) static constexpr uint8_t config[64] = {1,  0,  0,  0,  0,  0,  0,  0, 0,  0, 0,  0, 0,  0, 0,  0,  //
                                                         64, 0,  64, 0,  64, 0,  64, 0, 64, 0, 64, 0, 64, 0, 64, 0,
                                                         0,  0,  0,  0,  0,  0,  0,  0, 0,  0, 0,  0, 0,  0, 0,  0,
                                                         16, 16, 16, 16, 16, 16, 16, 16};
      _tile_loadconfig(config);
#endif
    }
    ~Session() {
#if defined(__AMX_TILE__)
      _tile_release();
#endif
    }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
  };

  // acc = a · b over `depth` units, a multiple of kDepth: of a [depth / 16][32 rows][16 units], of b [depth][kNR]. Without `both` the last 16
  // rows of acc are left as they are.
  static void multiply(int64_t depth, const float* a, const float* b, bool both, F (&acc)[kRows][2]) {
#if defined(__AMX_BF16__)
    constexpr int kStrideA = 64, kStrideB = kNR * 4, kStrideC = sizeof acc[0];
    asm volatile("" ::: "memory");  // GCC 12 does not know that tiles are loaded from memory and stored to it
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t u = 0; u < depth; u += kTile, a += kTile * kRows, b += kTile * kNR) {
      _tile_loadd(4, a, kStrideA);
      _tile_loadd(6, b, kStrideB);
      _tile_loadd(7, b + W, kStrideB);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if (!both) continue;
      _tile_loadd(5, a + kTile * kTile, kStrideA);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, &acc[0][0], kStrideC);
    _tile_stored(1, &acc[0][1], kStrideC);
    if (both) {
      _tile_stored(2, &acc[kTile][0], kStrideC);
      _tile_stored(3, &acc[kTile][1], kStrideC);
    }
    asm volatile("" ::: "memory");
#else
    const int64_t rows = both ? kRows : kTile;
    for (int64_t i = 0; i < rows; ++i) acc[i][0] = acc[i][1] = F{};
    for (int64_t u = 0; u < depth; u += kTile, a += kTile * kRows, b += kTile * kNR)
      for (int64_t i = 0; i < rows; ++i)
        for (int half = 0; half < 2; ++half) {
          // Sums of the first and of the second elements of pairs, apart to the end of a row.
          F first = {}, second = {};
          for (int64_t p = 0; p < kTile; ++p) {
            const U x = bits_of(splat(a[i * kTile + p])), y = bits_of(load(b + p * kNR + half * W));
            first = as_float(x << 16) * as_float(y << 16) + first;
            second = as_float(x & 0xffff0000u) * as_float(y & 0xffff0000u) + second;
          }
          acc[i][half] += first + second;
        }
#endif
  }

  // Panels of a [units / 16][32 rows][16 units], zero where there are no rows and from the end of k to the last 16.
  template <class T>
  static void pack_rows(const Operand<T>& source, int64_t first, int64_t panels, int64_t k_begin, int64_t units,
                        float* out) {
    using Step = RowVectors<kTile, PairUnits, T>;
    for (int64_t panel = 0; panel < panels; ++panel, out += panel_stride(units, kRows))
      for (int64_t u = 0; u < units; u += kTile)
        for (int64_t i = 0; i < kRows; i += kTile) {
          const int64_t row = first + panel * kRows + i, k = k_begin + u * PairUnits::kSize;
          F block[W];
          for (int64_t r = 0; r < kTile; ++r) {
            if (source.k_contiguous) {
              const int64_t left = row + r < source.extent ? source.k - k : 0;
              const T* const from = source.data + (row + r) * source.stride + k;
              block[r] = left >= Step::kElements ? PairUnits::load_along(from)
                         : left > 0              ? Step::load_some(from, left)
                                                 : F{};
            } else {
              const int n = static_cast<int>(max<int64_t>(0, min<int64_t>(kTile, source.extent - row)));
              block[r] = PairUnits::load_across(source, k / PairUnits::kSize + r, row, n);
            }
          }
          if (!source.k_contiguous) transpose(block);
          for (int64_t r = 0; r < kTile; ++r) store(out + (u * kRows + (i + r) * kTile), block[r]);
        }
  }
};

}  // namespace alma::cpu::ALMA_ISA

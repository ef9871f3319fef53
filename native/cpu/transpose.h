// W vectors of W lanes, rows and columns exchanged.
#pragma once

#include "simd.h"

namespace alma::cpu::ALMA_ISA {

// Shuffles of two vectors, the lanes of the second numbered from W on: ALMA_WITHIN does the same in each quarter of 128 bits, ALMA_QUARTERS
// names whole quarters.
#if ALMA_SIMD_WIDTH == 4
#define ALMA_WITHIN(x, y, a, b, c, d) ALMA_SHUFFLE(x, y, a, b, c, d)
#elif ALMA_SIMD_WIDTH == 8
#define ALMA_WITHIN(x, y, a, b, c, d) ALMA_SHUFFLE(x, y, a, b, c, d, a + 4, b + 4, c + 4, d + 4)
#define ALMA_QUARTERS(x, y, a, b) \
  ALMA_SHUFFLE(x, y, 4 * a, 4 * a + 1, 4 * a + 2, 4 * a + 3, 4 * b, 4 * b + 1, 4 * b + 2, 4 * b + 3)
#else
#define ALMA_WITHIN(x, y, a, b, c, d) \
  ALMA_SHUFFLE(x, y, a, b, c, d, a + 4, b + 4, c + 4, d + 4, a + 8, b + 8, c + 8, d + 8, a + 12, b + 12, c + 12, d + 12)
#define ALMA_QUARTERS(x, y, a, b, c, d)                                                                                \
  ALMA_SHUFFLE(x, y, 4 * a, 4 * a + 1, 4 * a + 2, 4 * a + 3, 4 * b, 4 * b + 1, 4 * b + 2, 4 * b + 3, 4 * c, 4 * c + 1, \
               4 * c + 2, 4 * c + 3, 4 * d, 4 * d + 1, 4 * d + 2, 4 * d + 3)
#endif

// Four vectors as 4 × 4 blocks, one in each quarter.
ALMA_INLINE void transpose_quarters(F& r0, F& r1, F& r2, F& r3) {
  const F a = ALMA_WITHIN(r0, r1, 0, W, 1, W + 1), b = ALMA_WITHIN(r0, r1, 2, W + 2, 3, W + 3);
  const F c = ALMA_WITHIN(r2, r3, 0, W, 1, W + 1), d = ALMA_WITHIN(r2, r3, 2, W + 2, 3, W + 3);
  r0 = ALMA_WITHIN(a, c, 0, 1, W, W + 1);
  r1 = ALMA_WITHIN(a, c, 2, 3, W + 2, W + 3);
  r2 = ALMA_WITHIN(b, d, 0, 1, W, W + 1);
  r3 = ALMA_WITHIN(b, d, 2, 3, W + 2, W + 3);
}

// 4 × 4 within the quarters, then the quarters: 24 shuffles for AVX2 and 64 for AVX-512. Shuffles across quarters are two on AVX2, and with AVX-512
// want a register for their order.
ALMA_INLINE void transpose(F (&rows)[W]) {
#pragma GCC unroll 4
  for (int i = 0; i < W; i += 4) transpose_quarters(rows[i], rows[i + 1], rows[i + 2], rows[i + 3]);
#if ALMA_SIMD_WIDTH == 8
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const F low = ALMA_QUARTERS(rows[i], rows[i + 4], 0, 2);
    rows[i + 4] = ALMA_QUARTERS(rows[i], rows[i + 4], 1, 3);
    rows[i] = low;
  }
#elif ALMA_SIMD_WIDTH == 16
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    F &r0 = rows[i], &r1 = rows[i + 4], &r2 = rows[i + 8], &r3 = rows[i + 12];
    const F a = ALMA_QUARTERS(r0, r1, 0, 1, 4, 5), b = ALMA_QUARTERS(r0, r1, 2, 3, 6, 7);
    const F c = ALMA_QUARTERS(r2, r3, 0, 1, 4, 5), d = ALMA_QUARTERS(r2, r3, 2, 3, 6, 7);
    r0 = ALMA_QUARTERS(a, c, 0, 2, 4, 6);
    r1 = ALMA_QUARTERS(a, c, 1, 3, 5, 7);
    r2 = ALMA_QUARTERS(b, d, 0, 2, 4, 6);
    r3 = ALMA_QUARTERS(b, d, 1, 3, 5, 7);
  }
#endif
}
#undef ALMA_WITHIN
#undef ALMA_QUARTERS

}  // namespace alma::cpu::ALMA_ISA

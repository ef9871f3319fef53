// c += a₀·b₀ + a₁·b₁ over pairs of bf16: vdpbf16ps, or what it computes where the processor lacks it (tests only); and pairs of what is f32, rounded
// to the nearest bf16, ties to even. The instructions take subnormal numbers for zero.
#pragma once

#include "micro_kernel.h"

namespace alma::cpu::ALMA_ISA {

struct Bf16Product : VectorProduct {
  ALMA_INLINE F multiply_add(F a, F b, F c) {
#if defined(__AVX512BF16__)
    return reinterpret_cast<F>(
        _mm512_dpbf16_ps(reinterpret_cast<__m512>(c), reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)));
#else
    const U x = bits_of(a), y = bits_of(b);
    const F odd = as_float(x & 0xffff0000u) * as_float(y & 0xffff0000u) + c;
    return as_float(x << 16) * as_float(y << 16) + odd;
#endif
  }
};

// 2 W neighbours as W pairs.
ALMA_INLINE F pairs_along(F first, F second) {
#if defined(__AVX512BF16__)
  return reinterpret_cast<F>(_mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(second), reinterpret_cast<__m512>(first)));
#else
  const U16 halves[2] = {narrow(first), narrow(second)};
  F pairs;
  __builtin_memcpy(&pairs, halves, sizeof pairs);
  return pairs;
#endif
}

// Pairs of a lane of each.
ALMA_INLINE F pairs_across(F low, F high) {
#if defined(__AVX512BF16__)
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
                                         23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return reinterpret_cast<F>(_mm512_permutexvar_epi16(order, reinterpret_cast<__m512i>(pairs_along(low, high))));
#else
  return as_float(widen_bits(narrow(low)) | widen_bits(narrow(high)) << 16);
#endif
}

}  // namespace alma::cpu::ALMA_ISA

// c += a₀·b₀ + a₁·b₁ over pairs of bf16: vdpbf16ps, or what it computes where the processor lacks it (tests only).
#pragma once

#include "simd.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace alma::cpu::ALMA_ISA {

struct Bf16Product {
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

}  // namespace alma::cpu::ALMA_ISA

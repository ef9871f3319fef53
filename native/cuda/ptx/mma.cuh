// mma.sync m16n8k16, bf16 × bf16 + f32. The fragments' layout: layout/fragments.h.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "call_site.h"

#ifdef ALMA_EMULATOR
#include "../../emulator/tensor_core.h"
#endif

namespace alma::ptx {

// d += a · b, for a warp: a 16×16 row-major, b 16×8 column-major, d 16×8.
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2] ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::mma_m16n8k16_bf16(d, a, b, here);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

}  // namespace alma::ptx

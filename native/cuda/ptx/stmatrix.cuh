// stmatrix: the reverse of ldmatrix. Lane l gives the address of row l % 8 of matrix l / 8, 16-byte aligned.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "call_site.h"
#include "ldmatrix.cuh"

#ifdef ALMA_EMULATOR
#include "../../emulator/mbarrier.h"
#endif

namespace alma::ptx {

__device__ __forceinline__ void stmatrix_x4(void* row, const uint32_t (&r)[4] ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::store_matrices(row, r, 4, here);
#else
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(shared_address(row)),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
#endif
}

}  // namespace alma::ptx

// ldmatrix: 8×8 matrices of 16-bit elements from shared memory into a warp's fragments. Lane l gives the address of row l % 8 of
// matrix l / 8 (x2: lanes 0–15 count). The addresses are 16-byte aligned.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "call_site.h"

#ifdef ALMA_EMULATOR
#include "../../emulator/tensor_core.h"
#endif

namespace alma::ptx {

#ifndef ALMA_EMULATOR
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
#endif

__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::ldmatrix<4, false>(r, row, here);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
#endif
}

__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::ldmatrix<4, true>(r, row, here);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
#endif
}

__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::ldmatrix<2, false>(r, row, here);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row)));
#endif
}

__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::ldmatrix<2, true>(r, row, here);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row)));
#endif
}

}  // namespace alma::ptx

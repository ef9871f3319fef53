// A value the compiler may assume nothing about: it then computes from it again instead of keeping what it has computed before in
// more registers. Costs no instruction.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace alma::ptx {

__device__ __forceinline__ void make_opaque(uint32_t& word) {
#ifdef ALMA_EMULATOR
  (void)word;
#else
  asm volatile("" : "+r"(word));
#endif
}

}  // namespace alma::ptx

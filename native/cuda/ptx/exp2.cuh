// ex2.approx.ftz: 2^x in one instruction, relative error up to 2⁻²²; results below 2⁻¹²⁶ are 0.
#pragma once

#include <cuda_runtime.h>

namespace alma::ptx {

__device__ __forceinline__ float exp2_approximate(float x) {
#ifdef ALMA_EMULATOR
  return exp2f(x);
#else
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(result) : "f"(x));
  return result;
#endif
}

}  // namespace alma::ptx

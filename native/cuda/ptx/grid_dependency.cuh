// Programmatic dependent launch (sm_90): both are nothing where the kernel was launched without early_start.
#pragma once

#include <cuda_runtime.h>

namespace alma::ptx {

// Waits until the kernels before this one have ended and their writes are seen.
__device__ __forceinline__ void grid_dependency_wait() {
#if !defined(ALMA_EMULATOR) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}

// Lets the next kernel's blocks start when every block of this one has called it or has ended.
__device__ __forceinline__ void grid_dependency_launch() {
#if !defined(ALMA_EMULATOR) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

}  // namespace alma::ptx

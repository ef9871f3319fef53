// Programmatic dependent launch (sm_90): both are nothing where the kernel was launched without early_start.
#pragma once

#include <cuda_runtime.h>

namespace alma::ptx {

// Waits until the kernels before this one have ended and their writes are seen. Each thread that touches what they write calls it.
__device__ __forceinline__ void grid_dependency_wait() {
#ifdef ALMA_EMULATOR
  emulator::current_block->grid_dependency_wait();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}

// Lets the next kernel's blocks start when every block of this one has called it or has ended. Behind the wait: what the next kernel
// reads early has then been written by the kernel just before it at the latest.
__device__ __forceinline__ void grid_dependency_launch() {
#ifdef ALMA_EMULATOR
  emulator::current_block->grid_dependency_launch();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

// Brings the 128 bytes around an address into the L2 cache.
__device__ __forceinline__ void prefetch_to_l2(const void* global) {
#ifdef ALMA_EMULATOR
  emulator::check_prefetch(global);
#else
  asm volatile("prefetch.global.L2 [%0];\n" ::"l"(global));
#endif
}

}  // namespace alma::ptx

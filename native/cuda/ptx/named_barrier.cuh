// Barriers 1 to 15 of a block, for a part of its warps; 0 is __syncthreads.
#pragma once

#include <cuda_runtime.h>

#include "call_site.h"

#ifdef ALMA_EMULATOR
#include "../../emulator/mbarrier.h"
#endif

namespace alma::ptx {

// Waits until `threads` threads have come, those that only arrive among them.
__device__ __forceinline__ void barrier_sync(int id, int threads ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::named_barrier(id, static_cast<unsigned>(threads), true, here);
#else
  asm volatile("barrier.cta.sync.aligned %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
#endif
}

__device__ __forceinline__ void barrier_arrive(int id, int threads ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::named_barrier(id, static_cast<unsigned>(threads), false, here);
#else
  asm volatile("barrier.cta.arrive.aligned %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
#endif
}

}  // namespace alma::ptx

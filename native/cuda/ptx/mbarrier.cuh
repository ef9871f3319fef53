// mbarrier: counts arrivals and the bytes of bulk copies in shared memory. A phase ends when both have come; waiting for a parity waits
// until the phase of that parity has ended: for a new barrier, parity 1 has. Eight bytes, 8-byte aligned.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "call_site.h"
#include "ldmatrix.cuh"

#ifdef ALMA_EMULATOR
#include "../../emulator/mbarrier.h"
#endif

namespace alma::ptx {

using Mbarrier = uint64_t;

// By one thread; then mbarrier_init_fence() by it, and a barrier of the block.
__device__ __forceinline__ void mbarrier_init(Mbarrier* barrier, unsigned count ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::mbarrier_init(barrier, count, here);
#else
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(count) : "memory");
#endif
}

__device__ __forceinline__ void mbarrier_init_fence() {
#ifdef ALMA_EMULATOR
  emulator::fence_proxy_async();
#else
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
#endif
}

__device__ __forceinline__ void mbarrier_arrive(Mbarrier* barrier ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::mbarrier_arrive(barrier, 1, 0, here);
#else
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(shared_address(barrier)) : "memory");
#endif
}

// Arrives, and makes the phase wait for `bytes` bytes of copies.
__device__ __forceinline__ void mbarrier_arrive_expect(Mbarrier* barrier, uint32_t bytes ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::mbarrier_arrive(barrier, 1, bytes, here);
#else
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
#endif
}

__device__ __forceinline__ void mbarrier_wait(Mbarrier* barrier, unsigned parity ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::mbarrier_wait(barrier, parity, here);
#else
  uint32_t done = 0;
  do {  // try_wait suspends the thread for a while by itself
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}\n"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  } while (done == 0);
#endif
}

}  // namespace alma::ptx

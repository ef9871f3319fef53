// What orders accesses of the threads (the generic proxy) before those of bulk copies and wgmma (the async proxy).
#pragma once

#include <cuda_runtime.h>

#ifdef ALMA_EMULATOR
#include "../../emulator/mbarrier.h"
#endif

namespace alma::ptx {

// Between a thread's stores to shared memory and the asynchronous operation that reads them; by those who store, before the barrier.
__device__ __forceinline__ void fence_proxy_async() {
#ifdef ALMA_EMULATOR
  emulator::fence_proxy_async();
#else
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
#endif
}

}  // namespace alma::ptx

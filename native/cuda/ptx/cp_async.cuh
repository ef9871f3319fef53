// cp.async: copies from global to shared memory that pass the registers by. A thread's copies are grouped by commit; after wait<N> all
// but the thread's N newest groups have arrived, for this thread: the others need a __syncthreads() as well.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "call_site.h"

#ifdef ALMA_EMULATOR
#include "../../emulator/async_copy.h"
#else
#include "ldmatrix.cuh"
#endif

namespace alma::ptx {

// 16 bytes, both addresses 16-byte aligned. With `valid` false nothing is read and zeros are written.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid = true ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::cp_async(shared, global, 16, valid, here);
#else
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0));
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#ifdef ALMA_EMULATOR
  emulator::cp_async_commit();
#else
  asm volatile("cp.async.commit_group;\n" ::);
#endif
}

template <int kPending>
__device__ __forceinline__ void cp_async_wait(ALMA_CALL_SITE_ONLY) {
#ifdef ALMA_EMULATOR
  emulator::cp_async_wait(kPending, here);
#else
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending));
#endif
}

}  // namespace alma::ptx

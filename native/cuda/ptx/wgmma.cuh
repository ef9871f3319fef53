// Products of a warpgroup on tensor cores: wgmma m64nNk16, bf16 × bf16 + f32. Issued, they run by themselves: between issue and
// wgmma_wait() nobody may touch the accumulator, nor write the operands. All 128 threads call each of these with the same operands.
//   wgmma_fence(); wgmma_…(…); …; wgmma_commit(); … wgmma_wait<0>();
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "call_site.h"
#include "ldmatrix.cuh"

#ifdef ALMA_EMULATOR
#include "../../emulator/warpgroup.h"
#endif

namespace alma::ptx {

// How k lies in an operand's tile: along its rows of 128 bytes, or across them.
enum class Major { k, mn };

// An operand in shared memory with 128-byte swizzle, its tile at a multiple of 1024 bytes.
//   k-major: rows of 64 k each. `shared` advances by 32 bytes from one step of 16 k to the next.
//   mn-major: rows of 64 m or n each, one for every k; the next 64 lie `leading_bytes` further. A step is 2048 bytes.
template <Major kMajor>
__device__ __forceinline__ uint64_t operand(const void* shared, uint32_t leading_bytes = 0) {
#ifdef ALMA_EMULATOR
  const uint64_t address = emulator::shared_offset(shared);
#else
  const uint64_t address = shared_address(shared);
#endif
  const uint64_t leading = kMajor == Major::k ? 1 : leading_bytes >> 4;
  return (address & 0x3ffff) >> 4 | leading << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}

// Before the first product and wherever registers of one were accessed.
__device__ __forceinline__ void wgmma_fence(ALMA_CALL_SITE_ONLY) {
#ifdef ALMA_EMULATOR
  emulator::wgmma_fence(here);
#else
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
#endif
}

__device__ __forceinline__ void wgmma_commit(ALMA_CALL_SITE_ONLY) {
#ifdef ALMA_EMULATOR
  emulator::wgmma_commit(here);
#else
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
#endif
}

// All but the newest kPending groups have ended.
template <int kPending>
__device__ __forceinline__ void wgmma_wait(ALMA_CALL_SITE_ONLY) {
#ifdef ALMA_EMULATOR
  emulator::wgmma_wait(kPending, here);
#else
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
#endif
}

// Keeps the compiler from moving accesses to registers of a product across this place. Costs no instruction.
template <int kCount>
__device__ __forceinline__ void keep(float (&d)[kCount]) {
#ifdef ALMA_EMULATOR
  (void)d;
#else
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
#endif
}

}  // namespace alma::ptx

// Clusters: blocks on neighbouring multiprocessors that reach into each other's shared memory (sm_90). A block must not end before the others
// have done so for the last time: a barrier of the cluster is behind that, and one before the first.
#pragma once

#include <cuda_runtime.h>

#include "call_site.h"
#include "mbarrier.cuh"

#ifdef ALMA_EMULATOR
#include "../../emulator/cluster.h"
#endif

namespace alma::ptx {

// The block's place in its cluster.
__device__ __forceinline__ unsigned cluster_rank() {
#ifdef ALMA_EMULATOR
  return emulator::cluster_rank();
#else
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
  return rank;
#endif
}

// By all threads of the cluster; what they did before is seen behind the wait.
__device__ __forceinline__ void cluster_arrive(ALMA_CALL_SITE_ONLY) {
#ifdef ALMA_EMULATOR
  emulator::cluster_arrive(here);
#else
  asm volatile("barrier.cluster.arrive.release;\n" ::: "memory");
#endif
}

__device__ __forceinline__ void cluster_wait(ALMA_CALL_SITE_ONLY) {
#ifdef ALMA_EMULATOR
  emulator::cluster_wait(here);
#else
  asm volatile("barrier.cluster.wait.acquire;\n" ::: "memory");
#endif
}

// Arrives at the mbarrier that lies in block `rank` where `barrier` lies in this one.
__device__ __forceinline__ void mbarrier_arrive_remote(Mbarrier* barrier, unsigned rank ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::mbarrier_arrive_remote(barrier, rank, here);
#else
  asm volatile(
      "{\n.reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n}\n" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
#endif
}

}  // namespace alma::ptx

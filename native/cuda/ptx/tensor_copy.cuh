// Copies of boxes by tensor maps (TMA), issued by one thread. `map` lies in the kernel's parameters (__grid_constant__); coordinates are
// in elements, innermost first; what lies outside of the tensor is read as 0 and not written. Shared addresses are 128-byte aligned,
// and 1024-byte aligned where wgmma reads them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../tensor_map.h"
#include "call_site.h"
#include "mbarrier.cuh"

#ifdef ALMA_EMULATOR
#include "../../emulator/tensor_map.h"
#endif

namespace alma::ptx {

__device__ __forceinline__ void prefetch_tensor_map(const TensorMap* map) {
#ifdef ALMA_EMULATOR
  (void)map;
#else
  asm volatile("prefetch.tensormap [%0];\n" ::"l"(map) : "memory");
#endif
}

// The mbarrier counts the bytes of the whole box.
__device__ __forceinline__ void tensor_load_2d(void* shared, const TensorMap* map, Mbarrier* barrier, int x,
                                               int y ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::tma_load(shared, map, barrier, {x, y, 0}, 2, here);
#else
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];\n" ::"r"(
          shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y)
      : "memory");
#endif
}

// Into the same place of every block of the cluster whose bit is set in `blocks`; the mbarrier at the same place of each counts the bytes.
__device__ __forceinline__ void tensor_load_2d_multicast(void* shared, const TensorMap* map, Mbarrier* barrier, int x,
                                                         int y, uint16_t blocks ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::tma_load_multicast(shared, map, barrier, {x, y, 0}, 2, blocks, here);
#else
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, "
      "%4}], [%2], %5;\n" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "h"(blocks)
      : "memory");
#endif
}

__device__ __forceinline__ void tensor_load_3d(void* shared, const TensorMap* map, Mbarrier* barrier, int x, int y,
                                               int z ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::tma_load(shared, map, barrier, {x, y, z}, 3, here);
#else
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
      "[%2];\n" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
      : "memory");
#endif
}

// A thread's stores are grouped by commit. Behind wait_read<N> all but its N newest groups have been read from shared memory, behind
// wait<N> they have been written.
__device__ __forceinline__ void tensor_store_2d(const TensorMap* map, const void* shared, int x, int y ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::tma_store(map, shared, {x, y, 0}, 2, false, here);
#else
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];\n" ::"l"(map),
               "r"(shared_address(shared)), "r"(x), "r"(y)
               : "memory");
#endif
}

__device__ __forceinline__ void tensor_store_3d(const TensorMap* map, const void* shared, int x, int y,
                                                int z ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::tma_store(map, shared, {x, y, z}, 3, false, here);
#else
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];\n" ::"l"(map),
               "r"(shared_address(shared)), "r"(x), "r"(y), "r"(z)
               : "memory");
#endif
}

// f32: the tensor's elements += those of the box.
__device__ __forceinline__ void tensor_add_2d(const TensorMap* map, const void* shared, int x, int y ALMA_CALL_SITE) {
#ifdef ALMA_EMULATOR
  emulator::tma_store(map, shared, {x, y, 0}, 2, true, here);
#else
  asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%2, %3}], [%1];\n" ::"l"(map),
               "r"(shared_address(shared)), "r"(x), "r"(y)
               : "memory");
#endif
}

__device__ __forceinline__ void bulk_commit() {
#ifdef ALMA_EMULATOR
  emulator::bulk_commit();
#else
  asm volatile("cp.async.bulk.commit_group;\n" ::: "memory");
#endif
}

template <int kPending>
__device__ __forceinline__ void bulk_wait_read(ALMA_CALL_SITE_ONLY) {
#ifdef ALMA_EMULATOR
  emulator::bulk_wait(kPending, here);
#else
  asm volatile("cp.async.bulk.wait_group.read %0;\n" ::"n"(kPending) : "memory");
#endif
}

template <int kPending>
__device__ __forceinline__ void bulk_wait(ALMA_CALL_SITE_ONLY) {
#ifdef ALMA_EMULATOR
  emulator::bulk_wait(kPending, here);
#else
  asm volatile("cp.async.bulk.wait_group %0;\n" ::"n"(kPending) : "memory");
#endif
}

}  // namespace alma::ptx

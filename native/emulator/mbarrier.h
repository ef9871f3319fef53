// The bodies of native/cuda/ptx/{mbarrier,bulk_store,proxy_fence,named_barrier,stmatrix}.cuh.
#pragma once

#include <cstdint>

#include "block.h"

namespace alma::emulator {

void mbarrier_init(void* barrier, unsigned count, Here here);
void mbarrier_arrive(void* barrier, unsigned arrivals, size_t expected_bytes, Here here);
void mbarrier_wait(void* barrier, unsigned parity, Here here);
void fence_proxy_async();
void bulk_commit();
void bulk_wait(unsigned pending, Here here);
void named_barrier(int id, unsigned threads, bool waits, Here here);
void store_matrices(void* row, const uint32_t* registers, int matrices, Here here);

}  // namespace alma::emulator

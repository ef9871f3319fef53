// The bodies of native/cuda/ptx/{mma,ldmatrix}.cuh.
#pragma once

#include <cstdint>

#include "block.h"

namespace alma::emulator {

// Products exact, sums in f32 in the order of k. (Tensor cores keep some bits more and truncate: compare with a tolerance.)
void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Here here);

void load_matrices(uint32_t* registers, int matrices, bool transposed, const void* row, Here here);

template <int kMatrices, bool kTransposed>
void ldmatrix(uint32_t (&registers)[kMatrices], const void* row, Here here) {
  load_matrices(registers, kMatrices, kTransposed, row, here);
}

}  // namespace alma::emulator

// The bodies of native/cuda/ptx/wgmma*.cuh: products of a warpgroup, m64nNk16, bf16 × bf16 + f32, operands in shared memory with
// 128-byte swizzle, the left one from registers as well.
#pragma once

#include <cstdint>

#include "block.h"

namespace alma::emulator {

// From the beginning of the block's shared memory.
uint64_t shared_offset(const void* shared);

struct WgmmaOperands {
  uint64_t a, b;            // descriptors
  const uint32_t* a_words;  // 4 registers instead of a, or null
  bool a_transposed, b_transposed, add;
};
void wgmma(float* accumulator, int n, const WgmmaOperands& operands, Here here);
void wgmma_fence(Here here);
void wgmma_commit(Here here);
void wgmma_wait(unsigned pending, Here here);
void set_max_registers(unsigned count, Here here);

}  // namespace alma::emulator

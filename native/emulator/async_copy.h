// The bodies of native/cuda/ptx/cp_async.cuh.
#pragma once

#include "block.h"

namespace alma::emulator {

inline void cp_async(void* shared, const void* global, size_t bytes, bool valid, Here here) {
  current_block->cp_async(shared, global, bytes, valid, here);
}
inline void cp_async_commit() { current_block->cp_async_commit(); }
inline void cp_async_wait(unsigned pending, Here here) { current_block->cp_async_wait(pending, here); }

}  // namespace alma::emulator

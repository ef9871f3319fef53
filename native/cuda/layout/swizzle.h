// Shared memory with 128-byte swizzle, as tensor maps fill it and wgmma reads it: in every 1024 bytes, chunk c of 16 bytes of row r of
// 128 bytes lies where chunk c ^ r would.
#pragma once

#include <cstddef>

#include "fragments.h"

namespace alma::layout {

// Of a byte's offset from an address that is a multiple of 1024.
ALMA_LAYOUT size_t swizzle_128(size_t offset) { return offset ^ (offset >> 7 & 7) << 4; }

// Element i of a thread's accumulator of wgmma m64nN, 64 rows × N columns: warp w of the warpgroup has rows 16 w to 16 w + 15.
ALMA_LAYOUT Place warpgroup_accumulator(int thread, int i) {
  return {thread / 32 * 16 + thread % 32 / 4 + ((i >> 1) & 1) * 8, i / 4 * 8 + thread % 4 * 2 + (i & 1)};
}

}  // namespace alma::layout

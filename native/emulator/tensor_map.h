// Tensor maps, and the copies of boxes between device and shared memory that they describe.
#pragma once

#include <cstdint>

#include "block.h"

namespace alma::emulator {

// What the 128 bytes of a tensor map hold.
struct BoxMap {
  char* data;
  int64_t extents[3], strides[3];  // elements, innermost first; bytes from one index to the next
  int box[3], rank, element_bytes;
  bool swizzled, is_f32;
};

// Copies the box at `coordinates`; zeros where the tensor has no elements. The mbarrier counts the box's bytes.
void tma_load(void* shared, const void* map, void* mbarrier, const int (&coordinates)[3], int rank, Here here);
// The same into each block of the cluster whose bit is set, at the same places; each block's mbarrier counts its bytes.
void tma_load_multicast(void* shared, const void* map, void* mbarrier, const int (&coordinates)[3], int rank,
                        unsigned blocks, Here here);
// What of the box lies in the tensor is written, or added to it (f32).
void tma_store(const void* map, const void* shared, const int (&coordinates)[3], int rank, bool add, Here here);

}  // namespace alma::emulator

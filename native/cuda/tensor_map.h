// A tensor map: 128 bytes that tell the GPU's copy unit how a tensor lies in memory and which boxes of it are copied. Kernels get it as
// a parameter (const __grid_constant__); hopper/tensor_map.cu makes it.
#pragma once

#include <cstdint>

#include "../runtime/dtype.h"
#include "namespace.h"

namespace alma {

struct alignas(64) TensorMap {
  unsigned char bytes[128];
};

}  // namespace alma

namespace alma::ALMA_CUDA {

struct TensorBoxes {
  const void* data;    // 16-byte aligned
  DType dtype;         // bf16 or f32
  int rank;            // 2 or 3
  int64_t extents[3];  // elements, innermost first
  int64_t strides[3];  // elements from one index to the next; the first is 1, the others are multiples of 16 bytes
  int box[3];          // elements, each at most 256; innermost 128 bytes where swizzled
  bool swizzled;       // 128-byte swizzle (layout/swizzle.h)
};
// Throws ERR_ALMA_DEVICE where the driver refuses it.
TensorMap make_tensor_map(const char* op, const TensorBoxes& boxes);

}  // namespace alma::ALMA_CUDA

// 1 / (1 + exp(−x)) for what is stored as T: for bf16 by the fast exponential and division, whose error is far below half a unit of bf16.
#pragma once

#include <cuda_runtime.h>

#include "../namespace.h"

namespace alma::ALMA_CUDA {

template <class T>
__device__ __forceinline__ float sigmoid(float x) {
  if constexpr (sizeof(T) == 2) {
    return __fdividef(1.0f, 1.0f + __expf(-x));
  } else {
    return 1.0f / (1.0f + expf(-x));
  }
}

}  // namespace alma::ALMA_CUDA

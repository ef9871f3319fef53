// Kernel launches. Never <<<>>>: it is not C++, and cudaLaunchKernelEx is needed anyway for clusters and programmatic launch.
#pragma once

#include <cuda_runtime.h>

#include <string>
#include <utility>

#include "../runtime/error.h"
#include "context.h"
#ifdef ALMA_EMULATOR
#include "../emulator/grid.h"
#endif

namespace alma::ALMA_CUDA {

// Throws Error with the op's name. Out of memory keeps its own code, everything else is ERR_ALMA_DEVICE.
inline void check(const char* op, cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // the runtime keeps it for whoever asks next
  const char* code = status == cudaErrorMemoryAllocation ? "ERR_ALMA_OUT_OF_MEMORY" : "ERR_ALMA_DEVICE";
  throw Error(code, std::string(op) + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")");
}

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  dim3 cluster = dim3(1, 1, 1);
  // Programmatic dependent launch: the kernel may start before its predecessor has ended, and must call grid_dependency_wait() before
  // it touches anything that another kernel writes. In a captured graph this becomes a programmatic edge.
  bool early_start = false;
};

// Whether the code that runs has the instruction that waits: code for 8.0, which newer GPUs run as well, has not.
template <class... Parameters>
bool can_wait_for_grids(const Context& context, const char* op, void (*kernel)(Parameters...)) {
  if (context.properties.compute_capability < 90) return false;
  cudaFuncAttributes attributes{};
  check(op, cudaFuncGetAttributes(&attributes, kernel));
  return attributes.ptxVersion >= 90;
}

template <class... Parameters, class... Arguments>
void launch(const Context& context, const char* op, const LaunchShape& shape, void (*kernel)(Parameters...),
            Arguments&&... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  if (shape.shared_bytes > 48 * 1024) {
    check(op, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(shape.shared_bytes)));
  }
#ifdef ALMA_EMULATOR
  emulator::name_next_launch(op);
#endif
  cudaLaunchAttribute attributes[2];
  unsigned count = 0;
  if (shape.cluster.x * shape.cluster.y * shape.cluster.z > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = shape.cluster.x;
    attributes[count].val.clusterDim.y = shape.cluster.y;
    attributes[count].val.clusterDim.z = shape.cluster.z;
    ++count;
  }
  if (shape.early_start && can_wait_for_grids(context, op, kernel)) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count].val.programmaticStreamSerializationAllowed = 1;
    ++count;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = context.stream;
  config.attrs = attributes;
  config.numAttrs = count;
  check(op, cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...));
}

}  // namespace alma::ALMA_CUDA

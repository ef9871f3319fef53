// What the launcher of an op gets besides the op's arguments.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "namespace.h"

namespace alma::ALMA_CUDA {

struct ValueError;

struct DeviceProperties {
  int compute_capability = 80;  // 10 · major + minor
  int multiprocessors = 1;
  size_t shared_bytes_per_block =
      101376;  // the opt-in maximum: 99 KiB on 8.6, 8.9 and 12.x, 163 KiB on 8.0, 227 KiB on 9.0
  size_t l2_bytes = 0;
};

// Scratch memory of a device for the op being launched. The ops of a stream run one after the other, so they share it; an op that
// needs several pieces asks once and divides. Captured graphs remember its address: it stays as long as the device does.
class Workspace {
 public:
  virtual ~Workspace() = default;
  virtual void* get(size_t bytes) = 0;  // 256-byte aligned, uninitialised
};

// Counters by which the blocks of a launch find out who is last. 0 between launches: the last to come leaves them so (atomicInc).
constexpr int64_t kArrivalCounters = 16384;

struct Context {
  cudaStream_t stream = nullptr;
  DeviceProperties properties;
  Workspace* workspace = nullptr;
  ValueError* value_error = nullptr;  // where kernels report bad values (value_error.h); memory of the device
  unsigned* arrivals = nullptr;       // kArrivalCounters of them, in memory of the device
};

}  // namespace alma::ALMA_CUDA

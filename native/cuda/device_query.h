// Which GPUs there are, or why there is none to use. A plain C++ header: no CUDA type gets out, and it is served in builds
// without CUDA as well. Call it when a user asks, never while the addon loads: the first call starts the CUDA runtime.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace alma::cuda {

struct CudaDeviceInfo {
  int index;
  std::string name;
  int compute_major, compute_minor;
  uint64_t memory_bytes;  // in all, not what is free: asking for that would create a context on the device
  int multiprocessors;
};

// Every visible device in CUDA's order. `reason` says why none of them is usable, and is empty when at least one is. Never throws
// and leaves no CUDA error behind.
std::vector<CudaDeviceInfo> query(std::string& reason);

}  // namespace alma::cuda

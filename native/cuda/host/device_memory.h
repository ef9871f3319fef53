// Memory of a GPU, and scratch memory for its ops.
#pragma once

#include <memory>
#include <vector>

#include "../../runtime/caching_allocator.h"
#include "../context.h"

namespace alma::ALMA_CUDA {

std::unique_ptr<MemorySource> make_device_memory(int device);

// One block that grows. Graphs remember addresses in it, so blocks that a graph was captured with stay.
class Arena final : public Workspace {
 public:
  // Thrown by get() during a capture: growing would leave the nodes captured so far with the block that is too small for others.
  struct TooSmall {
    size_t bytes;
  };

  Arena(int device, cudaStream_t stream) : device_(device), stream_(stream) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void* get(size_t bytes) override;
  void grow(size_t bytes);
  void begin_capture() { capturing_ = true; }
  void end_capture() { capturing_ = false; }
  // Graphs hold what this gives: the block that they were captured with.
  std::shared_ptr<void> block() const { return block_; }

 private:
  int device_;
  cudaStream_t stream_;
  std::shared_ptr<void> block_;
  size_t bytes_ = 0;
  bool capturing_ = false;
};

}  // namespace alma::ALMA_CUDA

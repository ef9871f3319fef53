// A stream-ordered caching allocator.
//
// Work on a device runs in the order in which it was enqueued. So a block whose tensor is disposed can be handed out again at
// once, before the ops that use it have run: whatever is enqueued later runs later. Freed blocks are kept by size class, and
// steady-state training and decoding ask the system for nothing.
//
// Used from the JavaScript thread only; it has no lock. Giving memory back to the system must wait for the stream: release_cached()
// only takes the blocks out of the cache, the caller frees them in stream order.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <vector>

namespace alma {

// Where the memory comes from: host memory here, a GPU's in the CUDA device.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  virtual void* allocate(size_t bytes) = 0;  // null when there is none; 64-byte aligned or better
  virtual void free(void* block, size_t bytes) noexcept = 0;
  virtual size_t available() const = 0;  // bytes that could still be allocated
  virtual size_t total() const = 0;
};

std::unique_ptr<MemorySource> make_host_memory();

struct MemoryStatistics {
  size_t allocated;  // in tensors
  size_t reserved;   // taken from the system: allocated + cached
  size_t peak;       // largest value of `allocated` since the last reset
  size_t free, total;
};

class CachingAllocator {
 public:
  struct Block {
    void* data;
    size_t bytes;
  };

  // exact: sizes are not rounded up and nothing is reused, so that a checker of memory sees each tensor by itself.
  enum class Mode { caching, exact };

  CachingAllocator(std::unique_ptr<MemorySource> source, Mode mode) : source_(std::move(source)), mode_(mode) {}
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  Block allocate(size_t bytes);  // throws ERR_ALMA_OUT_OF_MEMORY with the bytes needed and free
  // Whether the block is kept. If not, the caller frees it in stream order, as release_cached() has it.
  bool recycle(Block block) noexcept;
  std::vector<Block> release_cached();  // the caller frees them through source()
  MemorySource& source() { return *source_; }

  MemoryStatistics statistics() const;
  void reset_peak() { peak_ = allocated_; }

 private:
  std::unique_ptr<MemorySource> source_;
  Mode mode_;
  std::multimap<size_t, void*> cached_;
  size_t allocated_ = 0, reserved_ = 0, peak_ = 0;
};

}  // namespace alma

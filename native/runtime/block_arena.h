// Blocks of host memory too small for a huge page each, side by side on huge pages: the weights and activations of a model with a hundred
// million weights are of 64 KiB to 4 MiB, and on pages of 4 KiB a product misses the TLB at every row.
//
// First fit by address within regions taken from the system; neighbours that are free are one range again, and a region that is free
// altogether goes back. Few calls reach it (CachingAllocator keeps what is freed), so a search through all free ranges will do.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>

namespace alma {

class BlockArena {
 public:
  // Regions are `region_bytes` long, aligned to `alignment` (a power of two): by default 16 huge pages of 2 MiB.
  explicit BlockArena(size_t region_bytes = size_t{32} << 20, size_t alignment = size_t{2} << 20)
      : region_bytes_(region_bytes), alignment_(alignment) {}
  ~BlockArena();
  BlockArena(const BlockArena&) = delete;
  BlockArena& operator=(const BlockArena&) = delete;

  // bytes ≤ region_bytes; null when the system has none. The address is a multiple of 64.
  void* allocate(size_t bytes);
  void free(void* block, size_t bytes) noexcept;  // the size that allocate() was given

  size_t reserved() const;  // bytes of all regions

 private:
  using Ranges = std::map<std::byte*, size_t>;  // begin → bytes

  const size_t region_bytes_, alignment_;
  mutable std::mutex mutex_;  // tensors are made on the JavaScript thread, memory goes back on the engine's
  Ranges regions_, free_;
};

}  // namespace alma

// Pinned host memory through which data goes to the device and back, handed out in order and taken back in order: a ring.
#pragma once

#include <cuda_runtime.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "../namespace.h"

namespace alma::ALMA_CUDA {

class StagingRing {
 public:
  explicit StagingRing(size_t bytes);
  ~StagingRing();
  StagingRing(const StagingRing&) = delete;
  StagingRing& operator=(const StagingRing&) = delete;

  // Transfers are cut into pieces of at most this, so that several are under way at a time.
  size_t piece() const { return bytes_ / 4; }

  // Engine's thread. Null when there is no room now. Aligned to 256 bytes.
  void* try_take(size_t bytes);
  // Everything handed out so far: what release() is told when the device has passed this point of the stream.
  uint64_t position() const { return head_; }
  // Waits until something is taken back after `seen` releases.
  void wait_for_release(uint64_t seen);
  uint64_t releases();

  // Completion thread: everything up to `position` is free again.
  void release(uint64_t position);

 private:
  static constexpr size_t kAlignment = 256;

  char* data_ = nullptr;
  size_t bytes_;
  uint64_t head_ = 0;  // bytes handed out since the beginning, skipped ends of the ring included; the engine's
  std::mutex mutex_;
  std::condition_variable released_;
  uint64_t tail_ = 0, releases_ = 0;
};

}  // namespace alma::ALMA_CUDA

#include "staging.h"

#include "../launch.h"

namespace alma::ALMA_CUDA {

StagingRing::StagingRing(size_t bytes) : bytes_(bytes) {
  void* data = nullptr;
  check("pinned memory", cudaHostAlloc(&data, bytes, cudaHostAllocPortable));
  data_ = static_cast<char*>(data);
}

StagingRing::~StagingRing() {
  cudaFreeHost(data_);
  cudaGetLastError();
}

void* StagingRing::try_take(size_t bytes) {
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const size_t place = head_ % bytes_;
  // A piece lies in one part: what is left at the end of the ring is skipped when it is too short.
  const size_t skipped = place + rounded > bytes_ ? bytes_ - place : 0;
  {
    std::lock_guard lock(mutex_);
    if (head_ + skipped + rounded - tail_ > bytes_) return nullptr;
  }
  head_ += skipped;
  char* taken = data_ + head_ % bytes_;
  head_ += rounded;
  return taken;
}

uint64_t StagingRing::releases() {
  std::lock_guard lock(mutex_);
  return releases_;
}

void StagingRing::wait_for_release(uint64_t seen) {
  std::unique_lock lock(mutex_);
  released_.wait(lock, [&] { return releases_ != seen; });
}

void StagingRing::release(uint64_t position) {
  {
    std::lock_guard lock(mutex_);
    if (position <= tail_) return;
    tail_ = position;
    ++releases_;
  }
  released_.notify_one();
}

}  // namespace alma::ALMA_CUDA

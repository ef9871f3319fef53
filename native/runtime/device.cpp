#include "device.h"

#include <utility>

#include "error.h"
#include "memory_tasks.h"

namespace alma {

MappedStorage::MappedStorage(std::shared_ptr<Device> device, MappedFile file, size_t bytes)
    : Storage(std::move(device), {file.data(), bytes}), file_(std::move(file)) {
  owns_block_ = false;
}

MappedStorage::~MappedStorage() { device_->retire(std::move(file_)); }

Storage::~Storage() {
  if (!owns_block_) return;
  if (!device_->closed()) {
    device_->allocator().recycle(block_);
    return;
  }
  device_->submit_task(std::make_unique<FreeBlocksTask>(device_->allocator().source(), std::vector{block_}));
}

std::shared_ptr<Storage> Device::allocate(size_t bytes) {
  return std::make_shared<Storage>(shared_from_this(), allocator_->allocate(bytes));
}

void Device::retire(MappedFile file) {
  // A closed stream takes no task any more, but its last op may still be reading.
  if (closed_) {
    retired_.push_back(std::move(file));
  } else {
    submit_task(std::make_unique<UnmapTask>(std::move(file)));
  }
}

void Device::begin_recording() {
  if (recording_) throw Error("ERR_ALMA_DEVICE", "capture: a graph is being captured already on device " + name());
  recording_ = std::make_shared<Recording>();
}

std::shared_ptr<Recording> Device::end_recording() {
  if (!recording_) throw Error("ERR_ALMA_DEVICE", "capture: no graph is being captured on device " + name());
  return std::exchange(recording_, nullptr);
}

}  // namespace alma

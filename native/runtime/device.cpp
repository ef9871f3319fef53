#include "device.h"

#include <future>
#include <utility>

#include "error.h"
#include "memory_tasks.h"

namespace alma {

MappedStorage::MappedStorage(std::shared_ptr<Device> device, MappedFile file)
    : Storage(std::move(device), {file.data(), file.bytes()}), file_(std::move(file)) {
  owns_block_ = false;
}

MappedStorage::~MappedStorage() { device_->retire(std::move(file_)); }

Storage::~Storage() {
  if (!owns_block_) return;
  if (!device_->closed() && device_->allocator().recycle(block_)) return;
  device_->submit_task(std::make_unique<FreeBlocksTask>(device_->allocator().source(), std::vector{block_}));
}

namespace {

// Lets another thread know when the stream has come to it.
class SignalTask final : public Task {
 public:
  std::future<void> reached() { return reached_.get_future(); }
  void run(Stream&) override {}
  void settle(const Failure*) noexcept override {
    reached_.set_value();
    delete this;
  }

 private:
  std::promise<void> reached_;
};

class LaunchTask final : public Task {
 public:
  explicit LaunchTask(std::shared_ptr<Recording> recording) : recording_(std::move(recording)) {}
  void run(Stream& stream) override { stream.replay(*recording_); }
  void settle(const Failure*) noexcept override { delete this; }
  bool waits_for_device() const override { return false; }
  bool is_awaited() const override { return false; }

 private:
  // The storages inside may only be let go on the JavaScript thread. They are: the graph's owner there keeps a reference and
  // gives it up through a task of its own (see GraphReleaseTask in the binding), behind every launch.
  std::shared_ptr<Recording> recording_;
};

}  // namespace

std::shared_ptr<Storage> Device::allocate(size_t bytes) {
  CachingAllocator::Block block{};
  try {
    block = allocator_->allocate(bytes);
  } catch (const Error&) {
    // Memory that is kept for reuse may serve: it is given back behind the work that still uses it, which is waited for, once in a
    // long while, instead of failing.
    auto kept = allocator_->release_cached();
    if (kept.empty()) throw;
    submit_task(std::make_unique<FreeBlocksTask>(allocator_->source(), std::move(kept)));
    auto signal = std::make_unique<SignalTask>();
    auto reached = signal->reached();
    submit_task(std::move(signal));
    reached.wait();
    block = allocator_->allocate(bytes);
  }
  return std::make_shared<Storage>(shared_from_this(), block);
}

void Device::launch(std::shared_ptr<Recording> recording) {
  submit_task(std::make_unique<LaunchTask>(std::move(recording)));
}

void Device::release_cached_memory() {
  submit_task(std::make_unique<FreeBlocksTask>(allocator_->source(), allocator_->release_cached()));
}

void Device::begin_close() {
  closed_ = true;
  engine_->begin_stop();
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

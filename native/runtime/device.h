// A device as the binding sees it: memory, a stream of commands, and recordings of it.
//
// A device is an Engine around a Stream: the CPU's (cpu_device.cpp), or one that enqueues on a cudaStream_t (native/cuda/host). All
// methods are called on the JavaScript thread, unless they say otherwise, and none but finish_close() waits for work to finish
// (and an allocation that finds no memory left, for what is kept for reuse to be given back).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "caching_allocator.h"
#include "command.h"
#include "engine.h"
#include "mapped_file.h"

namespace alma {

class Device;

// Memory of one or more tensors; gives itself back to its device, in stream order, when the last owner lets go.
class Storage {
 public:
  Storage(std::shared_ptr<Device> device, CachingAllocator::Block block) : device_(std::move(device)), block_(block) {}
  virtual ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device& device() const { return *device_; }
  const std::shared_ptr<Device>& owner() const { return device_; }
  char* data() const { return static_cast<char*>(block_.data); }
  size_t bytes() const { return block_.bytes; }

 protected:
  std::shared_ptr<Device> device_;
  CachingAllocator::Block block_;
  bool owns_block_ = true;
};

// Memory that is a part of a file, mapped privately: a tensor's weights without a copy.
class MappedStorage final : public Storage {
 public:
  MappedStorage(std::shared_ptr<Device> device, MappedFile file);
  ~MappedStorage() override;
  const MappedFile& file() const { return file_; }

 private:
  MappedFile file_;
};

// Ops recorded instead of run; launching replays them in order. It keeps the memory it names alive.
struct Recording {
  std::vector<Command> commands;
  std::vector<std::shared_ptr<Storage>> storages;
  std::shared_ptr<void> prepared;  // the engine's: what it made of the commands at their first launch
};

class Device : public std::enable_shared_from_this<Device> {
 public:
  virtual ~Device() = default;

  virtual const std::string& name() const = 0;         // 'cpu', 'cuda:0', …
  virtual const std::string& description() const = 0;  // what is computing: instruction set, threads, GPU model
  virtual int threads() const = 0;
  virtual bool fuses_residuals() const = 0;  // linear_add of many bf16 rows is one kernel
  virtual bool host_accessible() const = 0;  // tensors can lie in mapped files

  void submit_task(std::unique_ptr<Task> task) { engine_->submit_task(std::move(task)); }
  void launch(std::shared_ptr<Recording> recording);
  void reset_failure(uint64_t serial) { engine_->reset(serial); }
  void release_cached_memory();
  // Ends the stream: begin_close() at once, on the JavaScript thread; finish_close() waits for the command in progress and may be
  // called on any thread after it.
  void begin_close();
  void finish_close() { engine_->finish_stop(); }
  bool closed() const { return closed_; }

  CachingAllocator& allocator() { return *allocator_; }
  std::shared_ptr<Storage> allocate(size_t bytes);

  template <class Arguments, void (Ops::*Method)(const Arguments&)>
  void submit(const Arguments& arguments) {
    if (recording_) {
      recording_->commands.emplace_back().template set_op<Arguments, Method>(arguments);
      return;
    }
    engine_->queue().next_slot().template set_op<Arguments, Method>(arguments);
    engine_->queue().publish(false);
  }

  // Unmaps behind the ops that may still read; once the device is closed, when it goes away and its thread has ended.
  void retire(MappedFile file);

  // While recording, every storage that an op names is noted here.
  Recording* recording() const { return recording_.get(); }
  void begin_recording();
  std::shared_ptr<Recording> end_recording();

 protected:
  Device(std::unique_ptr<MemorySource> memory, CachingAllocator::Mode mode)
      : allocator_(std::make_unique<CachingAllocator>(std::move(memory), mode)) {}
  void start(std::unique_ptr<Stream> stream) { engine_ = std::make_unique<Engine>(std::move(stream)); }

 private:
  bool closed_ = false;
  std::unique_ptr<CachingAllocator> allocator_;
  std::unique_ptr<Engine> engine_;
  std::shared_ptr<Recording> recording_;
  std::vector<MappedFile> retired_;
};

// Opens 'cpu'. threads 0: all processors that the process may use. isa: "auto" or one of the instruction sets of native/cpu.
std::shared_ptr<Device> open_cpu_device(int threads, const std::string& isa);

}  // namespace alma

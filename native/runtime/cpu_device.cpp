// The CPU device: native/cpu's ops behind a queue that a thread of its own serves.
#include <algorithm>

#include "../cpu/cpu_ops.h"
#include "../cpu/probe.h"
#include "device.h"
#include "engine.h"
#include "error.h"
#include "memory_tasks.h"

namespace alma {

namespace {

class LaunchTask final : public Task {
 public:
  explicit LaunchTask(std::shared_ptr<Recording> recording) : recording_(std::move(recording)) {}
  void run(Ops& ops) override {
    for (const Command& command : recording_->commands) command.execute(ops, command.arguments);
  }
  void settle(const Failure*) noexcept override { delete this; }

 private:
  // The storages inside may only be let go on the JavaScript thread. They are: the graph's owner there keeps a reference and
  // gives it up through a task of its own (see GraphReleaseTask in the binding), behind every launch.
  std::shared_ptr<Recording> recording_;
};

class CpuDevice final : public Device {
 public:
  CpuDevice(int threads, const std::string& isa) : Device(make_host_memory()) {
    auto ops = cpu::make_cpu_ops(threads, isa.c_str());
    threads_ = ops->threads();
    description_ =
        std::string("CPU, ") + ops->isa() + ", " + std::to_string(threads_) + (threads_ == 1 ? " thread" : " threads");
    engine_ = std::make_unique<Engine>(std::move(ops));
  }

  const std::string& name() const override { return name_; }
  const std::string& description() const override { return description_; }
  int threads() const override { return threads_; }
  bool host_accessible() const override { return true; }

  void submit_task(std::unique_ptr<Task> task) override { engine_->submit_task(std::move(task)); }
  void launch(std::shared_ptr<Recording> recording) override {
    submit_task(std::make_unique<LaunchTask>(std::move(recording)));
  }
  void reset_failure(uint64_t serial) override { engine_->reset(serial); }
  void release_cached_memory() override {
    submit_task(std::make_unique<FreeBlocksTask>(allocator().source(), allocator().release_cached()));
  }
  void begin_close() override {
    closed_ = true;
    engine_->begin_stop();
  }
  void finish_close() override { engine_->finish_stop(); }
  double probe(Ops& ops, const std::string& what, double size, double seconds) override {
    auto& cpu_ops = static_cast<cpu::CpuOps&>(ops);  // the engine runs the ops that this device gave it
    const auto bytes = static_cast<size_t>(std::clamp(size, 4096.0, 4e9));
    if (what == "fma") return cpu::fma_peak_flops(cpu_ops, seconds);
    if (what == "bf16dot") return cpu::bf16_dot_peak_flops(cpu_ops, seconds);
    if (what == "read") return cpu::read_bandwidth(cpu_ops, bytes, seconds);
    if (what == "copy") return cpu::copy_bandwidth(cpu_ops, bytes, seconds);
    throw Error("ERR_ALMA_OPTION", "no probe named '" + what + "', expected fma, bf16dot, read or copy");
  }

 protected:
  Command& next_slot() override { return engine_->queue().next_slot(); }
  void publish() override { engine_->queue().publish(); }

 private:
  std::string name_ = "cpu";
  std::string description_;
  int threads_ = 1;
  std::unique_ptr<Engine> engine_;
};

}  // namespace

std::shared_ptr<Device> open_cpu_device(int threads, const std::string& isa) {
  return std::make_shared<CpuDevice>(threads, isa);
}

}  // namespace alma

// The CPU device: native/cpu's ops behind a queue that a thread of its own serves.
#include <algorithm>
#include <cstring>

#include "../cpu/cpu_ops.h"
#include "../cpu/probe.h"
#include "device.h"
#include "error.h"

namespace alma {

namespace {

class CpuStream final : public Stream {
 public:
  explicit CpuStream(std::unique_ptr<cpu::CpuOps> ops) : ops_(std::move(ops)) {}

  Ops& ops() override { return *ops_; }
  void write(void* target, const void* source, size_t bytes) override { std::memcpy(target, source, bytes); }
  void read(void* target, const void* source, size_t bytes) override { std::memcpy(target, source, bytes); }
  void load(const std::string& path, uint64_t offset, DType source, TensorRef target, int64_t count) override {
    const MappedFile file(path, offset, static_cast<size_t>(count) * size_of(source));
    if (!file.was_cached()) file.fetch(0, file.bytes());
    ops_->cast({{file.data(), source}, target, count});
  }
  void replay(Recording& recording) override {
    for (const Command& command : recording.commands) command.execute(*ops_, command.arguments);
  }
  void rest() override { ops_->pool().rest(); }
  double probe(const std::string& what, double size, double seconds) override {
    const auto bytes = static_cast<size_t>(std::clamp(size, 4096.0, 4e9));
    if (what == "fma") return cpu::fma_peak_flops(*ops_, seconds);
    if (what == "bf16dot") return cpu::bf16_dot_peak_flops(*ops_, seconds);
    if (what == "read") return cpu::read_bandwidth(*ops_, bytes, seconds);
    if (what == "copy") return cpu::copy_bandwidth(*ops_, bytes, seconds);
    throw Error("ERR_ALMA_OPTION", "no probe named '" + what + "', expected fma, bf16dot, read or copy");
  }

 private:
  std::unique_ptr<cpu::CpuOps> ops_;
};

class CpuDevice final : public Device {
 public:
  CpuDevice(int threads, const std::string& isa) : Device(make_host_memory(), CachingAllocator::Mode::caching) {
    auto ops = cpu::make_cpu_ops(threads, isa.c_str());
    threads_ = ops->threads();
    description_ =
        std::string("CPU, ") + ops->isa() + ", " + std::to_string(threads_) + (threads_ == 1 ? " thread" : " threads");
    start(std::make_unique<CpuStream>(std::move(ops)));
  }

  const std::string& name() const override { return name_; }
  const std::string& description() const override { return description_; }
  int threads() const override { return threads_; }
  bool fuses_residuals() const override { return false; }
  bool host_accessible() const override { return true; }

 private:
  std::string name_ = "cpu";
  std::string description_;
  int threads_ = 1;
};

}  // namespace

std::shared_ptr<Device> open_cpu_device(int threads, const std::string& isa) {
  return std::make_shared<CpuDevice>(threads, isa);
}

}  // namespace alma

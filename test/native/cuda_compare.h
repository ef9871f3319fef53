// The CUDA kernels, on the emulator, beside the CPU device: the same random arguments to both, and their results compared. What a test of one
// op with round numbers does not reach: views that start at any element, ragged extents, results in the place of operands.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../../native/cpu/cpu_ops.h"
#include "../../native/cuda/portable/ops.h"
#include "../../native/cuda/value_error.h"
#include "../../native/emulator/block.h"
#include "../../native/emulator/report.h"
#include "../../native/runtime/error.h"

namespace alma::test {

namespace kernels = alma::ALMA_CUDA::portable;

inline int passed = 0, failed = 0;
inline std::string context;  // schedule and seed

inline void check(bool condition, const std::string& what) {
  condition ? ++passed : ++failed;
  if (!condition) std::printf("FAILED %s: %s\n", context.c_str(), what.c_str());
}

struct Random {
  uint64_t state = 88172645463325252ull;
  double uniform() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<double>(state >> 11) * 0x1p-53;
  }
  double normal() { return std::sqrt(-2 * std::log(uniform() + 1e-300)) * std::cos(6.283185307179586 * uniform()); }
  int64_t below(int64_t n) { return static_cast<int64_t>(uniform() * static_cast<double>(n)); }
  bool one_in(int64_t n) { return below(n) == 0; }
  DType dtype() { return one_in(2) ? DType::bf16 : DType::f32; }
};
inline Random random;

// A tensor in memory of the device, which on the emulator the host reaches as well. It starts at any element of its block.
class Array {
 public:
  Array(DType dtype, size_t count) : dtype_(dtype), count_(count) {
    offset_ = random.one_in(3) ? static_cast<size_t>(random.below(9)) : 0;
    if (cudaMalloc(&block_, (offset_ + count + kGuard) * size_of(dtype)) != cudaSuccess) std::abort();
    std::memset(block_, 0x5a, (offset_ + count + kGuard) * size_of(dtype));
  }
  Array(const Array& other) : dtype_(other.dtype_), count_(other.count_), offset_(other.offset_) {
    const size_t bytes = (offset_ + count_ + kGuard) * size_of(dtype_);
    if (cudaMalloc(&block_, bytes) != cudaSuccess) std::abort();
    std::memcpy(block_, other.block_, bytes);
  }
  Array& operator=(const Array&) = delete;
  ~Array() { cudaFree(block_); }

  static Array normal(DType dtype, int64_t count, double scale = 1) {
    Array result(dtype, static_cast<size_t>(count));
    for (size_t i = 0; i < result.count_; ++i) result.set(i, scale * random.normal());
    return result;
  }
  static Array ints(int64_t count, int64_t below, int64_t from = 0) {
    Array result(DType::i32, static_cast<size_t>(count));
    for (size_t i = 0; i < result.count_; ++i) result.set(i, static_cast<double>(from + random.below(below)));
    return result;
  }

  size_t count() const { return count_; }
  TensorRef ref() const { return {static_cast<char*>(block_) + offset_ * size_of(dtype_), dtype_}; }
  double get(size_t i) const {
    const auto* at = static_cast<const char*>(ref().data) + i * size_of(dtype_);
    uint32_t bits = 0;
    std::memcpy(&bits, at, size_of(dtype_));
    if (dtype_ == DType::i32) return static_cast<int32_t>(bits);
    if (dtype_ == DType::bf16) return f32_from_bf16(static_cast<uint16_t>(bits));
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  void set(size_t i, double value) {
    auto* at = static_cast<char*>(ref().data) + i * size_of(dtype_);
    const auto narrow = static_cast<float>(value);
    const auto integer = static_cast<int32_t>(value);
    const uint16_t half = bf16_from_f32(narrow);
    if (dtype_ == DType::f32) std::memcpy(at, &narrow, 4);
    if (dtype_ == DType::i32) std::memcpy(at, &integer, 4);
    if (dtype_ == DType::bf16) std::memcpy(at, &half, 2);
  }
  bool guard_intact() const {
    const auto* bytes = static_cast<const unsigned char*>(block_);
    for (size_t i = 0; i < (offset_ + count_ + kGuard) * size_of(dtype_); ++i)
      if ((i < offset_ * size_of(dtype_) || i >= (offset_ + count_) * size_of(dtype_)) && bytes[i] != 0x5a)
        return false;
    return true;
  }

 private:
  static constexpr size_t kGuard = 16;
  DType dtype_;
  size_t count_, offset_ = 0;
  void* block_ = nullptr;
};

// The same contents for both devices.
struct Both {
  explicit Both(const Array& start) : cuda(start), cpu(start) {}
  Array cuda, cpu;
};

inline std::string text(std::initializer_list<int64_t> extents, std::initializer_list<TensorRef> tensors = {}) {
  std::string result;
  for (int64_t extent : extents) result += (result.empty() ? "[" : ", ") + std::to_string(extent);
  result += "]";
  for (const TensorRef& tensor : tensors) result += std::string(" ") + name_of(tensor.dtype);
  return result;
}

// Relative L2 error below `tolerance`, or absolute below `absolute` an element; 0 and 0: the same values. Nothing else is written.
inline void same(const Both& got, const std::string& what, double tolerance = 0, double absolute = 0) {
  double difference = 0, norm = 0, worst = 0;
  for (size_t i = 0; i < got.cpu.count(); ++i) {
    const double a = got.cuda.get(i), b = got.cpu.get(i);
    if (a == b || (std::isnan(a) && std::isnan(b))) {
      if (std::isfinite(b)) norm += b * b;
      continue;
    }
    worst = std::fmax(worst, std::isnan(a - b) ? INFINITY : std::fabs(a - b));
    difference += (a - b) * (a - b);
    norm += b * b;
  }
  const double error = worst == 0 ? 0 : std::sqrt(difference / std::fmax(norm, 1e-300));
  char figures[64];
  std::snprintf(figures, sizeof figures, " (error %.3g, worst %.3g)", error, worst);
  check((worst == 0 || error <= tolerance || worst <= absolute) && got.cuda.guard_intact(),
        what + figures + (got.cuda.guard_intact() ? "" : " wrote outside"));
}

class Scratch final : public ALMA_CUDA::Workspace {
 public:
  ~Scratch() override { cudaFree(block_); }
  void* get(size_t bytes) override {
    if (bytes > bytes_) {
      cudaFree(block_);
      if (cudaMalloc(&block_, bytes_ = bytes) != cudaSuccess) std::abort();
    }
    std::memset(block_, 0xff, bytes_);  // every use sees NaN
    return block_;
  }

 private:
  void* block_ = nullptr;
  size_t bytes_ = 0;
};

// Both devices: run(call) calls the launcher, waits, and reports what the emulator has found.
struct Devices {
  Devices() : cpu_ops(cpu::make_cpu_ops(1, "auto")), cpu(*cpu_ops) {
    cudaMalloc(reinterpret_cast<void**>(&value_error), sizeof(ALMA_CUDA::ValueError));
    std::memset(value_error, 0, sizeof *value_error);
    cudaMalloc(reinterpret_cast<void**>(&launch_context.arrivals), ALMA_CUDA::kArrivalCounters * sizeof(unsigned));
    std::memset(launch_context.arrivals, 0, ALMA_CUDA::kArrivalCounters * sizeof(unsigned));
    cudaStreamCreateWithFlags(&launch_context.stream, cudaStreamNonBlocking);
    launch_context.workspace = &scratch;
    launch_context.value_error = value_error;
    launch_context.properties.multiprocessors = 2;
  }
  template <class Args>
  void cuda(void (*launcher)(ALMA_CUDA::Context&, const Args&), const Args& args) {
    try {
      launcher(launch_context, args);
      if (cudaStreamSynchronize(launch_context.stream) != cudaSuccess) check(false, emulator::last_report());
    } catch (const Error& error) {
      check(false, error.what());
    }
    if (value_error->check != 0) check(false, "a value check has failed");
    value_error->check = 0;
  }

  Scratch scratch;
  ALMA_CUDA::ValueError* value_error = nullptr;
  ALMA_CUDA::Context launch_context;
  std::unique_ptr<cpu::CpuOps> cpu_ops;
  Ops& cpu;
};

void compare_training_ops(Devices& devices);
void compare_decoding_ops(Devices& devices);
void compare_decoding_products(Devices& devices);

}  // namespace alma::test

// A few lines of test framework, and buffers of any float type seen as doubles.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "../../native/cpu/cpu_ops.h"
#include "../../native/runtime/error.h"
#include "guarded_bytes.h"

namespace alma::test {

inline int passed = 0, failed = 0;
inline std::string context;  // instruction set and threads under test

inline bool check(bool condition, const std::string& what) {
  condition ? ++passed : ++failed;
  if (!condition) std::printf("FAILED %s: %s\n", context.c_str(), what.c_str());
  return condition;
}

inline void throws(const std::string& what, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    check(std::string(error.code()) == "ERR_ALMA_DEVICE", what + ": the code");
    return;
  }
  check(false, what + ": should throw");
}

// Deterministic numbers.
struct Random {
  uint64_t state = 88172645463325252ull;
  uint32_t bits() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<uint32_t>(state >> 16);
  }
  double uniform() { return bits() * 0x1p-32; }
  double normal() { return std::sqrt(-2 * std::log(uniform() + 1e-12)) * std::cos(6.283185307179586 * uniform()); }
  int64_t below(int64_t n) { return static_cast<int64_t>(uniform() * static_cast<double>(n)); }
};

class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, size_t count) : dtype_(dtype), count_(count), bytes_(count * size_of(dtype), 0x5a) {}
  Tensor(DType dtype, std::initializer_list<double> values) : Tensor(dtype, std::vector<double>(values)) {}
  Tensor(DType dtype, const std::vector<double>& values) : Tensor(dtype, values.size()) {
    for (size_t i = 0; i < values.size(); ++i) set(i, values[i]);
  }
  static Tensor normal(DType dtype, size_t count, Random& random, double scale = 1) {
    Tensor result(dtype, count);
    for (size_t i = 0; i < count; ++i) result.set(i, scale * random.normal());
    return result;
  }
  static Tensor ints(const std::vector<int32_t>& values) {
    Tensor result(DType::i32, values.size());
    for (size_t i = 0; i < values.size(); ++i) result.write(i, values[i]);
    return result;
  }

  size_t count() const { return count_; }
  DType dtype() const { return dtype_; }
  TensorRef ref() { return TensorRef{bytes_.data(), dtype_}; }
  double get(size_t i) const {
    if (dtype_ == DType::f32) return read<float>(i);
    if (dtype_ == DType::i32) return read<int32_t>(i);
    if (dtype_ == DType::f16) return f32_from_f16(read<uint16_t>(i));
    return f32_from_bf16(read<uint16_t>(i));
  }
  void set(size_t i, double value) {
    if (dtype_ == DType::f32) return write(i, static_cast<float>(value));
    if (dtype_ == DType::i32) return write(i, static_cast<int32_t>(value));
    write(i, bf16_from_f32(static_cast<float>(value)));
  }
  void set_bits(size_t i, uint16_t bits) { write(i, bits); }
  std::vector<double> values() const {
    std::vector<double> result(count_);
    for (size_t i = 0; i < count_; ++i) result[i] = get(i);
    return result;
  }
  bool same_bits(const Tensor& other) const { return bytes_ == other.bytes_; }

 private:
  template <class T>
  T read(size_t i) const {
    T value;
    std::memcpy(&value, bytes_.data() + i * sizeof(T), sizeof(T));
    return value;
  }
  template <class T>
  void write(size_t i, T value) {
    std::memcpy(bytes_.data() + i * sizeof(T), &value, sizeof(T));
  }
  DType dtype_ = DType::f32;
  size_t count_ = 0;
  GuardedBytes bytes_;
};

// Relative L2 error below `tolerance`. `magnitude` is that of the terms of which an element
// is the sum: where they cancel, the error is relative to them.
inline bool close(const Tensor& got, const std::vector<double>& expected, double tolerance, const std::string& what,
                  double magnitude = 0) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double g = got.get(i), e = expected[i];
    if (std::isnan(g) && std::isnan(e)) continue;
    if (g == e) {  // covers infinities
      norm += std::isinf(e) ? 0 : e * e;
      continue;
    }
    difference += (g - e) * (g - e);
    norm += e * e;
  }
  norm = std::max(norm, magnitude * magnitude * static_cast<double>(expected.size()));
  const double error = difference == 0 ? 0 : std::sqrt(difference / std::max(norm, 1e-30));
  char text[64];
  std::snprintf(text, sizeof text, " (relative error %.3g, allowed %.3g)", error, tolerance);
  return check(error <= tolerance, what + text);
}

inline double tolerance_of(DType dtype, double f32) { return dtype == DType::bf16 ? 6e-3 : f32; }
inline std::string shape_text(std::initializer_list<int64_t> extents) {
  std::string text;
  for (int64_t extent : extents) text += (text.empty() ? "[" : ", ") + std::to_string(extent);
  return text + "]";
}

void test_elementwise(cpu::CpuOps& ops);
void test_matmul(cpu::CpuOps& ops);
void test_norms_and_rope(cpu::CpuOps& ops);
void test_attention(cpu::CpuOps& ops);
void test_losses_and_optimizer(cpu::CpuOps& ops);
void test_decoding(cpu::CpuOps& ops);
void test_thread_independence(const std::string& isa);
void test_thread_pool();
void test_block_arena();
void test_mapped_file();

}  // namespace alma::test

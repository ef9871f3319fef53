// Tests of the emulator: kernels that are right run clean under every schedule, and the same kernels with one mistake are found out.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "../../native/cuda/launch.h"
#include "../../native/cuda/shared_memory.cuh"

namespace alma::test {

bool check(bool condition, const std::string& what);
int finish();  // the exit status

// Calls `body` under every order of threads and blocks, with asynchronous copies early, late and at random.
void under_every_schedule(const std::function<void(const std::string& schedule)>& body);

// `body` launches kernels; nothing is found wrong.
void runs_clean(const std::string& what, const std::function<void()>& body);
// Under every schedule something is found wrong, and the finding contains all of `parts`.
void is_found(const std::string& what, const std::vector<std::string>& parts, const std::function<void()>& body);

// Device memory with the values of a vector.
template <class T>
class Device {
 public:
  explicit Device(size_t count) : count_(count) { allocate(); }
  explicit Device(const std::vector<T>& values) : count_(values.size()) {
    allocate();
    cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice);
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() { cudaFree(data_); }
  T* get() const { return data_; }
  std::vector<T> values() const {
    std::vector<T> result(count_);
    cudaMemcpy(result.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost);
    return result;
  }

 private:
  void allocate() {
    void* data = nullptr;
    if (!check(cudaMalloc(&data, count_ * sizeof(T)) == cudaSuccess, "cudaMalloc")) std::abort();
    data_ = static_cast<T*>(data);
  }
  size_t count_;
  T* data_ = nullptr;
};

// launch() with a context of its own. What is found is looked at later, whether or not it was found before the next launch.
template <class... Parameters, class... Arguments>
void launch_on(cudaStream_t stream, const ALMA_CUDA::LaunchShape& shape, void (*kernel)(Parameters...),
               Arguments&&... arguments) {
  ALMA_CUDA::Context context;
  context.stream = stream;
  try {
    ALMA_CUDA::launch(context, "test", shape, kernel, std::forward<Arguments>(arguments)...);
  } catch (const Error& error) {
    check(emulator::has_report(), std::string("launch: ") + error.what());
  }
}
template <class... Parameters, class... Arguments>
void launch(const ALMA_CUDA::LaunchShape& shape, void (*kernel)(Parameters...), Arguments&&... arguments) {
  launch_on(nullptr, shape, kernel, std::forward<Arguments>(arguments)...);
}

void test_barriers();
void test_warps();
void test_memory();
void test_async_copies();
void test_tensor_cores();
void test_hopper();
void test_grid_order();
void test_clusters();
void test_host();

}  // namespace alma::test

#include "device_memory.h"

#include <algorithm>
#include <string>

#include "../../runtime/error.h"
#include "../launch.h"

namespace alma::ALMA_CUDA {

namespace {

class DeviceMemory final : public MemorySource {
 public:
  explicit DeviceMemory(int device) : device_(device) {}

  void* allocate(size_t bytes) override {
    void* block = nullptr;
    cudaError_t status = cudaSetDevice(device_);
    if (status == cudaSuccess) status = cudaMalloc(&block, bytes);
    if (status == cudaSuccess) return block;
    cudaGetLastError();
    if (status != cudaErrorMemoryAllocation)
      check("memory", status);  // a device that has failed is not one that is full
    return nullptr;
  }
  void free(void* block, size_t) noexcept override {
    cudaSetDevice(device_);
    cudaFree(block);
    cudaGetLastError();  // a device that has failed cannot free either: the driver does, at the end of the process
  }
  size_t available() const override { return information().free; }
  size_t total() const override { return information().total; }

 private:
  struct Information {
    size_t free = 0, total = 0;
  };
  Information information() const {
    Information result;
    cudaSetDevice(device_);
    if (cudaMemGetInfo(&result.free, &result.total) != cudaSuccess) cudaGetLastError();
    return result;
  }

  int device_;
};

}  // namespace

std::unique_ptr<MemorySource> make_device_memory(int device) { return std::make_unique<DeviceMemory>(device); }

void* Arena::get(size_t bytes) {
  if (bytes > bytes_ || block_ == nullptr) {
    if (capturing_) throw TooSmall{bytes};
    grow(bytes);
  }
#ifdef ALMA_EMULATOR
  // At the end of the block: an op that writes past what it asked for is seen.
  return static_cast<char*>(block_.get()) + (bytes_ - (bytes + 255) / 256 * 256);
#else
  return block_.get();
#endif
}

void Arena::grow(size_t bytes) {
  size_t size = size_t{1} << 20;
  while (size < bytes) size += size / 2;
  size = (size + 255) / 256 * 256;
  // The old block may be in use by what is enqueued, and nobody else has to know: growing is rare.
  check("workspace", cudaStreamSynchronize(stream_));
  block_.reset();
  bytes_ = 0;
  void* block = nullptr;
  if (const cudaError_t status = cudaMalloc(&block, size); status != cudaSuccess) {
    cudaGetLastError();
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    cudaGetLastError();
    if (status != cudaErrorMemoryAllocation) check("workspace", status);
    throw Error("ERR_ALMA_OUT_OF_MEMORY", "out of device memory for an op's scratch: " + std::to_string(size) +
                                              " bytes needed, " + std::to_string(free) + " of " +
                                              std::to_string(total) + " bytes free");
  }
  block_ = std::shared_ptr<void>(block, [device = device_](void* old) {
    cudaSetDevice(device);  // the last graph that holds it may go on any thread
    cudaFree(old);
    cudaGetLastError();
  });
  bytes_ = size;
}

}  // namespace alma::ALMA_CUDA

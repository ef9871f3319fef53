#include "cuda_device.h"

#include <string>

#include "../launch.h"
#include "cuda_stream.h"
#include "device_memory.h"

namespace alma::ALMA_CUDA {

namespace {

DeviceProperties properties_of(int device) {
  const auto attribute = [device](cudaDeviceAttr which) {
    int value = 0;
    check("device", cudaDeviceGetAttribute(&value, which, device));
    return value;
  };
  DeviceProperties properties;
  properties.compute_capability =
      10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
  properties.multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  properties.shared_bytes_per_block = static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  properties.l2_bytes = static_cast<size_t>(attribute(cudaDevAttrL2CacheSize));
  return properties;
}

#ifdef ALMA_EMULATOR
constexpr auto kAllocation = CachingAllocator::Mode::exact;
#else
constexpr auto kAllocation = CachingAllocator::Mode::caching;
#endif

class CudaDevice final : public Device {
 public:
  CudaDevice(int index, const DeviceProperties& properties)
      : Device(make_device_memory(index), kAllocation), fuses_residuals_(properties.compute_capability == 90) {
#ifdef ALMA_EMULATOR
    name_ = "emulator";
    description_ = "CUDA emulator, " + capability(properties) + ", a test tool";
#else
    cudaDeviceProp described{};
    check("device", cudaGetDeviceProperties(&described, index));
    name_ = "cuda:" + std::to_string(index);
    description_ = std::string(described.name) + ", compute capability " + capability(properties) + ", " +
                   std::to_string(properties.multiprocessors) + " multiprocessors";
#endif
    start(std::make_unique<CudaStream>(index, properties));
  }

  const std::string& name() const override { return name_; }
  const std::string& description() const override { return description_; }
  int threads() const override { return 1; }
  bool fuses_residuals() const override { return fuses_residuals_; }
  bool host_accessible() const override { return false; }

 private:
  static std::string capability(const DeviceProperties& properties) {
    return std::to_string(properties.compute_capability / 10) + "." +
           std::to_string(properties.compute_capability % 10);
  }

  std::string name_, description_;
  bool fuses_residuals_;
};

}  // namespace

std::shared_ptr<Device> open_cuda_device(int index) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) cudaGetLastError();
  if (index < 0 || index >= count) {
    throw Error("ERR_ALMA_DEVICE",
                "there is no GPU " + std::to_string(index) + ", " + std::to_string(count) + " found");
  }
  check("device", cudaSetDevice(index));
  const DeviceProperties properties = properties_of(index);
  if (properties.compute_capability < 80) {
    throw Error("ERR_ALMA_DEVICE", "GPU " + std::to_string(index) + " has compute capability " +
                                       std::to_string(properties.compute_capability / 10) + "." +
                                       std::to_string(properties.compute_capability % 10) + ", 8.0 or later is needed");
  }
  return std::make_shared<CudaDevice>(index, properties);
}

}  // namespace alma::ALMA_CUDA

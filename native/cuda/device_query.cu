#include <cuda_runtime_api.h>

#include "device_query.h"

namespace alma::cuda {
namespace {

constexpr int minimum_compute_major = 8;

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// The runtime's own texts ("CUDA driver version is insufficient for CUDA runtime version" where there is no driver at all)
// send people after the wrong cause, so the common ones are said anew.
std::string explain(cudaError_t error) {
  switch (error) {
    case cudaErrorInsufficientDriver: {  // 35
      int driver = 0;
      if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return "driver not found";
      return "the driver supports CUDA " + version_text(driver) + ", this build needs " + version_text(CUDART_VERSION);
    }
    case cudaErrorNoDevice:  // 100
      return "no device found (none installed, or none in CUDA_VISIBLE_DEVICES)";
    case cudaErrorStubLibrary:  // 34
      return "libcuda.so is the toolkit's stub, not a driver";
    case cudaErrorDevicesUnavailable:  // 46
      return "every device is busy or closed to other processes";
    case cudaErrorSystemNotReady:  // 802
      return "the system is not ready (on NVSwitch machines: is the fabric manager running?)";
    case cudaErrorSystemDriverMismatch:  // 803
      return "kernel module and libcuda.so are of different driver versions";
    case cudaErrorCompatNotSupportedOnDevice:  // 804
      return "the CUDA compatibility package does not support this device";
    default:
      return std::string(cudaGetErrorString(error)) + " (CUDA error " + std::to_string(static_cast<int>(error)) + ")";
  }
}

}  // namespace

std::vector<CudaDeviceInfo> query(std::string& reason) {
  reason.clear();
  std::vector<CudaDeviceInfo> devices;
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  bool usable = false;
  for (int index = 0; error == cudaSuccess && index < count; ++index) {
    cudaDeviceProp properties{};
    error = cudaGetDeviceProperties(&properties, index);
    if (error != cudaSuccess) break;
    devices.push_back({index, properties.name, properties.major, properties.minor, properties.totalGlobalMem,
                       properties.multiProcessorCount});
    usable = usable || properties.major >= minimum_compute_major;
  }
  if (error != cudaSuccess) {
    reason = explain(error);
    devices.clear();
  } else if (devices.empty()) {
    reason = explain(cudaErrorNoDevice);
  } else if (!usable) {
    reason = "compute capability 8.0 or later is needed, " + devices.front().name + " has " +
             std::to_string(devices.front().compute_major) + "." + std::to_string(devices.front().compute_minor);
  }
  cudaGetLastError();  // the runtime keeps the last error for whoever asks next
  return devices;
}

}  // namespace alma::cuda

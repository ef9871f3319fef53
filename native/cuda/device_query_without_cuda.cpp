#include "device_query.h"

namespace alma::cuda {

std::vector<CudaDeviceInfo> query(std::string& reason) {
  reason = ALMA_BUILD_CUDA_NOTE;
  return {};
}

}  // namespace alma::cuda

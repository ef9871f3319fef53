// Devices 'cuda:N' and, in development builds, 'emulator': the same sources, compiled by nvcc for a GPU and by the host compiler for
// native/emulator. A plain header: no CUDA type gets out.
#pragma once

#include <memory>

#include "../../runtime/device.h"

namespace alma::cuda {
// Throws ERR_ALMA_DEVICE when there is no such GPU, or when it cannot be used.
std::shared_ptr<Device> open_cuda_device(int index);
}  // namespace alma::cuda

namespace alma::emulated_cuda {
std::shared_ptr<Device> open_cuda_device(int index);
}  // namespace alma::emulated_cuda

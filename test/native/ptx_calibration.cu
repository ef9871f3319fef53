// Results of every wrapper of native/cuda/ptx for random operands, as text. Compiled twice: on a GPU it says what the hardware does,
// on the emulator what the emulator takes the hardware to do. scripts/gpu-verify.mjs compares the two.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "../../native/cuda/launch.h"
#include "../../native/cuda/ptx/cp_async.cuh"
#include "../../native/cuda/ptx/exp2.cuh"
#include "../../native/cuda/ptx/ldmatrix.cuh"
#include "../../native/cuda/ptx/mma.cuh"
#include "../../native/cuda/shared_memory.cuh"

namespace alma::ALMA_CUDA {
namespace {

struct Bytes {
  alignas(16) unsigned char data[2048];
};

// Each lane's registers, 16 a lane: what the wrapper of that number gives.
__global__ void calibrate(const unsigned char* in, uint32_t* out, int which) {
  ALMA_SHARED(Bytes, shared);
  const int lane = threadIdx.x;
  for (int i = 0; i < 4; ++i) ptx::cp_async_16(shared.data + (i * 32 + lane) * 16, in + (i * 32 + lane) * 16, which != 5 || lane % 3 != 0);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncthreads();
  uint32_t r[16] = {};
  if (which == 0) {
    uint32_t x[4];
    ptx::ldmatrix_x4(x, shared.data + lane * 16);
    for (int i = 0; i < 4; ++i) r[i] = x[i];
  } else if (which == 1) {
    uint32_t x[4];
    ptx::ldmatrix_x4_trans(x, shared.data + lane * 16);
    for (int i = 0; i < 4; ++i) r[i] = x[i];
  } else if (which == 2) {
    uint32_t x[2];
    ptx::ldmatrix_x2(x, shared.data + (lane % 16) * 16);
    for (int i = 0; i < 2; ++i) r[i] = x[i];
  } else if (which == 3) {
    uint32_t x[2];
    ptx::ldmatrix_x2_trans(x, shared.data + (lane % 16) * 16);
    for (int i = 0; i < 2; ++i) r[i] = x[i];
  } else if (which == 4) {
    uint32_t a[4], b[2];
    float d[4];
    for (int i = 0; i < 4; ++i) a[i] = *reinterpret_cast<const uint32_t*>(shared.data + (lane * 4 + i) * 4);
    for (int i = 0; i < 2; ++i) b[i] = *reinterpret_cast<const uint32_t*>(shared.data + 512 + (lane * 2 + i) * 4);
    for (int i = 0; i < 4; ++i) d[i] = static_cast<float>(lane - i);
    ptx::mma_m16n8k16_bf16(d, a, b);
    for (int i = 0; i < 4; ++i) r[i] = __float_as_uint(d[i]);
  } else if (which == 5) {
    for (int i = 0; i < 16; ++i) r[i] = *reinterpret_cast<const uint32_t*>(shared.data + (lane * 16 + i) * 4);
  } else {
    for (int i = 0; i < 16; ++i) r[i] = __float_as_uint(ptx::exp2_approximate((lane * 16 + i - 256) * 0.37f));
  }
  for (int i = 0; i < 16; ++i) out[lane * 16 + i] = r[i];
}

constexpr const char* kNames[] = {"ldmatrix_x4", "ldmatrix_x4_trans", "ldmatrix_x2", "ldmatrix_x2_trans",
                                  "mma_m16n8k16_bf16", "cp_async_16", "exp2_approximate"};

int run() {
  std::vector<unsigned char> host(2048);
  uint32_t state = 12345;
  for (size_t i = 0; i < host.size(); i += 2) {
    state = state * 1664525u + 1013904223u;
    // bf16 numbers between -2 and 2, of 7 bits of mantissa: products and their sums come out exact in f32.
    const uint16_t bits = static_cast<uint16_t>(((state >> 16) & 0x8000u) | (0x3f00u + ((state >> 20) & 0xffu)));
    std::memcpy(&host[i], &bits, 2);
  }
  void *in = nullptr, *out = nullptr;
  check("calibration", cudaMalloc(&in, host.size()));
  check("calibration", cudaMalloc(&out, 32 * 16 * 4));
  check("calibration", cudaMemcpy(in, host.data(), host.size(), cudaMemcpyHostToDevice));
  std::vector<uint32_t> result(32 * 16);
  Context context;
  for (int which = 0; which < 7; ++which) {
    launch(context, kNames[which], {dim3(1), dim3(32), sizeof(Bytes)}, calibrate, static_cast<const unsigned char*>(in),
           static_cast<uint32_t*>(out), which);
    check("calibration", cudaDeviceSynchronize());
    check("calibration", cudaMemcpy(result.data(), out, result.size() * 4, cudaMemcpyDeviceToHost));
    std::printf("%s", kNames[which]);
    for (uint32_t value : result) std::printf(" %08x", value);
    std::printf("\n");
  }
  cudaFree(in);
  cudaFree(out);
  return 0;
}

}  // namespace
}  // namespace alma::ALMA_CUDA

int main() {
  try {
    return alma::ALMA_CUDA::run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

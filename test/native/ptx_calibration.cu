// Results of every wrapper of native/cuda/ptx for random operands, as text. Compiled twice: on a GPU it says what the hardware does,
// on the emulator what the emulator takes the hardware to do. scripts/gpu-verify.mjs compares the two.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "../../native/cuda/launch.h"
#include "../../native/cuda/layout/swizzle.h"
#include "../../native/cuda/ptx/cp_async.cuh"
#include "../../native/cuda/ptx/exp2.cuh"
#include "../../native/cuda/ptx/fence.cuh"
#include "../../native/cuda/ptx/ldmatrix.cuh"
#include "../../native/cuda/ptx/mma.cuh"
#include "../../native/cuda/ptx/stmatrix.cuh"
#include "../../native/cuda/ptx/tensor_copy.cuh"
#include "../../native/cuda/ptx/wgmma_n64.cuh"
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
  for (int i = 0; i < 4; ++i)
    ptx::cp_async_16(shared.data + (i * 32 + lane) * 16, in + (i * 32 + lane) * 16, which != 5 || lane % 3 != 0);
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

constexpr const char* kNames[] = {"ldmatrix_x4",       "ldmatrix_x4_trans", "ldmatrix_x2",     "ldmatrix_x2_trans",
                                  "mma_m16n8k16_bf16", "cp_async_16",       "exp2_approximate"};

// Compute capability 9.0: a box of 64 × 64 elements as a tensor map puts it into shared memory, the layout of an accumulator, both majors,
// the left operand from registers, and an accumulator that stmatrix and a bulk store write to memory. Numbers that add up exactly.
struct HopperBytes {
  alignas(1024) __nv_bfloat16 a[64 * 64], b[64 * 64], c[64 * 64];
  ptx::Mbarrier full;
};
enum class HopperCase { box, ragged_box, k_major, mn_major, registers, stored };
constexpr const char* kHopperNames[] = {"tensor_load_2d", "tensor_load_2d_ragged", "wgmma_k_major",
                                        "wgmma_mn_major", "wgmma_registers",       "stmatrix_tensor_store"};

#if defined(ALMA_EMULATOR) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
template <ptx::Major kMajor>
__device__ void multiply_tiles(float (&d)[32], const HopperBytes& shared) {
  for (int k = 0; k < 64; k += 16) {
    const int at = kMajor == ptx::Major::k ? k : k * 64;
    ptx::wgmma_n64<kMajor, kMajor>(d, ptx::operand<kMajor>(shared.a + at, 8192),
                                   ptx::operand<kMajor>(shared.b + at, 8192), k > 0);
  }
}
#endif

__global__ void __launch_bounds__(128, 1)
    calibrate_hopper(const __grid_constant__ TensorMap map, const __grid_constant__ TensorMap map_out, uint32_t* out,
                     HopperCase which) {
#if defined(ALMA_EMULATOR) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  ALMA_SHARED(HopperBytes, shared);
  const int thread = static_cast<int>(threadIdx.x);
  const int corner = which == HopperCase::ragged_box ? 24 : 0;
  if (thread == 0) {
    ptx::mbarrier_init(&shared.full, 1);
    ptx::mbarrier_init_fence();
    ptx::mbarrier_arrive_expect(&shared.full, sizeof shared.a + sizeof shared.b);
    ptx::tensor_load_2d(shared.a, &map, &shared.full, corner, corner);
    ptx::tensor_load_2d(shared.b, &map, &shared.full, corner, corner);
  }
  __syncthreads();
  ptx::mbarrier_wait(&shared.full, 0);
  if (which == HopperCase::box || which == HopperCase::ragged_box) {
    for (int i = 0; i < 16; ++i) out[i * 128 + thread] = reinterpret_cast<const uint32_t*>(shared.a)[i * 128 + thread];
    return;
  }
  float d[32];
  uint32_t a[4];
  for (int i = 0; i < 4; ++i) a[i] = reinterpret_cast<const uint32_t*>(shared.a)[i * 128 + thread];
  ptx::keep(d);
  ptx::wgmma_fence();
  if (which == HopperCase::mn_major) {
    multiply_tiles<ptx::Major::mn>(d, shared);
  } else if (which == HopperCase::registers) {
    ptx::wgmma_n64<ptx::Major::mn>(d, a, ptx::operand<ptx::Major::mn>(shared.b, 8192), false);
  } else {
    multiply_tiles<ptx::Major::k>(d, shared);
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  ptx::keep(d);
  if (which != HopperCase::stored) {
    for (int i = 0; i < 32; ++i) out[i * 128 + thread] = __float_as_uint(d[i]);
    return;
  }
  const int row = thread / 32 * 16 + thread % 16;
#pragma unroll
  for (int chunk = 0; chunk < 8; chunk += 2) {
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(d[chunk * 4 + 2 * i], d[chunk * 4 + 2 * i + 1]);
      words[i] = static_cast<uint32_t>(__bfloat16_as_ushort(__low2bfloat16(pair))) |
                 static_cast<uint32_t>(__bfloat16_as_ushort(__high2bfloat16(pair))) << 16;
    }
    ptx::stmatrix_x4(shared.c + row * 64 + ((chunk + thread % 32 / 16) ^ (row & 7)) * 8, words);
  }
  ptx::fence_proxy_async();
  __syncthreads();
  if (thread != 0) return;
  ptx::tensor_store_2d(&map_out, shared.c, 0, 0);
  ptx::bulk_commit();
  ptx::bulk_wait<0>();
#endif
}

void run_hopper(const Context& context) {
  int major = 0;
  check("calibration", cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
#ifndef ALMA_EMULATOR
  if (major != 9) return;
#endif
  std::vector<uint16_t> host(64 * 64);
  uint32_t state = 777;
  for (uint16_t& bits : host) {
    state = state * 1664525u + 1013904223u;
    bits =
        static_cast<uint16_t>(((state >> 16) & 0x8000u) | (0x3f80u + ((state >> 20) & 0x60u)));  // ±1, 1.25, 1.5, 1.75
  }
  void *in = nullptr, *out = nullptr;
  check("calibration", cudaMalloc(&in, host.size() * 2));
  check("calibration", cudaMalloc(&out, 4096 * 4));
  check("calibration", cudaMemcpy(in, host.data(), host.size() * 2, cudaMemcpyHostToDevice));
  const auto map_of = [](void* data) {
    return make_tensor_map("calibration", {data, DType::bf16, 2, {64, 64, 0}, {1, 64, 0}, {64, 64, 0}, true});
  };
  std::vector<uint32_t> result(4096);
  for (int which = 0; which < 6; ++which) {
    check("calibration", cudaMemsetAsync(out, 0, 4096 * 4, nullptr));
    check("calibration", cudaDeviceSynchronize());
    launch(context, kHopperNames[which], {dim3(1), dim3(128), sizeof(HopperBytes)}, calibrate_hopper, map_of(in),
           map_of(out), static_cast<uint32_t*>(out), static_cast<HopperCase>(which));
    check("calibration", cudaDeviceSynchronize());
    check("calibration", cudaMemcpy(result.data(), out, result.size() * 4, cudaMemcpyDeviceToHost));
    std::printf("%s", kHopperNames[which]);
    for (uint32_t value : result) std::printf(" %08x", value);
    std::printf("\n");
  }
  cudaFree(in);
  cudaFree(out);
}

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
  run_hopper(context);
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

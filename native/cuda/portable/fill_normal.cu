// out[i] = standard_deviation · z(seed, first + i), normal numbers by Box–Muller from Philox4x32-10, as native/cpu/fill_normal.cpp
// defines them: the same words and the same f32 operations, so only the last bit of log, cos and sin may differ.
#include "../../runtime/philox.h"
#include "dispatch.h"
#include "ops.h"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kThreads = 256;
constexpr float kTwoPi = 6.28318530717958648f;

// A thread makes the four numbers of one Philox block; `lead` of them in the first block precede out.
template <class T>
__global__ void __launch_bounds__(kThreads)
    fill_normal_kernel(T* out, int64_t count, float standard_deviation, PhiloxKey key, uint64_t first_block, int lead) {
  const int64_t number = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const uint64_t block = first_block + static_cast<uint64_t>(number);
  const PhiloxBlock random = philox(key, {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 1}});
  float z[4];
#pragma unroll
  for (int pair = 0; pair < 4; pair += 2) {
    const float u = static_cast<float>((random[pair] + 1.0) * 0x1p-32);
    const float angle = kTwoPi * static_cast<float>(random[pair + 1] * 0x1p-32);
    const float radius = sqrtf(-2.0f * logf(u));
    z[pair] = radius * cosf(angle);
    z[pair + 1] = radius * sinf(angle);
  }
#pragma unroll
  for (int lane = 0; lane < 4; ++lane) {
    const int64_t i = 4 * number + lane - lead;
    if (i >= 0 && i < count) out[i] = from_float<T>(standard_deviation * z[lane]);
  }
}

}  // namespace

void fill_normal(Context& context, const FillNormalArgs& args) {
  if (args.count <= 0) return;
  const auto first = static_cast<uint64_t>(args.first);
  const int lead = static_cast<int>(first % 4);
  const int64_t blocks = ceil_div(args.count + lead, 4);
  with_float("fill_normal", args.out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(context, "fill_normal", {grid_of("fill_normal", ceil_div(blocks, kThreads)), dim3(kThreads)},
           fill_normal_kernel<T>, pointer<T>(args.out), args.count, args.standard_deviation, philox_key(args.seed),
           first / 4, lead);
  });
}

}  // namespace alma::ALMA_CUDA::portable

// AdamW (Loshchilov & Hutter, 2019; torch.optim.AdamW) over a whole arena of parameters in one launch.
//
// Bytes a parameter: 28 with a bf16 parameter, f32 master and bf16 gradient, 30 with an f32 gradient, 28 all f32, 22 or 24 with a bf16
// parameter alone, which is rounded stochastically. Learning rate, step and gradient scale are read here, so that a captured graph
// stays right.
#include "../../runtime/philox.h"
#include "../shared_memory.cuh"
#include "../value_error.h"
#include "dispatch.h"
#include "ops.h"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kThreads = 512;
constexpr int kLanes = 4;
constexpr int kUnroll = 2;

// TP: the parameter. TM: what is updated: an f32 master, or the parameter itself.
template <class TP, class TM, class TG>
struct Call {
  TP* param;  // where it is not the master: the master rounded
  TM* master;
  const TG* grad;
  float* exp_avg;
  float* exp_avg_sq;
  const float* learning_rate;
  const int* step;
  const float* grad_scale;
  int64_t count;
  double beta1, beta2, epsilon, weight_decay;
  PhiloxKey key;
  bool is_aligned;
  ValueError* error;
};

struct Constants {
  float grad_scale, beta1, beta2, fresh1, fresh2, epsilon;
  float keep;      // 1 − lr · wd
  float rate1;     // lr / (1 − β1^t)
  float inverse2;  // 1 / (1 − β2^t)
  uint32_t step;
  bool changes;
};

template <class TP, class TM, class TG>
__device__ Constants constants_of(const Call<TP, TM, TG>& call) {
  Constants c = {};
  c.grad_scale = call.grad_scale != nullptr ? call.grad_scale[0] : 1.0f;
  const int step = call.step[0];
  c.changes = c.grad_scale != 0.0f && check_index(call.error, ValueCheck::adamw_step, step - 1ll, 0x7fffffff);
  if (!c.changes) return c;
  c.step = static_cast<uint32_t>(step);
  const double rate = call.learning_rate[0];
  c.beta1 = static_cast<float>(call.beta1);
  c.beta2 = static_cast<float>(call.beta2);
  c.fresh1 = static_cast<float>(1.0 - call.beta1);
  c.fresh2 = static_cast<float>(1.0 - call.beta2);
  c.epsilon = static_cast<float>(call.epsilon);
  c.keep = static_cast<float>(1.0 - rate * call.weight_decay);
  c.rate1 = static_cast<float>(rate / (1.0 - pow(call.beta1, static_cast<double>(step))));
  c.inverse2 = static_cast<float>(1.0 / (1.0 - pow(call.beta2, static_cast<double>(step))));
  return c;
}

template <class TM, class TG>
struct Loaded {
  Vector<TG, kLanes> grad;
  Vector<TM, kLanes> master;
  Vector<float, kLanes> exp_avg, exp_avg_sq;
};

// The new moments stay in `values`; the new parameters are the result.
template <class TM, class TG>
__device__ __forceinline__ Vector<float, kLanes> update(const Constants& c, Loaded<TM, TG>& values) {
  Vector<float, kLanes> updated;
#pragma unroll
  for (int lane = 0; lane < kLanes; ++lane) {
    const float g = values.grad[lane] * c.grad_scale;
    const float m = values.exp_avg[lane] * c.beta1 + c.fresh1 * g;
    const float v = values.exp_avg_sq[lane] * c.beta2 + c.fresh2 * (g * g);
    values.exp_avg.elements[lane] = m;
    values.exp_avg_sq.elements[lane] = v;
    updated.elements[lane] = values.master[lane] * c.keep - c.rate1 * m / (sqrtf(v * c.inverse2) + c.epsilon);
  }
  return updated;
}

// Four elements from i on, a multiple of 4: half of the half-words that a Philox block has for eight.
__device__ __forceinline__ Vector<bf16, kLanes> rounded_stochastically(const Vector<float, kLanes>& values, int64_t i,
                                                                       uint32_t step, PhiloxKey key) {
  const uint64_t block = static_cast<uint64_t>(i) / 8;
  const PhiloxBlock random = philox(key, {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), step, 3}});
  const bool second = i % 8 != 0;
  const uint32_t words[2] = {second ? random[2] : random[0], second ? random[3] : random[1]};
  Vector<bf16, kLanes> result;
#pragma unroll
  for (int lane = 0; lane < kLanes; ++lane) {
    const uint32_t bits = __float_as_uint(values.elements[lane]), word = words[lane / 2];
    const uint32_t cut = (bits + (lane % 2 == 0 ? word & 0xffffu : word >> 16)) & 0xffff0000u;
    const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    result.elements[lane] = __float2bfloat16_rn(finite ? __uint_as_float(cut) : values.elements[lane]);
  }
  return result;
}

template <class TP, class TM, class TG>
__global__ void __launch_bounds__(kThreads) adamw_kernel(const Call<TP, TM, TG> call) {
  ALMA_SHARED(Constants, shared);
  if (threadIdx.x == 0) shared = constants_of(call);  // once a block: two powers in f64
  __syncthreads();
  const Constants c = shared;
  if (!c.changes) return;
  constexpr int64_t kStep = int64_t{kThreads} * kLanes;
  for (int64_t tile = static_cast<int64_t>(blockIdx.x) * kStep * kUnroll; tile < call.count;
       tile += static_cast<int64_t>(gridDim.x) * kStep * kUnroll) {
    const int64_t first = tile + static_cast<int64_t>(threadIdx.x) * kLanes;
    Loaded<TM, TG> values[kUnroll];
    if (call.is_aligned && tile + kStep * kUnroll <= call.count) {
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const int64_t i = first + u * kStep;
        values[u] = {load_streaming<kLanes>(call.grad + i), load_streaming<kLanes>(call.master + i),
                     load_streaming<kLanes>(call.exp_avg + i), load_streaming<kLanes>(call.exp_avg_sq + i)};
      }
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const int64_t i = first + u * kStep;
        const Vector<float, kLanes> updated = update(c, values[u]);
        store_streaming(call.exp_avg + i, values[u].exp_avg);
        store_streaming(call.exp_avg_sq + i, values[u].exp_avg_sq);
        if constexpr (sizeof(TM) == 2) {
          store_vector(call.master + i, rounded_stochastically(updated, i, c.step, call.key));
        } else {
          store_streaming(call.master + i, updated);
          if constexpr (sizeof(TP) == 2) store_vector(call.param + i, pack<TP>(updated.elements));
        }
      }
      continue;
    }
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t i = first + u * kStep, n = call.count - i;
      Loaded<TM, TG> tail{load_elements<kLanes>(call.grad + i, n), load_elements<kLanes>(call.master + i, n),
                          load_elements<kLanes>(call.exp_avg + i, n), load_elements<kLanes>(call.exp_avg_sq + i, n)};
      const Vector<float, kLanes> updated = update(c, tail);
      store_elements(call.exp_avg + i, n, tail.exp_avg);
      store_elements(call.exp_avg_sq + i, n, tail.exp_avg_sq);
      if constexpr (sizeof(TM) == 2) {
        store_elements(call.master + i, n, rounded_stochastically(updated, i, c.step, call.key));
      } else {
        store_elements(call.master + i, n, updated);
        if constexpr (sizeof(TP) == 2) store_elements(call.param + i, n, pack<TP>(updated.elements));
      }
    }
  }
}

template <class TP, class TM, class TG>
void run(Context& context, const AdamWArgs& args, const TensorRef& master) {
  const Call<TP, TM, TG> call{pointer<TP>(args.param),
                              pointer<TM>(master),
                              pointer<TG>(args.grad),
                              pointer<float>(args.exp_avg),
                              pointer<float>(args.exp_avg_sq),
                              pointer<float>(args.learning_rate),
                              pointer<int>(args.step),
                              pointer<float>(args.grad_scale),
                              args.count,
                              args.beta1,
                              args.beta2,
                              args.epsilon,
                              args.weight_decay,
                              philox_key(args.seed),
                              aligned(16, args.param, master, args.grad, args.exp_avg, args.exp_avg_sq),
                              context.value_error};
  const int64_t needed = ceil_div(args.count, int64_t{kThreads} * kLanes * kUnroll);
  const int64_t most = int64_t{2} * context.properties.multiprocessors;
  launch(context, "adamw", {grid_of("adamw", needed < most ? needed : most), dim3(kThreads), sizeof(Constants)},
         adamw_kernel<TP, TM, TG>, call);
}

}  // namespace

void adamw(Context& context, const AdamWArgs& args) {
  if (args.count <= 0) return;
  with_float("adamw", args.grad.dtype, [&](auto tag) {
    using TG = typename decltype(tag)::type;
    if (args.param.dtype == DType::f32) return run<float, float, TG>(context, args, args.param);
    if (args.param.dtype != DType::bf16) fail("adamw", "needs a float tensor (f32 or bf16)");
    if (args.master.data != nullptr) return run<bf16, float, TG>(context, args, args.master);
    run<bf16, bf16, TG>(context, args, args.param);
  });
}

}  // namespace alma::ALMA_CUDA::portable

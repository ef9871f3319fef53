// AdamW (Loshchilov & Hutter, 2019; torch.optim.AdamW) over a whole arena of parameters in one launch.
//
// Bytes a parameter: 28 with a bf16 parameter, f32 master and bf16 gradient, 30 with an f32 gradient, 28 all f32. Learning rate, step and
// gradient scale are read here, so that a captured graph stays right.
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

template <class TP, class TG>
struct Call {
  TP* param;      // bf16: the rounded master. f32: unused
  float* master;  // the parameter that is updated
  const TG* grad;
  float* exp_avg;
  float* exp_avg_sq;
  const float* learning_rate;
  const int* step;
  const float* grad_scale;
  int64_t count;
  double beta1, beta2, epsilon, weight_decay;
  bool is_aligned;
  ValueError* error;
};

struct Constants {
  float grad_scale, beta1, beta2, fresh1, fresh2, epsilon;
  float keep;      // 1 − lr · wd
  float rate1;     // lr / (1 − β1^t)
  float inverse2;  // 1 / (1 − β2^t)
  bool changes;
};

template <class TP, class TG>
__device__ Constants constants_of(const Call<TP, TG>& call) {
  Constants c = {};
  c.grad_scale = call.grad_scale != nullptr ? call.grad_scale[0] : 1.0f;
  const int step = call.step[0];
  c.changes = c.grad_scale != 0.0f && check_index(call.error, ValueCheck::adamw_step, step - 1ll, 0x7fffffff);
  if (!c.changes) return c;
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

template <class TG>
struct Loaded {
  Vector<TG, kLanes> grad;
  Vector<float, kLanes> master, exp_avg, exp_avg_sq;
};

template <class TG>
__device__ __forceinline__ void update(const Constants& c, Loaded<TG>& values) {
#pragma unroll
  for (int lane = 0; lane < kLanes; ++lane) {
    const float g = values.grad[lane] * c.grad_scale;
    const float m = values.exp_avg[lane] * c.beta1 + c.fresh1 * g;
    const float v = values.exp_avg_sq[lane] * c.beta2 + c.fresh2 * (g * g);
    values.exp_avg.elements[lane] = m;
    values.exp_avg_sq.elements[lane] = v;
    values.master.elements[lane] = values.master[lane] * c.keep - c.rate1 * m / (sqrtf(v * c.inverse2) + c.epsilon);
  }
}

template <class TP, class TG>
__global__ void __launch_bounds__(kThreads) adamw_kernel(const Call<TP, TG> call) {
  ALMA_SHARED(Constants, shared);
  if (threadIdx.x == 0) shared = constants_of(call);  // once a block: two powers in f64
  __syncthreads();
  const Constants c = shared;
  if (!c.changes) return;
  constexpr int64_t kStep = int64_t{kThreads} * kLanes;
  for (int64_t tile = static_cast<int64_t>(blockIdx.x) * kStep * kUnroll; tile < call.count;
       tile += static_cast<int64_t>(gridDim.x) * kStep * kUnroll) {
    const int64_t first = tile + static_cast<int64_t>(threadIdx.x) * kLanes;
    Loaded<TG> values[kUnroll];
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
        update(c, values[u]);
        store_streaming(call.master + i, values[u].master);
        store_streaming(call.exp_avg + i, values[u].exp_avg);
        store_streaming(call.exp_avg_sq + i, values[u].exp_avg_sq);
        if constexpr (sizeof(TP) == 2) store_vector(call.param + i, pack<TP>(values[u].master.elements));
      }
      continue;
    }
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t i = first + u * kStep, n = call.count - i;
      Loaded<TG> tail{load_elements<kLanes>(call.grad + i, n), load_elements<kLanes>(call.master + i, n),
                      load_elements<kLanes>(call.exp_avg + i, n), load_elements<kLanes>(call.exp_avg_sq + i, n)};
      update(c, tail);
      store_elements(call.master + i, n, tail.master);
      store_elements(call.exp_avg + i, n, tail.exp_avg);
      store_elements(call.exp_avg_sq + i, n, tail.exp_avg_sq);
      if constexpr (sizeof(TP) == 2) store_elements(call.param + i, n, pack<TP>(tail.master.elements));
    }
  }
}

template <class TP, class TG>
void run(Context& context, const AdamWArgs& args) {
  const TensorRef& master = sizeof(TP) == 4 ? args.param : args.master;
  const Call<TP, TG> call{pointer<TP>(args.param),
                          pointer<float>(master),
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
                          aligned(16, args.param, master, args.grad, args.exp_avg, args.exp_avg_sq),
                          context.value_error};
  const int64_t needed = ceil_div(args.count, int64_t{kThreads} * kLanes * kUnroll);
  const int64_t most = int64_t{2} * context.properties.multiprocessors;
  launch(context, "adamw", {grid_of("adamw", needed < most ? needed : most), dim3(kThreads), sizeof(Constants)},
         adamw_kernel<TP, TG>, call);
}

}  // namespace

void adamw(Context& context, const AdamWArgs& args) {
  if (args.count <= 0) return;
  if (args.param.dtype == DType::bf16 && args.master.data == nullptr)
    fail("adamw", "bf16 parameters need an f32 master");
  with_float("adamw", args.param.dtype, [&](auto tag) {
    with_float("adamw", args.grad.dtype, [&](auto tag_grad) {
      run<typename decltype(tag)::type, typename decltype(tag_grad)::type>(context, args);
    });
  });
}

}  // namespace alma::ALMA_CUDA::portable

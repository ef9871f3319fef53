// AdamW (Loshchilov & Hutter, 2019; torch.optim.AdamW) in one pass over parameters, gradients and moments.
#include <math.h>
#include <string.h>

#include "../runtime/philox.h"
#include "parallel.h"

namespace alma::cpu::ALMA_ISA {
namespace {

#if defined(__clang__)
ALMA_INLINE F square_root(F x) { return __builtin_elementwise_sqrt(x); }
#else
ALMA_INLINE F square_root(F x) {
  for (int i = 0; i < W; ++i) x[i] = __builtin_sqrtf(x[i]);  // becomes one vector instruction at -O3
  return x;
}
#endif

// The random half-words of 8 elements, for stochastic rounding.
struct RoundingBits {
  uint64_t seed;
  uint32_t step;

  uint32_t operator()(uint64_t element) {
    if (element / 8 != block) {
      block = element / 8;
      random = philox(philox_key(seed), {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), step, 3}});
    }
    const uint32_t word = random.words[element % 8 / 2];
    return element % 2 == 0 ? word & 0xffffu : word >> 16;
  }

  uint64_t block = UINT64_MAX;
  PhiloxBlock random = {};
};

bf16 rounded_stochastically(float value, uint32_t random) {
  bf16 result;
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if ((bits & 0x7f800000u) == 0x7f800000u) {
    from_float(&result, value);
    return result;
  }
  const auto high = static_cast<uint16_t>((bits + random) >> 16);
  memcpy(&result, &high, 2);
  return result;
}

template <class TG>
void update_stochastically(ThreadPool& pool, const AdamWArgs& args, float grad_scale) {
  const double rate = pointer<float>(args.learning_rate)[0];
  const int32_t step = pointer<int32_t>(args.step)[0];
  const auto beta1 = static_cast<float>(args.beta1), beta2 = static_cast<float>(args.beta2);
  const auto fresh1 = static_cast<float>(1.0 - args.beta1), fresh2 = static_cast<float>(1.0 - args.beta2);
  const auto epsilon = static_cast<float>(args.epsilon);
  const float keep = static_cast<float>(1.0 - rate * args.weight_decay);
  const float rate1 = static_cast<float>(rate / (1.0 - pow(args.beta1, step)));
  const float inverse2 = static_cast<float>(1.0 / (1.0 - pow(args.beta2, step)));
  parallel_ranges(pool, args.count, kElementGrain / 2, [&](int64_t begin, int64_t end, int) {
    bf16* param = pointer<bf16>(args.param);
    const TG* grad = pointer<TG>(args.grad);
    float* exp_avg = pointer<float>(args.exp_avg);
    float* exp_avg_sq = pointer<float>(args.exp_avg_sq);
    RoundingBits bits{args.seed, static_cast<uint32_t>(step)};
    for_lanes(end - begin, [&](int64_t offset, int lanes) ALMA_LAMBDA {
      const int64_t i = begin + offset;
      const F g = load(grad + i, lanes) * grad_scale;
      const F m = load(exp_avg + i, lanes) * beta1 + fresh1 * g;
      const F v = load(exp_avg_sq + i, lanes) * beta2 + fresh2 * (g * g);
      const F p = load(param + i, lanes) * keep - rate1 * m / (square_root(v * inverse2) + epsilon);
      store(exp_avg + i, m, lanes);
      store(exp_avg_sq + i, v, lanes);
      for (int lane = 0; lane < lanes; ++lane)
        param[i + lane] = rounded_stochastically(p[lane], bits(static_cast<uint64_t>(i + lane)));
    });
  });
}

template <class TP, class TG>
void update(ThreadPool& pool, const AdamWArgs& args, float grad_scale) {
  const double rate = pointer<float>(args.learning_rate)[0];
  const int32_t step = pointer<int32_t>(args.step)[0];
  const auto beta1 = static_cast<float>(args.beta1), beta2 = static_cast<float>(args.beta2);
  const auto fresh1 = static_cast<float>(1.0 - args.beta1), fresh2 = static_cast<float>(1.0 - args.beta2);
  const auto epsilon = static_cast<float>(args.epsilon);
  const float keep = static_cast<float>(1.0 - rate * args.weight_decay);
  // lr · (m / c1) / (sqrt(v / c2) + ε), with the two constants taken out of the loop.
  const float rate1 = static_cast<float>(rate / (1.0 - pow(args.beta1, step)));
  const float inverse2 = static_cast<float>(1.0 / (1.0 - pow(args.beta2, step)));
  parallel_ranges(pool, args.count, kElementGrain / 2, [&](int64_t begin, int64_t end, int) {
    TP* param = pointer<TP>(args.param, begin);
    float* master = sizeof(TP) == 4 ? pointer<float>(args.param, begin) : pointer<float>(args.master, begin);
    const TG* grad = pointer<TG>(args.grad, begin);
    float* exp_avg = pointer<float>(args.exp_avg, begin);
    float* exp_avg_sq = pointer<float>(args.exp_avg_sq, begin);
    for_lanes(end - begin, [&](int64_t i, int lanes) ALMA_LAMBDA {
      const F g = load(grad + i, lanes) * grad_scale;
      const F m = load(exp_avg + i, lanes) * beta1 + fresh1 * g;
      const F v = load(exp_avg_sq + i, lanes) * beta2 + fresh2 * (g * g);
      const F p = load(master + i, lanes) * keep - rate1 * m / (square_root(v * inverse2) + epsilon);
      store(exp_avg + i, m, lanes);
      store(exp_avg_sq + i, v, lanes);
      store(master + i, p, lanes);
      if (sizeof(TP) == 2) store(param + i, p, lanes);
    });
  });
}

}  // namespace

void adamw(ThreadPool& pool, const AdamWArgs& args) {
  const float grad_scale = args.grad_scale.data ? pointer<float>(args.grad_scale)[0] : 1.0f;
  if (args.count <= 0 || grad_scale == 0.0f) return;
  if (pointer<int32_t>(args.step)[0] < 1) fail("adamw", "step counts from 1");
  if (args.param.dtype == DType::bf16 && !args.master.data) {
    return with_float("adamw", args.grad.dtype,
                      [&](auto tag) { update_stochastically<typename decltype(tag)::type>(pool, args, grad_scale); });
  }
  with_float("adamw", args.param.dtype, [&](auto tag) {
    with_float("adamw", args.grad.dtype, [&](auto tag_grad) {
      update<typename decltype(tag)::type, typename decltype(tag_grad)::type>(pool, args, grad_scale);
    });
  });
}

}  // namespace alma::cpu::ALMA_ISA

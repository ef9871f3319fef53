#include "cpu_check.h"

namespace alma::test {
namespace {

void entropy(cpu::CpuOps& ops, Random& random, size_t rows, size_t vocab, DType type, double shift) {
  const auto r = static_cast<int64_t>(rows), c = static_cast<int64_t>(vocab);
  Tensor logits = Tensor::normal(type, rows * vocab, random, 3);
  for (size_t i = 0; i < logits.count(); ++i) logits.set(i, logits.get(i) + shift);
  std::vector<int32_t> target(rows);
  for (size_t i = 0; i < rows; ++i) target[i] = i % 3 == 1 ? -100 : static_cast<int32_t>(random.below(c));
  Tensor targets = Tensor::ints(target), scale(DType::f32, {0.25});
  std::vector<double> nll(rows), lse(rows), gradient(rows * vocab);
  for (size_t i = 0; i < rows; ++i) {
    double highest = -INFINITY, total = 0;
    for (size_t j = 0; j < vocab; ++j) highest = std::max(highest, logits.get(i * vocab + j));
    for (size_t j = 0; j < vocab; ++j) total += std::exp(logits.get(i * vocab + j) - highest);
    lse[i] = highest + std::log(total);
    if (target[i] < 0) continue;
    nll[i] = lse[i] - logits.get(i * vocab + static_cast<size_t>(target[i]));
    for (size_t j = 0; j < vocab; ++j)
      gradient[i * vocab + j] =
          0.25 * (std::exp(logits.get(i * vocab + j) - lse[i]) - (static_cast<int32_t>(j) == target[i] ? 1 : 0));
  }
  const std::string what = "cross_entropy " + shape_text({r, c}) + " " + name_of(type) + " ";
  Tensor got_nll(DType::f32, rows), got_lse(DType::f32, rows), dlogits(type, rows * vocab), plain(DType::f32, rows);
  ops.cross_entropy(
      {logits.ref(), targets.ref(), got_nll.ref(), got_lse.ref(), dlogits.ref(), scale.ref(), r, c, -100});
  close(got_nll, nll, 1e-6, what + "nll");
  close(got_lse, lse, 1e-6, what + "log_sum_exp");
  close(dlogits, gradient, tolerance_of(type, 1e-6), what + "dlogits");
  ops.cross_entropy({logits.ref(), targets.ref(), plain.ref(), {}, {}, {}, r, c, -100});
  check(plain.same_bits(got_nll), what + "nll alone");
  ops.cross_entropy({logits.ref(), targets.ref(), plain.ref(), {}, logits.ref(), scale.ref(), r, c, -100});
  check(logits.same_bits(dlogits) && plain.same_bits(got_nll), what + "in place");
  targets.set(0, static_cast<double>(vocab));
  throws(what + "target too large", [&] {
    ops.cross_entropy({logits.ref(), targets.ref(), plain.ref(), {}, {}, {}, r, c, -100});
  });
}

void optimizer(cpu::CpuOps& ops, Random& random, DType type, DType grad_type) {
  constexpr size_t kCount = 20003;
  Tensor master = Tensor::normal(DType::f32, kCount, random), param(type, master.values());
  if (type == DType::f32) param = master;
  Tensor m = Tensor::ints(std::vector<int32_t>(kCount)), v = m, rate(DType::f32, {1e-2}), scale(DType::f32, {0.5});
  m = Tensor(DType::f32, std::vector<double>(kCount));
  v = m;
  std::vector<double> p = master.values(), em(kCount), ev(kCount);
  for (int32_t step = 1; step <= 4; ++step) {
    Tensor grad = Tensor::normal(grad_type, kCount, random), steps = Tensor::ints({step});
    for (size_t i = 0; i < kCount; ++i) {
      const double g = grad.get(i) * 0.5;
      p[i] *= 1 - 1e-2 * 0.1;
      em[i] = 0.9 * em[i] + 0.1 * g;
      ev[i] = 0.999 * ev[i] + 0.001 * g * g;
      p[i] -= 1e-2 * (em[i] / (1 - std::pow(0.9, step))) / (std::sqrt(ev[i] / (1 - std::pow(0.999, step))) + 1e-8);
    }
    const AdamWArgs args{param.ref(), type == DType::bf16 ? master.ref() : TensorRef{},
                         grad.ref(),  m.ref(),
                         v.ref(),     rate.ref(),
                         steps.ref(), scale.ref(),
                         kCount,      0.9f,
                         0.999f,      1e-8f,
                         0.1f};
    ops.adamw(args);
    const Tensor before = param, m_before = m;
    scale.set(0, 0);
    ops.adamw(args);
    check(param.same_bits(before) && m.same_bits(m_before), "adamw: nothing happens with grad_scale 0");
    scale.set(0, 0.5);
    steps.set(0, 0);
    throws("adamw: step 0", [&] { ops.adamw(args); });
  }
  const std::string what = std::string("adamw ") + name_of(type) + " ";
  close(type == DType::bf16 ? master : param, p, 5e-7, what + "master");
  // β is f32 in the arguments, so moments differ from float64's 0.999 in the fifth digit of 1 − β².
  close(m, em, 1e-6, what + "exp_avg");
  close(v, ev, 2e-5, what + "exp_avg_sq");
  if (type == DType::bf16)
    check(param.same_bits(Tensor(DType::bf16, master.values())), what + "param is the rounded master");
  close(param, p, tolerance_of(type, 5e-7), what + "param");
}

}  // namespace

void test_losses_and_optimizer(cpu::CpuOps& ops) {
  Random random;
  for (const DType type : {DType::f32, DType::bf16}) {
    entropy(ops, random, 1, 1, type, 0);
    entropy(ops, random, 7, 33, type, 0);
    entropy(ops, random, 5, 1000, type, 300);
    entropy(ops, random, 3, 32003, type, 0);
    for (const DType grad_type : {DType::f32, DType::bf16}) optimizer(ops, random, type, grad_type);
  }
  Tensor sum(DType::f32, {25}), norm(DType::f32, 1), coefficient(DType::f32, 1);
  const auto clip = [&](double squares, float max_norm) {
    sum.set(0, squares);
    ops.clip_coefficient({sum.ref(), norm.ref(), coefficient.ref(), max_norm});
    return coefficient.get(0);
  };
  check(std::abs(clip(25, 1) - 0.2) < 1e-6 && norm.get(0) == 5, "clip_coefficient");
  check(clip(25, 10) == 1 && clip(25, 0) == 1 && clip(NAN, 1) == 0 && clip(INFINITY, 0) == 0,
        "clip_coefficient: special values");
}

}  // namespace alma::test

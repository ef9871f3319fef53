#include "cpu_check.h"

namespace alma::test {
namespace {

double silu(double x) { return x / (1 + std::exp(-x)); }

void test_cast(cpu::CpuOps& ops, Random& random) {
  for (const size_t count : {size_t{1}, size_t{7}, size_t{33}, size_t{40001}})
    for (const DType from : {DType::f32, DType::bf16})
      for (const DType to : {DType::f32, DType::bf16}) {
        Tensor in = Tensor::normal(from, count, random), out(to, count), expected(to, in.values());
        ops.cast({in.ref(), out.ref(), static_cast<int64_t>(count)});
        check(out.same_bits(expected), "cast " + std::to_string(count));
      }
  Tensor half(DType::f16, 65536), wide(DType::f32, 65536);  // every half there is
  for (size_t i = 0; i < 65536; ++i) half.set_bits(i, static_cast<uint16_t>(i));
  ops.cast({half.ref(), wide.ref(), 65536});
  int wrong = 0;
  for (size_t i = 0; i < 65536; ++i)
    wrong += !(wide.get(i) == half.get(i) || (std::isnan(wide.get(i)) && std::isnan(half.get(i))));
  check(wrong == 0, "cast of every f16");
  Tensor special(DType::f32, {INFINITY, -INFINITY, NAN, 3.4e38, -0.0, 1e-40, 1.00390625, 1.01171875}),
      narrow(DType::bf16, 8);
  uint32_t signalling = 0x7f800001u;
  float as_float;
  std::memcpy(&as_float, &signalling, 4);
  std::memcpy(static_cast<char*>(special.ref().data) + 8, &signalling, 4);  // its mantissa is all in the lost half
  ops.cast({special.ref(), narrow.ref(), 8});
  check(narrow.get(0) == INFINITY && narrow.get(1) == -INFINITY && std::isnan(narrow.get(2)) &&
            narrow.get(3) == INFINITY && std::signbit(narrow.get(4)) && narrow.get(6) == 1 && narrow.get(7) == 1.015625,
        "cast of special values");
  Tensor ints = Tensor::ints({1, -5, 2147483647}), copy = Tensor::ints({0, 0, 0});
  ops.cast({ints.ref(), copy.ref(), 3});
  check(copy.same_bits(ints), "cast of i32");
  throws("cast i32 to f32", [&] { ops.cast({ints.ref(), wide.ref(), 3}); });
}

void test_fill(cpu::CpuOps& ops) {
  for (const DType type : {DType::f32, DType::bf16, DType::i32}) {
    Tensor x(type, 70001);
    ops.fill({x.ref(), 70001, 3});
    bool all = true;
    for (size_t i = 0; i < x.count(); ++i) all = all && x.get(i) == 3;
    check(all, "fill");
  }
  Tensor x = Tensor::ints({5, -3});
  ops.increment({x.ref(), 2, -4});
  check(x.get(0) == 1 && x.get(1) == -7, "increment");

  constexpr int64_t kCount = 40000;
  Tensor z(DType::f32, kCount), part(DType::f32, 1003);
  ops.fill_normal({z.ref(), kCount, 2.0f, 77, 0});
  ops.fill_normal({part.ref(), 1003, 2.0f, 77, 9999});
  double mean = 0, square = 0, fourth = 0;
  for (size_t i = 0; i < z.count(); ++i) {
    mean += z.get(i) / kCount;
    square += z.get(i) * z.get(i) / kCount;
    fourth += std::pow(z.get(i), 4) / kCount;
  }
  check(std::abs(mean) < 0.05 && std::abs(square - 4) < 0.15 && std::abs(fourth / (square * square) - 3) < 0.15,
        "fill_normal");
  bool same = true;
  for (size_t i = 0; i < 1003; ++i) same = same && part.get(i) == z.get(9999 + i);
  check(same, "fill_normal: a part of it");
}

void test_swi_glu(cpu::CpuOps& ops, Random& random) {
  for (const size_t count : {size_t{5}, size_t{1003}, size_t{30000}})
    for (const DType type : {DType::f32, DType::bf16}) {
      const auto n = static_cast<int64_t>(count);
      Tensor gate = Tensor::normal(type, count, random, 3), up = Tensor::normal(type, count, random);
      Tensor dout = Tensor::normal(type, count, random), out(type, count), dgate(type, count), dup(type, count);
      std::vector<double> y(count), dg(count), du(count);
      for (size_t i = 0; i < count; ++i) {
        const double g = gate.get(i), s = 1 / (1 + std::exp(-g));
        y[i] = silu(g) * up.get(i);
        dg[i] = dout.get(i) * up.get(i) * s * (1 + g * (1 - s));
        du[i] = dout.get(i) * silu(g);
      }
      const double tolerance = tolerance_of(type, 1e-6);
      ops.swi_glu({gate.ref(), up.ref(), out.ref(), n});
      close(out, y, tolerance, "swi_glu");
      ops.swi_glu_backward({gate.ref(), up.ref(), dout.ref(), dgate.ref(), dup.ref(), TensorRef{}, n});
      close(dgate, dg, tolerance, "swi_glu dgate");
      close(dup, du, tolerance, "swi_glu dup");
      Tensor g2 = gate, u2 = up, d2 = dout;
      ops.swi_glu_backward({g2.ref(), u2.ref(), d2.ref(), g2.ref(), u2.ref(), d2.ref(), n});
      check(g2.same_bits(dgate) && u2.same_bits(dup), "swi_glu_backward in place");
      close(d2, y, tolerance, "swi_glu again in place of dout");
      g2 = gate;
      ops.swi_glu({g2.ref(), up.ref(), g2.ref(), n});
      check(g2.same_bits(out), "swi_glu in place");
    }
  Tensor gate(DType::f32, {-200, 200, NAN, 0}), up(DType::f32, {1, 1, 1, 1}), out(DType::f32, 4);
  ops.swi_glu({gate.ref(), up.ref(), out.ref(), 4});
  check(std::abs(out.get(0)) < 1e-30 && out.get(1) == 200 && std::isnan(out.get(2)) && out.get(3) == 0,
        "swi_glu extremes");
}

}  // namespace

void test_elementwise(cpu::CpuOps& ops) {
  Random random;
  test_cast(ops, random);
  test_fill(ops);
  test_swi_glu(ops, random);
  for (const DType type : {DType::f32, DType::bf16}) {
    Tensor a = Tensor::normal(type, 50003, random), b = Tensor::normal(type, 50003, random), out(type, 50003);
    std::vector<double> sum(50003);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] = a.get(i) + b.get(i);
    ops.add({a.ref(), b.ref(), out.ref(), 50003});
    close(out, sum, tolerance_of(type, 1e-7), "add");
    ops.add({a.ref(), b.ref(), b.ref(), 50003});
    check(b.same_bits(out), "add in place");
  }
  Tensor f32(DType::f32, 4), bf16(DType::bf16, 4);
  throws("add of two dtypes", [&] { ops.add({f32.ref(), bf16.ref(), f32.ref(), 4}); });

  for (const DType type : {DType::f32, DType::bf16}) {
    Tensor x = Tensor::normal(type, 100003, random), out(DType::f32, {2.5});
    double sum = 0, squares = 0;
    for (size_t i = 0; i < x.count(); ++i) {
      sum += x.get(i);
      squares += x.get(i) * x.get(i);
    }
    ops.reduce_sum({x.ref(), out.ref(), 100003, true, true});
    close(out, {squares + 2.5}, 1e-7, "reduce_sum of squares");
    ops.reduce_sum({x.ref(), out.ref(), 100003, false, false});
    close(out, {sum}, 1e-7, "reduce_sum");
    ops.reduce_sum({x.ref(), out.ref(), 0, false, false});
    check(out.get(0) == 0, "reduce_sum of nothing");
    for (const size_t i : {0, 17, 16384, 100002}) x.set(i, i % 2 ? NAN : -INFINITY);
    Tensor count = Tensor::ints({3});
    ops.count_non_finite({x.ref(), count.ref(), 100003});
    check(count.get(0) == 7, "count_non_finite");
  }
}

}  // namespace alma::test

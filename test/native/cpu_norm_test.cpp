#include "cpu_check.h"

namespace alma::test {
namespace {

void norm(cpu::CpuOps& ops, Random& random, size_t rows, size_t cols, DType type, DType weight_type,
          bool with_residual) {
  const size_t count = rows * cols;
  const auto r = static_cast<int64_t>(rows), c = static_cast<int64_t>(cols);
  Tensor x = Tensor::normal(type, count, random, 2), residual = Tensor::normal(type, count, random);
  Tensor weight = Tensor::normal(weight_type, cols, random), dy = Tensor::normal(type, count, random);
  Tensor dx0 = Tensor::normal(type, count, random), dw0 = Tensor::normal(DType::f32, cols, random);
  Tensor stored(type, count);  // the sum as the op stores it
  for (size_t i = 0; i < count; ++i) stored.set(i, x.get(i) + (with_residual ? residual.get(i) : 0));
  std::vector<double> y(count), inverse(rows), dx(count), dx_more(count), dw = dw0.values();
  for (size_t i = 0; i < rows; ++i) {
    double squares = 0, dots = 0;
    for (size_t j = 0; j < cols; ++j) squares += stored.get(i * cols + j) * stored.get(i * cols + j);
    inverse[i] = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-5);
    for (size_t j = 0; j < cols; ++j) {
      const double s = stored.get(i * cols + j), g = dy.get(i * cols + j);
      y[i * cols + j] = weight.get(j) * s * inverse[i];
      dots += g * weight.get(j) * s;
      dw[j] += g * s * inverse[i];
    }
    for (size_t j = 0; j < cols; ++j) {
      const size_t at = i * cols + j;
      dx[at] = inverse[i] * (dy.get(at) * weight.get(j) -
                             stored.get(at) * dots * inverse[i] * inverse[i] / static_cast<double>(cols));
      dx_more[at] = dx[at] + dx0.get(at);
    }
  }
  const std::string what =
      "rms_norm " + shape_text({r, c}) + " " + name_of(type) + (with_residual ? " residual " : " ");
  const double tolerance = tolerance_of(type, 1e-6);
  Tensor out(type, count), sum(type, count), inverse_rms(DType::f32, rows);
  const TensorRef none{};
  ops.rms_norm({x.ref(), with_residual ? residual.ref() : none, weight.ref(), out.ref(),
                with_residual ? sum.ref() : none, inverse_rms.ref(), r, c, 1e-5f});
  close(out, y, tolerance, what + "y");
  close(inverse_rms, inverse, 1e-6, what + "inverse_rms");
  if (with_residual) check(sum.same_bits(stored), what + "sum");

  // In place: y over x and the sum over the residual.
  Tensor x2 = x, residual2 = residual;
  ops.rms_norm({x2.ref(), with_residual ? residual2.ref() : none, weight.ref(), x2.ref(),
                with_residual ? residual2.ref() : none, none, r, c, 1e-5f});
  check(x2.same_bits(out) && (!with_residual || residual2.same_bits(stored)), what + "in place");

  Tensor got_dx(type, count), got_dw = dw0;
  ops.rms_norm_backward(
      {dy.ref(), stored.ref(), weight.ref(), inverse_rms.ref(), got_dx.ref(), got_dw.ref(), r, c, false});
  close(got_dx, dx, tolerance * 2, what + "dx", 0.3);
  close(got_dw, dw, 2e-6, what + "dweight");
  Tensor more = dx0, dy2 = dy;
  ops.rms_norm_backward({dy.ref(), stored.ref(), weight.ref(), inverse_rms.ref(), more.ref(), none, r, c, true});
  close(more, dx_more, tolerance * 2, what + "dx added", 0.3);
  ops.rms_norm_backward({dy2.ref(), stored.ref(), weight.ref(), inverse_rms.ref(), dy2.ref(), none, r, c, false});
  check(dy2.same_bits(got_dx), what + "dx in place of dy");
}

void rotate(cpu::CpuOps& ops, Random& random, int64_t tokens, int64_t heads, int64_t d, DType type) {
  const int64_t positions_max = 50, half = d / 2;
  Tensor x = Tensor::normal(type, static_cast<size_t>(tokens * heads * d), random);
  Tensor cosine(DType::f32, static_cast<size_t>(positions_max * half)), sine = cosine;
  for (int64_t p = 0; p < positions_max; ++p)
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(p) * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(d));
      cosine.set(static_cast<size_t>(p * half + i), std::cos(angle));
      sine.set(static_cast<size_t>(p * half + i), std::sin(angle));
    }
  std::vector<int32_t> at(static_cast<size_t>(tokens));
  for (auto& p : at) p = static_cast<int32_t>(random.below(positions_max));
  Tensor positions = Tensor::ints(at);
  for (const double sign : {1.0, -1.0}) {
    std::vector<double> expected(x.count());
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t i = 0; i < half; ++i) {
          const auto a = static_cast<size_t>((t * heads + h) * d + i), b = a + static_cast<size_t>(half);
          const auto angle = static_cast<size_t>(at[static_cast<size_t>(t)] * half + i);
          expected[a] = x.get(a) * cosine.get(angle) - sign * x.get(b) * sine.get(angle);
          expected[b] = x.get(b) * cosine.get(angle) + sign * x.get(a) * sine.get(angle);
        }
    Tensor out(type, x.count()), in_place = x;
    const auto run = [&](Tensor& from, Tensor& to) {
      ops.rope(
          {from.ref(), to.ref(), cosine.ref(), sine.ref(), positions.ref(), tokens, heads, d, positions_max, sign < 0});
    };
    run(x, out);
    close(out, expected, tolerance_of(type, 3e-7), "rope");
    run(in_place, in_place);
    check(in_place.same_bits(out), "rope in place");
    positions.set(0, 50);
    throws("rope: position too large", [&] { run(x, out); });
    positions.set(0, -1);
    throws("rope: position below 0", [&] { run(x, out); });
    positions.set(0, at[0]);
  }
}

}  // namespace

void test_norms_and_rope(cpu::CpuOps& ops) {
  Random random;
  const size_t shapes[][2] = {{1, 1}, {3, 7}, {5, 64}, {33, 100}, {40, 1037}, {700, 64}};
  for (const auto& s : shapes)
    for (const DType type : {DType::f32, DType::bf16})
      for (const DType weight_type : {DType::f32, DType::bf16})
        for (const bool with_residual : {false, true}) norm(ops, random, s[0], s[1], type, weight_type, with_residual);
  for (const DType type : {DType::f32, DType::bf16}) {
    rotate(ops, random, 3, 2, 2, type);
    rotate(ops, random, 5, 3, 20, type);
    rotate(ops, random, 70, 8, 64, type);
  }
}

}  // namespace alma::test

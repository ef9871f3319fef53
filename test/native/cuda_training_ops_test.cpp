#include "cuda_compare.h"

namespace alma::test {
namespace {

const TensorRef none{};

double tolerance_of(const Array& array) { return array.ref().dtype == DType::bf16 ? 4e-3 : 2e-6; }

void norms(Devices& devices) {
  const int64_t rows = 1 + random.below(12);
  int64_t cols = random.one_in(3) ? 1 + random.below(2500) : 8 * (1 + random.below(random.one_in(2) ? 40 : 700));
  if (random.one_in(8)) cols = 8192 + 9600 * random.below(2);
  const Array x = Array::normal(random.dtype(), rows * cols), residual = Array::normal(x.ref().dtype, rows * cols);
  const Array weight = Array::normal(random.dtype(), cols), dy = Array::normal(x.ref().dtype, rows * cols);
  const std::string what = "rms_norm " + text({rows, cols}, {x.ref(), weight.ref()});
  const bool with_residual = random.one_in(2);
  Both y(dy), sum(dy), inverse(Array::normal(DType::f32, rows));
  const auto forward = [&](Array& y_, Array& sum_, Array& inverse_) {
    return RmsNormArgs{x.ref(),
                       with_residual ? residual.ref() : none,
                       weight.ref(),
                       y_.ref(),
                       with_residual ? sum_.ref() : none,
                       inverse_.ref(),
                       rows,
                       cols,
                       1e-5f};
  };
  devices.cuda(kernels::rms_norm, forward(y.cuda, sum.cuda, inverse.cuda));
  devices.cpu.rms_norm(forward(y.cpu, sum.cpu, inverse.cpu));
  same(y, what + " y", tolerance_of(x));
  same(sum, what + " sum");
  same(inverse, what + " inverse_rms", 2e-6);

  Both gradient(dy), dx(Array::normal(x.ref().dtype, rows * cols)), dweight(Array::normal(DType::f32, cols));
  const bool in_place = random.one_in(3), accumulate = random.one_in(2), with_dweight = !random.one_in(4);
  const auto backward = [&](Array& dy_, Array& dx_, Array& dweight_) {
    return RmsNormBackwardArgs{dy_.ref(),
                               x.ref(),
                               weight.ref(),
                               inverse.cpu.ref(),
                               in_place ? dy_.ref() : dx_.ref(),
                               with_dweight ? dweight_.ref() : none,
                               rows,
                               cols,
                               accumulate};
  };
  devices.cuda(kernels::rms_norm_backward, backward(gradient.cuda, dx.cuda, dweight.cuda));
  devices.cpu.rms_norm_backward(backward(gradient.cpu, dx.cpu, dweight.cpu));
  same(dx, what + " dx", tolerance_of(x));
  same(gradient, what + " dx in place of dy", tolerance_of(x));
  same(dweight, what + " dweight", 4e-6);
}

void cross_entropy(Devices& devices) {
  int64_t rows = 1 + random.below(5), vocab = random.one_in(2) ? 8 * (1 + random.below(600)) : 1 + random.below(3000);
  if (random.one_in(8)) rows = 1, vocab = random.one_in(2) ? 32000 : 66000;
  Both logits(Array::normal(random.dtype(), rows * vocab, 3));
  Array targets = Array::ints(rows, vocab);
  for (int64_t i = 0; i < rows; ++i)
    if (random.one_in(4)) targets.set(static_cast<size_t>(i), -100);
  Both nll(Array::normal(DType::f32, rows)), lse(nll), dlogits(Array::normal(logits.cpu.ref().dtype, rows * vocab));
  const Array scale = Array::normal(DType::f32, 1), row_scale = Array::normal(DType::f32, rows);
  const bool scaled = random.one_in(2), smoothed = random.one_in(2);
  const bool with_lse = random.one_in(2), with_gradient = !random.one_in(4), in_place = random.one_in(2);
  const auto args = [&](Array& logits_, Array& nll_, Array& lse_, Array& dlogits_) {
    const TensorRef gradient = in_place ? logits_.ref() : dlogits_.ref();
    CrossEntropyArgs result{};
    result.logits = logits_.ref();
    result.targets = targets.ref();
    result.nll = nll_.ref();
    result.log_sum_exp = with_lse ? lse_.ref() : none;
    result.dlogits = with_gradient ? gradient : none;
    result.grad_scale = scale.ref();
    result.rows = rows;
    result.vocab = vocab;
    result.ignore_index = -100;
    result.row_scale = scaled ? row_scale.ref() : none;
    result.label_smoothing = smoothed ? 0.15f : 0.0f;
    return result;
  };
  const std::string what = "cross_entropy " + text({rows, vocab}, {logits.cpu.ref()});
  devices.cuda(kernels::cross_entropy, args(logits.cuda, nll.cuda, lse.cuda, dlogits.cuda));
  devices.cpu.cross_entropy(args(logits.cpu, nll.cpu, lse.cpu, dlogits.cpu));
  same(nll, what + " nll", 1e-6, 1e-6);
  same(lse, what + " log_sum_exp", 1e-6);
  same(logits, what + " in place", 2 * tolerance_of(logits.cpu));
  same(dlogits, what + " dlogits", 2 * tolerance_of(logits.cpu));
}

void rope(Devices& devices) {
  const int64_t tokens = 1 + random.below(20), heads = 1 + random.below(9), positions = 30;
  const int64_t head_dim = random.one_in(2) ? 16 * (1 + random.below(8)) : 2 * (1 + random.below(40));
  const Array x = Array::normal(random.dtype(), tokens * heads * head_dim);
  const Array cosine = Array::normal(DType::f32, positions * head_dim / 2),
              sine = Array::normal(DType::f32, positions * head_dim / 2);
  const Array position = Array::ints(tokens, positions);
  Both out(x);
  const bool inverse = random.one_in(2), in_place = random.one_in(2);
  const auto args = [&](Array& out_) {
    return RopeArgs{in_place ? out_.ref() : x.ref(),
                    out_.ref(),
                    cosine.ref(),
                    sine.ref(),
                    position.ref(),
                    tokens,
                    heads,
                    head_dim,
                    positions,
                    inverse};
  };
  devices.cuda(kernels::rope, args(out.cuda));
  devices.cpu.rope(args(out.cpu));
  same(out, "rope " + text({tokens, heads, head_dim}, {x.ref()}), tolerance_of(x));
}

void elementwise(Devices& devices) {
  const int64_t count = random.below(9000);
  const Array a = Array::normal(random.dtype(), count, 4), b = Array::normal(a.ref().dtype, count);
  const std::string what = text({count}, {a.ref()});
  Both sum(b), gate(a), up(b), dout(Array::normal(a.ref().dtype, count)), out(b);
  devices.cuda(kernels::add, {a.ref(), sum.cuda.ref(), sum.cuda.ref(), count});
  devices.cpu.add({a.ref(), sum.cpu.ref(), sum.cpu.ref(), count});
  same(sum, "add " + what);
  devices.cuda(kernels::swi_glu, {a.ref(), b.ref(), out.cuda.ref(), count});
  devices.cpu.swi_glu({a.ref(), b.ref(), out.cpu.ref(), count});
  same(out, "swi_glu " + what, tolerance_of(a));
  // dgate over gate, dup over up, out over dout.
  const bool again = random.one_in(2);
  devices.cuda(kernels::swi_glu_backward, {gate.cuda.ref(), up.cuda.ref(), dout.cuda.ref(), gate.cuda.ref(),
                                           up.cuda.ref(), again ? dout.cuda.ref() : none, count});
  devices.cpu.swi_glu_backward({gate.cpu.ref(), up.cpu.ref(), dout.cpu.ref(), gate.cpu.ref(), up.cpu.ref(),
                                again ? dout.cpu.ref() : none, count});
  same(gate, "swi_glu_backward dgate " + what, tolerance_of(a));
  same(up, "swi_glu_backward dup " + what, tolerance_of(a));
  same(dout, "swi_glu_backward out " + what, tolerance_of(a));

  Both other(Array::normal(random.dtype(), count));
  devices.cuda(kernels::cast, {a.ref(), other.cuda.ref(), count});
  devices.cpu.cast({a.ref(), other.cpu.ref(), count});
  same(other, "cast " + what);
  const int64_t first = random.below(1000);
  devices.cuda(kernels::fill_normal, {other.cuda.ref(), count, 0.3f, 99, first});
  devices.cpu.fill_normal({other.cpu.ref(), count, 0.3f, 99, first});
  same(other, "fill_normal " + what, other.cpu.ref().dtype == DType::bf16 ? 1e-3 : 1e-6);
  devices.cuda(kernels::fill, {other.cuda.ref(), count, 0.7f});
  devices.cpu.fill({other.cpu.ref(), count, 0.7f});
  same(other, "fill " + what);

  Both total(Array::normal(DType::f32, 1)), bad(Array::ints(1, 5));
  const bool squares = random.one_in(2), accumulate = random.one_in(2);
  devices.cuda(kernels::reduce_sum, {a.ref(), total.cuda.ref(), count, squares, accumulate});
  devices.cpu.reduce_sum({a.ref(), total.cpu.ref(), count, squares, accumulate});
  same(total, "reduce_sum " + what, 2e-7, 1e-5);
  devices.cuda(kernels::count_non_finite, {a.ref(), bad.cuda.ref(), count});
  devices.cpu.count_non_finite({a.ref(), bad.cpu.ref(), count});
  same(bad, "count_non_finite " + what);
}

void scale_and_dropout(Devices& devices) {
  const int64_t count = random.below(9000);
  const Array x = Array::normal(random.dtype(), count), step = Array::ints(1, 50, 1);
  const std::string what = text({count}, {x.ref()});
  Both scaled(x), dropped(Array::normal(x.ref().dtype, count));
  devices.cuda(kernels::scale, {scaled.cuda.ref(), scaled.cuda.ref(), count, 0.3f});
  devices.cpu.scale({scaled.cpu.ref(), scaled.cpu.ref(), count, 0.3f});
  same(scaled, "scale " + what);
  const bool accumulate = random.one_in(2);
  const float probability = random.one_in(4) ? 0.0f : 0.1f + 0.8f * static_cast<float>(random.uniform());
  const auto args = [&](Array& out) {
    return DropoutArgs{x.ref(), out.ref(), step.ref(), count, probability, 0x123456789abcdefull, accumulate};
  };
  devices.cuda(kernels::dropout, args(dropped.cuda));
  devices.cpu.dropout(args(dropped.cpu));
  same(dropped, "dropout " + what);
}

void preference_loss(Devices& devices) {
  const int64_t pairs = 1 + random.below(40), before = random.below(3), behind = random.below(3);
  Array bounds(DType::i32, static_cast<size_t>(2 * pairs + 1));
  int64_t rows = before;
  bounds.set(0, static_cast<double>(rows));
  for (int64_t s = 1; s <= 2 * pairs; ++s) {
    rows += random.one_in(8) ? 0 : random.below(90);
    bounds.set(static_cast<size_t>(s), static_cast<double>(rows));
  }
  rows += behind;
  Array nll = Array::normal(DType::f32, rows), weights(DType::f32, 2);
  for (size_t i = 0; i < nll.count(); ++i) nll.set(i, std::fabs(nll.get(i)));
  weights.set(0, 0.4);
  weights.set(1, 0.03);
  Both row_scale(nll), logps(Array::normal(DType::f32, 2 * pairs)), losses(Array::normal(DType::f32, pairs)),
      sums(Array::normal(DType::f32, 5));
  const auto loss = static_cast<PreferenceLoss>(random.below(5));
  const float smoothing = random.one_in(2) ? 0.2f : 0.0f;
  const auto args = [&](Array& row_scale_, Array& logps_, Array& losses_, Array& sums_) {
    PreferenceLossArgs result{};
    result.nll = nll.ref();
    result.cu_rows = bounds.ref();
    result.weights = weights.ref();
    result.row_scale = row_scale_.ref();
    result.logps = logps_.ref();
    result.losses = losses_.ref();
    result.sums = sums_.ref();
    result.rows = rows;
    result.pairs = pairs;
    result.loss = loss;
    result.beta = 0.1f;
    result.label_smoothing = smoothing;
    result.gamma = 0.5f;
    result.relax1 = 0.9f;
    result.relax2 = 0.4f;
    return result;
  };
  devices.cuda(kernels::preference_loss, args(row_scale.cuda, logps.cuda, losses.cuda, sums.cuda));
  devices.cpu.preference_loss(args(row_scale.cpu, logps.cpu, losses.cpu, sums.cpu));
  const std::string what = "preference_loss " + std::to_string(static_cast<int>(loss)) + " " + text({pairs, rows});
  same(row_scale, what + " row_scale", 2e-6);
  same(logps, what + " logps", 2e-6);
  same(losses, what + " losses", 2e-6);
  same(sums, what + " sums", 2e-6);
}

void adamw(Devices& devices) {
  const int64_t count = 1 + random.below(20000);
  Both param(Array::normal(random.dtype(), count)), master(Array::normal(DType::f32, count)), exp_avg(master);
  const Array grad = Array::normal(random.dtype(), count);
  Array squares = Array::normal(DType::f32, count), rate(DType::f32, 1), scale(DType::f32, 1);
  for (size_t i = 0; i < squares.count(); ++i) squares.set(i, std::fabs(squares.get(i)));
  Both exp_avg_sq(squares);
  rate.set(0, 1e-2);
  scale.set(0, random.one_in(5) ? 0 : 0.7);
  const Array step = Array::ints(1, 50, 1);
  const bool narrow = param.cpu.ref().dtype == DType::bf16, with_master = narrow && random.one_in(2);
  const auto args = [&](Array& param_, Array& master_, Array& exp_avg_, Array& exp_avg_sq_) {
    AdamWArgs result{};
    result.param = param_.ref();
    result.master = with_master ? master_.ref() : none;
    result.grad = grad.ref();
    result.exp_avg = exp_avg_.ref();
    result.exp_avg_sq = exp_avg_sq_.ref();
    result.learning_rate = rate.ref();
    result.step = step.ref();
    result.grad_scale = scale.ref();
    result.count = count;
    result.beta1 = 0.9;
    result.beta2 = 0.999;
    result.epsilon = 1e-8;
    result.weight_decay = 0.1;
    result.seed = 0x123456789abcdefull;
    return result;
  };
  devices.cuda(kernels::adamw, args(param.cuda, master.cuda, exp_avg.cuda, exp_avg_sq.cuda));
  devices.cpu.adamw(args(param.cpu, master.cpu, exp_avg.cpu, exp_avg_sq.cpu));
  const std::string what = "adamw " + text({count}, {param.cpu.ref(), grad.ref()});
  same(param, what + " param", narrow ? 1e-3 : 1e-6);
  same(master, what + " master", 1e-6);
  same(exp_avg, what + " exp_avg", 1e-6);
  same(exp_avg_sq, what + " exp_avg_sq", 1e-6);
}

void rows(Devices& devices) {
  const int64_t table_rows = 1 + random.below(40), count = 1 + random.below(random.one_in(2) ? 1200 : 30);
  const int64_t cols = random.one_in(2) ? 1 + random.below(600) : 8 * (1 + random.below(75));
  const Array ids = Array::ints(count, table_rows), table = Array::normal(random.dtype(), table_rows * cols);
  Both out(Array::normal(random.dtype(), count * cols)), dtable(Array::normal(DType::f32, table_rows * cols)),
      written(table);
  const std::string what = text({table_rows, cols, count}, {table.ref(), out.cpu.ref()});
  devices.cuda(kernels::gather_rows, {table.ref(), ids.ref(), out.cuda.ref(), table_rows, cols, count});
  devices.cpu.gather_rows({table.ref(), ids.ref(), out.cpu.ref(), table_rows, cols, count});
  same(out, "gather_rows " + what);
  // In the order of i on both: bit for bit.
  devices.cuda(kernels::embedding_backward, {out.cpu.ref(), ids.ref(), dtable.cuda.ref(), table_rows, cols, count});
  devices.cpu.embedding_backward({out.cpu.ref(), ids.ref(), dtable.cpu.ref(), table_rows, cols, count});
  same(dtable, "embedding_backward " + what);
  Array order(DType::i32, static_cast<size_t>(table_rows));  // every row once, rotated
  for (int64_t i = 0; i < table_rows; ++i) order.set(static_cast<size_t>(i), static_cast<double>((i + 3) % table_rows));
  const int64_t some = random.below(std::min(count, table_rows) + 1);
  devices.cuda(kernels::scatter_rows, {out.cpu.ref(), order.ref(), written.cuda.ref(), table_rows, cols, some});
  devices.cpu.scatter_rows({out.cpu.ref(), order.ref(), written.cpu.ref(), table_rows, cols, some});
  same(written, "scatter_rows " + what);
}

}  // namespace

void compare_training_ops(Devices& devices) {
  norms(devices);
  cross_entropy(devices);
  rope(devices);
  elementwise(devices);
  scale_and_dropout(devices);
  preference_loss(devices);
  adamw(devices);
  rows(devices);
}

}  // namespace alma::test

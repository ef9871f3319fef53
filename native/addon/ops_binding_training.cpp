// The binding of the ops that only training needs; see ops_binding.cpp.
#include "arguments.h"
#include "bindings.h"

namespace alma::addon {

namespace {

// opScale(x, out, count, factor)
void scale(Arguments& a) {
  ScaleArgs args{};
  args.count = a.extent(2, "count");
  args.x = a.floats(0, "x", args.count);
  args.out = a.floats(1, "out", args.count);
  args.factor = a.real(3, "factor");
  a.same_dtype(args.x, args.out, "x and out");
  a.device().submit<ScaleArgs, &Ops::scale>(args);
}

// opDropout(x, out, step, count, probability, seedLow, seedHigh, accumulate)
void dropout(Arguments& a) {
  DropoutArgs args{};
  args.count = a.extent(3, "count");
  args.x = a.floats(0, "x", args.count);
  args.out = a.floats(1, "out", args.count);
  args.step = a.i32(2, "step", 1);
  args.probability = a.real(4, "probability");
  if (!(args.probability >= 0 && args.probability < 1)) a.fail("probability", "is not from 0 to below 1");
  args.seed = a.seed(5);
  args.accumulate = a.boolean(7, "accumulate");
  a.same_dtype(args.x, args.out, "x and out");
  a.device().submit<DropoutArgs, &Ops::dropout>(args);
}

// opPreferenceLoss(nll, cuRows, weights, rowScale, logps, losses, sums, rows, pairs, loss, beta, labelSmoothing, gamma, relax1, relax2)
void preference_loss(Arguments& a) {
  PreferenceLossArgs args{};
  args.rows = a.extent(7, "rows");
  args.pairs = a.extent(8, "pairs");
  args.nll = a.f32(0, "nll", args.rows);
  args.cu_rows = a.i32(1, "cuRows", a.product(2, args.pairs) + 1);
  args.weights = a.f32(2, "weights", 2);
  args.row_scale = a.f32(3, "rowScale", args.rows);
  args.logps = a.f32(4, "logps", a.product(2, args.pairs));
  args.losses = a.f32(5, "losses", args.pairs);
  args.sums = a.f32(6, "sums", 5);
  const int32_t loss = a.integer(9, "loss");
  if (loss < 0 || loss > 4) a.fail("loss", "is unknown");
  args.loss = static_cast<PreferenceLoss>(loss);
  args.beta = a.real(10, "beta");
  if (!(args.beta > 0)) a.fail("beta", "is not above 0");
  args.label_smoothing = a.real(11, "labelSmoothing");
  args.gamma = a.real(12, "gamma");
  args.relax1 = a.real(13, "relax1");
  args.relax2 = a.real(14, "relax2");
  a.device().submit<PreferenceLossArgs, &Ops::preference_loss>(args);
}

}  // namespace

void register_training_functions(Napi::Object& exports, Environment* environment) {
  ALMA_EXPORT_RAW("opScale", scale);
  ALMA_EXPORT_RAW("opDropout", dropout);
  ALMA_EXPORT_RAW("opPreferenceLoss", preference_loss);
}

}  // namespace alma::addon

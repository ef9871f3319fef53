// One function an op: reads the arguments, checks every extent against the tensor it belongs to, and enqueues the call.
// The argument lists are those of lib/runtime/native-addon.ts; −1 stands for an absent tensor.
#include "arguments.h"
#include "bindings.h"

namespace alma::addon {

namespace {

// opFill(out, count, value)
void fill(Arguments& a) {
  FillArgs args{};
  args.count = a.extent(1, "count");
  args.out = a.tensor(0, "out", args.count);
  args.value = a.real(2, "value");
  a.device().submit<FillArgs, &Ops::fill>(args);
}

// opFillNormal(out, count, standardDeviation, seedLow, seedHigh, first)
void fill_normal(Arguments& a) {
  FillNormalArgs args{};
  args.count = a.extent(1, "count");
  args.out = a.floats(0, "out", args.count);
  args.standard_deviation = a.real(2, "standardDeviation");
  args.seed = a.seed(3);
  args.first = a.extent(5, "first");
  a.device().submit<FillNormalArgs, &Ops::fill_normal>(args);
}

// opCast(in, out, count)
void cast(Arguments& a) {
  CastArgs args{};
  args.count = a.extent(2, "count");
  args.in = a.tensor(0, "in", args.count);
  args.out = a.tensor(1, "out", args.count);
  const bool integers = args.in.dtype == DType::i32 || args.out.dtype == DType::i32;
  if ((integers && args.in.dtype != args.out.dtype) || args.out.dtype == DType::f16) {
    a.fail("in and out", std::string("cannot be cast: ") + name_of(args.in.dtype) + " to " + name_of(args.out.dtype));
  }
  a.device().submit<CastArgs, &Ops::cast>(args);
}

// opAdd(a, b, out, count)
void add(Arguments& a) {
  AddArgs args{};
  args.count = a.extent(3, "count");
  args.a = a.floats(0, "a", args.count);
  args.b = a.floats(1, "b", args.count);
  args.out = a.floats(2, "out", args.count);
  a.same_dtype(args.a, args.b, "a and b");
  a.same_dtype(args.a, args.out, "a and out");
  a.device().submit<AddArgs, &Ops::add>(args);
}

// opIncrement(x, count, by)
void increment(Arguments& a) {
  IncrementArgs args{};
  args.count = a.extent(1, "count");
  args.x = a.i32(0, "x", args.count);
  args.by = a.integer(2, "by");
  a.device().submit<IncrementArgs, &Ops::increment>(args);
}

// opMatmul(a, b, c, m, n, k, layout, accumulate, invariance, mayRound)
void matmul(Arguments& a) {
  MatmulArgs args{};
  args.m = a.extent(3, "m");
  args.n = a.extent(4, "n");
  args.k = a.extent(5, "k");
  const int32_t layout = a.integer(6, "layout");
  if (layout < 0 || layout > 2) a.fail("layout", "is unknown");
  args.layout = static_cast<MatmulLayout>(layout);
  args.accumulate = a.boolean(7, "accumulate");
  args.invariance = a.invariance(8);
  args.may_round = a.boolean(9, "mayRound");
  if (args.invariance != Invariance::none && (args.layout != MatmulLayout::nt || args.accumulate)) {
    a.fail("invariance", "is for 'nt' products without accumulate");
  }
  args.a = a.floats(0, "a", a.product(args.m, args.k));
  args.b = a.floats(1, "b", a.product(args.n, args.k));
  args.c = a.floats(2, "c", a.product(args.m, args.n));
  a.device().submit<MatmulArgs, &Ops::matmul>(args);
}

// opRmsNorm(x, residual, weight, y, sum, inverseRms, rows, cols, epsilon)
void rms_norm(Arguments& a) {
  RmsNormArgs args{};
  args.rows = a.extent(6, "rows");
  args.cols = a.extent(7, "cols");
  args.epsilon = a.real(8, "epsilon");
  const int64_t count = a.product(args.rows, args.cols);
  args.x = a.floats(0, "x", count);
  args.residual = a.optional_floats(1, "residual", count);
  args.weight = a.floats(2, "weight", args.cols);
  args.y = a.floats(3, "y", count);
  args.sum = a.optional_floats(4, "sum", count);
  args.inverse_rms = a.optional_f32(5, "inverseRms", args.rows);
  a.same_dtype(args.x, args.residual, "x and residual");
  a.same_dtype(args.x, args.y, "x and y");
  a.same_dtype(args.x, args.sum, "x and sum");
  if (args.residual.data != nullptr && args.sum.data == nullptr) a.fail("sum", "is needed with a residual");
  a.device().submit<RmsNormArgs, &Ops::rms_norm>(args);
}

// opRmsNormBackward(dy, x, weight, inverseRms, dx, dweight, rows, cols, accumulateDx)
void rms_norm_backward(Arguments& a) {
  RmsNormBackwardArgs args{};
  args.rows = a.extent(6, "rows");
  args.cols = a.extent(7, "cols");
  args.accumulate_dx = a.boolean(8, "accumulateDx");
  const int64_t count = a.product(args.rows, args.cols);
  args.dy = a.floats(0, "dy", count);
  args.x = a.floats(1, "x", count);
  args.weight = a.floats(2, "weight", args.cols);
  args.inverse_rms = a.f32(3, "inverseRms", args.rows);
  args.dx = a.floats(4, "dx", count);
  args.dweight = a.optional_f32(5, "dweight", args.cols);
  a.same_dtype(args.dy, args.x, "dy and x");
  a.same_dtype(args.dy, args.dx, "dy and dx");
  a.device().submit<RmsNormBackwardArgs, &Ops::rms_norm_backward>(args);
}

// opRope(x, out, cosine, sine, positions, tokens, heads, headDim, maxPositions, inverse)
void rope(Arguments& a) {
  RopeArgs args{};
  args.tokens = a.extent(5, "tokens");
  args.heads = a.extent(6, "heads");
  args.head_dim = a.extent(7, "headDim");
  args.max_positions = a.extent(8, "maxPositions");
  args.inverse = a.boolean(9, "inverse");
  if (args.head_dim % 2 != 0) a.fail("headDim", "is odd");
  const int64_t count = a.product(args.tokens, args.heads, args.head_dim);
  const int64_t table = a.product(args.max_positions, args.head_dim / 2);
  args.x = a.floats(0, "x", count);
  args.out = a.floats(1, "out", count);
  args.cosine = a.f32(2, "cosine", table);
  args.sine = a.f32(3, "sine", table);
  args.positions = a.i32(4, "positions", args.tokens);
  a.same_dtype(args.x, args.out, "x and out");
  a.device().submit<RopeArgs, &Ops::rope>(args);
}

// cuSeqlensQ, kBegin, kEnd at `at`; batch, totalQ, totalK, heads, kvHeads, headDim, scale, causal at `extents`.
AttentionShape attention_shape(Arguments& a, size_t at, size_t extents) {
  AttentionShape shape{};
  shape.batch = a.extent(extents, "batch");
  shape.total_q = a.extent(extents + 1, "totalQ");
  shape.total_k = a.extent(extents + 2, "totalK");
  shape.heads = a.extent(extents + 3, "heads");
  shape.kv_heads = a.extent(extents + 4, "kvHeads");
  shape.head_dim = a.extent(extents + 5, "headDim");
  shape.scale = a.real(extents + 6, "scale");
  shape.causal = a.boolean(extents + 7, "causal");
  if (shape.kv_heads == 0 || shape.heads % shape.kv_heads != 0) a.fail("heads", "is not a multiple of kvHeads");
  shape.cu_seqlens_q = a.i32(at, "cuSeqlensQ", shape.batch + 1);
  shape.k_begin = a.i32(at + 1, "kBegin", shape.batch);
  shape.k_end = a.i32(at + 2, "kEnd", shape.batch);
  return shape;
}

// opAttention(q, k, v, out, logSumExp, cuSeqlensQ, kBegin, kEnd, batch, totalQ, totalK, heads, kvHeads, headDim, scale, causal,
//             invariance, blockTable, blocksPerSequence, blockSize)
void attention(Arguments& a) {
  AttentionArgs args{};
  args.shape = attention_shape(a, 5, 8);
  AttentionShape& s = args.shape;
  s.invariance = a.invariance(16);
  s.blocks_per_sequence = a.integer(18, "blocksPerSequence");
  s.block_size = a.integer(19, "blockSize");
  if (s.blocks_per_sequence < 0) a.fail("blocksPerSequence", "is negative");
  s.block_table = a.optional_i32(17, "blockTable", a.product(s.batch, s.blocks_per_sequence));
  if (s.block_table.data != nullptr && s.block_size < 1) a.fail("blockSize", "is not positive");
  const int64_t q_count = a.product(s.total_q, s.heads, s.head_dim);
  const int64_t k_count = a.product(s.total_k, s.kv_heads, s.head_dim);
  args.q = a.floats(0, "q", q_count);
  args.k = a.floats(1, "k", k_count);
  args.v = a.floats(2, "v", k_count);
  args.out = a.floats(3, "out", q_count);
  args.log_sum_exp = a.optional_f32(4, "logSumExp", a.product(s.total_q, s.heads));
  a.same_dtype(args.q, args.k, "q and k");
  a.same_dtype(args.q, args.v, "q and v");
  a.same_dtype(args.q, args.out, "q and out");
  a.device().submit<AttentionArgs, &Ops::attention>(args);
}

// opAttentionBackward(q, k, v, out, dout, logSumExp, dq, dk, dv, cuSeqlensQ, kBegin, kEnd, batch, … as opAttention)
void attention_backward(Arguments& a) {
  AttentionBackwardArgs args{};
  args.shape = attention_shape(a, 9, 12);
  const AttentionShape& s = args.shape;
  const int64_t q_count = a.product(s.total_q, s.heads, s.head_dim);
  const int64_t k_count = a.product(s.total_k, s.kv_heads, s.head_dim);
  args.q = a.floats(0, "q", q_count);
  args.k = a.floats(1, "k", k_count);
  args.v = a.floats(2, "v", k_count);
  args.out = a.floats(3, "out", q_count);
  args.dout = a.floats(4, "dout", q_count);
  args.log_sum_exp = a.f32(5, "logSumExp", a.product(s.total_q, s.heads));
  args.dq = a.floats(6, "dq", q_count);
  args.dk = a.floats(7, "dk", k_count);
  args.dv = a.floats(8, "dv", k_count);
  for (const TensorRef* ref : {&args.k, &args.v, &args.out, &args.dout, &args.dq, &args.dk, &args.dv}) {
    a.same_dtype(args.q, *ref, "q and the other tensors");
  }
  a.device().submit<AttentionBackwardArgs, &Ops::attention_backward>(args);
}

// opSwiGlu(gate, up, out, count)
void swi_glu(Arguments& a) {
  SwiGluArgs args{};
  args.count = a.extent(3, "count");
  args.gate = a.floats(0, "gate", args.count);
  args.up = a.floats(1, "up", args.count);
  args.out = a.floats(2, "out", args.count);
  a.same_dtype(args.gate, args.up, "gate and up");
  a.same_dtype(args.gate, args.out, "gate and out");
  a.device().submit<SwiGluArgs, &Ops::swi_glu>(args);
}

// opSwiGluBackward(gate, up, dout, dgate, dup, out, count)
void swi_glu_backward(Arguments& a) {
  SwiGluBackwardArgs args{};
  args.count = a.extent(6, "count");
  args.gate = a.floats(0, "gate", args.count);
  args.up = a.floats(1, "up", args.count);
  args.dout = a.floats(2, "dout", args.count);
  args.dgate = a.floats(3, "dgate", args.count);
  args.dup = a.floats(4, "dup", args.count);
  args.out = a.optional_floats(5, "out", args.count);
  for (const TensorRef* ref : {&args.up, &args.dout, &args.dgate, &args.dup, &args.out}) {
    a.same_dtype(args.gate, *ref, "gate and the other tensors");
  }
  a.device().submit<SwiGluBackwardArgs, &Ops::swi_glu_backward>(args);
}

// opGatherRows(table, rows, out, tableRows, cols, count)
void gather_rows(Arguments& a) {
  GatherRowsArgs args{};
  args.table_rows = a.extent(3, "tableRows");
  args.cols = a.extent(4, "cols");
  args.count = a.extent(5, "count");
  args.table = a.tensor(0, "table", a.product(args.table_rows, args.cols));
  args.rows = a.i32(1, "rows", args.count);
  args.out = a.tensor(2, "out", a.product(args.count, args.cols));
  a.device().submit<GatherRowsArgs, &Ops::gather_rows>(args);
}

// opScatterRows(in, rows, table, tableRows, cols, count)
void scatter_rows(Arguments& a) {
  ScatterRowsArgs args{};
  args.table_rows = a.extent(3, "tableRows");
  args.cols = a.extent(4, "cols");
  args.count = a.extent(5, "count");
  args.in = a.tensor(0, "in", a.product(args.count, args.cols));
  args.rows = a.i32(1, "rows", args.count);
  args.table = a.tensor(2, "table", a.product(args.table_rows, args.cols));
  a.device().submit<ScatterRowsArgs, &Ops::scatter_rows>(args);
}

// opEmbeddingBackward(dout, rows, dtable, tableRows, cols, count)
void embedding_backward(Arguments& a) {
  EmbeddingBackwardArgs args{};
  args.table_rows = a.extent(3, "tableRows");
  args.cols = a.extent(4, "cols");
  args.count = a.extent(5, "count");
  args.dout = a.floats(0, "dout", a.product(args.count, args.cols));
  args.rows = a.i32(1, "rows", args.count);
  args.dtable = a.f32(2, "dtable", a.product(args.table_rows, args.cols));
  a.device().submit<EmbeddingBackwardArgs, &Ops::embedding_backward>(args);
}

// opCrossEntropy(logits, targets, nll, logSumExp, dlogits, gradScale, rows, vocab, ignoreIndex, rowScale, labelSmoothing)
void cross_entropy(Arguments& a) {
  CrossEntropyArgs args{};
  args.rows = a.extent(6, "rows");
  args.vocab = a.extent(7, "vocab");
  args.ignore_index = a.integer(8, "ignoreIndex");
  const int64_t count = a.product(args.rows, args.vocab);
  args.logits = a.floats(0, "logits", count);
  args.targets = a.i32(1, "targets", args.rows);
  args.nll = a.f32(2, "nll", args.rows);
  args.log_sum_exp = a.optional_f32(3, "logSumExp", args.rows);
  args.dlogits = a.optional_floats(4, "dlogits", count);
  args.grad_scale = a.optional_f32(5, "gradScale", 1);
  args.row_scale = a.optional_f32(9, "rowScale", args.rows);
  args.label_smoothing = a.real(10, "labelSmoothing");
  if (!(args.label_smoothing >= 0 && args.label_smoothing <= 1)) a.fail("labelSmoothing", "is not from 0 to 1");
  a.same_dtype(args.logits, args.dlogits, "logits and dlogits");
  a.device().submit<CrossEntropyArgs, &Ops::cross_entropy>(args);
}

// opReduceSum(x, out, count, squares, accumulate)
void reduce_sum(Arguments& a) {
  ReduceSumArgs args{};
  args.count = a.extent(2, "count");
  args.x = a.floats(0, "x", args.count);
  args.out = a.f32(1, "out", 1);
  args.squares = a.boolean(3, "squares");
  args.accumulate = a.boolean(4, "accumulate");
  a.device().submit<ReduceSumArgs, &Ops::reduce_sum>(args);
}

// opClipCoefficient(sumOfSquares, norm, coefficient, maxNorm)
void clip_coefficient(Arguments& a) {
  ClipCoefficientArgs args{};
  args.sum_of_squares = a.f32(0, "sumOfSquares", 1);
  args.norm = a.f32(1, "norm", 1);
  args.coefficient = a.f32(2, "coefficient", 1);
  args.max_norm = a.real(3, "maxNorm");
  a.device().submit<ClipCoefficientArgs, &Ops::clip_coefficient>(args);
}

// opAdamw(param, master, grad, expAvg, expAvgSq, learningRate, step, gradScale, count, beta1, beta2, epsilon, weightDecay,
//         seedLow, seedHigh)
void adamw(Arguments& a) {
  AdamWArgs args{};
  args.count = a.extent(8, "count");
  args.param = a.floats(0, "param", args.count);
  args.master = a.optional_f32(1, "master", args.count);
  args.grad = a.f32(2, "grad", args.count);
  args.exp_avg = a.f32(3, "expAvg", args.count);
  args.exp_avg_sq = a.f32(4, "expAvgSq", args.count);
  args.learning_rate = a.f32(5, "learningRate", 1);
  args.step = a.i32(6, "step", 1);
  args.grad_scale = a.optional_f32(7, "gradScale", 1);
  args.beta1 = a.number(9, "beta1");
  args.beta2 = a.number(10, "beta2");
  args.epsilon = a.number(11, "epsilon");
  args.weight_decay = a.number(12, "weightDecay");
  args.seed = a.seed(13);
  a.device().submit<AdamWArgs, &Ops::adamw>(args);
}

// opArgmax(logits, ids, logprob, rows, vocab)
void argmax(Arguments& a) {
  ArgmaxArgs args{};
  args.rows = a.extent(3, "rows");
  args.vocab = a.extent(4, "vocab");
  args.logits = a.floats(0, "logits", a.product(args.rows, args.vocab));
  args.ids = a.i32(1, "ids", args.rows);
  args.logprob = a.optional_f32(2, "logprob", args.rows);
  a.device().submit<ArgmaxArgs, &Ops::argmax>(args);
}

// opSample(logits, ids, logprob, stream, position, rows, vocab, temperature, topP, topK, seedLow, seedHigh)
void sample(Arguments& a) {
  SampleArgs args{};
  args.rows = a.extent(5, "rows");
  args.vocab = a.extent(6, "vocab");
  args.logits = a.floats(0, "logits", a.product(args.rows, args.vocab));
  args.ids = a.i32(1, "ids", args.rows);
  args.logprob = a.optional_f32(2, "logprob", args.rows);
  args.stream = a.i32(3, "stream", args.rows);
  args.position = a.i32(4, "position", args.rows);
  args.temperature = a.real(7, "temperature");
  args.top_p = a.real(8, "topP");
  args.top_k = a.integer(9, "topK");
  args.seed = a.seed(10);
  a.device().submit<SampleArgs, &Ops::sample>(args);
}

// opProcessLogits(logits, history, historyLength, suppress, suppressBelow, rows, vocab, historyStride, suppressCount,
//                 repetitionPenalty, noRepeatNgram)
void process_logits(Arguments& a) {
  ProcessLogitsArgs args{};
  args.rows = a.extent(5, "rows");
  args.vocab = a.extent(6, "vocab");
  args.history_stride = a.extent(7, "historyStride");
  args.suppress_count = a.extent(8, "suppressCount");
  args.repetition_penalty = a.real(9, "repetitionPenalty");
  args.no_repeat_ngram = a.integer(10, "noRepeatNgram");
  args.logits = a.floats(0, "logits", a.product(args.rows, args.vocab));
  args.history = a.i32(1, "history", a.product(args.rows, args.history_stride));
  args.history_length = a.i32(2, "historyLength", args.rows);
  args.suppress = a.optional_i32(3, "suppress", args.suppress_count);
  args.suppress_below = a.optional_i32(4, "suppressBelow", args.rows);
  if ((args.suppress.data == nullptr) != (args.suppress_below.data == nullptr)) {
    a.fail("suppress", "and suppressBelow go together");
  }
  a.device().submit<ProcessLogitsArgs, &Ops::process_logits>(args);
}

// opAppendTokens(ids, history, historyLength, rows, historyStride)
void append_tokens(Arguments& a) {
  AppendTokensArgs args{};
  args.rows = a.extent(3, "rows");
  args.history_stride = a.extent(4, "historyStride");
  args.ids = a.i32(0, "ids", args.rows);
  args.history = a.i32(1, "history", a.product(args.rows, args.history_stride));
  args.history_length = a.i32(2, "historyLength", args.rows);
  a.device().submit<AppendTokensArgs, &Ops::append_tokens>(args);
}

// opCountNonFinite(x, out, count)
void count_non_finite(Arguments& a) {
  CountNonFiniteArgs args{};
  args.count = a.extent(2, "count");
  args.x = a.floats(0, "x", args.count);
  args.out = a.i32(1, "out", 1);
  a.device().submit<CountNonFiniteArgs, &Ops::count_non_finite>(args);
}

// emptyCall(): void      what crossing into native code costs by itself, for the benchmark
void empty_call(Arguments&) {}

}  // namespace

void register_op_functions(Napi::Object& exports, Environment* environment) {
  ALMA_EXPORT_RAW("emptyCall", empty_call);
  ALMA_EXPORT_RAW("opFill", fill);
  ALMA_EXPORT_RAW("opFillNormal", fill_normal);
  ALMA_EXPORT_RAW("opCast", cast);
  ALMA_EXPORT_RAW("opAdd", add);
  ALMA_EXPORT_RAW("opIncrement", increment);
  ALMA_EXPORT_RAW("opMatmul", matmul);
  ALMA_EXPORT_RAW("opRmsNorm", rms_norm);
  ALMA_EXPORT_RAW("opRmsNormBackward", rms_norm_backward);
  ALMA_EXPORT_RAW("opRope", rope);
  ALMA_EXPORT_RAW("opAttention", attention);
  ALMA_EXPORT_RAW("opAttentionBackward", attention_backward);
  ALMA_EXPORT_RAW("opSwiGlu", swi_glu);
  ALMA_EXPORT_RAW("opSwiGluBackward", swi_glu_backward);
  ALMA_EXPORT_RAW("opGatherRows", gather_rows);
  ALMA_EXPORT_RAW("opScatterRows", scatter_rows);
  ALMA_EXPORT_RAW("opEmbeddingBackward", embedding_backward);
  ALMA_EXPORT_RAW("opCrossEntropy", cross_entropy);
  ALMA_EXPORT_RAW("opReduceSum", reduce_sum);
  ALMA_EXPORT_RAW("opClipCoefficient", clip_coefficient);
  ALMA_EXPORT_RAW("opAdamw", adamw);
  ALMA_EXPORT_RAW("opArgmax", argmax);
  ALMA_EXPORT_RAW("opSample", sample);
  ALMA_EXPORT_RAW("opProcessLogits", process_logits);
  ALMA_EXPORT_RAW("opAppendTokens", append_tokens);
  ALMA_EXPORT_RAW("opCountNonFinite", count_non_finite);
  register_decoding_functions(exports, environment);
  register_product_functions(exports, environment);
  register_training_functions(exports, environment);
}

}  // namespace alma::addon

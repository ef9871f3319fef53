// The ops that only decoding has, after the pattern of ops_binding.cpp.
#include "arguments.h"
#include "bindings.h"

namespace alma::addon {

namespace {

// opLogSoftmax(logits, out, rows, vocab)
void log_softmax(Arguments& a) {
  LogSoftmaxArgs args{};
  args.rows = a.extent(2, "rows");
  args.vocab = a.extent(3, "vocab");
  const int64_t count = a.product(args.rows, args.vocab);
  args.logits = a.floats(0, "logits", count);
  args.out = a.f32(1, "out", count);
  a.device().submit<LogSoftmaxArgs, &Ops::log_softmax>(args);
}

// opWarpScores(scores, rows, vocab, temperature, topP, topK, keep)
void warp_scores(Arguments& a) {
  WarpScoresArgs args{};
  args.rows = a.extent(1, "rows");
  args.vocab = a.extent(2, "vocab");
  args.temperature = a.real(3, "temperature");
  args.top_p = a.real(4, "topP");
  args.top_k = a.integer(5, "topK");
  args.keep = a.integer(6, "keep");
  if (!(args.temperature > 0)) a.fail("temperature", "is not above 0");
  args.scores = a.f32(0, "scores", a.product(args.rows, args.vocab));
  a.device().submit<WarpScoresArgs, &Ops::warp_scores>(args);
}

// opBeamTopK(scores, beamScores, totals, tokens, parents, stream, position, groups, beams, vocab, k, seedLow, seedHigh)
void beam_top_k(Arguments& a) {
  BeamTopKArgs args{};
  args.groups = a.extent(7, "groups");
  args.beams = a.extent(8, "beams");
  args.vocab = a.extent(9, "vocab");
  args.k = a.extent(10, "k");
  args.seed = a.seed(11);
  const int64_t rows = a.product(args.groups, args.beams), results = a.product(args.groups, args.k);
  if (args.beams > INT32_MAX || args.k > a.product(args.beams, args.vocab)) {
    a.fail("k", "is more than there are candidates in a group");
  }
  args.scores = a.f32(0, "scores", a.product(rows, args.vocab));
  args.beam_scores = a.f32(1, "beamScores", rows);
  args.totals = a.f32(2, "totals", results);
  args.tokens = a.i32(3, "tokens", results);
  args.parents = a.i32(4, "parents", results);
  args.stream = a.optional_i32(5, "stream", args.groups);
  args.position = a.optional_i32(6, "position", args.groups);
  if ((args.stream.data == nullptr) != (args.position.data == nullptr)) a.fail("stream", "and position go together");
  a.device().submit<BeamTopKArgs, &Ops::beam_top_k>(args);
}

// opCopyBlocks(table, pairs, groups, blocks, blockElements, count)
void copy_blocks(Arguments& a) {
  CopyBlocksArgs args{};
  args.groups = a.extent(2, "groups");
  args.blocks = a.extent(3, "blocks");
  args.block_elements = a.extent(4, "blockElements");
  args.count = a.extent(5, "count");
  args.table = a.tensor(0, "table", a.product(args.groups, args.blocks, args.block_elements));
  args.pairs = a.i32(1, "pairs", a.product(2, args.count));
  a.device().submit<CopyBlocksArgs, &Ops::copy_blocks>(args);
}

// opNormQkv(x, normWeight, queryWeight, keyWeight, valueWeight, cosine, sine, positions, cacheRows, q, keys, values, rows, cols, heads,
//           kvHeads, headDim, maxPositions, tableRows, epsilon)
void norm_qkv(Arguments& a) {
  NormQkvArgs args{};
  args.rows = a.extent(12, "rows");
  args.cols = a.extent(13, "cols");
  args.heads = a.extent(14, "heads");
  args.kv_heads = a.extent(15, "kvHeads");
  args.head_dim = a.extent(16, "headDim");
  args.max_positions = a.extent(17, "maxPositions");
  args.table_rows = a.extent(18, "tableRows");
  args.epsilon = a.real(19, "epsilon");
  if (args.head_dim % 2 != 0) a.fail("headDim", "is odd");
  const int64_t width = a.product(args.heads, args.head_dim), kv_width = a.product(args.kv_heads, args.head_dim);
  const int64_t rope_table = a.product(args.max_positions, args.head_dim / 2);
  const int64_t cache = a.product(args.table_rows, kv_width);
  args.x = a.floats(0, "x", a.product(args.rows, args.cols));
  args.norm_weight = a.floats(1, "normWeight", args.cols);
  args.query_weight = a.floats(2, "queryWeight", a.product(width, args.cols));
  args.key_weight = a.floats(3, "keyWeight", a.product(kv_width, args.cols));
  args.value_weight = a.floats(4, "valueWeight", a.product(kv_width, args.cols));
  args.cosine = a.f32(5, "cosine", rope_table);
  args.sine = a.f32(6, "sine", rope_table);
  args.positions = a.i32(7, "positions", args.rows);
  args.cache_rows = a.i32(8, "cacheRows", args.rows);
  args.q = a.floats(9, "q", a.product(args.rows, width));
  args.keys = a.floats(10, "keys", cache);
  args.values = a.floats(11, "values", cache);
  a.product(args.rows, kv_width);
  a.same_dtype(args.x, args.q, "x and q");
  a.same_dtype(args.keys, args.values, "keys and values");
  a.device().submit<NormQkvArgs, &Ops::norm_qkv>(args);
}

// opNormGateUp(x, normWeight, gateWeight, upWeight, out, rows, cols, outFeatures, epsilon)
void norm_gate_up(Arguments& a) {
  NormGateUpArgs args{};
  args.rows = a.extent(5, "rows");
  args.cols = a.extent(6, "cols");
  args.out_features = a.extent(7, "outFeatures");
  args.epsilon = a.real(8, "epsilon");
  args.x = a.floats(0, "x", a.product(args.rows, args.cols));
  args.norm_weight = a.floats(1, "normWeight", args.cols);
  args.gate_weight = a.floats(2, "gateWeight", a.product(args.out_features, args.cols));
  args.up_weight = a.floats(3, "upWeight", a.product(args.out_features, args.cols));
  args.out = a.floats(4, "out", a.product(args.rows, args.out_features));
  a.same_dtype(args.x, args.out, "x and out");
  a.device().submit<NormGateUpArgs, &Ops::norm_gate_up>(args);
}

}  // namespace

void register_decoding_functions(Napi::Object& exports, Environment* environment) {
  ALMA_EXPORT_RAW("opLogSoftmax", log_softmax);
  ALMA_EXPORT_RAW("opWarpScores", warp_scores);
  ALMA_EXPORT_RAW("opBeamTopK", beam_top_k);
  ALMA_EXPORT_RAW("opCopyBlocks", copy_blocks);
  ALMA_EXPORT_RAW("opNormQkv", norm_qkv);
  ALMA_EXPORT_RAW("opNormGateUp", norm_gate_up);
}

}  // namespace alma::addon

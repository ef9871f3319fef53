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

}  // namespace

void register_decoding_functions(Napi::Object& exports, Environment* environment) {
  ALMA_EXPORT_RAW("opLogSoftmax", log_softmax);
  ALMA_EXPORT_RAW("opWarpScores", warp_scores);
  ALMA_EXPORT_RAW("opBeamTopK", beam_top_k);
  ALMA_EXPORT_RAW("opCopyBlocks", copy_blocks);
}

}  // namespace alma::addon

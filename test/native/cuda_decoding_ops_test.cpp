#include <algorithm>

#include "cuda_compare.h"

namespace alma::test {
namespace {

const TensorRef none{};

struct Rows {
  int64_t rows, vocab;
  Array logits, stream, position;
  std::string what;
};

// Logits with ties, infinities and NaN now and then.
Rows make_rows() {
  const int64_t rows = 1 + random.below(6);
  int64_t vocab = random.one_in(2) ? 8 * (1 + random.below(60)) : 1 + random.below(800);
  if (random.one_in(12)) vocab = 9000;
  Rows result{rows,
              vocab,
              Array::normal(random.dtype(), rows * vocab, random.one_in(3) ? 30 : 3),
              Array::ints(rows, 1000),
              Array::ints(rows, 1000),
              ""};
  for (int i = 0; i < 6; ++i) {
    const auto at = static_cast<size_t>(random.below(rows * vocab));
    if (random.one_in(3)) result.logits.set(at, random.one_in(2) ? -INFINITY : random.one_in(2) ? NAN : 2.0);
  }
  if (random.one_in(4))
    for (size_t i = 0; i < result.logits.count(); ++i) result.logits.set(i, std::round(result.logits.get(i)));
  result.what = text({rows, vocab}, {result.logits.ref()});
  return result;
}

void choices(Devices& devices, const Rows& r) {
  Both ids(Array::ints(r.rows, 9)), logprob(Array::normal(DType::f32, r.rows));
  devices.cuda(kernels::argmax, {r.logits.ref(), ids.cuda.ref(), logprob.cuda.ref(), r.rows, r.vocab});
  devices.cpu.argmax({r.logits.ref(), ids.cpu.ref(), logprob.cpu.ref(), r.rows, r.vocab});
  same(ids, "argmax " + r.what);
  same(logprob, "argmax logprob " + r.what, 1e-6, 1e-6);
  const float temperature = random.one_in(5) ? 0 : static_cast<float>(0.3 + random.uniform());
  const float top_p = random.one_in(2) ? 1 : random.one_in(6) ? 0 : static_cast<float>(random.uniform());
  const auto top_k = static_cast<int32_t>(random.one_in(2) ? 0 : random.below(r.vocab + 3));
  const bool with_logprob = random.one_in(2);
  const auto args = [&](Array& ids_, Array& logprob_) {
    return SampleArgs{r.logits.ref(),
                      ids_.ref(),
                      with_logprob ? logprob_.ref() : none,
                      r.stream.ref(),
                      r.position.ref(),
                      r.rows,
                      r.vocab,
                      temperature,
                      top_p,
                      top_k,
                      5};
  };
  devices.cuda(kernels::sample, args(ids.cuda, logprob.cuda));
  devices.cpu.sample(args(ids.cpu, logprob.cpu));
  const std::string what = "sample " + r.what + ", temperature " + std::to_string(temperature) + ", top-p " +
                           std::to_string(top_p) + ", top-k " + std::to_string(top_k);
  same(ids, what);
  same(logprob, what + " logprob", 1e-6, 2e-5);  // the last bit of a log-sum-exp of 100
}

void beams(Devices& devices, const Rows& r) {
  Both scores(Array::normal(DType::f32, r.rows * r.vocab));
  devices.cuda(kernels::log_softmax, {r.logits.ref(), scores.cuda.ref(), r.rows, r.vocab});
  devices.cpu.log_softmax({r.logits.ref(), scores.cpu.ref(), r.rows, r.vocab});
  same(scores, "log_softmax " + r.what, 1e-6);

  Both warped(scores.cpu);
  WarpScoresArgs warp{};
  warp.rows = r.rows;
  warp.vocab = r.vocab;
  warp.temperature = static_cast<float>(0.1 + random.uniform());
  warp.top_p = random.one_in(2) ? 1 : static_cast<float>(random.uniform());
  warp.top_k = static_cast<int32_t>(random.one_in(2) ? 0 : random.below(r.vocab + 3));
  warp.keep = static_cast<int32_t>(1 + random.below(10));
  warp.scores = warped.cuda.ref();
  devices.cuda(kernels::warp_scores, warp);
  warp.scores = warped.cpu.ref();
  devices.cpu.warp_scores(warp);
  same(warped, "warp_scores " + r.what + ", top-p " + std::to_string(warp.top_p) + ", top-k " +
                   std::to_string(warp.top_k) + ", keep " + std::to_string(warp.keep));

  const int64_t groups = r.rows % 2 == 0 ? 2 : 1, width = r.rows / groups;
  const int64_t k = 1 + random.below(std::min<int64_t>(width * r.vocab, 30));
  const Array beam_scores = Array::normal(DType::f32, r.rows);
  Both totals(Array::normal(DType::f32, groups * k)), tokens(Array::ints(groups * k, 9)), parents(tokens);
  const bool noise = random.one_in(2);
  const auto args = [&](Array& totals_, Array& tokens_, Array& parents_) {
    BeamTopKArgs result{};
    result.scores = warped.cpu.ref();
    result.beam_scores = beam_scores.ref();
    result.totals = totals_.ref();
    result.tokens = tokens_.ref();
    result.parents = parents_.ref();
    result.stream = noise ? r.stream.ref() : none;
    result.position = noise ? r.position.ref() : none;
    result.groups = groups;
    result.beams = width;
    result.vocab = r.vocab;
    result.k = k;
    result.seed = 77;
    return result;
  };
  devices.cuda(kernels::beam_top_k, args(totals.cuda, tokens.cuda, parents.cuda));
  devices.cpu.beam_top_k(args(totals.cpu, tokens.cpu, parents.cpu));
  const std::string what = "beam_top_k " + text({groups, width, r.vocab, k}) + (noise ? " with noise" : "");
  same(totals, what + " totals");
  same(tokens, what + " tokens");
  same(parents, what + " parents");
}

void histories(Devices& devices, const Rows& r) {
  const int64_t stride = 1 + random.below(60);
  const Array history = Array::ints(r.rows * stride, std::min<int64_t>(r.vocab, 6)),
              below = Array::ints(r.rows, stride);
  const Array suppress = Array::ints(2, r.vocab);
  Both lengths(Array::ints(r.rows, stride + 1)), logits(r.logits);
  ProcessLogitsArgs args{};
  args.history = history.ref();
  args.history_length = lengths.cpu.ref();
  args.suppress = random.one_in(2) ? suppress.ref() : none;
  args.suppress_below = random.one_in(2) ? below.ref() : none;
  args.rows = r.rows;
  args.vocab = r.vocab;
  args.history_stride = stride;
  args.suppress_count = 2;
  args.repetition_penalty = random.one_in(2) ? 1.0f : 1.3f;
  args.no_repeat_ngram = static_cast<int32_t>(random.below(4));
  args.logits = logits.cuda.ref();
  devices.cuda(kernels::process_logits, args);
  args.logits = logits.cpu.ref();
  devices.cpu.process_logits(args);
  same(logits, "process_logits " + r.what + ", history " + std::to_string(stride) + ", n-gram " +
                   std::to_string(args.no_repeat_ngram));

  Both histories(Array::ints(r.rows * (stride + 1), 9));
  devices.cuda(kernels::append_tokens, {r.stream.ref(), histories.cuda.ref(), lengths.cuda.ref(), r.rows, stride + 1});
  devices.cpu.append_tokens({r.stream.ref(), histories.cpu.ref(), lengths.cpu.ref(), r.rows, stride + 1});
  same(histories, "append_tokens history " + text({r.rows, stride}));
  same(lengths, "append_tokens history_length " + text({r.rows, stride}));
  devices.cuda(kernels::increment, {lengths.cuda.ref(), r.rows, -3});
  devices.cpu.increment({lengths.cpu.ref(), r.rows, -3});
  same(lengths, "increment " + text({r.rows}));
}

void blocks(Devices& devices) {
  const int64_t groups = 1 + random.below(3), blocks = 5, elements = 1 + random.below(3000);
  Both table(Array::normal(random.dtype(), groups * blocks * elements));
  Array pairs(DType::i32, 6);
  const double values[] = {0, 3, -1, 9, 2, 4};
  for (size_t i = 0; i < 6; ++i) pairs.set(i, values[i]);
  devices.cuda(kernels::copy_blocks, {table.cuda.ref(), pairs.ref(), groups, blocks, elements, 3});
  devices.cpu.copy_blocks({table.cpu.ref(), pairs.ref(), groups, blocks, elements, 3});
  same(table, "copy_blocks " + text({groups, blocks, elements}, {table.cpu.ref()}));
}

}  // namespace

void compare_decoding_ops(Devices& devices) {
  const Rows rows = make_rows();
  choices(devices, rows);
  beams(devices, rows);
  histories(devices, rows);
  blocks(devices);
}

}  // namespace alma::test

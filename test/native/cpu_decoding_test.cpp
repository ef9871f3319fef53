#include <algorithm>
#include <map>

#include "cpu_check.h"

namespace alma::test {
namespace {

void test_rows(cpu::CpuOps& ops, Random& random) {
  for (const DType type : {DType::f32, DType::bf16})
    for (const size_t cols : {size_t{1}, size_t{19}, size_t{300}}) {
      const size_t table_rows = 50, count = 70;
      const auto c = static_cast<int64_t>(cols);
      Tensor table = Tensor::normal(type, table_rows * cols, random), out(type, count * cols);
      std::vector<int32_t> at(count);
      for (auto& row : at) row = static_cast<int32_t>(random.below(50));
      Tensor rows = Tensor::ints(at);
      std::vector<double> gathered(count * cols), gradient(table_rows * cols);
      for (size_t i = 0; i < count; ++i)
        for (size_t j = 0; j < cols; ++j) gathered[i * cols + j] = table.get(static_cast<size_t>(at[i]) * cols + j);
      ops.gather_rows({table.ref(), rows.ref(), out.ref(), 50, c, 70});
      close(out, gathered, 0, "gather_rows");
      const DType other = type == DType::f32 ? DType::bf16 : DType::f32;
      Tensor converted(other, count * cols);
      ops.gather_rows({table.ref(), rows.ref(), converted.ref(), 50, c, 70});
      check(converted.same_bits(Tensor(other, gathered)), "gather_rows to another dtype");

      Tensor dtable = Tensor::normal(DType::f32, table_rows * cols, random);
      gradient = dtable.values();
      for (size_t i = 0; i < count; ++i)
        for (size_t j = 0; j < cols; ++j) gradient[static_cast<size_t>(at[i]) * cols + j] += out.get(i * cols + j);
      ops.embedding_backward({out.ref(), rows.ref(), dtable.ref(), 50, c, 70});
      close(dtable, gradient, 1e-6, "embedding_backward");

      Tensor few = Tensor::ints({9, 0, 49}), in = Tensor::normal(type, 3 * cols, random);
      std::vector<double> scattered = table.values();
      for (size_t i = 0; i < 3; ++i)
        for (size_t j = 0; j < cols; ++j) scattered[static_cast<size_t>(few.get(i)) * cols + j] = in.get(i * cols + j);
      ops.scatter_rows({in.ref(), few.ref(), table.ref(), 50, c, 3});
      close(table, scattered, 0, "scatter_rows");
      for (const double bad : {-1.0, 50.0}) {
        few.set(1, bad);
        throws("gather_rows: bounds", [&] { ops.gather_rows({table.ref(), few.ref(), out.ref(), 50, c, 3}); });
        throws("scatter_rows: bounds", [&] { ops.scatter_rows({in.ref(), few.ref(), table.ref(), 50, c, 3}); });
        throws("embedding_backward: bounds", [&] {
          ops.embedding_backward({in.ref(), few.ref(), dtable.ref(), 50, c, 3});
        });
      }
    }
  Tensor table = Tensor::ints({1, 2, 3, 4, 5, 6}), rows = Tensor::ints({2, 0}), out = Tensor::ints({0, 0, 0, 0});
  ops.gather_rows({table.ref(), rows.ref(), out.ref(), 3, 2, 2});
  check(out.same_bits(Tensor::ints({5, 6, 1, 2})), "gather_rows of i32");
}

void test_argmax(cpu::CpuOps& ops, Random& random) {
  for (const DType type : {DType::f32, DType::bf16})
    for (const size_t vocab : {size_t{1}, size_t{5}, size_t{64}, size_t{32007}}) {
      Tensor logits = Tensor::normal(type, 6 * vocab, random), ids = Tensor::ints(std::vector<int32_t>(6)),
             logprob(DType::f32, 6);
      for (size_t j = 0; j < vocab; ++j) {
        logits.set(vocab + j, j < vocab / 2 ? 1 : 2);  // ties
        logits.set(2 * vocab + j, NAN);
        logits.set(3 * vocab + j, -INFINITY);
        if (j % 2 == 0) logits.set(4 * vocab + j, NAN);
        logits.set(5 * vocab + j, j == 0 ? NAN : -INFINITY);
      }
      std::vector<double> expected(2);
      for (size_t i = 0; i < 2; ++i) {
        double highest = -INFINITY, total = 0;
        for (size_t j = 0; j < vocab; ++j) highest = std::max(highest, logits.get(i * vocab + j));
        for (size_t j = 0; j < vocab; ++j) total += std::exp(logits.get(i * vocab + j) - highest);
        expected[i] = -std::log(total);
      }
      ops.argmax({logits.ref(), ids.ref(), logprob.ref(), 6, static_cast<int64_t>(vocab)});
      bool right = ids.get(1) == static_cast<double>(vocab / 2) && ids.get(2) == 0 && ids.get(3) == 0;
      for (const size_t i : {size_t{0}, size_t{4}}) {
        size_t best = 0;
        for (size_t j = 0; j < vocab; ++j)
          if (logits.get(i * vocab + j) > logits.get(i * vocab + best) || std::isnan(logits.get(i * vocab + best)))
            best = j;
        if (vocab > 1) right = right && ids.get(i) == static_cast<double>(best);
      }
      if (vocab > 1) right = right && ids.get(5) == 1;
      check(right, "argmax " + std::to_string(vocab));
      bool near = true;
      for (size_t i = 0; i < 2; ++i)
        near = near && std::abs(logprob.get(i) - expected[i]) < 2e-6 * (1 + std::abs(expected[i]));
      check(near, "argmax logprob");
    }
}

// Frequencies of many draws against the distribution that the definition gives.
void test_sample(cpu::CpuOps& ops) {
  constexpr size_t kRows = 20000, kVocab = 6;
  const double one[kVocab] = {1.0, 2.0, 0.5, 2.0, -1.0, 0.0};
  Tensor logits(DType::f32, kRows * kVocab), ids = Tensor::ints(std::vector<int32_t>(kRows)),
                                             logprob(DType::f32, kRows);
  std::vector<int32_t> stream(kRows), position(kRows);
  for (size_t i = 0; i < kRows; ++i) {
    for (size_t j = 0; j < kVocab; ++j) logits.set(i * kVocab + j, one[j]);
    stream[i] = static_cast<int32_t>(i / 100);
    position[i] = static_cast<int32_t>(i % 100);
  }
  Tensor streams = Tensor::ints(stream), positions = Tensor::ints(position);
  struct Setting {
    float temperature, top_p;
    int32_t top_k;
    std::vector<int> kept;
  };
  // softmax: 1: .322, 3: .322, 0: .119, 2: .072, 5: .044, 4: .016 … of a total of 0.894 + …
  const Setting settings[] = {{1, 1, 0, {0, 1, 2, 3, 4, 5}},
                              {0.5f, 1, 0, {0, 1, 2, 3, 4, 5}},
                              {1, 1, 2, {1, 3}},
                              {1, 1, 1, {1, 3}},
                              {1, 0.5f, 0, {1, 3}},
                              {1, 0.8f, 0, {0, 1, 3}},
                              {1, 0.0f, 0, {1}},
                              {1, 0.99f, 3, {0, 1, 3}},
                              {0, 1, 0, {1}},
                              {1, 1, 100, {0, 1, 2, 3, 4, 5}}};
  for (const Setting& s : settings) {
    ops.sample({logits.ref(), ids.ref(), logprob.ref(), streams.ref(), positions.ref(), kRows, kVocab, s.temperature,
                s.top_p, s.top_k, 1234});
    double total = 0, all = 0, worst = 0;
    const double temperature = s.temperature > 0 ? s.temperature : 1;
    for (const int j : s.kept) total += std::exp(one[j] / temperature);
    for (const double value : one) all += std::exp(value);
    std::map<int, int> counts;
    bool logprobs = true;
    for (size_t i = 0; i < kRows; ++i) {
      const int id = static_cast<int>(ids.get(i));
      ++counts[id];
      logprobs = logprobs && id >= 0 && id < 6 && std::abs(logprob.get(i) - (one[id] - std::log(all))) < 1e-5;
    }
    int drawn = 0;
    for (const int j : s.kept) {
      drawn += counts[j];
      worst =
          std::max(worst, std::abs(counts[j] / static_cast<double>(kRows) - std::exp(one[j] / temperature) / total));
    }
    check(drawn == static_cast<int>(kRows) && worst < 0.015, "sample: temperature " + std::to_string(s.temperature) +
                                                                 " top_p " + std::to_string(s.top_p) + " top_k " +
                                                                 std::to_string(s.top_k));
    check(logprobs, "sample: logprob");
  }
  // The draw of a row depends on its stream and position, not on where it stands.
  const Tensor before = ids;
  ops.sample({logits.ref(), ids.ref(), {}, streams.ref(), positions.ref(), kRows, kVocab, 1, 1, 0, 99});
  Tensor alone = Tensor::ints({0}), s0 = Tensor::ints({stream[777]}), p0 = Tensor::ints({position[777]});
  ops.sample({logits.ref(), alone.ref(), {}, s0.ref(), p0.ref(), 1, kVocab, 1, 1, 0, 99});
  check(alone.get(0) == ids.get(777), "sample: independent of the batch");
  check(!before.same_bits(ids), "sample: depends on the seed");
}

void test_process(cpu::CpuOps& ops) {
  for (const DType type : {DType::f32, DType::bf16}) {
    Tensor logits(type, {1, -1, 2, -2, 0.5, 4, 1, -1, 2, -2, 0.5, 4});
    Tensor history = Tensor::ints({1, 2, 3, 1, 2, 77, 5, 5, -9, 0, 0, 0}), length = Tensor::ints({5, 2});
    Tensor suppress = Tensor::ints({0}), below = Tensor::ints({6, 2});
    const ProcessLogitsArgs args{
        logits.ref(), history.ref(), length.ref(), suppress.ref(), below.ref(), 2, 6, 6, 1, 2.0f, 3};
    ops.process_logits(args);
    const double inf = INFINITY;
    close(logits, {-inf, -2, 1, -inf, 0.5, 4, 1, -1, 2, -2, 0.5, 2}, 0, "process_logits");
    length.set(1, 3);
    throws("process_logits: id below 0", [&] { ops.process_logits(args); });
    length.set(1, 7);
    throws("process_logits: length", [&] { ops.process_logits(args); });
  }
  Tensor logits(DType::f32, {1, 2, 3}), history = Tensor::ints({2, 0, 2}), length = Tensor::ints({3});
  ops.process_logits({logits.ref(), history.ref(), length.ref(), {}, {}, 1, 3, 3, 0, 1.0f, 1});
  close(logits, {-INFINITY, 2, -INFINITY}, 0, "process_logits: n-grams of one token");

  Tensor ids = Tensor::ints({7, 8}), rows = Tensor::ints({1, 0, 0, 2, 3, 0}), lengths = Tensor::ints({1, 2});
  ops.append_tokens({ids.ref(), rows.ref(), lengths.ref(), 2, 3});
  check(rows.same_bits(Tensor::ints({1, 7, 0, 2, 3, 8})) && lengths.same_bits(Tensor::ints({2, 3})), "append_tokens");
  throws("append_tokens: full", [&] { ops.append_tokens({ids.ref(), rows.ref(), lengths.ref(), 2, 3}); });
  check(rows.get(2) == 0 && lengths.get(0) == 2, "append_tokens: nothing written before the error");
}

}  // namespace

void test_decoding(cpu::CpuOps& ops) {
  Random random;
  test_rows(ops, random);
  test_argmax(ops, random);
  test_sample(ops);
  test_process(ops);
}

}  // namespace alma::test

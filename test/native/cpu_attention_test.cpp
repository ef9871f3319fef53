#include "cpu_check.h"

namespace alma::test {
namespace {

struct Case {
  int64_t heads, kv_heads, head_dim;
  bool causal;
  std::vector<int32_t> q_lengths, k_lengths;
  int32_t gap = 0;  // unused rows of k between sequences
};

struct Problem {
  AttentionShape shape;
  Tensor cu, begin, end;
  explicit Problem(const Case& c) {
    std::vector<int32_t> cu_q = {0}, k_begin, k_end;
    int32_t at = c.gap;
    for (size_t i = 0; i < c.q_lengths.size(); ++i) {
      cu_q.push_back(cu_q.back() + c.q_lengths[i]);
      k_begin.push_back(at);
      k_end.push_back(at + c.k_lengths[i]);
      at += c.k_lengths[i] + c.gap;
    }
    cu = Tensor::ints(cu_q);
    begin = Tensor::ints(k_begin);
    end = Tensor::ints(k_end);
    shape = {cu.ref(),    begin.ref(),
             end.ref(),   static_cast<int64_t>(c.q_lengths.size()),
             cu_q.back(), at,
             c.heads,     c.kv_heads,
             c.head_dim,  static_cast<float>(1 / std::sqrt(static_cast<double>(c.head_dim))),
             c.causal};
  }
};

struct Reference {
  std::vector<double> out, lse, dq, dk, dv;
};

Reference reference(const Problem& p, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& dout,
                    const std::vector<double>& untouched_k, const std::vector<double>& untouched_v) {
  const AttentionShape& s = p.shape;
  const int64_t group = s.heads / s.kv_heads, d = s.head_dim;
  Reference r{std::vector<double>(q.count()), std::vector<double>(static_cast<size_t>(s.total_q * s.heads)),
              std::vector<double>(q.count()), untouched_k, untouched_v};
  for (int64_t i = 0; i < s.batch; ++i) {
    const auto q0 = static_cast<int64_t>(p.cu.get(static_cast<size_t>(i)));
    const auto q_length = static_cast<int64_t>(p.cu.get(static_cast<size_t>(i + 1))) - q0;
    const auto k0 = static_cast<int64_t>(p.begin.get(static_cast<size_t>(i)));
    const auto k_length = static_cast<int64_t>(p.end.get(static_cast<size_t>(i))) - k0;
    for (int64_t j = 0; j < k_length * s.kv_heads * d; ++j)
      r.dk[static_cast<size_t>(k0 * s.kv_heads * d + j)] = r.dv[static_cast<size_t>(k0 * s.kv_heads * d + j)] = 0;
    for (int64_t t = 0; t < q_length; ++t)
      for (int64_t h = 0; h < s.heads; ++h) {
        const auto qi = static_cast<size_t>(((q0 + t) * s.heads + h) * d);
        const auto ki = [&](int64_t j) { return static_cast<size_t>(((k0 + j) * s.kv_heads + h / group) * d); };
        const int64_t seen =
            s.causal ? std::max<int64_t>(0, std::min(k_length, k_length - q_length + t + 1)) : k_length;
        std::vector<double> score(static_cast<size_t>(seen)), dp(static_cast<size_t>(seen));
        double highest = -INFINITY, total = 0, delta = 0;
        for (int64_t j = 0; j < seen; ++j) {
          double dot = 0;
          for (int64_t c = 0; c < d; ++c)
            dot += q.get(qi + static_cast<size_t>(c)) * k.get(ki(j) + static_cast<size_t>(c));
          score[static_cast<size_t>(j)] = dot * s.scale;
          highest = std::max(highest, score[static_cast<size_t>(j)]);
        }
        for (double value : score) total += std::exp(value - highest);
        const double lse = seen ? highest + std::log(total) : -INFINITY;
        r.lse[static_cast<size_t>((q0 + t) * s.heads + h)] = lse;
        for (int64_t j = 0; j < seen; ++j) {
          const double probability = std::exp(score[static_cast<size_t>(j)] - lse);
          for (int64_t c = 0; c < d; ++c) {
            const auto x = static_cast<size_t>(c);
            r.out[qi + x] += probability * v.get(ki(j) + x);
            dp[static_cast<size_t>(j)] += dout.get(qi + x) * v.get(ki(j) + x);
            r.dv[ki(j) + x] += probability * dout.get(qi + x);
          }
          delta += probability * dp[static_cast<size_t>(j)];
        }
        for (int64_t j = 0; j < seen; ++j) {
          const double ds =
              std::exp(score[static_cast<size_t>(j)] - lse) * (dp[static_cast<size_t>(j)] - delta) * s.scale;
          for (int64_t c = 0; c < d; ++c) {
            const auto x = static_cast<size_t>(c);
            r.dq[qi + x] += ds * k.get(ki(j) + x);
            r.dk[ki(j) + x] += ds * q.get(qi + x);
          }
        }
      }
  }
  return r;
}

void one(cpu::CpuOps& ops, const Case& c, DType dtype, Random& random) {
  Problem p(c);
  const AttentionShape& s = p.shape;
  const auto q_count = static_cast<size_t>(s.total_q * s.heads * s.head_dim);
  const auto k_count = static_cast<size_t>(s.total_k * s.kv_heads * s.head_dim);
  Tensor q = Tensor::normal(dtype, q_count, random), k = Tensor::normal(dtype, k_count, random);
  Tensor v = Tensor::normal(dtype, k_count, random), dout = Tensor::normal(dtype, q_count, random);
  Tensor out(dtype, q_count), dq(dtype, q_count), lse(DType::f32, static_cast<size_t>(s.total_q * s.heads));
  Tensor dk = Tensor::normal(dtype, k_count, random), dv = Tensor::normal(dtype, k_count, random);
  const Reference expected = reference(p, q, k, v, dout, dk.values(), dv.values());
  ops.attention({q.ref(), k.ref(), v.ref(), out.ref(), lse.ref(), s});
  ops.attention_backward(
      {q.ref(), k.ref(), v.ref(), out.ref(), dout.ref(), lse.ref(), dq.ref(), dk.ref(), dv.ref(), s});
  const std::string what = "attention " + shape_text({c.heads, c.kv_heads, c.head_dim}) +
                           (c.causal ? " causal " : " full ") + "first length " + std::to_string(c.q_lengths[0]) + " " +
                           name_of(dtype) + " ";
  close(out, expected.out, tolerance_of(dtype, 2e-6), what + "out");
  close(lse, expected.lse, 2e-6, what + "log_sum_exp");
  const double tolerance = dtype == DType::bf16 ? 1.5e-2 : 4e-6;
  close(dq, expected.dq, tolerance, what + "dq", 0.3);
  close(dk, expected.dk, tolerance, what + "dk", 0.3);
  close(dv, expected.dv, tolerance, what + "dv");
  Tensor again(dtype, q_count);
  ops.attention({q.ref(), k.ref(), v.ref(), again.ref(), TensorRef{}, s});
  check(again.same_bits(out), what + "without log_sum_exp");
}

}  // namespace

void test_attention(cpu::CpuOps& ops) {
  Random random;
  const Case cases[] = {
      {1, 1, 8, true, {1}, {1}},
      {2, 2, 16, true, {5, 1, 33}, {5, 1, 33}},
      {4, 2, 20, true, {70, 3}, {70, 3}, 2},  // ragged head_dim, gaps in k
      {4, 1, 64, true, {100}, {100}},
      {8, 2, 64, true, {1, 1, 1}, {5, 200, 64}, 3},  // decoding
      {3, 3, 7, false, {9, 20}, {30, 4}},
      {6, 3, 33, true, {7, 12}, {140, 12}},  // a chunk of a prompt behind a cache
      {2, 1, 128, false, {40}, {131}},
      {2, 2, 16, true, {6, 4}, {3, 0}},         // queries that see no key
      {2, 1, 10, true, {2, 0, 1}, {9, 7, 80}},  // an empty sequence of queries
      {128, 1, 16, true, {3}, {5}},             // a group larger than a block of rows
      {1, 1, 1, true, {3}, {3}},
  };
  for (const Case& c : cases)
    for (const DType dtype : {DType::f32, DType::bf16}) one(ops, c, dtype, random);

  Problem p({2, 1, 8, true, {2, 2}, {2, 2}});
  Tensor q = Tensor::normal(DType::f32, 64, random), k = Tensor::normal(DType::f32, 32, random), out(DType::f32, 64);
  const auto run = [&] { ops.attention({q.ref(), k.ref(), k.ref(), out.ref(), TensorRef{}, p.shape}); };
  p.end.set(1, 5);
  throws("attention: k_end beyond k", run);
  p.end.set(1, 1);
  throws("attention: k_end before k_begin", run);
  p.end.set(1, 4);
  p.begin.set(0, -1);
  throws("attention: k_begin below 0", run);
  p.begin.set(0, 0);
  p.cu.set(1, 7);
  throws("attention: cu_seqlens_q beyond q", run);
  p.cu.set(1, 2);
  run();
  check(true, "attention: bounds accepted again");
}

}  // namespace alma::test

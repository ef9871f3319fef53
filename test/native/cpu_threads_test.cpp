#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "cpu_check.h"

namespace alma::test {
namespace {

// Everything whose order of summation could depend on the division of work.
std::vector<Tensor> compute(cpu::CpuOps& ops, DType type) {
  Random random;
  std::vector<Tensor> results;
  Tensor a = Tensor::normal(type, 230 * 300, random), b = Tensor::normal(type, 300 * 330, random), c(type, 230 * 330);
  for (const MatmulLayout layout : {MatmulLayout::nn, MatmulLayout::nt, MatmulLayout::tn}) {
    ops.matmul({a.ref(), b.ref(), c.ref(), 230, 330, 300, layout, false});
    results.push_back(c);
  }
  // Several parts of k, with few rows (in strips, unless there are too many threads) and with many.
  for (const int64_t m : {60, 600})
    for (const MatmulLayout layout : {MatmulLayout::nn, MatmulLayout::nt, MatmulLayout::tn}) {
      Tensor long_a = Tensor::normal(type, static_cast<size_t>(m) * 900, random),
             long_b = Tensor::normal(type, 330 * 900, random), long_c(type, static_cast<size_t>(m) * 330);
      ops.matmul({long_a.ref(), long_b.ref(), long_c.ref(), m, 330, 900, layout, false});
      results.push_back(long_c);
    }
  ops.matmul({a.ref(), b.ref(), c.ref(), 4, 330, 300, MatmulLayout::nt, false});
  results.push_back(c);

  Tensor weight = Tensor::normal(type, 300, random), y(type, 230 * 300), inverse(DType::f32, 230);
  ops.rms_norm({a.ref(), {}, weight.ref(), y.ref(), {}, inverse.ref(), 230, 300, 1e-5f});
  Tensor dx(type, 230 * 300), dweight(DType::f32, std::vector<double>(300));
  ops.rms_norm_backward({y.ref(), a.ref(), weight.ref(), inverse.ref(), dx.ref(), dweight.ref(), 230, 300, false});
  results.insert(results.end(), {y, dx, dweight});

  Tensor cu = Tensor::ints({0, 70, 95}), end = Tensor::ints({70, 95}), begin = Tensor::ints({0, 70});
  const AttentionShape shape{cu.ref(), begin.ref(), end.ref(), 2, 95, 95, 6, 3, 32, 0.2f, true};
  Tensor q = Tensor::normal(type, 95 * 6 * 32, random), k = Tensor::normal(type, 95 * 3 * 32, random),
         out(type, 95 * 6 * 32);
  Tensor lse(DType::f32, 95 * 6), dq = out, dk(type, k.count()), dv = dk;
  ops.attention({q.ref(), k.ref(), k.ref(), out.ref(), lse.ref(), shape});
  ops.attention_backward(
      {q.ref(), k.ref(), k.ref(), out.ref(), q.ref(), lse.ref(), dq.ref(), dk.ref(), dv.ref(), shape});
  results.insert(results.end(), {out, dq, dk, dv});

  Tensor sum(DType::f32, 1), rows = Tensor::ints(std::vector<int32_t>(230, 3)),
                             table(DType::f32, std::vector<double>(300 * 5));
  ops.reduce_sum({a.ref(), sum.ref(), 230 * 300, true, false});
  ops.embedding_backward({a.ref(), rows.ref(), table.ref(), 5, 300, 230});
  results.insert(results.end(), {sum, table});
  return results;
}

}  // namespace

void test_thread_independence(const std::string& isa) {
  for (const DType type : {DType::f32, DType::bf16}) {
    const auto one = compute(*cpu::make_cpu_ops(1, isa.c_str()), type);
    for (const int threads : {2, 3}) {
      const auto ops = cpu::make_cpu_ops(threads, isa.c_str());
      for (int repeat = 0; repeat < 3; ++repeat) {
        const auto more = compute(*ops, type);
        bool same = true;
        for (size_t i = 0; i < one.size(); ++i) same = same && one[i].same_bits(more[i]);
        check(same, "the same bits with " + std::to_string(threads) + " threads, " + name_of(type));
      }
    }
  }
}

void test_thread_pool() {
  check(cpu::usable_processors() >= 1, "usable_processors");
  for (const int threads : {1, 2, 5}) {
    cpu::ThreadPool pool(threads);
    bool complete = pool.threads() == threads;
    for (int round = 0; round < 2000; ++round) {
      const int64_t chunks = round % 17;
      std::vector<std::atomic<int>> done(static_cast<size_t>(chunks));
      pool.run(chunks, [&](int64_t chunk, int thread) {
        complete = complete && thread >= 0 && thread < threads;
        done[static_cast<size_t>(chunk)].fetch_add(1);
      });
      for (const auto& count : done) complete = complete && count.load() == 1;
      if (round % 3 == 0) pool.rest();
      if (round % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // let the workers fall asleep
    }
    check(complete, "pool of " + std::to_string(threads) + ": every chunk once");
    std::atomic<int> others{0};
    bool caught = false;
    try {
      pool.run(20, [&](int64_t chunk, int) {
        if (chunk == 3) throw std::runtime_error("three");
        others.fetch_add(1);
      });
    } catch (const std::runtime_error& error) {
      caught = std::string(error.what()) == "three";
    }
    check(caught && others.load() == 19, "pool: an exception, after the others have finished");
    void* scratch = pool.scratch(threads - 1, 0, 1000);
    check(reinterpret_cast<uintptr_t>(scratch) % 64 == 0 && pool.scratch(threads - 1, 0, 500) == scratch,
          "pool: scratch is kept");
  }
}

}  // namespace alma::test

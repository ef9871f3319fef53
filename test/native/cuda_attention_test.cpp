// The attention kernels on the emulator against loops in float64: shapes of all kinds, outputs poisoned, several schedules. bf16 errors are
// compared with those of the same computation in plain bf16 (FlashAttention's rule: at most twice as large).
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../../native/cuda/launch.h"
#include "../../native/cuda/portable/ops.h"
#include "../../native/cuda/value_error.h"
#include "../../native/emulator/block.h"
#include "../../native/emulator/properties.h"
#include "../../native/runtime/ops.h"

namespace {

using namespace alma;
namespace cuda = alma::ALMA_CUDA;
using Doubles = std::vector<double>;

int passed = 0, failed = 0;
std::string context;

bool check(bool condition, const std::string& what) {
  condition ? ++passed : ++failed;
  if (!condition) std::printf("FAILED %s: %s\n", context.c_str(), what.c_str());
  return condition;
}

struct Random {
  uint64_t state;
  double uniform() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<double>(state >> 11) * 0x1p-53;
  }
  double normal() { return std::sqrt(-2 * std::log(uniform() + 1e-300)) * std::cos(6.283185307179586 * uniform()); }
};

double as_bf16(double value) { return __bfloat162float(__float2bfloat16_rn(static_cast<float>(value))); }

// Memory of the device; new memory is NaN.
class Array {
 public:
  Array(DType dtype, size_t count) : dtype_(dtype), count_(count) {
    if (cudaMalloc(&data_, std::max<size_t>(1, bytes())) != cudaSuccess) std::abort();
    cudaMemsetAsync(data_, 0xff, std::max<size_t>(1, bytes()), nullptr);
  }
  Array(DType dtype, const Doubles& values) : Array(dtype, values.size()) {
    std::vector<char> host(bytes());
    for (size_t i = 0; i < count_; ++i) {
      if (dtype == DType::f32) {
        reinterpret_cast<float*>(host.data())[i] = static_cast<float>(values[i]);
      } else {
        reinterpret_cast<__nv_bfloat16*>(host.data())[i] = __float2bfloat16_rn(static_cast<float>(values[i]));
      }
    }
    cudaMemcpy(data_, host.data(), host.size(), cudaMemcpyHostToDevice);
  }
  explicit Array(const std::vector<int>& values) : Array(DType::f32, values.size()) {
    cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice);
  }
  Array(const Array&) = delete;
  ~Array() { cudaFree(data_); }
  TensorRef ref() const { return {data_, dtype_}; }
  Doubles read() const {
    std::vector<char> host(bytes());
    cudaMemcpy(host.data(), data_, host.size(), cudaMemcpyDeviceToHost);
    Doubles values(count_);
    for (size_t i = 0; i < count_; ++i)
      values[i] = dtype_ == DType::f32 ? reinterpret_cast<const float*>(host.data())[i]
                                       : __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(host.data())[i]);
    return values;
  }

 private:
  size_t bytes() const { return count_ * (dtype_ == DType::f32 ? 4 : 2); }
  DType dtype_;
  size_t count_;
  void* data_ = nullptr;
};

class TestWorkspace : public cuda::Workspace {
 public:
  ~TestWorkspace() override { cudaFree(data_); }
  void* get(size_t bytes) override {
    cudaDeviceSynchronize();
    cudaFree(data_);
    if (cudaMalloc(&data_, bytes) != cudaSuccess) std::abort();
    cudaMemsetAsync(data_, 0xff, bytes, nullptr);
    return data_;
  }

 private:
  void* data_ = nullptr;
};

struct Problem {
  std::string name;
  std::vector<int> cu, k_begin, k_end, table;
  int total_k, heads, kv_heads, head_dim;
  bool causal = true;
  int block_size = 0, blocks_per_sequence = 0;
  Doubles q, k, v, dout;

  int total_q() const { return cu.back(); }
  int batch() const { return static_cast<int>(k_begin.size()); }
  double scale() const { return 1 / std::sqrt(static_cast<double>(head_dim)); }
  size_t key_row(int i, int j) const {
    const int row = k_begin[i] + j;
    if (table.empty()) return row;
    return static_cast<size_t>(table[i * blocks_per_sequence + row / block_size]) * block_size + row % block_size;
  }
};

// `q_lengths` against `k_lengths` rows, packed.
Problem problem_of(const std::string& name, const std::vector<int>& q_lengths, const std::vector<int>& k_lengths,
                   int heads, int kv_heads, int head_dim, bool causal = true) {
  Problem p{name, {0}, {}, {}, {}, 0, heads, kv_heads, head_dim, causal, 0, 0, {}, {}, {}, {}};
  for (size_t i = 0; i < q_lengths.size(); ++i) {
    p.cu.push_back(p.cu.back() + q_lengths[i]);
    p.k_begin.push_back(p.total_k);
    p.total_k += k_lengths[i];
    p.k_end.push_back(p.total_k);
  }
  return p;
}

void fill(Problem& p, DType dtype, uint64_t seed) {
  Random random{seed * 0x9e3779b97f4a7c15ull + 1};
  const auto numbers = [&](size_t count) {
    Doubles values(count);
    for (double& x : values) x = dtype == DType::bf16 ? as_bf16(random.normal()) : static_cast<float>(random.normal());
    return values;
  };
  p.q = numbers(static_cast<size_t>(p.total_q()) * p.heads * p.head_dim);
  p.dout = numbers(p.q.size());
  p.k = numbers(static_cast<size_t>(p.total_k) * p.kv_heads * p.head_dim);
  p.v = numbers(p.k.size());
}

struct Result {
  Doubles out, log_sum_exp, dq, dk, dv;
};

// `plain`: what is stored is rounded to bf16 at every step, as eager code does.
Result reference(const Problem& p, bool plain) {
  const auto round = [&](double x) { return plain ? as_bf16(x) : x; };
  const int d = p.head_dim, group = p.heads / p.kv_heads;
  Result r{Doubles(p.q.size()), Doubles(static_cast<size_t>(p.total_q()) * p.heads), Doubles(p.q.size()),
           Doubles(p.k.size()), Doubles(p.v.size())};
  for (int i = 0; i < p.batch(); ++i) {
    const int q_length = p.cu[i + 1] - p.cu[i], k_length = p.k_end[i] - p.k_begin[i];
    for (int t = 0; t < q_length; ++t)
      for (int h = 0; h < p.heads; ++h) {
        const size_t row = static_cast<size_t>(p.cu[i] + t) * p.heads + h;
        const double* q = &p.q[row * d];
        const double* dout = &p.dout[row * d];
        const int seen = p.causal ? std::clamp(k_length - q_length + t + 1, 0, k_length) : k_length;
        const auto at = [&](int j) { return (p.key_row(i, j) * p.kv_heads + h / group) * d; };
        Doubles s(seen), ds(seen);
        double highest = -INFINITY, total = 0, delta = 0;
        for (int j = 0; j < seen; ++j) {
          for (int c = 0; c < d; ++c) s[j] += q[c] * p.k[at(j) + c];
          s[j] = round(s[j]) * p.scale();
          highest = std::max(highest, s[j]);
        }
        for (double& x : s) total += x = std::exp(x - highest);
        for (double& x : s) x = round(x / total);
        r.log_sum_exp[row] = seen == 0 ? -INFINITY : highest + std::log(total);
        for (int c = 0; c < d; ++c) {
          double sum = 0;
          for (int j = 0; j < seen; ++j) sum += s[j] * p.v[at(j) + c];
          r.out[row * d + c] = round(sum);
          delta += r.out[row * d + c] * dout[c];
        }
        for (int j = 0; j < seen; ++j) {
          double dp = 0;
          for (int c = 0; c < d; ++c) dp += dout[c] * p.v[at(j) + c];
          ds[j] = round(s[j] * (round(dp) - delta));
          for (int c = 0; c < d; ++c) {
            r.dq[row * d + c] += p.scale() * ds[j] * p.k[at(j) + c];
            r.dk[at(j) + c] += p.scale() * ds[j] * q[c];
            r.dv[at(j) + c] += s[j] * dout[c];
          }
        }
      }
  }
  for (Doubles* values : {&r.dq, &r.dk, &r.dv})
    for (double& x : *values) x = round(x);
  return r;
}

double worst(const Doubles& a, const Doubles& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;  // infinities
    const double difference = std::fabs(a[i] - b[i]);
    most = std::isnan(difference) ? INFINITY : std::max(most, difference);
  }
  return most;
}

double relative_l2(const Doubles& a, const Doubles& b) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;
    error += (a[i] - b[i]) * (a[i] - b[i]);
  }
  for (const double x : b) norm += std::isfinite(x) ? x * x : 0;
  return std::isnan(error) ? INFINITY : error == 0 ? 0 : std::sqrt(error / norm);
}

void compare(const char* name, DType dtype, const Doubles& got, const Doubles& exact, const Doubles& plain) {
  if (dtype == DType::f32) {
    const double error = relative_l2(got, exact);
    check(error < 5e-6, std::string(name) + ": relative L2 error " + std::to_string(error * 1e6) + "e-6");
    return;
  }
  double largest = 0;
  for (const double x : exact) largest = std::isfinite(x) ? std::max(largest, std::fabs(x)) : largest;
  const double error = worst(got, exact), allowed = 2 * worst(plain, exact) + largest * 0x1p-8;
  check(error <= allowed,
        std::string(name) + ": error " + std::to_string(error) + ", allowed " + std::to_string(allowed));
}

struct Device {
  TestWorkspace workspace;
  Array error{std::vector<int>(6, 0)};
  Array arrivals{std::vector<int>(cuda::kArrivalCounters, 0)};
  cuda::Context context;

  Device() {
    context.workspace = &workspace;
    context.properties.multiprocessors = 2;
    context.value_error = static_cast<cuda::ValueError*>(error.ref().data);
    merge_in_one_kernel(true);
  }
  // Attention of few rows in one kernel or in two.
  void merge_in_one_kernel(bool one) { context.arrivals = one ? static_cast<unsigned*>(arrivals.ref().data) : nullptr; }
  // The check that reported a value; the report is taken away.
  int reported() {
    cudaDeviceSynchronize();
    cuda::ValueError host;
    cudaMemcpy(&host, error.ref().data, sizeof host, cudaMemcpyDeviceToHost);
    cudaMemsetAsync(error.ref().data, 0, sizeof host, nullptr);
    return host.check;
  }
};

Result run(Device& device, const Problem& p, DType dtype, bool backward, Invariance invariance = Invariance::none) {
  const Array q(dtype, p.q), k(dtype, p.k), v(dtype, p.v), out(dtype, p.q.size());
  const Array log_sum_exp(DType::f32, static_cast<size_t>(p.total_q()) * p.heads);
  const Array cu(p.cu), k_begin(p.k_begin), k_end(p.k_end), table(p.table);
  AttentionShape shape{cu.ref(),  k_begin.ref(), k_end.ref(), p.batch(),  p.total_q(),
                       p.total_k, p.heads,       p.kv_heads,  p.head_dim, static_cast<float>(p.scale()),
                       p.causal};
  shape.invariance = invariance;
  if (!p.table.empty()) {
    shape.block_table = table.ref();
    shape.blocks_per_sequence = p.blocks_per_sequence;
    shape.block_size = p.block_size;
  }
  cuda::portable::attention(device.context, {q.ref(), k.ref(), v.ref(), out.ref(), log_sum_exp.ref(), shape});
  cuda::check("attention", cudaDeviceSynchronize());
  Result result{out.read(), log_sum_exp.read(), {}, {}, {}};
  if (!backward) return result;
  const Array dout(dtype, p.dout), dq(dtype, p.q.size()), dk(dtype, p.k.size()), dv(dtype, p.v.size());
  cuda::portable::attention_backward(device.context, {q.ref(), k.ref(), v.ref(), out.ref(), dout.ref(),
                                                      log_sum_exp.ref(), dq.ref(), dk.ref(), dv.ref(), shape});
  cuda::check("attention_backward", cudaDeviceSynchronize());
  result.dq = dq.read();
  result.dk = dk.read();
  result.dv = dv.read();
  return result;
}

void compare_all(Device& device, Problem p, DType dtype, bool backward, Invariance invariance = Invariance::none) {
  context = p.name + (dtype == DType::f32 ? ", f32" : ", bf16") + ", head_dim " + std::to_string(p.head_dim) +
            (invariance == Invariance::few_rows ? ", few rows" : "");
  fill(p, dtype, static_cast<uint64_t>(p.head_dim + p.total_k));
  const Result got = run(device, p, dtype, backward, invariance), exact = reference(p, false);
  const Result plain = reference(p, true);
  compare("out", dtype, got.out, exact.out, plain.out);
  compare("log_sum_exp", dtype, got.log_sum_exp, exact.log_sum_exp, plain.log_sum_exp);
  check(device.reported() == 0, "reports a bad value");
  if (!backward) return;
  compare("dq", dtype, got.dq, exact.dq, plain.dq);
  compare("dk", dtype, got.dk, exact.dk, plain.dk);
  compare("dv", dtype, got.dv, exact.dv, plain.dv);
}

void set_capability(Device& device, int capability) {
  device.context.properties.compute_capability = capability;
  emulator::set_compute_capability(capability);
}

void test_shapes(Device& device, int head_dim) {
  const std::vector<Problem> problems = {
      problem_of("one token", {1}, {1}, 1, 1, head_dim),
      problem_of("ragged", {3, 1, 70, 33}, {3, 1, 70, 33}, 2, 2, head_dim),
      problem_of("empty ones between others", {40, 0, 5, 0}, {40, 0, 5, 7}, 2, 1, head_dim),
      problem_of("grouped, more keys than queries", {1, 20, 35}, {9, 150, 35}, 6, 2, head_dim),
      problem_of("not causal", {50, 3}, {10, 140}, 2, 2, head_dim, false),
      problem_of("queries that see no key", {40, 4}, {3, 0}, 2, 1, head_dim),
      problem_of("several tiles", {200}, {200}, 1, 1, head_dim),
      problem_of("one masked key in a block", {16, 16}, {78, 142}, 1, 1, head_dim),
      problem_of("several tiles, grouped", {120, 9}, {170, 9}, 3, 1, head_dim),
  };
  for (const Problem& p : problems) {
    compare_all(device, p, DType::bf16, true, Invariance::many_rows);
    compare_all(device, p, DType::bf16, false, Invariance::few_rows);
    Problem filled = p;
    fill(filled, DType::bf16, 3);
    const Result one = run(device, filled, DType::bf16, false, Invariance::few_rows);
    device.merge_in_one_kernel(false);
    compare_all(device, p, DType::bf16, false, Invariance::few_rows);
    const Result two = run(device, filled, DType::bf16, false, Invariance::few_rows);
    check(one.out == two.out && one.log_sum_exp == two.log_sum_exp, "other bits when a second kernel merges");
    device.merge_in_one_kernel(true);
    set_capability(device, 90);
    compare_all(device, p, DType::bf16, true);
    set_capability(device, 80);
  }
  for (const Problem& p : problems)
    if (p.total_k < 170) compare_all(device, p, DType::f32, true);
}

// A pool of blocks that holds the rows of `p`, the last block first; everything else in it is NaN.
Problem paged(const Problem& p, int block_size) {
  Problem result = p;
  int longest = 0, blocks = 0;
  for (int i = 0; i < p.batch(); ++i) longest = std::max(longest, p.k_end[i] - p.k_begin[i] + i);
  result.blocks_per_sequence = (longest + block_size - 1) / block_size + 1;
  result.table.assign(static_cast<size_t>(p.batch()) * result.blocks_per_sequence, -7);
  result.block_size = block_size;
  const int pool = p.batch() * result.blocks_per_sequence + 3;
  result.total_k = pool * block_size;
  const size_t width = static_cast<size_t>(p.kv_heads) * p.head_dim;
  result.k.assign(result.total_k * width, NAN);
  result.v = result.k;
  for (int i = 0; i < p.batch(); ++i) {
    const int length = p.k_end[i] - p.k_begin[i];
    result.k_begin[i] = i;  // not at the beginning of a block
    result.k_end[i] = i + length;
    for (int j = 0; j < length; ++j) {
      int& block = result.table[i * result.blocks_per_sequence + (i + j) / block_size];
      if (block < 0) block = pool - 1 - blocks++;
      const size_t to = result.key_row(i, j) * width, from = p.key_row(i, j) * width;
      std::copy_n(&p.k[from], width, &result.k[to]);
      std::copy_n(&p.v[from], width, &result.v[to]);
    }
  }
  return result;
}

void test_paged_and_invariant(Device& device, DType dtype, int head_dim) {
  Problem p = problem_of("paged", {3, 1, 20}, {140, 300, 20}, 4, 2, head_dim);
  fill(p, dtype, 5);
  const Problem in_blocks = paged(p, 16);
  for (const Invariance mode : {Invariance::many_rows, Invariance::few_rows}) {
    context = "paged, head_dim " + std::to_string(head_dim);
    const Result whole = run(device, p, dtype, false, mode), blocks = run(device, in_blocks, dtype, false, mode);
    check(whole.out == blocks.out && whole.log_sum_exp == blocks.log_sum_exp, "differs from rows one after the other");
    check(device.reported() == 0, "reports a bad value");

    // The second sequence alone.
    Problem alone = p;
    const size_t width = static_cast<size_t>(p.heads) * head_dim;
    alone.cu = {0, 1};
    alone.k_begin = {140};
    alone.k_end = {440};
    alone.q.assign(p.q.begin() + 3 * width, p.q.begin() + 4 * width);
    const Result single = run(device, alone, dtype, false, mode);
    check(std::equal(single.out.begin(), single.out.end(), whole.out.begin() + 3 * width), "depends on the batch");

    // Sequences that share keys, more than there are places for pieces.
    Problem shared = p;
    shared.cu = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    shared.k_begin.assign(8, 140);
    shared.k_end.assign(8, 440);
    shared.total_k = 440;
    shared.q.clear();
    for (int i = 0; i < 8; ++i) shared.q.insert(shared.q.end(), alone.q.begin(), alone.q.end());
    const Result crowded = run(device, shared, dtype, false, mode);
    for (int i = 0; i < 8; ++i)
      check(std::equal(single.out.begin(), single.out.end(), crowded.out.begin() + i * width), "crowded: differs");
  }
}

void test_bad_values(Device& device, DType dtype) {
  context = "bad bounds";
  const Problem good = problem_of("", {4, 3}, {4, 3}, 2, 1, 16);
  const auto reports = [&](const std::string& what, const std::function<void(Problem&)>& spoil) {
    for (const Invariance mode : {Invariance::many_rows, Invariance::few_rows}) {
      Problem p = good;
      fill(p, dtype, 3);
      const Doubles q = p.q;
      spoil(p);
      const int total_q = good.total_q();
      const Array qs(dtype, q), k(dtype, p.k), v(dtype, p.v), out(dtype, q.size()), dq(dtype, q.size());
      const Array dk(dtype, p.k.size()), dv(dtype, p.k.size()), lse(DType::f32, static_cast<size_t>(total_q) * 2);
      const Array cu(p.cu), k_begin(p.k_begin), k_end(p.k_end);
      AttentionShape shape{cu.ref(), k_begin.ref(), k_end.ref(), 2, total_q, 7, 2, 1, 16, 0.25f, true};
      shape.invariance = mode;
      cuda::portable::attention(device.context, {qs.ref(), k.ref(), v.ref(), out.ref(), lse.ref(), shape});
      check(device.reported() != 0, what + ": attention says nothing");
      cuda::portable::attention_backward(device.context, {qs.ref(), k.ref(), v.ref(), qs.ref(), qs.ref(), lse.ref(),
                                                          dq.ref(), dk.ref(), dv.ref(), shape});
      check(device.reported() != 0, what + ": attention_backward says nothing");
    }
  };
  reports("queries beyond the tensor", [](Problem& p) { p.cu = {0, 4, 9}; });
  reports("queries that run backwards", [](Problem& p) { p.cu = {0, 5, 3}; });
  reports("negative rows", [](Problem& p) { p.cu = {-1, 4, 7}; });
  reports("keys beyond the tensor", [](Problem& p) { p.k_end = {4, 8}; });
  reports("negative keys", [](Problem& p) { p.k_begin = {-1, 4}; });
  reports("keys that run backwards", [](Problem& p) { p.k_end = {4, 3}; });

  // Two sequences that share keys have no gradient.
  Problem p = problem_of("", {4, 3}, {4, 3}, 2, 1, 16);
  p.k_begin[1] = 3;
  fill(p, dtype, 4);
  run(device, p, dtype, true);
  check(device.reported() == static_cast<int>(cuda::ValueCheck::attention_backward_shared_rows), "shared keys");
}

// dk and dv of rows that no sequence covers stay as they are.
void test_uncovered_rows(Device& device, DType dtype, int head_dim) {
  Problem p = problem_of("uncovered rows", {30}, {100}, 2, 1, head_dim);
  p.k_begin = {20};
  p.k_end = {90};
  fill(p, dtype, 9);
  context = p.name;
  const Result got = run(device, p, dtype, true);
  for (size_t i = 0; i < got.dk.size(); ++i) {
    const size_t row = i / head_dim;
    const bool covered = row >= 20 && row < 90;
    if (!check(std::isnan(got.dk[i]) != covered && std::isnan(got.dv[i]) != covered, "row " + std::to_string(row)))
      return;
  }
}

// What lies beside a sequence's keys, a cache that nobody has written say, takes no part.
void test_neighbours(Device& device, int head_dim) {
  Problem p = problem_of("neighbours of keys", {130}, {300}, 2, 1, head_dim);
  p.k_begin = {20};
  p.k_end = {203};
  context = p.name;
  fill(p, DType::bf16, 13);
  for (size_t i = 0; i < p.k.size(); ++i)
    if (i / head_dim < 20 || i / head_dim >= 203) p.k[i] = p.v[i] = NAN;
  const Result got = run(device, p, DType::bf16, true), exact = reference(p, false), plain = reference(p, true);
  compare("out", DType::bf16, got.out, exact.out, plain.out);
  compare("log_sum_exp", DType::bf16, got.log_sum_exp, exact.log_sum_exp, plain.log_sum_exp);
  compare("dq", DType::bf16, got.dq, exact.dq, plain.dq);
  const auto of_keys = [&](const Doubles& values) {
    return Doubles(values.begin() + 20 * head_dim, values.begin() + 203 * head_dim);
  };
  compare("dk", DType::bf16, of_keys(got.dk), of_keys(exact.dk), of_keys(plain.dk));
  compare("dv", DType::bf16, of_keys(got.dv), of_keys(exact.dv), of_keys(plain.dv));
}

// NaN in one sequence's queries is not seen by the one before it.
void test_spoilt_sequence(Device& device, int head_dim) {
  Problem p = problem_of("a spoilt sequence", {50, 30}, {50, 30}, 2, 1, head_dim);
  context = p.name;
  fill(p, DType::bf16, 17);
  const Result good = run(device, p, DType::bf16, true);
  for (size_t i = static_cast<size_t>(50) * 2 * head_dim; i < p.q.size(); ++i) p.q[i] = p.dout[i] = NAN;
  const Result got = run(device, p, DType::bf16, true);
  const auto same = [&](const Doubles& a, const Doubles& b, size_t heads) {
    return std::equal(a.begin(), a.begin() + static_cast<ptrdiff_t>(50 * heads * head_dim), b.begin());
  };
  check(same(got.out, good.out, 2) && same(got.dq, good.dq, 2) && same(got.dk, good.dk, 1) && same(got.dv, good.dv, 1),
        "reaches the sequence before it");
}

// Every schedule gives the same bits.
void test_schedules(Device& device, Invariance invariance) {
  Problem p = problem_of("schedules", {90, 17}, {150, 17}, 4, 2, 128);
  fill(p, DType::bf16, 11);
  const auto all = [&] {
    Result r = run(device, p, DType::bf16, true, invariance);
    const Result few = run(device, p, DType::bf16, false, Invariance::few_rows);
    Doubles values = few.out;
    for (const Doubles* part : {&r.out, &r.dq, &r.dk, &r.dv}) values.insert(values.end(), part->begin(), part->end());
    return values;
  };
  using emulator::AsyncCompletion, emulator::Order;
  const Doubles first = all();
  for (const emulator::Schedule schedule : {emulator::Schedule{Order::reversed, AsyncCompletion::late, 1},
                                            emulator::Schedule{Order::random, AsyncCompletion::early, 2},
                                            emulator::Schedule{Order::random, AsyncCompletion::random, 3}}) {
    emulator::set_schedule(schedule);
    context = "schedule with seed " + std::to_string(schedule.seed);
    check(all() == first, "other bits");
  }
  emulator::set_schedule({});
}

}  // namespace

int main() {
  Device device;
  try {
    for (const int head_dim : {64, 128, 40, 20, 7}) test_shapes(device, head_dim);
    compare_all(device, problem_of("large heads", {12, 40}, {12, 50}, 2, 2, 160), DType::bf16, true);
    compare_all(device, problem_of("large heads", {12}, {12}, 2, 1, 300), DType::f32, true);
    compare_all(device, problem_of("17 heads a group", {3, 9}, {130, 9}, 17, 1, 64), DType::bf16, true,
                Invariance::few_rows);
    for (const int head_dim : {64, 128}) test_paged_and_invariant(device, DType::bf16, head_dim);
    test_paged_and_invariant(device, DType::f32, 20);
    for (const DType dtype : {DType::f32, DType::bf16}) {
      test_bad_values(device, dtype);
      test_uncovered_rows(device, dtype, 24);
    }
    for (const int capability : {80, 90}) {
      set_capability(device, capability);
      for (const int head_dim : {64, 128}) {
        test_neighbours(device, head_dim);
        test_spoilt_sequence(device, head_dim);
      }
      test_schedules(device, capability == 90 ? Invariance::none : Invariance::many_rows);
    }
  } catch (const Error& error) {
    check(false, std::string("throws ") + error.what());
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

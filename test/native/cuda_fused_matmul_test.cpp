// The products of a decoder layer with what follows them (qkv, gate_up, linear_add), on the emulator against float64, with random numbers:
// both families of kernels, every tile of compute capability 9.0, ragged extents, unaligned views, under several schedules.
//   cuda_fused_matmul_test [rounds [seed]]
//
// Bounds are those of cuda_matmul_test.cpp for a product in f32, and half the distance of neighbouring bf16 numbers for each rounding: one
// where the epilogue does all, one more for the product where another kernel does what follows.
#include <algorithm>
#include <ctime>

#include "../../native/cuda/hopper/fused_matmul.h"
#include "../../native/emulator/grid.h"
#include "../../native/emulator/properties.h"
#include "cuda_compare.h"

namespace alma::test {
namespace {

using ALMA_CUDA::hopper::TileColumns;

constexpr DType kBf16 = DType::bf16;
const TensorRef none{};

struct Tile {
  TileColumns columns;
  int cluster;
};
constexpr Tile kTiles[] = {{TileColumns::n128, 1}, {TileColumns::n256, 1}, {TileColumns::n256, 2}};
const Tile* tile = nullptr;  // absent: as the launcher plans

void run(ALMA_CUDA::Context& to, const QkvArgs& args) {
  tile ? ALMA_CUDA::hopper::qkv_in_tiles(to, args, tile->columns, tile->cluster) : kernels::qkv(to, args);
}
void run(ALMA_CUDA::Context& to, const GateUpArgs& args) {
  tile ? ALMA_CUDA::hopper::gate_up_in_tiles(to, args, tile->columns, tile->cluster) : kernels::gate_up(to, args);
}
void run(ALMA_CUDA::Context& to, const LinearAddArgs& args) {
  tile ? ALMA_CUDA::hopper::linear_add_in_tiles(to, args, tile->columns, tile->cluster) : kernels::linear_add(to, args);
}

std::string how() {
  if (tile == nullptr) return "";
  return " tile " + std::to_string(static_cast<int>(tile->columns)) + "x" + std::to_string(tile->cluster);
}

bool aligned = true;
Array place(Array (*make)(DType, int64_t, double), DType dtype, int64_t count, double scale) {
  for (;;) {
    const Array array = make(dtype, count, scale);
    if (!aligned || reinterpret_cast<uintptr_t>(array.ref().data) % 16 == 0) return array;
  }
}
Array normal(DType dtype, int64_t count, double scale = 1) { return place(Array::normal, dtype, count, scale); }
Array nothing_yet(DType dtype, int64_t count) {
  Array array = normal(dtype, count);
  for (size_t i = 0; i < array.count(); ++i) array.set(i, NAN);
  return array;
}

struct Sum {
  double value, bound;
};

// x · weightᵀ, and how far a sum in f32 may be from it.
std::vector<Sum> multiply(const Array& x, const Array& weight, int64_t rows, int64_t columns, int64_t depth) {
  std::vector<Sum> sums;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      double sum = 0, magnitude = 0;
      for (int64_t l = 0; l < depth; ++l) {
        const double product =
            x.get(static_cast<size_t>(i * depth + l)) * weight.get(static_cast<size_t>(j * depth + l));
        sum += product;
        magnitude += std::fabs(product);
      }
      sums.push_back({sum, 4 * std::sqrt(static_cast<double>(depth) + 1) * 0x1p-24 * magnitude + 1e-30});
    }
  return sums;
}

double half_unit(double value, DType dtype) {
  return value == 0 ? 0 : std::exp2(std::ilogb(std::fabs(value)) - (dtype == kBf16 ? 8 : 23));
}
double worst_share = 0;

void within(const Array& got, const std::vector<Sum>& expected, const std::string& what) {
  double share = 0;
  size_t where = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::fabs(got.get(i) - expected[i].value) / expected[i].bound;
    if (error <= share) continue;
    share = std::isnan(error) ? INFINITY : error;
    where = i;
    if (std::isinf(share)) break;
  }
  check(share <= 1 && got.guard_intact(), what + how() + " needs " + std::to_string(share) + " of the bound at " +
                                              std::to_string(where) + (got.guard_intact() ? "" : ", wrote outside"));
  worst_share = std::max(worst_share, share);
}

// Whether the kernel of 9.0 does it: then the product is not rounded before what follows.
template <class Args>
bool fused(const Devices& devices, const Args& args, bool (*takes)(const ALMA_CUDA::Context&, const Args&)) {
  return tile != nullptr || takes(devices.launch_context, args);
}

std::vector<Sum> rounded(std::vector<Sum> sums, DType dtype) {
  for (Sum& sum : sums) sum.bound += half_unit(std::fabs(sum.value) + sum.bound, dtype);
  return sums;
}

struct Problem {
  int64_t rows, cols;
  DType activation = kBf16, weight = kBf16;
  Invariance invariance = Invariance::none;
};

std::string text_of(const char* op, const Problem& p, std::initializer_list<int64_t> extents) {
  return std::string(op) + " " + text({p.rows, p.cols}) + " " + text(extents) + " " + name_of(p.activation) + "·" +
         name_of(p.weight) + " invariance " + std::to_string(static_cast<int>(p.invariance));
}

void linear_add(Devices& devices, const Problem& p, int64_t features) {
  const Array x = normal(p.activation, p.rows * p.cols), weight = normal(p.weight, features * p.cols);
  const Array residual = normal(p.activation, p.rows * features, 4);
  const bool in_place = random.one_in(2);
  Array out = in_place ? Array(residual) : nothing_yet(p.activation, p.rows * features);
  const LinearAddArgs args{x.ref(),  weight.ref(), in_place ? out.ref() : residual.ref(), out.ref(), p.rows, p.cols,
                           features, p.invariance};
  // Few rows have a kernel of their own, where it takes the arguments.
  const bool few = p.invariance == Invariance::none ? p.rows <= 16 : p.invariance == Invariance::few_rows;
  const bool one_rounding = fused(devices, args, ALMA_CUDA::hopper::takes_linear_add) ||
                            (few && aligned && p.activation == kBf16 && p.weight == kBf16 && p.cols % 8 == 0);
  devices.cuda(run, args);
  std::vector<Sum> expected = multiply(x, weight, p.rows, features, p.cols);
  if (!one_rounding) expected = rounded(expected, p.activation);
  for (size_t i = 0; i < expected.size(); ++i) {
    expected[i].value += residual.get(i);
    expected[i].bound += 0x1p-23 * std::fabs(residual.get(i));
  }
  within(out, rounded(expected, p.activation), text_of("linear_add", p, {features}));
}

void gate_up(Devices& devices, const Problem& p, int64_t features) {
  const Array x = normal(p.activation, p.rows * p.cols);
  const double scale = 1 / std::sqrt(static_cast<double>(p.cols));
  const Array gate_weight = normal(p.weight, features * p.cols, 3 * scale);
  const Array up_weight = normal(p.weight, features * p.cols, scale);
  const int64_t count = p.rows * features;
  Array gate = nothing_yet(p.activation, count), up = nothing_yet(p.activation, count);
  Array out = nothing_yet(p.activation, count), alone = nothing_yet(p.activation, count);
  GateUpArgs args{x.ref(), gate_weight.ref(), up_weight.ref(), gate.ref(), up.ref(), out.ref(), p.rows,
                  p.cols,  features,          p.invariance};
  const std::string what = text_of("gate_up", p, {features});
  devices.cuda(run, args);
  within(gate, rounded(multiply(x, gate_weight, p.rows, features, p.cols), p.activation), what + " gate");
  within(up, rounded(multiply(x, up_weight, p.rows, features, p.cols), p.activation), what + " up");
  std::vector<Sum> expected;
  for (size_t i = 0; i < out.count(); ++i) {
    const double g = gate.get(i), value = g / (1 + std::exp(-g)) * up.get(i);
    expected.push_back({value, std::fabs(value) * 1e-6 + 1e-30});
  }
  within(out, rounded(expected, p.activation), what + " out");

  // The parts by themselves. Without a kept gate and up a portable product may be summed in another order, unless one is promised.
  const bool same_order = p.invariance != Invariance::none || fused(devices, args, ALMA_CUDA::hopper::takes_gate_up);
  args.gate = args.up = none;
  args.out = alone.ref();
  devices.cuda(run, args);
  double difference = 0, norm = 0;
  for (size_t i = 0; i < out.count(); ++i) {
    difference += std::pow(alone.get(i) - out.get(i), 2);
    norm += std::pow(out.get(i), 2);
  }
  check((same_order ? difference == 0 : difference <= 1e-4 * norm) && alone.guard_intact(),
        what + how() + " out without gate and up");
  Array gate_again = nothing_yet(p.activation, count), up_again = nothing_yet(p.activation, count);
  args.gate = gate_again.ref();
  args.up = up_again.ref();
  args.out = none;
  devices.cuda(run, args);
  bool equal = gate_again.guard_intact() && up_again.guard_intact();
  for (size_t i = 0; i < gate.count(); ++i) equal &= gate.get(i) == gate_again.get(i) && up.get(i) == up_again.get(i);
  check(equal, what + how() + " gate and up without out");
}

std::vector<Sum> turned(const std::vector<Sum>& sums, const Array& cosine, const Array& sine, const Array& positions,
                        int64_t heads, int64_t head_dim) {
  std::vector<Sum> result = sums;
  const size_t half = static_cast<size_t>(head_dim / 2);
  for (size_t i = 0; i < sums.size(); ++i) {
    const size_t column = i % static_cast<size_t>(head_dim), row = i / static_cast<size_t>(heads * head_dim);
    const size_t at = static_cast<size_t>(positions.get(row)) * half + column % half;
    const Sum& other = column < half ? sums[i + half] : sums[i - half];
    const double c = cosine.get(at), s = (column < half ? -1 : 1) * sine.get(at);
    result[i].value = sums[i].value * c + other.value * s;
    result[i].bound = sums[i].bound * std::fabs(c) + other.bound * std::fabs(s) +
                      0x1p-22 * (std::fabs(sums[i].value * c) + std::fabs(other.value * s));
  }
  return result;
}

void qkv(Devices& devices, const Problem& p, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  const int64_t width = heads * head_dim, kv_width = kv_heads * head_dim, max_positions = 40;
  const Array x = normal(p.activation, p.rows * p.cols), query = normal(p.weight, width * p.cols);
  const Array key = normal(p.weight, kv_width * p.cols), value = normal(p.weight, kv_width * p.cols);
  const Array cosine = normal(DType::f32, max_positions * head_dim / 2);
  const Array sine = normal(DType::f32, max_positions * head_dim / 2);
  const Array positions = Array::ints(p.rows, max_positions);
  Array q = nothing_yet(p.activation, p.rows * width), k = nothing_yet(p.activation, p.rows * kv_width);
  Array v = nothing_yet(p.activation, p.rows * kv_width);
  const QkvArgs args{x.ref(),         query.ref(), key.ref(), value.ref(),   cosine.ref(), sine.ref(),
                     positions.ref(), q.ref(),     k.ref(),   v.ref(),       p.rows,       p.cols,
                     heads,           kv_heads,    head_dim,  max_positions, p.invariance};
  const bool one_rounding = fused(devices, args, ALMA_CUDA::hopper::takes_qkv);
  devices.cuda(run, args);
  const std::string what = text_of("qkv", p, {heads, kv_heads, head_dim});
  const auto expected = [&](const Array& weight, int64_t of_heads) {
    std::vector<Sum> sums = multiply(x, weight, p.rows, of_heads * head_dim, p.cols);
    if (!one_rounding) sums = rounded(sums, p.activation);
    return rounded(turned(sums, cosine, sine, positions, of_heads, head_dim), p.activation);
  };
  within(q, expected(query, heads), what + " q");
  within(k, expected(key, kv_heads), what + " k");
  within(v, rounded(multiply(x, value, p.rows, kv_width, p.cols), p.activation), what + " v");
}

// One tile and less, several a block, ragged everywhere; k of less than a stage and of more than there are.
void all_tiles(Devices& devices) {
  aligned = true;
  for (const Tile& one : kTiles) {
    tile = &one;
    devices.launch_context.properties.multiprocessors = static_cast<int>(2 + random.below(4));
    linear_add(devices, {128, 64}, 256);
    linear_add(devices, {1 + random.below(300), 8 * (1 + random.below(50))}, 8 * (1 + random.below(70)));
    gate_up(devices, {128, 64}, 128);
    gate_up(devices, {1 + random.below(300), 8 * (1 + random.below(50))}, 8 * (1 + random.below(40)));
    for (const int64_t head_dim : {64, 128}) {
      const int64_t kv_heads = 1 + random.below(2);
      qkv(devices, {1 + random.below(200), 8 * (1 + random.below(50))}, kv_heads * (1 + random.below(3)), kv_heads,
          head_dim);
    }
  }
  tile = nullptr;
}

// As the launchers choose: by one kernel, or op by op.
void any_arguments(Devices& devices) {
  for (int i = 0; i < 4; ++i) {
    aligned = !random.one_in(4);
    devices.launch_context.properties.multiprocessors = static_cast<int>(1 + random.below(5));
    Problem p{random.one_in(4) ? 1 + random.below(16) : 17 + random.below(200), 8 * (1 + random.below(40))};
    p.invariance = static_cast<Invariance>(random.below(3));
    if (random.one_in(3)) p.activation = random.dtype();
    if (random.one_in(3)) p.weight = random.dtype();
    if (random.one_in(5)) p.cols += random.below(8);
    const int64_t features = random.one_in(3) ? 1 + random.below(200) : 8 * (1 + random.below(40));
    linear_add(devices, p, features);
    gate_up(devices, p, features);
    const int64_t kv_heads = 1 + random.below(2), head_dims[] = {64, 128, 16, 6};
    qkv(devices, p, kv_heads * (1 + random.below(2)), kv_heads, head_dims[random.below(4)]);
  }
}

// The bits of a row do not depend on the others where that is promised.
void rows_alone(Devices& devices) {
  const int64_t most = 150, cols = 136, features = 72;
  aligned = true;
  const Array x = normal(kBf16, most * cols), gate = normal(kBf16, features * cols),
              up = normal(kBf16, features * cols);
  const Array residual = normal(kBf16, most * features);
  for (const Invariance invariance : {Invariance::many_rows, Invariance::few_rows}) {
    const auto rows_of = [](const Array& array, int64_t first, int64_t width) {
      TensorRef ref = array.ref();
      ref.data = static_cast<char*>(ref.data) + static_cast<size_t>(first * width) * 2;
      return ref;
    };
    const auto both = [&](int64_t first, int64_t rows) {
      devices.launch_context.properties.multiprocessors = static_cast<int>(1 + random.below(140));
      const Array activation = nothing_yet(kBf16, rows * features), sum = nothing_yet(kBf16, rows * features);
      devices.cuda(kernels::gate_up, GateUpArgs{rows_of(x, first, cols), gate.ref(), up.ref(), none, none,
                                                activation.ref(), rows, cols, features, invariance});
      devices.cuda(kernels::linear_add,
                   LinearAddArgs{rows_of(x, first, cols), up.ref(), rows_of(residual, first, features), sum.ref(), rows,
                                 cols, features, invariance});
      std::vector<double> values;
      for (size_t i = 0; i < activation.count(); ++i) values.insert(values.end(), {activation.get(i), sum.get(i)});
      return values;
    };
    const std::vector<double> all = both(0, most);
    for (const int64_t rows : {1, 8, 17, 65, 129}) {
      const int64_t first = random.below(most - rows + 1) / 8 * 8;
      const std::vector<double> part = both(first, rows);
      check(std::equal(part.begin(), part.end(), all.begin() + first * features * 2),
            std::to_string(rows) + " rows from " + std::to_string(first) + " have other bits");
    }
  }
}

// On 9.0 each of the three is one kernel.
void launches(Devices& devices) {
  aligned = true;
  devices.launch_context.properties.multiprocessors = 2;
  const uint64_t before = emulator::launches();
  qkv(devices, {250, 512}, 4, 4, 64);
  check(emulator::launches() - before == 1, "qkv is one kernel");
  linear_add(devices, {250, 512}, 256);
  check(emulator::launches() - before == 2, "linear_add is one kernel");
  gate_up(devices, {250, 512}, 128);
  check(emulator::launches() - before == 5, "gate_up is one kernel, three times");
}

// A position that does not exist is reported, and nothing else is read for it.
void bad_position(Devices& devices) {
  aligned = true;
  const Array x = normal(kBf16, 40 * 64), weight = normal(kBf16, 64 * 64), table = normal(DType::f32, 10 * 32);
  const Array q = normal(kBf16, 40 * 64), k = normal(kBf16, 40 * 64), v = normal(kBf16, 40 * 64);
  Array positions = Array::ints(40, 10);
  positions.set(33, 10);
  kernels::qkv(devices.launch_context,
               {x.ref(), weight.ref(), weight.ref(), weight.ref(), table.ref(), table.ref(), positions.ref(), q.ref(),
                k.ref(), v.ref(), 40, 64, 1, 1, 64, 10, Invariance::many_rows});
  check(cudaStreamSynchronize(devices.launch_context.stream) == cudaSuccess, emulator::last_report());
  check(devices.value_error->check == static_cast<int>(ALMA_CUDA::ValueCheck::rope_position) &&
            devices.value_error->value == 10,
        "a position that does not exist is reported");
  devices.value_error->check = 0;
}

}  // namespace
}  // namespace alma::test

int main(int argc, char** argv) {
  using namespace alma;
  using namespace alma::test;
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 3;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : static_cast<uint64_t>(std::time(nullptr));
  test::random.state ^= seed * 0x9e3779b97f4a7c15ull;
  Devices devices;
  for (int round = 0; round < rounds; ++round) {
    for (const int capability : {80, 90}) {
      emulator::Schedule schedule;
      schedule.order = static_cast<emulator::Order>(round % 3);
      schedule.seed = seed + static_cast<uint64_t>(round);
      using emulator::AsyncCompletion;
      const AsyncCompletion completions[] = {AsyncCompletion::random, AsyncCompletion::late, AsyncCompletion::early};
      schedule.async = completions[round % 3];
      emulator::set_schedule(schedule);
      emulator::set_compute_capability(capability);
      devices.launch_context.properties.compute_capability = capability;
      context = "compute capability " + std::to_string(capability) + ", seed " + std::to_string(seed) + ", round " +
                std::to_string(round);
      any_arguments(devices);
      rows_alone(devices);
      bad_position(devices);
      if (capability != 90) continue;
      launches(devices);
      all_tiles(devices);
    }
  }
  std::printf("%d passed, %d failed (seed %llu); at most %.3f of the error bound\n", passed, failed,
              static_cast<unsigned long long>(seed), worst_share);
  return failed == 0 ? 0 : 1;
}

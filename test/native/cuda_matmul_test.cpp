// The matmul kernels on the emulator against sums in float64, with random numbers: every kernel, layout and pair of dtypes, around the
// edges of their tiles, with unaligned views, under several schedules.
//   cuda_matmul_test [rounds [seed]]
//
// The bound: half the distance of neighbouring bf16 numbers for a bf16 store (2⁻⁹ to 2⁻⁸ of the result), and 4 · √k · 2⁻²⁴ of Σ|a||b| for
// sums in f32 (four times the usual error of sums that are rounded to nearest, because tensor cores truncate). The largest share of it
// that was needed is printed, of f32 results, where rounding the result does not hide it, on its own.
#include <algorithm>
#include <array>
#include <ctime>

#include "../../native/cuda/hopper/matmul_kernels.h"
#include "../../native/cuda/portable/matmul_kernels.h"
#include "../../native/emulator/properties.h"
#include "cuda_compare.h"

namespace alma::test {
namespace {

double worst_share = 0, worst_f32_share = 0;

struct Product {
  MatmulLayout layout;
  int64_t m, n, k;
  DType a, b, c;
  bool accumulate = false;
  Invariance invariance = Invariance::none;
};

std::string text_of(const Product& p) {
  static const char* const names[] = {"nn", "nt", "tn"};
  return std::string(names[static_cast<int>(p.layout)]) + " " + text({p.m, p.n, p.k}) + " " + name_of(p.a) + "·" +
         name_of(p.b) + "→" + name_of(p.c) + (p.accumulate ? " +" : "") +
         (p.invariance == Invariance::none       ? ""
          : p.invariance == Invariance::few_rows ? " few_rows"
                                                 : " many_rows");
}

MatmulArgs args_of(const Product& p, const Array& a, const Array& b, const Array& c) {
  return {a.ref(), b.ref(), c.ref(), p.m, p.n, p.k, p.layout, p.accumulate, p.invariance};
}

using Launcher = void (*)(ALMA_CUDA::Context&, const MatmulArgs&);

void close_to_float64(Devices& devices, const Product& p, Launcher launcher = kernels::matmul) {
  const Array a = Array::normal(p.a, p.m * p.k), b = Array::normal(p.b, p.n * p.k),
              before = Array::normal(p.c, p.m * p.n);
  Array c(before);
  if (!p.accumulate)
    for (size_t i = 0; i < c.count(); ++i) c.set(i, NAN);
  if (launcher != kernels::matmul && !kernels::fits_tensor_cores(args_of(p, a, b, c))) return;
  devices.cuda(launcher, args_of(p, a, b, c));
  double share = 0;
  std::string where;
  for (int64_t i = 0; i < p.m; ++i)
    for (int64_t j = 0; j < p.n; ++j) {
      const auto at = static_cast<size_t>(i * p.n + j);
      double sum = p.accumulate ? before.get(at) : 0, magnitude = std::fabs(sum);
      for (int64_t l = 0; l < p.k; ++l) {
        const double product = a.get(static_cast<size_t>(p.layout == MatmulLayout::tn ? l * p.m + i : i * p.k + l)) *
                               b.get(static_cast<size_t>(p.layout == MatmulLayout::nt ? j * p.k + l : l * p.n + j));
        sum += product;
        magnitude += std::fabs(product);
      }
      const double in_f32 = 4 * std::sqrt(static_cast<double>(p.k) + 1) * 0x1p-24 * magnitude + 1e-30;
      const double bound = in_f32 + (p.c == DType::bf16 ? std::exp2(std::ilogb(std::fabs(sum) + in_f32) - 8) : 0);
      const double error = std::fabs(c.get(at) - sum) / bound;
      if (!(error <= share)) {  // NaN too
        share = std::isnan(error) ? INFINITY : error;
        where = " at " + text({i, j});
      }
    }
  check(share <= 1 && c.guard_intact(), text_of(p) + " needs " + std::to_string(share) + " of the bound" + where +
                                            (c.guard_intact() ? "" : ", wrote outside"));
  worst_share = std::max(worst_share, share);
  if (p.c == DType::f32) worst_f32_share = std::max(worst_f32_share, share);
}

constexpr MatmulLayout kLayouts[] = {MatmulLayout::nn, MatmulLayout::nt, MatmulLayout::tn};
constexpr DType kBf16 = DType::bf16;

// Whole tiles, one element more and one group of 8 less, k of several stages and of less than one; f32 and bf16 results, added to or
// not. How many multiprocessors there are decides on the tile and on the parts of k.
void tensor_cores(Devices& devices) {
  const int64_t shapes[][3] = {{128, 256, 128}, {136, 264, 200}, {64, 64, 512},
                               {24, 40, 1032},  {72, 120, 64},   {200, 72, 8}};
  for (const int multiprocessors : {1, 2, 132})
    for (const MatmulLayout layout : kLayouts)
      for (const auto& s : shapes) {
        devices.launch_context.properties.multiprocessors = multiprocessors;
        devices.launch_context.properties.shared_bytes_per_block = random.one_in(2) ? 101376 : 232448;
        close_to_float64(devices, {layout, s[0], s[1], s[2], kBf16, kBf16, random.dtype(), random.one_in(2)});
      }
  // Rows of c that are not pairs of elements, and rows of operands that end within 8.
  for (const MatmulLayout layout : kLayouts)
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{40, 33, 72}, {39, 48, 72}, {48, 40, 71}, {67, 31, 129}})
      close_to_float64(devices, {layout, m, n, k, kBf16, kBf16, random.dtype(), random.one_in(2)});
}

ALMA_CUDA::hopper::TileColumns tile_columns;
int64_t splits = 1;
int cluster = 1;

void hopper_matmul(ALMA_CUDA::Context& context, const MatmulArgs& args) {
  ALMA_CUDA::hopper::matmul_in_tiles(context, args, tile_columns, splits, cluster);
}

// Each tile of compute capability 9.0: several tiles a block and fewer than there are, k of more stages than there are, of less than one
// and not a multiple of a step, c that bulk stores take and c that they do not.
void hopper_tiles(Devices& devices) {
  const int64_t shapes[][3] = {{128, 256, 128}, {136, 264, 200}, {264, 520, 72},
                               {200, 72, 8},    {24, 40, 1032},  {8, 136, 16}};
  using ALMA_CUDA::hopper::TileColumns;
  for (const TileColumns columns : {TileColumns::n64, TileColumns::n128, TileColumns::n256})
    for (const MatmulLayout layout : kLayouts)
      for (const auto& s : shapes) {
        tile_columns = columns;
        devices.launch_context.properties.multiprocessors = static_cast<int>(1 + random.below(3));
        close_to_float64(devices, {layout, s[0], s[1], s[2], kBf16, kBf16, random.dtype(), random.one_in(2)},
                         hopper_matmul);
        close_to_float64(devices, {layout, s[0], s[1], s[2], kBf16, kBf16, kBf16, false}, hopper_matmul);
        splits = 2 + random.below(4);  // more than there are steps of k, now and then
        close_to_float64(devices, {layout, s[0], s[1], s[2], kBf16, kBf16, random.dtype(), random.one_in(2)},
                         hopper_matmul);
        splits = 1;
        if (columns != TileColumns::n256) continue;
        cluster = 2;
        splits = 1 + random.below(3);
        devices.launch_context.properties.multiprocessors = static_cast<int>(2 + random.below(5));
        close_to_float64(devices, {layout, s[0], s[1], s[2], kBf16, kBf16, random.dtype(), random.one_in(2)},
                         hopper_matmul);
        splits = 1;
        close_to_float64(devices, {layout, s[0], s[1], s[2], kBf16, kBf16, kBf16, false}, hopper_matmul);
        cluster = 1;
      }
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{40, 33, 72}, {39, 47, 72}, {131, 2, 136}})
    close_to_float64(devices, {MatmulLayout::nt, m, n, k, kBf16, kBf16, random.dtype(), random.one_in(2)},
                     hopper_matmul);
}

void few_rows(Devices& devices) {
  for (int64_t m = 1; m <= 17; m += 1 + random.below(3))
    close_to_float64(devices, {MatmulLayout::nt, m, 1 + random.below(70), 8 * (1 + random.below(300)), kBf16, kBf16,
                               random.dtype()});
  for (const int64_t m : {1, 16})
    for (const MatmulLayout layout : kLayouts)
      close_to_float64(devices, {layout, m, 24, 1000, kBf16, kBf16, random.dtype(), random.one_in(2)});
}

void other_dtypes(Devices& devices) {
  for (const MatmulLayout layout : kLayouts)
    for (int i = 0; i < 10; ++i)
      close_to_float64(devices, {layout, 1 + random.below(90), 1 + random.below(90), 1 + random.below(150),
                                 random.dtype(), random.dtype(), random.dtype(), random.one_in(2)});
}

// The first rows of a product are those of a product of fewer rows, bit by bit, at any place.
void invariant_rows(Devices& devices, Invariance invariance, DType dtype) {
  const int64_t most = 75, n = 72, k = 264;
  const Array a = Array::normal(dtype, most * k), b = Array::normal(dtype, n * k);
  Array all(dtype, static_cast<size_t>(most * n));
  const Product p{MatmulLayout::nt, most, n, k, dtype, dtype, dtype, false, invariance};
  devices.cuda(kernels::matmul, args_of(p, a, b, all));
  for (const int64_t rows : {1, 2, 7, 8, 9, 16, 17, 33, 64, 65}) {
    const int64_t first = random.below(most - rows + 1);
    Array part(dtype, static_cast<size_t>(rows * n));
    TensorRef from = a.ref();
    from.data = static_cast<char*>(from.data) + static_cast<size_t>(first * k) * size_of(dtype);
    devices.launch_context.properties.multiprocessors = static_cast<int>(1 + random.below(140));
    devices.cuda(kernels::matmul,
                 MatmulArgs{from, b.ref(), part.ref(), rows, n, k, MatmulLayout::nt, false, invariance});
    bool equal = part.guard_intact();
    for (size_t i = 0; i < part.count(); ++i) equal &= part.get(i) == all.get(static_cast<size_t>(first * n) + i);
    check(equal, text_of(p) + ": " + std::to_string(rows) + " rows from " + std::to_string(first) + " have other bits");
  }
}

// The same bits under every schedule, and NaN and infinity come through.
void bits_and_specials(Devices& devices) {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{136, 72, 520}, {3, 40, 520}}) {
    Array a = Array::normal(kBf16, m * k), b = Array::normal(kBf16, n * k);
    const auto run = [&, m = m, n = n, k = k] {
      Array c(DType::f32, static_cast<size_t>(m * n));
      devices.cuda(kernels::matmul, MatmulArgs{a.ref(), b.ref(), c.ref(), m, n, k, MatmulLayout::nt, false});
      std::vector<double> values;
      for (size_t i = 0; i < c.count(); ++i) values.push_back(c.get(i));
      return values;
    };
    devices.launch_context.properties.multiprocessors = 20;
    emulator::set_schedule({});
    const std::vector<double> first = run();
    using emulator::AsyncCompletion, emulator::Order;
    for (const emulator::Schedule schedule : {emulator::Schedule{Order::reversed, AsyncCompletion::late, 1},
                                              emulator::Schedule{Order::random, AsyncCompletion::early, 2},
                                              emulator::Schedule{Order::random, AsyncCompletion::random, 3}}) {
      emulator::set_schedule(schedule);
      check(run() == first, "other bits under another schedule");
    }
    a.set(static_cast<size_t>(k + 5), NAN);
    b.set(static_cast<size_t>(2 * k + 7), INFINITY);
    const std::vector<double> special = run();
    bool right = true;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        const double value = special[static_cast<size_t>(i * n + j)];
        right &= i == 1   ? std::isnan(value)
                 : j == 2 ? !std::isfinite(value)
                          : value == first[static_cast<size_t>(i * n + j)];
      }
    check(right, "NaN and infinity reach exactly their row and column");
  }
}

void nothing(Devices& devices) {
  for (const MatmulLayout layout : kLayouts)
    for (const DType dtype : {DType::f32, kBf16}) {
      const Array empty(dtype, 0);
      for (const bool accumulate : {false, true}) {
        Array c = Array::normal(dtype, 15);
        const Array before(c);
        devices.cuda(kernels::matmul, MatmulArgs{empty.ref(), empty.ref(), c.ref(), 3, 5, 0, layout, accumulate});
        bool right = c.guard_intact();
        for (size_t i = 0; i < 15; ++i) right &= c.get(i) == (accumulate ? before.get(i) : 0);
        check(right, "a sum over nothing is 0");
        devices.cuda(kernels::matmul, MatmulArgs{empty.ref(), c.ref(), empty.ref(), 0, 5, 3, layout, accumulate});
        devices.cuda(kernels::matmul, MatmulArgs{c.ref(), empty.ref(), empty.ref(), 5, 0, 3, layout, accumulate});
      }
    }
}

}  // namespace
}  // namespace alma::test

int main(int argc, char** argv) {
  using namespace alma;
  using namespace alma::test;
  std::setvbuf(stdout, nullptr, _IONBF,
               0);  // what failed is seen although the device takes no more calls after a finding
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 3;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : static_cast<uint64_t>(std::time(nullptr));
  test::random.state ^= seed * 0x9e3779b97f4a7c15ull;
  Devices devices;
  for (int round = 0; round < rounds; ++round) {
    emulator::Schedule schedule;
    schedule.order = static_cast<emulator::Order>(round % 3);
    schedule.seed = seed + static_cast<uint64_t>(round);
    emulator::set_schedule(schedule);
    for (const int capability : {80, 90}) {
      emulator::set_compute_capability(capability);
      devices.launch_context.properties.compute_capability = capability;
      context = "compute capability " + std::to_string(capability) + ", seed " + std::to_string(seed) + ", round " +
                std::to_string(round);
      tensor_cores(devices);
      few_rows(devices);
      other_dtypes(devices);
      for (const Invariance invariance : {Invariance::many_rows, Invariance::few_rows})
        for (const DType dtype : {DType::f32, kBf16}) invariant_rows(devices, invariance, dtype);
      bits_and_specials(devices);
      nothing(devices);
    }
    hopper_tiles(devices);
  }
  std::printf("%d passed, %d failed (seed %llu); at most %.3f of the error bound, %.3f in f32\n", passed, failed,
              static_cast<unsigned long long>(seed), worst_share, worst_f32_share);
  return failed == 0 ? 0 : 1;
}

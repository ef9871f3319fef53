// mma and ldmatrix against the plain product, the layouts they rest on, and what a wrong fragment index does.
#include "../../native/cuda/layout/fragments.h"
#include "../../native/cuda/ptx/ldmatrix.cuh"
#include "../../native/cuda/ptx/mma.cuh"
#include "../../native/runtime/dtype.h"
#include "emulator_check.h"

namespace alma::test {

namespace {

enum class Mistake { none, register_order, accumulator_row, not_transposed, no_barrier, misaligned, beyond };

struct Operands {
  uint16_t a[16 * 24];  // rows of 24: 16 used, so that rows begin in different banks
  uint16_t b[16 * 8];   // k × n
  uint16_t end[8];
};

// d = a · b, 16×16 by 16×8: one warp, both operands through ldmatrix.
template <Mistake mistake>
__global__ void product(const uint16_t* a, const uint16_t* b, float* d) {
  ALMA_SHARED(Operands, shared);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) shared.a[i / 16 * 24 + i % 16] = a[i];
  for (int i = lane; i < 128; i += 32) shared.b[i] = b[i];
  if (mistake != Mistake::no_barrier) __syncwarp();
  const int shift = mistake == Mistake::misaligned ? 1 : mistake == Mistake::beyond ? 4096 : 0;
  uint32_t left[4], right[2];
  ptx::ldmatrix_x4(left, shared.a + lane % 16 * 24 + lane / 16 * 8 + shift);
  if (mistake == Mistake::not_transposed) {
    ptx::ldmatrix_x2(right, shared.b + lane % 16 * 8);
  } else {
    ptx::ldmatrix_x2_trans(right, shared.b + lane % 16 * 8);
  }
  if (mistake == Mistake::register_order) std::swap(left[1], left[2]);
  float sums[4] = {};
  ptx::mma_m16n8k16_bf16(sums, left, right);
  for (int i = 0; i < 4; ++i) {
    layout::Place at = layout::fragment_accumulator(lane, i);
    if (mistake == Mistake::accumulator_row) at.row ^= 8;
    d[at.row * 8 + at.col] = sums[i];
  }
}

template <Mistake mistake>
double error_of_product() {
  std::vector<uint16_t> a(256), b(128);
  for (size_t i = 0; i < 256; ++i) a[i] = bf16_from_f32(static_cast<float>(i * 7 % 23) - 11);
  for (size_t i = 0; i < 128; ++i) b[i] = bf16_from_f32(static_cast<float>(i * 5 % 19) - 9);
  const Device<uint16_t> left(a), right(b);
  const Device<float> out(128);
  launch({dim3(1), dim3(32), sizeof(Operands)}, product<mistake>, left.get(), right.get(), out.get());
  const auto got = out.values();
  double worst = 0;
  for (size_t row = 0; row < 16; ++row)
    for (size_t col = 0; col < 8; ++col) {
      double expected = 0;
      for (size_t k = 0; k < 16; ++k) expected += f32_from_bf16(a[row * 16 + k]) * f32_from_bf16(b[k * 8 + col]);
      worst = std::max(worst, std::abs(got[row * 8 + col] - expected));
    }
  return worst;
}

void test_layouts() {
  // Each element of a fragment is held by exactly one register of one lane.
  const auto covers = [](int rows, int columns, int elements, layout::Place (*place)(int, int)) {
    std::vector<int> seen(static_cast<size_t>(rows * columns));
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < elements; ++i) {
        const layout::Place at = place(lane, i);
        if (at.row < 0 || at.row >= rows || at.col < 0 || at.col >= columns) return false;
        ++seen[static_cast<size_t>(at.row * columns + at.col)];
      }
    return std::all_of(seen.begin(), seen.end(), [](int count) { return count == 1; });
  };
  check(covers(16, 16, 8, layout::fragment_a), "fragment a");
  check(covers(16, 8, 4, layout::fragment_b), "fragment b");
  check(covers(16, 8, 4, layout::fragment_accumulator), "accumulator");
  // From the tables of the PTX manual.
  const auto is = [](layout::Place at, int row, int col) { return at.row == row && at.col == col; };
  check(is(layout::fragment_a(0, 0), 0, 0) && is(layout::fragment_a(0, 3), 8, 1) &&
            is(layout::fragment_a(0, 4), 0, 8) && is(layout::fragment_a(31, 7), 15, 15) &&
            is(layout::fragment_a(5, 2), 9, 2),
        "fragment a of the manual");
  check(is(layout::fragment_b(0, 0), 0, 0) && is(layout::fragment_b(0, 2), 8, 0) &&
            is(layout::fragment_b(31, 3), 15, 7) && is(layout::fragment_b(6, 1), 5, 1),
        "fragment b of the manual");
  check(is(layout::fragment_accumulator(0, 2), 8, 0) && is(layout::fragment_accumulator(7, 1), 1, 7),
        "accumulator of the manual");
}

}  // namespace

void test_tensor_cores() {
  test_layouts();
  runs_clean("a product", [] { check(error_of_product<Mistake::none>() == 0, "product of small integers is exact"); });
  check(error_of_product<Mistake::register_order>() > 10, "registers in the wrong order give a wrong product");
  check(error_of_product<Mistake::accumulator_row>() > 10, "rows of the accumulator mixed up give a wrong product");
  check(error_of_product<Mistake::not_transposed>() > 10, "ldmatrix without .trans gives a wrong product");
  check(!emulator::has_report(), "wrong values alone are no finding");
  is_found("ldmatrix without a barrier", {"shared memory"}, [] { error_of_product<Mistake::no_barrier>(); });
  is_found("ldmatrix of an address that is not aligned", {"not a multiple of 16"},
           [] { error_of_product<Mistake::misaligned>(); });
  is_found("ldmatrix outside of shared memory",
           {"ldmatrix at emulator_tensor_core_test.cpp:", "outside of shared memory"},
           [] { error_of_product<Mistake::beyond>(); });
}

}  // namespace alma::test

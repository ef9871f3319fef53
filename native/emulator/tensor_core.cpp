#include "tensor_core.h"

#include <cstring>

#include "../cuda/layout/fragments.h"
#include "../runtime/dtype.h"
#include "checks.h"

namespace alma::emulator {

namespace {

float element(const uint32_t* registers, int i) {
  return f32_from_bf16(static_cast<uint16_t>(registers[i / 2] >> (i % 2 * 16)));
}

struct MmaLane {
  float* d;
  const uint32_t *a, *b;
};

struct LoadLane {
  uint32_t* registers;
  const char* row;
  int matrices;
  bool transposed;
};

}  // namespace

void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Here here) {
  MmaLane mine{d, a, b};
  const auto complete = [](void* const(&lanes)[32], unsigned) {
    float left[16][16], right[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const auto& given = *static_cast<MmaLane*>(lanes[lane]);
      for (int i = 0; i < 8; ++i) {
        const layout::Place at = layout::fragment_a(lane, i);
        left[at.row][at.col] = element(given.a, i);
      }
      for (int i = 0; i < 4; ++i) {
        const layout::Place at = layout::fragment_b(lane, i);
        right[at.row][at.col] = element(given.b, i);
      }
    }
    // For each element the sum begins with d and takes the products in the order of k. Column by column it fits vectors.
    float sums[16][8];
    const auto each = [&](auto use) {
      for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 4; ++i) {
          const layout::Place at = layout::fragment_accumulator(lane, i);
          use(static_cast<MmaLane*>(lanes[lane])->d[i], sums[at.row][at.col]);
        }
    };
    each([](float d, float& sum) { sum = d; });
    for (int row = 0; row < 16; ++row)
      for (int k = 0; k < 16; ++k)
        for (int col = 0; col < 8; ++col) sums[row][col] += left[row][k] * right[k][col];
    each([](float& d, float sum) { d = sum; });
  };
  current_block->collective("mma", 0xffffffffu, &mine, complete, here);
}

void load_matrices(uint32_t* registers, int matrices, bool transposed, const void* row, Here here) {
  const int lane = static_cast<int>(current_block->thread() % 32);
  Block& block = *current_block;
  const Block::Internal internal(block);
  if (lane < matrices * 8) {
    const auto at = reinterpret_cast<uintptr_t>(row);
    if (at < block.shared_begin() || at + 16 > block.shared_end())
      block.fail("ldmatrix at " + text_of(here) + " reads outside of shared memory, at byte " +
                 std::to_string(static_cast<int64_t>(at - block.shared_begin())));
    check_read(row, 16, 16);
  }
  LoadLane mine{registers, static_cast<const char*>(row), matrices, transposed};
  const auto complete = [](void* const(&lanes)[32], unsigned) {
    for (int self = 0; self < 32; ++self) {
      const auto& given = *static_cast<LoadLane*>(lanes[self]);
      for (int matrix = 0; matrix < given.matrices; ++matrix) {
        uint16_t pair[2];
        for (int e = 0; e < 2; ++e) {
          const layout::Place at = layout::ldmatrix_element(self, e, given.transposed);
          const auto& source = *static_cast<LoadLane*>(lanes[layout::ldmatrix_address_lane(matrix, at.row)]);
          std::memcpy(&pair[e], source.row + at.col * 2, 2);
        }
        given.registers[matrix] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
      }
    }
  };
  block.collective("ldmatrix", 0xffffffffu, &mine, complete, here);
}

}  // namespace alma::emulator

#include "mbarrier.h"

#include <cstring>

#include "../cuda/layout/fragments.h"
#include "async_proxy.h"
#include "checks.h"

namespace alma::emulator {

void mbarrier_init(void* barrier, unsigned count, Here here) {
  const Block::Internal internal(*current_block);
  current_block->async().init(barrier, count, here);
}
void mbarrier_arrive(void* barrier, unsigned arrivals, size_t expected_bytes, Here here) {
  const Block::Internal internal(*current_block);
  current_block->async().arrive(barrier, arrivals, expected_bytes, here);
}
void mbarrier_wait(void* barrier, unsigned parity, Here here) {
  const Block::Internal internal(*current_block);
  current_block->async().wait(barrier, parity, here);
}
void fence_proxy_async() {
  const Block::Internal internal(*current_block);
  current_block->async().fence();
}
void bulk_commit() {
  const Block::Internal internal(*current_block);
  current_block->async().commit_stores();
}
void bulk_wait(unsigned pending, Here here) {
  const Block::Internal internal(*current_block);
  current_block->async().wait_stores(pending, here);
}

void named_barrier(int id, unsigned threads, bool waits, Here here) {
  if (id < 1 || id > 15 || threads % 32 != 0)
    current_block->fail("a named barrier at " + text_of(here) + " is 1 to 15, for whole warps");
  if (waits) return current_block->barrier(id, threads, here);
  current_block->barrier_arrive(id, threads, here);
}

void store_matrices(void* row, const uint32_t* registers, int matrices, Here here) {
  struct Lane {
    char* row;
    const uint32_t* registers;
    int matrices;
  } mine{static_cast<char*>(row), registers, matrices};
  Block& block = *current_block;
  const Block::Internal internal(block);
  if (static_cast<int>(block.thread() % 32) < matrices * 8) {
    const auto at = reinterpret_cast<uintptr_t>(row);
    if (at < block.shared_begin() || at + 16 > block.shared_end())
      block.fail("stmatrix at " + text_of(here) + " writes outside of shared memory, at byte " +
                 std::to_string(static_cast<int64_t>(at - block.shared_begin())));
    check_write(row, 16, 16);
  }
  const auto complete = [](void* const(&lanes)[32], unsigned) {
    for (int self = 0; self < 32; ++self) {
      const auto& given = *static_cast<Lane*>(lanes[self]);
      for (int matrix = 0; matrix < given.matrices; ++matrix) {
        const layout::Place at = layout::ldmatrix_element(self, 0, false);
        const auto& target = *static_cast<Lane*>(lanes[layout::ldmatrix_address_lane(matrix, at.row)]);
        std::memcpy(target.row + at.col * 2, &given.registers[matrix], 4);
      }
    }
  };
  block.collective("stmatrix", 0xffffffffu, &mine, complete, here);
}

}  // namespace alma::emulator

#include <cstdint>
#include <cstring>
#include <thread>

#include "../../native/runtime/block_arena.h"
#include "cpu_check.h"

namespace alma::test {
namespace {

struct Held {
  unsigned char* data;
  size_t bytes;
  unsigned char mark;
};

bool holds_its_mark(const Held& block) {
  for (size_t i = 0; i < block.bytes; ++i)
    if (block.data[i] != block.mark) return false;
  return true;
}

// Blocks come and go in any order; each keeps what was written into it.
void random_blocks(BlockArena& arena, Random random, bool& intact) {
  std::vector<Held> held;
  const auto give_back = [&](size_t index) {
    intact = intact && holds_its_mark(held[index]);
    arena.free(held[index].data, held[index].bytes);
    held[index] = held.back();
    held.pop_back();
  };
  for (int step = 0; step < 3000; ++step) {
    if (!held.empty() && random.below(2) == 0) {
      give_back(static_cast<size_t>(random.below(static_cast<int64_t>(held.size()))));
      continue;
    }
    const size_t bytes = 1 + static_cast<size_t>(random.below(20000));
    auto* data = static_cast<unsigned char*>(arena.allocate(bytes));
    intact = intact && data != nullptr && reinterpret_cast<uintptr_t>(data) % 64 == 0;
    if (data == nullptr) return;
    held.push_back({data, bytes, static_cast<unsigned char>(step)});
    std::memset(data, held.back().mark, bytes);
  }
  while (!held.empty()) give_back(held.size() - 1);
}

}  // namespace

void test_block_arena() {
  constexpr size_t kRegion = size_t{1} << 16, kAlignment = 4096;
  BlockArena arena(kRegion, kAlignment);
  check(arena.reserved() == 0, "nothing is reserved before the first block");

  void* const first = arena.allocate(kRegion / 2);
  void* const second = arena.allocate(kRegion / 2);
  check(reinterpret_cast<uintptr_t>(first) % kAlignment == 0, "a region is aligned");
  check(arena.reserved() == kRegion, "two halves fill one region");
  void* const third = arena.allocate(64);
  check(arena.reserved() == 2 * kRegion, "what does not fit takes another region");
  arena.free(first, kRegion / 2);
  check(arena.allocate(kRegion / 2) == first, "a hole is filled again");
  arena.free(first, kRegion / 2);
  arena.free(second, kRegion / 2);
  check(arena.reserved() == kRegion, "a region that is free goes back");
  arena.free(third, 64);
  check(arena.reserved() == 0, "the last region too");
  check(arena.allocate(kRegion + 1) == nullptr, "more than a region is refused");

  bool intact[2] = {true, true};
  Random random[2];
  random[1].bits();
  std::thread other([&] { random_blocks(arena, random[1], intact[1]); });
  random_blocks(arena, random[0], intact[0]);
  other.join();
  check(intact[0] && intact[1], "two threads' blocks do not overlap");
  check(arena.reserved() == 0, "after all blocks are given back nothing is reserved");
}

}  // namespace alma::test

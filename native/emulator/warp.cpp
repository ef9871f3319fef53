#include "warp.h"

namespace alma::emulator {

namespace {

struct ShuffleLane {
  Shuffle kind;
  uint64_t value, result;
  int operand, width;
};

// What a lane outside the mask would give: nobody should compute with it.
constexpr uint64_t kPoison = 0xffffffffffffffffull;

int source_lane(const ShuffleLane& lane, int self) {
  const int begin = self / lane.width * lane.width, end = begin + lane.width;
  int source = self;
  switch (lane.kind) {
    case Shuffle::index: return begin + (lane.operand & (lane.width - 1));
    case Shuffle::up: source = self - lane.operand; break;
    case Shuffle::down: source = self + lane.operand; break;
    case Shuffle::exclusive_or: source = self ^ lane.operand; break;
  }
  return source < begin || source >= end ? self : source;
}

}  // namespace

uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int operand, int width, Here here) {
  ShuffleLane mine{kind, value, kPoison, operand, width};
  const auto complete = [](void* const(&lanes)[32], unsigned all) {
    for (int self = 0; self < 32; ++self) {
      if ((all >> self & 1) == 0) continue;
      auto& lane = *static_cast<ShuffleLane*>(lanes[self]);
      const int source = source_lane(lane, self);
      lane.result = (all >> source & 1) != 0 ? static_cast<ShuffleLane*>(lanes[source])->value : kPoison;
    }
  };
  current_block->collective("a shuffle", mask, &mine, complete, here);
  return mine.result;
}

unsigned ballot(unsigned mask, bool predicate, Here here) {
  struct Vote {
    bool predicate;
    unsigned result;
  } mine{predicate, 0};
  const auto complete = [](void* const(&lanes)[32], unsigned all) {
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane)
      if ((all >> lane & 1) != 0 && static_cast<Vote*>(lanes[lane])->predicate) votes |= 1u << lane;
    for (int lane = 0; lane < 32; ++lane)
      if ((all >> lane & 1) != 0) static_cast<Vote*>(lanes[lane])->result = votes;
  };
  current_block->collective("a vote", mask, &mine, complete, here);
  return mine.result;
}

}  // namespace alma::emulator

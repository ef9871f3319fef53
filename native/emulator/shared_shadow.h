// What is known about every two bytes of a block's shared memory: who wrote and read them last, and whether an asynchronous copy is on
// its way there. Two accesses of different threads, one of them a write, need a barrier between them that both came to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace alma::emulator {

// When a thread does something: the barriers of its block and of its warp that it has passed.
struct Moment {
  unsigned thread;
  uint32_t epoch, warp_epoch;
};

class SharedShadow {
 public:
  void reset(size_t bytes) { cells_.assign((bytes + 1) / 2, Cell{}); }

  // Each gives null, or what is wrong. Offsets and sizes are in bytes.
  const char* read(size_t offset, size_t bytes, const Moment& now);
  const char* write(size_t offset, size_t bytes, const Moment& now);
  const char* begin_async(size_t offset, size_t bytes, const Moment& now);
  void end_async(size_t offset, size_t bytes, const Moment& now);

  // The other party of the last thing that was wrong.
  std::string other() const;

 private:
  static constexpr uint16_t kNobody = 0xffff;
  struct Cell {
    uint32_t write_epoch = 0, write_warp_epoch = 0, read_epoch = 0, read_warp_epoch = 0;
    uint16_t writer = kNobody, reader = kNobody, async = kNobody;
    bool several_readers = false, several_warps = false;
  };
  static bool ordered(uint16_t thread, uint32_t epoch, uint32_t warp_epoch, const Moment& now) {
    if (thread == now.thread || epoch < now.epoch) return true;
    return thread / 32 == now.thread / 32 && warp_epoch < now.warp_epoch;
  }
  const char* check_write(const Cell& cell, const Moment& now);

  std::vector<Cell> cells_;
  unsigned other_ = 0;
};

}  // namespace alma::emulator

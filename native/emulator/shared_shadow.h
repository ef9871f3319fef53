// What is known about every two bytes of a block's shared memory: who wrote and read them last and when, and whether an asynchronous
// copy is on its way there. Two accesses of different threads, one of them a write, need something between them that orders them: a
// barrier that both came to, or one that the first arrived at and the second waited for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace alma::emulator {

constexpr unsigned kMaxWarps = 32;

// For every warp of a block: the time before which its accesses are ordered before what follows.
using Seen = uint32_t[kMaxWarps];

// When a thread does something. Times count the block's synchronising operations; `seen` is that of the thread's warp.
struct Moment {
  unsigned thread;
  uint32_t time;
  const uint32_t* seen;
};

class SharedShadow {
 public:
  // Everything from before `start` is forgotten: the memory of a new block holds nothing.
  void reset(size_t bytes, uint32_t start);

  // Each gives null, or what is wrong. Offsets and sizes are in bytes.
  const char* read(size_t offset, size_t bytes, const Moment& now);
  const char* write(size_t offset, size_t bytes, const Moment& now);
  // Between begin and end nobody may touch what an asynchronous copy writes. Ended, it counts as a write of the thread that waited.
  const char* begin_async(size_t offset, size_t bytes, const Moment& now);
  void end_async(size_t offset, size_t bytes, const Moment& now);
  void clear_async();

  // The other party of the last thing that was wrong.
  std::string other() const { return "thread " + std::to_string(other_); }

 private:
  // A thread, and which of the two bytes it touched.
  using Party = uint16_t;
  static constexpr Party kNobody = 0xffff;
  static unsigned thread_of(Party party) { return party & 1023; }

  struct Cell {
    uint32_t write_time = 0, read_time = 0, other_read_time = 0;
    // The last reader, and the last before it that was another thread: the last to write may be one of them itself.
    Party writer = kNobody, reader = kNobody, other_reader = kNobody, async = kNobody;
  };
  bool conflict(Party party, uint32_t time, Party mine, const Moment& now);
  const char* check_write(const Cell& cell, Party mine, const Moment& now);

  std::vector<Cell> cells_;
  uint32_t start_ = 0;
  unsigned other_ = 0;
};

}  // namespace alma::emulator

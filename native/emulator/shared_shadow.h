// What is known about every two bytes of a block's shared memory: who wrote and read them last and when, whether an asynchronous
// copy is on its way there, and how many asynchronous operations still read them. Two accesses of different threads, one of them a write, need something between them that orders them: a
// barrier that both came to, or one that the first arrived at and the second waited for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace alma::emulator {

constexpr unsigned kMaxWarps = 32, kMaxMbarriers = 64, kMaxWarpgroups = 8;
// Who accesses shared memory: the warps of a block, the copies that an mbarrier counts, the matrix products of a warpgroup.
constexpr unsigned kParties = kMaxWarps + kMaxMbarriers + kMaxWarpgroups;
constexpr unsigned copies_of(unsigned mbarrier) { return kMaxWarps + mbarrier; }
constexpr unsigned products_of(unsigned warpgroup) { return kMaxWarps + kMaxMbarriers + warpgroup; }

// For every party: the time before which its accesses are ordered before what follows.
using Seen = uint32_t[kParties];

// When a thread does something. Times count the block's synchronising operations; `seen` is that of the thread's warp.
struct Moment {
  unsigned thread;
  uint32_t time;
  const uint32_t* seen;
};

// What a thread's asynchronous operation may read: what was written through the async proxy, or generically with a proxy fence behind
// it, by the thread that wrote it or by this thread after it has seen the write.
struct ProxyFences {
  const uint32_t* of_threads;  // the time of each thread's last fence
  const uint32_t* seen;        // what this thread had seen at its last fence
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
  // What the async proxy writes: as above, but ended it counts as a write of the given party.
  const char* begin_proxy_write(size_t offset, size_t bytes, const Moment& now, const ProxyFences& fences);
  void end_proxy_write(size_t offset, size_t bytes, unsigned party, uint32_t time);
  // What the async proxy reads: between begin and end nobody may write there. Ended, it counts as a read of the given party or thread.
  const char* begin_proxy_read(size_t offset, size_t bytes, const Moment& now, const ProxyFences& fences);
  void end_proxy_read(size_t offset, size_t bytes, unsigned party, uint32_t time);
  void end_proxy_read(size_t offset, size_t bytes, const Moment& now);
  void clear_async();

  // The other party of the last thing that was wrong.
  std::string other() const;

 private:
  // A thread, or another party than a warp, and which of the two bytes it touched.
  using Party = uint16_t;
  static constexpr Party kNobody = 0xffff, kNoThread = 1u << 12;
  static unsigned thread_of(Party party) { return party & 1023; }
  static unsigned index_of(Party party) { return (party & kNoThread) != 0 ? party & 1023u : (party & 1023u) / 32; }

  struct Cell {
    uint32_t write_time = 0, read_time = 0, other_read_time = 0;
    // The last reader, and the last before it that was another thread: the last to write may be one of them itself.
    Party writer = kNobody, reader = kNobody, other_reader = kNobody, async = kNobody;
    uint16_t proxy_readers = 0;
  };
  void note_read(Cell& cell, Party party, uint32_t time);
  bool unfenced(const Cell& cell, const Moment& now, const ProxyFences& fences);
  bool conflict(Party party, uint32_t time, Party mine, const Moment& now);
  const char* check_write(const Cell& cell, Party mine, const Moment& now);

  std::vector<Cell> cells_;
  uint32_t start_ = 0;
  Party other_ = 0;
};

}  // namespace alma::emulator

#include "shared_shadow.h"

#include <algorithm>

namespace alma::emulator {

namespace {
// Which of its two bytes an access touches of a cell: bit 0, bit 1, as bits 10 and 11 of a Party.
unsigned touched(size_t cell, size_t begin, size_t end) {
  return (begin <= 2 * cell ? 1u << 10 : 0u) | (end >= 2 * cell + 2 ? 1u << 11 : 0u);
}
}  // namespace

void SharedShadow::reset(size_t bytes, uint32_t start) {
  if (cells_.size() < (bytes + 1) / 2) cells_.resize((bytes + 1) / 2);
  start_ = start;
}

// Whether an earlier access of `party` meets mine unordered.
bool SharedShadow::conflict(Party party, uint32_t time, Party mine, const Moment& now) {
  if (party == kNobody || time < start_) return false;
  const bool same = (party & kNoThread) == 0 && thread_of(party) == now.thread;
  if (same || time < now.seen[index_of(party)] || (party & mine & (3u << 10)) == 0) return false;
  other_ = party;
  return true;
}

void SharedShadow::note_read(Cell& cell, Party party, uint32_t time) {
  if (cell.reader != party) {
    cell.other_reader = cell.reader;
    cell.other_read_time = cell.read_time;
    cell.reader = party;
  }
  cell.read_time = time;
}

std::string SharedShadow::other() const {
  if ((other_ & kNoThread) == 0) return "thread " + std::to_string(thread_of(other_));
  const unsigned index = other_ & 1023u;
  return index < products_of(0) ? "copies of mbarrier " + std::to_string(index - copies_of(0))
                                : "wgmma of warpgroup " + std::to_string(index - products_of(0));
}

const char* SharedShadow::read(size_t offset, size_t bytes, const Moment& now) {
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    Cell& cell = cells_[i];
    const auto mine = static_cast<Party>(now.thread | touched(i, offset, offset + bytes));
    if (cell.async != kNobody) {
      other_ = cell.async & 1023u;
      return "reads shared memory while an asynchronous copy into it is on its way";
    }
    if (cell.writer == kNobody || cell.write_time < start_) {
      other_ = static_cast<Party>(now.thread);
      return "reads shared memory that nobody has written";
    }
    if (conflict(cell.writer, cell.write_time, mine, now))
      return "reads shared memory that another thread wrote, with no barrier in between";
    note_read(cell, mine, now.time);
  }
  return nullptr;
}

const char* SharedShadow::check_write(const Cell& cell, Party mine, const Moment& now) {
  if (cell.async != kNobody) {
    other_ = cell.async & 1023u;
    return "writes shared memory while an asynchronous copy into it is on its way";
  }
  if (cell.proxy_readers > 0) {
    other_ = static_cast<Party>(now.thread);
    return "writes shared memory that an asynchronous operation may still be reading";
  }
  if (conflict(cell.writer, cell.write_time, mine, now))
    return "writes shared memory that another thread wrote, with no barrier in between";
  if (conflict(cell.reader, cell.read_time, mine, now) || conflict(cell.other_reader, cell.other_read_time, mine, now))
    return "writes shared memory that another thread read, with no barrier in between";
  return nullptr;
}

const char* SharedShadow::write(size_t offset, size_t bytes, const Moment& now) {
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    Cell& cell = cells_[i];
    const auto mine = static_cast<Party>(now.thread | touched(i, offset, offset + bytes));
    if (const char* wrong = check_write(cell, mine, now)) return wrong;
    cell.writer = mine;
    cell.write_time = now.time;
  }
  return nullptr;
}

const char* SharedShadow::begin_async(size_t offset, size_t bytes, const Moment& now) {
  const auto mine = static_cast<Party>(now.thread | (3u << 10));
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    if (const char* wrong = check_write(cells_[i], mine, now)) return wrong;
    cells_[i].async = mine;
  }
  return nullptr;
}

void SharedShadow::end_async(size_t offset, size_t bytes, const Moment& now) {
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    Cell& cell = cells_[i];
    cell.async = kNobody;
    cell.writer = static_cast<Party>(now.thread | (3u << 10));
    cell.write_time = now.time;
  }
}

bool SharedShadow::unfenced(const Cell& cell, const Moment&, const ProxyFences& fences) {
  if (cell.writer == kNobody || cell.write_time < start_ || (cell.writer & kNoThread) != 0) return false;
  const unsigned thread = thread_of(cell.writer);
  if (cell.write_time < fences.of_threads[thread] || cell.write_time < fences.seen[thread / 32]) return false;
  other_ = cell.writer;
  return true;
}

const char* SharedShadow::begin_proxy_write(size_t offset, size_t bytes, const Moment& now, const ProxyFences& fences) {
  const auto mine = static_cast<Party>(now.thread | (3u << 10));
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    if (const char* wrong = check_write(cells_[i], mine, now)) return wrong;
    if (unfenced(cells_[i], now, fences))
      return "writes shared memory through the async proxy that was written generically, with no proxy fence in "
             "between";
    cells_[i].async = mine;
  }
  return nullptr;
}

void SharedShadow::end_proxy_write(size_t offset, size_t bytes, unsigned party, uint32_t time) {
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    Cell& cell = cells_[i];
    cell.async = kNobody;
    cell.writer = static_cast<Party>(party | kNoThread | (3u << 10));
    cell.write_time = time;
  }
}

const char* SharedShadow::begin_proxy_read(size_t offset, size_t bytes, const Moment& now, const ProxyFences& fences) {
  const auto mine = static_cast<Party>(now.thread | (3u << 10));
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    Cell& cell = cells_[i];
    if (cell.async != kNobody) {
      other_ = cell.async & 1023u;
      return "reads shared memory while an asynchronous copy into it is on its way";
    }
    if (cell.writer == kNobody || cell.write_time < start_) {
      other_ = static_cast<Party>(now.thread);
      return "reads shared memory that nobody has written";
    }
    if (conflict(cell.writer, cell.write_time, mine, now))
      return "reads shared memory that another thread wrote, with no barrier in between";
    if (unfenced(cell, now, fences))
      return "reads shared memory through the async proxy that was written generically, with no proxy fence in between";
    ++cell.proxy_readers;
  }
  return nullptr;
}

void SharedShadow::end_proxy_read(size_t offset, size_t bytes, unsigned party, uint32_t time) {
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    --cells_[i].proxy_readers;
    note_read(cells_[i], static_cast<Party>(party | kNoThread | (3u << 10)), time);
  }
}

void SharedShadow::end_proxy_read(size_t offset, size_t bytes, const Moment& now) {
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    --cells_[i].proxy_readers;
    note_read(cells_[i], static_cast<Party>(now.thread | (3u << 10)), now.time);
  }
}

void SharedShadow::clear_async() {
  for (Cell& cell : cells_) {
    cell.async = kNobody;
    cell.proxy_readers = 0;
  }
}

}  // namespace alma::emulator

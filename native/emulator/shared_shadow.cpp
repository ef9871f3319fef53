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
  const unsigned thread = thread_of(party);
  if (thread == now.thread || time < now.seen[thread / 32] || (party & mine & (3u << 10)) == 0) return false;
  other_ = thread;
  return true;
}

const char* SharedShadow::read(size_t offset, size_t bytes, const Moment& now) {
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    Cell& cell = cells_[i];
    const auto mine = static_cast<Party>(now.thread | touched(i, offset, offset + bytes));
    if (cell.async != kNobody) {
      other_ = thread_of(cell.async);
      return "reads shared memory while an asynchronous copy into it is on its way";
    }
    if (cell.writer == kNobody || cell.write_time < start_) {
      other_ = now.thread;
      return "reads shared memory that nobody has written";
    }
    if (conflict(cell.writer, cell.write_time, mine, now))
      return "reads shared memory that another thread wrote, with no barrier in between";
    if (cell.reader != mine) {
      cell.other_reader = cell.reader;
      cell.other_read_time = cell.read_time;
      cell.reader = mine;
    }
    cell.read_time = now.time;
  }
  return nullptr;
}

const char* SharedShadow::check_write(const Cell& cell, Party mine, const Moment& now) {
  if (cell.async != kNobody) {
    other_ = thread_of(cell.async);
    return "writes shared memory while an asynchronous copy into it is on its way";
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

void SharedShadow::clear_async() {
  for (Cell& cell : cells_) cell.async = kNobody;
}

}  // namespace alma::emulator

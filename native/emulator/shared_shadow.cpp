#include "shared_shadow.h"

namespace alma::emulator {

const char* SharedShadow::read(size_t offset, size_t bytes, const Moment& now) {
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    Cell& cell = cells_[i];
    if (cell.async != kNobody) {
      other_ = cell.async;
      return "reads shared memory while an asynchronous copy into it is on its way";
    }
    if (cell.writer == kNobody) {
      other_ = now.thread;
      return "reads shared memory that nobody has written";
    }
    if (!ordered(cell.writer, cell.write_epoch, cell.write_warp_epoch, now)) {
      other_ = cell.writer;
      return "reads shared memory that another thread wrote, with no barrier in between";
    }
    const bool fresh = cell.reader == kNobody || cell.read_epoch < now.epoch;
    cell.several_warps = !fresh && (cell.several_warps || cell.reader / 32 != now.thread / 32);
    cell.several_readers = !fresh && (cell.several_readers || cell.reader != now.thread);
    cell.reader = static_cast<uint16_t>(now.thread);
    cell.read_epoch = now.epoch;
    cell.read_warp_epoch = now.warp_epoch;
  }
  return nullptr;
}

const char* SharedShadow::check_write(const Cell& cell, const Moment& now) {
  if (cell.async != kNobody) {
    other_ = cell.async;
    return "writes shared memory while an asynchronous copy into it is on its way";
  }
  if (cell.writer != kNobody && !ordered(cell.writer, cell.write_epoch, cell.write_warp_epoch, now)) {
    other_ = cell.writer;
    return "writes shared memory that another thread wrote, with no barrier in between";
  }
  if (cell.reader == kNobody || cell.read_epoch < now.epoch) return nullptr;
  const bool same_warp = !cell.several_warps && cell.reader / 32 == now.thread / 32;
  if (same_warp && cell.read_warp_epoch < now.warp_epoch) return nullptr;
  if (!cell.several_readers && cell.reader == now.thread) return nullptr;
  other_ = cell.reader;
  return "writes shared memory that another thread read, with no barrier in between";
}

const char* SharedShadow::write(size_t offset, size_t bytes, const Moment& now) {
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    Cell& cell = cells_[i];
    if (const char* wrong = check_write(cell, now)) return wrong;
    cell.writer = static_cast<uint16_t>(now.thread);
    cell.write_epoch = now.epoch;
    cell.write_warp_epoch = now.warp_epoch;
  }
  return nullptr;
}

const char* SharedShadow::begin_async(size_t offset, size_t bytes, const Moment& now) {
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    if (const char* wrong = check_write(cells_[i], now)) return wrong;
    cells_[i].async = static_cast<uint16_t>(now.thread);
  }
  return nullptr;
}

void SharedShadow::end_async(size_t offset, size_t bytes, const Moment& now) {
  for (size_t i = offset / 2; i < (offset + bytes + 1) / 2; ++i) {
    Cell& cell = cells_[i];
    cell.async = kNobody;
    cell.writer = static_cast<uint16_t>(now.thread);
    cell.write_epoch = now.epoch;
    cell.write_warp_epoch = now.warp_epoch;
  }
}

std::string SharedShadow::other() const { return "thread " + std::to_string(other_); }

}  // namespace alma::emulator

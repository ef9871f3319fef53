// cp.async: between issue and wait the copy may happen at any time, so the schedule chooses, and nobody may touch what it touches.
#include <algorithm>
#include <cstring>

#include "block.h"
#include "checks.h"
#include "memory.h"

namespace alma::emulator {

void Block::finish_copy(AsyncCopy& copy) {
  if (copy.valid && std::memcmp(copy.source, copy.global, copy.bytes) != 0)
    fail("cp.async at " + text_of(copy.here) + ": its source was written before it had arrived");
  if (copy.done) return;
  copy.done = true;
  if (copy.valid) {
    std::memcpy(copy.shared, copy.global, copy.bytes);
  } else {
    std::memset(copy.shared, 0, copy.bytes);
  }
}

void Block::cp_async(void* shared, const void* global, size_t bytes, bool valid, Here here) {
  const Internal internal(*this);
  const auto to = reinterpret_cast<uintptr_t>(shared);
  const auto from = reinterpret_cast<uintptr_t>(global);
  const std::string what = "cp.async at " + text_of(here);
  if (to < shared_begin() || to + bytes > shared_end())
    fail(what + " writes outside of shared memory, at byte " +
         std::to_string(static_cast<int64_t>(to - shared_begin())));
  if (to % bytes != 0) fail(what + " writes to an address that is not a multiple of " + std::to_string(bytes));
  if (valid && from % bytes != 0)
    fail(what + " reads from an address that is not a multiple of " + std::to_string(bytes));
  if (valid && !is_device_memory(global)) fail(what + " reads memory that is not the device's");
  if (valid && !is_allocated(from, bytes)) fail(what + " reads " + describe(from));
  if (valid) check_read(global, bytes, bytes);
  if (const char* wrong = shadow_.begin_async(to - shared_begin(), bytes, now()))
    fail(what + ": " + wrong + " (" + shadow_.other() + ")");
  Thread& thread = threads_[current_];
  thread.copies.push_back(
      {static_cast<char*>(shared), static_cast<const char*>(global), bytes, valid, false, -1, here, {}});
  if (valid) std::memcpy(thread.copies.back().source, global, bytes);
  const bool early =
      schedule_.async == AsyncCompletion::early || (schedule_.async == AsyncCompletion::random && (random_() & 1) != 0);
  if (early) finish_copy(thread.copies.back());
}

void Block::cp_async_commit() {
  const Internal internal(*this);
  Thread& thread = threads_[current_];
  for (AsyncCopy& copy : thread.copies)
    if (copy.group < 0) copy.group = thread.groups;
  ++thread.groups;
}

void Block::cp_async_wait(unsigned pending, Here) {
  const Internal internal(*this);
  Thread& thread = threads_[current_];
  const int arrived = thread.groups - static_cast<int>(pending);
  for (AsyncCopy& copy : thread.copies) {
    if (copy.group < 0 || copy.group >= arrived) continue;
    finish_copy(copy);
    shadow_.end_async(static_cast<size_t>(copy.shared - shared_), copy.bytes, now());
  }
  std::erase_if(thread.copies, [&](const AsyncCopy& copy) { return copy.group >= 0 && copy.group < arrived; });
}

}  // namespace alma::emulator

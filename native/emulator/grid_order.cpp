// What orders grids, and blocks of a grid: programmatic dependent launch, and arrivals at a counter.
#include <algorithm>
#include <map>
#include <mutex>

#include "block.h"
#include "checks.h"
#include "memory.h"

namespace alma::emulator {

namespace {

// What those who have arrived at a counter published, and whom it is of: the first tag of a launch.
struct Arrivals {
  uint32_t first_tag = 0;
  std::vector<uint32_t> tags;
};
std::mutex arrivals_mutex;
std::map<const void*, Arrivals>& arrivals() {
  static auto* map = new std::map<const void*, Arrivals>;
  return *map;
}

void add_all(std::vector<uint32_t>& to, const std::vector<uint32_t>& from) {
  to.insert(to.end(), from.begin(), from.end());
  std::sort(to.begin(), to.end());
  to.erase(std::unique(to.begin(), to.end()), to.end());
}

}  // namespace

void check_prefetch(const void* address) {
  const Block::Internal internal(*current_block);
  check_read(address, 2, 2);
}

void Block::grid_dependency_wait() {
  threads_[current_].waited_for_grids = true;
  grid_.waited = true;
}

void Block::grid_dependency_launch() {
  if (!threads_[current_].waited_for_grids) grid_.launched_too_soon = true;
}

// Whatever the block does from here on has another tag than what it did before.
void Block::device_fence() {
  const Internal internal(*this);
  Thread& thread = threads_[current_];
  add_all(seen_tags_, {tag_});
  add_all(seen_tags_, thread.arrived);
  thread.arrived.clear();
  thread.published = seen_tags_;
  tag_ = take_tags(1);
}

unsigned Block::arrive_at(unsigned* counter, unsigned last) {
  const Internal internal(*this);
  Thread& thread = threads_[current_];
  std::lock_guard lock(arrivals_mutex);
  Arrivals& at = arrivals()[counter];
  if (at.first_tag != grid_.first_tag) at = {grid_.first_tag, {}};
  add_all(thread.arrived, at.tags);
  add_all(at.tags, thread.published);
  const unsigned before = *counter;
  *counter = before >= last ? 0 : before + 1;
  return before;
}

}  // namespace alma::emulator

#include "block_arena.h"

#include <cstdlib>
#include <iterator>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace alma {

namespace {
size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }
}  // namespace

BlockArena::~BlockArena() {
  for (const auto& [region, bytes] : regions_) std::free(region);
}

void* BlockArena::allocate(size_t bytes) {
  const size_t wanted = rounded(bytes);
  if (wanted > region_bytes_) return nullptr;
  const std::lock_guard lock(mutex_);
  auto range = free_.begin();
  while (range != free_.end() && range->second < wanted) ++range;
  if (range == free_.end()) {
    auto* region = static_cast<std::byte*>(std::aligned_alloc(alignment_, region_bytes_));
    if (region == nullptr) return nullptr;
#if defined(__linux__)
    madvise(region, region_bytes_, MADV_HUGEPAGE);
#endif
    regions_.emplace(region, region_bytes_);
    range = free_.emplace(region, region_bytes_).first;
  }
  std::byte* const block = range->first;
  const size_t left = range->second - wanted;
  auto node = free_.extract(range);
  if (left > 0) {
    node.key() = block + wanted;
    node.mapped() = left;
    free_.insert(std::move(node));
  }
  return block;
}

void BlockArena::free(void* block, size_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  auto range = free_.emplace(static_cast<std::byte*>(block), rounded(bytes)).first;
  const auto touches = [&](Ranges::iterator left, Ranges::iterator right) {
    return left->first + left->second == right->first && !regions_.contains(right->first);
  };
  if (range != free_.begin() && touches(std::prev(range), range)) {
    const auto before = std::prev(range);
    before->second += range->second;
    free_.erase(range);
    range = before;
  }
  if (const auto after = std::next(range); after != free_.end() && touches(range, after)) {
    range->second += after->second;
    free_.erase(after);
  }
  const auto region = regions_.find(range->first);
  if (region == regions_.end() || region->second != range->second) return;
  std::free(region->first);
  regions_.erase(region);
  free_.erase(range);
}

size_t BlockArena::reserved() const {
  const std::lock_guard lock(mutex_);
  return regions_.size() * region_bytes_;
}

}  // namespace alma

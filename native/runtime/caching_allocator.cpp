#include "caching_allocator.h"

#include <algorithm>
#include <string>

#include "error.h"

namespace alma {

namespace {
// Sizes are rounded up to an eighth of their power of two (at least 256 bytes): at most 12.5 % is wasted, and activations of
// slightly different lengths share their blocks. From a gigabyte on they are rounded up to 2 MiB only: such tensors are made once, and
// the optimizer's state of a 7B model would otherwise waste gigabytes. lib/train/memory-trace.ts counts with the same sizes.
size_t size_class(size_t bytes) {
  size_t power = 256;
  while (power * 2 <= bytes) power *= 2;
  const size_t step = power >= (size_t{1} << 30) ? size_t{2} << 20 : std::max<size_t>(power / 8, 256);
  return (std::max<size_t>(bytes, 1) + step - 1) / step * step;
}
}  // namespace

CachingAllocator::~CachingAllocator() {
  for (const auto& [bytes, data] : cached_) source_->free(data, bytes);
}

CachingAllocator::Block CachingAllocator::allocate(size_t bytes) {
  const size_t wanted = mode_ == Mode::exact ? std::max<size_t>(bytes, 1) : size_class(bytes);
  // A cached block serves when it is at most half as large again: batches of different lengths then settle on one set of blocks instead
  // of keeping one for every length they had. Beyond that splitting would be needed, which this allocator leaves out.
  const auto found = cached_.lower_bound(wanted);
  Block block{nullptr, wanted};
  if (found != cached_.end() && found->first <= wanted + wanted / 2) {
    block = {found->second, found->first};
    cached_.erase(found);
  } else {
    block.data = source_->allocate(wanted);
    if (block.data == nullptr) {
      throw Error("ERR_ALMA_OUT_OF_MEMORY", "out of device memory: " + std::to_string(wanted) + " bytes needed, " +
                                                std::to_string(source_->available()) + " of " +
                                                std::to_string(source_->total()) + " bytes free, " +
                                                std::to_string(allocated_) + " bytes in tensors of this process");
    }
    reserved_ += wanted;
  }
  allocated_ += block.bytes;
  peak_ = std::max(peak_, allocated_);
  return block;
}

bool CachingAllocator::recycle(Block block) noexcept {
  allocated_ -= block.bytes;
  if (mode_ == Mode::exact) {
    reserved_ -= block.bytes;
    return false;
  }
  cached_.emplace(block.bytes, block.data);
  return true;
}

std::vector<CachingAllocator::Block> CachingAllocator::release_cached() {
  std::vector<Block> blocks;
  blocks.reserve(cached_.size());
  for (const auto& [bytes, data] : cached_) {
    blocks.push_back({data, bytes});
    reserved_ -= bytes;
  }
  cached_.clear();
  return blocks;
}

MemoryStatistics CachingAllocator::statistics() const {
  return {allocated_, reserved_, peak_, source_->available(), source_->total()};
}

}  // namespace alma

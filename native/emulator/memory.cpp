#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <vector>

namespace alma::emulator {

DeviceRange device_range;

namespace {

constexpr size_t kReserved = size_t{64} << 30;
constexpr size_t kGranule = 256;
// Freed ranges wait here before they are used again, so that a late access finds nothing there.
constexpr size_t kQuarantine = size_t{1} << 30;

struct Allocation {
  uintptr_t begin;
  size_t bytes;
  bool live;
};

std::mutex mutex;
std::map<uintptr_t, size_t> live;        // begin → index
std::map<uintptr_t, size_t> free_ranges;  // begin → bytes, granules
std::deque<std::pair<uintptr_t, size_t>> quarantine;
size_t quarantined = 0, used = 0, limit = size_t{8} << 30;
std::deque<Allocation> allocations;  // index + 1 is in the table; never shrinks, so that readers need no lock
uint32_t* table = nullptr;           // by granule

size_t rounded(size_t bytes) { return (std::max<size_t>(bytes, 1) + kGranule - 1) / kGranule * kGranule + kGranule; }

void reserve() {
  if (device_range.begin != 0) return;
  const auto map = [](size_t bytes) {
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return data == MAP_FAILED ? nullptr : data;
  };
  void* data = map(kReserved);
  table = static_cast<uint32_t*>(map(kReserved / kGranule * sizeof(uint32_t)));
  if (data == nullptr || table == nullptr) return;
  device_range = {reinterpret_cast<uintptr_t>(data), reinterpret_cast<uintptr_t>(data) + kReserved};
  free_ranges[device_range.begin] = kReserved;
}

void release_oldest() {
  const auto [begin, bytes] = quarantine.front();
  quarantine.pop_front();
  quarantined -= bytes;
  auto next = free_ranges.lower_bound(begin);
  uintptr_t start = begin;
  size_t size = bytes;
  if (next != free_ranges.end() && next->first == begin + bytes) {
    size += next->second;
    next = free_ranges.erase(next);
  }
  if (next != free_ranges.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == begin) {
      start = before->first;
      size += before->second;
      free_ranges.erase(before);
    }
  }
  free_ranges[start] = size;
}

size_t granule_of(uintptr_t address) { return (address - device_range.begin) / kGranule; }

}  // namespace

void* allocate_device(size_t bytes) {
  std::lock_guard lock(mutex);
  reserve();
  if (device_range.begin == 0 || used + bytes > limit) return nullptr;
  const size_t size = rounded(bytes);
  const auto fits = [&] {
    return std::find_if(free_ranges.begin(), free_ranges.end(), [&](const auto& range) { return range.second >= size; });
  };
  auto range = fits();
  while (range == free_ranges.end() && !quarantine.empty()) {
    release_oldest();
    range = fits();
  }
  if (range == free_ranges.end()) return nullptr;
  const uintptr_t begin = range->first;
  const size_t left = range->second - size;
  free_ranges.erase(range);
  if (left > 0) free_ranges[begin + size] = left;
  allocations.push_back({begin, bytes, true});
  const size_t index = allocations.size() - 1;
  live[begin] = index;
  used += bytes;
  std::fill_n(table + granule_of(begin), size / kGranule, static_cast<uint32_t>(index + 1));
  std::memset(reinterpret_cast<void*>(begin), 0xff, bytes);
  return reinterpret_cast<void*>(begin);
}

bool free_device(void* data) {
  std::lock_guard lock(mutex);
  const auto found = live.find(reinterpret_cast<uintptr_t>(data));
  if (found == live.end()) return false;
  Allocation& allocation = allocations[found->second];
  allocation.live = false;
  used -= allocation.bytes;
  const size_t size = rounded(allocation.bytes);
  live.erase(found);
  // The pages go back to the system; what reads them later reads zeros, and is told so.
  const uintptr_t page = (allocation.begin + 4095) & ~uintptr_t{4095};
  if (allocation.begin + size > page + 4096)
    madvise(reinterpret_cast<void*>(page), (allocation.begin + size - page) & ~size_t{4095}, MADV_DONTNEED);
  quarantine.emplace_back(allocation.begin, size);
  quarantined += size;
  while (quarantined > kQuarantine) release_oldest();
  return true;
}

size_t device_bytes_free() {
  std::lock_guard lock(mutex);
  return limit - std::min(limit, used);
}

size_t device_bytes_total() { return limit; }

void set_device_bytes_total(size_t bytes) { limit = bytes; }

bool is_allocated(uintptr_t address, size_t bytes) {
  const uint32_t index = table[granule_of(address)];
  if (index == 0) return false;
  const Allocation& allocation = allocations[index - 1];
  return allocation.live && address >= allocation.begin && address + bytes <= allocation.begin + allocation.bytes;
}

std::string describe(uintptr_t address) {
  std::lock_guard lock(mutex);
  const uint32_t index = table[granule_of(address)];
  if (index == 0) return "where nothing was ever allocated";
  const Allocation& allocation = allocations[index - 1];
  const std::string what = "an allocation of " + std::to_string(allocation.bytes) + " bytes";
  if (!allocation.live) return "in " + what + " that was freed";
  if (address < allocation.begin) return std::to_string(allocation.begin - address) + " bytes before " + what;
  const size_t offset = address - allocation.begin;
  if (offset >= allocation.bytes)
    return std::to_string(offset - allocation.bytes) + " bytes behind the end of " + what;
  return "at byte " + std::to_string(offset) + " of " + what;
}

}  // namespace alma::emulator

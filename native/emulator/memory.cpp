#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>

namespace alma::emulator {

DeviceRange device_range;
DeviceCell* device_cells = nullptr;

namespace {

constexpr size_t kReserved = size_t{32} << 30;
constexpr size_t kGranule = 256;
// Freed ranges wait here before they are used again, so that a late access finds nothing there.
constexpr size_t kQuarantine = size_t{1} << 30;

struct Allocation {
  uintptr_t begin;
  size_t bytes;
  bool live;
};

std::mutex mutex;
std::map<uintptr_t, size_t> live;         // begin → index
std::map<uintptr_t, size_t> free_ranges;  // begin → bytes, granules
std::deque<std::pair<uintptr_t, size_t>> quarantine;
size_t quarantined = 0, used = 0, limit = size_t{8} << 30;
// By index, which is in the table; never reused, so that readers need no lock.
constexpr size_t kMaxAllocations = size_t{1} << 28;
Allocation* allocations = nullptr;
size_t allocation_count = 1;  // 0 in the table: nothing was ever there
uint32_t* table = nullptr;    // by granule
uint32_t next_tag = 1;

std::mutex pinned_mutex;
std::map<uintptr_t, size_t> pinned;  // begin → bytes

size_t rounded(size_t bytes) { return (std::max<size_t>(bytes, 1) + kGranule - 1) / kGranule * kGranule + kGranule; }

void reserve() {
  if (device_range.begin != 0) return;
  const auto map = [](size_t bytes) {
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return data == MAP_FAILED ? nullptr : data;
  };
  void* data = map(kReserved);
  table = static_cast<uint32_t*>(map(kReserved / kGranule * sizeof(uint32_t)));
  allocations = static_cast<Allocation*>(map(kMaxAllocations * sizeof(Allocation)));
  if (data == nullptr || table == nullptr || allocations == nullptr) return;
  device_cells = static_cast<DeviceCell*>(map(kReserved / 2 * sizeof(DeviceCell)));
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
    return std::find_if(free_ranges.begin(), free_ranges.end(),
                        [&](const auto& range) { return range.second >= size; });
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
  const size_t index = allocation_count++;
  if (index == kMaxAllocations) return nullptr;
  allocations[index] = {begin, bytes, true};
  live[begin] = index;
  used += bytes;
  std::fill_n(table + granule_of(begin), size / kGranule, static_cast<uint32_t>(index));
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
  const auto give_back = [](uintptr_t from, size_t bytes) {
    const uintptr_t page = (from + 4095) & ~uintptr_t{4095}, end = (from + bytes) & ~uintptr_t{4095};
    if (end > page) madvise(reinterpret_cast<void*>(page), end - page, MADV_DONTNEED);
  };
  give_back(allocation.begin, size);
  if (device_cells != nullptr)
    give_back(reinterpret_cast<uintptr_t>(device_cell(allocation.begin)), size / 2 * sizeof(DeviceCell));
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
  const Allocation& allocation = allocations[index];
  return allocation.live && address >= allocation.begin && address + bytes <= allocation.begin + allocation.bytes;
}

uint32_t take_tags(uint64_t blocks) {
  std::lock_guard lock(mutex);
  if (next_tag + blocks >= 0x7fffffff) {  // nothing is known of launches that long ago
    if (device_cells != nullptr) madvise(device_cells, kReserved / 2 * sizeof(DeviceCell), MADV_DONTNEED);
    next_tag = 1;
  }
  const uint32_t first = next_tag;
  next_tag += static_cast<uint32_t>(blocks);
  return first;
}

void* allocate_pinned(size_t bytes) {
  void* data = std::aligned_alloc(4096, (std::max<size_t>(bytes, 1) + 4095) / 4096 * 4096);
  if (data == nullptr) return nullptr;
  std::lock_guard lock(pinned_mutex);
  pinned[reinterpret_cast<uintptr_t>(data)] = bytes;
  return data;
}

bool free_pinned(void* data) {
  {
    std::lock_guard lock(pinned_mutex);
    if (pinned.erase(reinterpret_cast<uintptr_t>(data)) == 0) return false;
  }
  std::free(data);
  return true;
}

bool is_pinned(const void* address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  std::lock_guard lock(pinned_mutex);
  const auto next = pinned.upper_bound(at);
  return next != pinned.begin() && at < std::prev(next)->first + std::prev(next)->second;
}

std::string describe(uintptr_t address) {
  std::lock_guard lock(mutex);
  const uint32_t index = table[granule_of(address)];
  if (index == 0) return "where nothing was ever allocated";
  const Allocation& allocation = allocations[index];
  const std::string what = "an allocation of " + std::to_string(allocation.bytes) + " bytes";
  if (!allocation.live) return "in " + what + " that was freed";
  if (address < allocation.begin) return std::to_string(allocation.begin - address) + " bytes before " + what;
  const size_t offset = address - allocation.begin;
  if (offset >= allocation.bytes) return std::to_string(offset - allocation.bytes) + " bytes behind the end of " + what;
  return "at byte " + std::to_string(offset) + " of " + what;
}

}  // namespace alma::emulator

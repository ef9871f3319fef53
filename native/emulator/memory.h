// The memory of the emulated device: one reserved range of addresses, so that a kernel's access is known to be to device memory by its
// address alone, with a table that tells for every 256 bytes which allocation they belong to. Allocations have exact ends and gaps
// between them; freed ones are not handed out again soon.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace alma::emulator {

// nullptr when the limit would be passed. New memory holds 0xff bytes: NaN in every float format.
void* allocate_device(size_t bytes);
bool free_device(void* data);

size_t device_bytes_free();
size_t device_bytes_total();
// For tests of running out of memory. Default 8 GiB.
void set_device_bytes_total(size_t bytes);

// Where device memory lies; both 0 before the first allocation.
struct DeviceRange {
  uintptr_t begin = 0, end = 0;
};
extern DeviceRange device_range;

inline bool is_device_memory(const void* address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  return at >= device_range.begin && at < device_range.end;
}

// Whether all bytes lie in one live allocation. The first address is device memory.
bool is_allocated(uintptr_t address, size_t bytes);
// What is known about device memory in a launch: the blocks that wrote and read each two bytes last. A block's result must not depend on
// what another block of its launch does, as they run in any order.
struct DeviceCell {
  uint32_t writer, reader;  // tags of blocks
};
// Null where the system gives no address space for it.
extern DeviceCell* device_cells;
inline DeviceCell* device_cell(uintptr_t address) { return device_cells + (address - device_range.begin) / 2; }
// A tag for every block of a launch; gives the first.
uint32_t take_tags(uint64_t blocks);

// Memory of the host that the device can reach: cudaHostAlloc's.
void* allocate_pinned(size_t bytes);
bool free_pinned(void* data);
bool is_pinned(const void* address);

// "12 bytes behind the end of an allocation of 400 bytes", for messages.
std::string describe(uintptr_t address);

}  // namespace alma::emulator

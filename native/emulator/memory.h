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

// Whether all bytes lie in one live allocation.
bool is_allocated(uintptr_t address, size_t bytes);
// "12 bytes behind the end of an allocation of 400 bytes", for messages.
std::string describe(uintptr_t address);

}  // namespace alma::emulator

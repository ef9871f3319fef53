#include "checks.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include "atomics.h"
#include "block.h"
#include "memory.h"

namespace alma::emulator {

namespace {

bool enabled_at_start() {
  const char* value = std::getenv("ALMA_EMULATOR_CHECKS");
  return value == nullptr || std::strcmp(value, "off") != 0;
}
bool enabled = enabled_at_start();

__attribute__((noinline)) void check_global(Block& block, uintptr_t at, size_t bytes, bool write) {
  if (is_allocated(at, bytes)) return;
  block.fail(std::string(write ? "writes " : "reads ") + std::to_string(bytes) + " bytes " + describe(at));
}

__attribute__((noinline)) void check_shared(Block& block, uintptr_t at, size_t bytes, bool write) {
  const size_t offset = at - block.shared_begin();
  const char* wrong = write ? block.shadow().write(offset, bytes, block.now()) : block.shadow().read(offset, bytes, block.now());
  if (wrong != nullptr)
    block.fail(std::string(wrong) + ": byte " + std::to_string(offset) + " (" + block.shadow().other() + ")");
}

inline void check(const void* address, size_t bytes, size_t alignment, bool write) {
  Block* block = current_block;
  if (block == nullptr || !enabled) return;
  const auto at = reinterpret_cast<uintptr_t>(address);
  if (block->on_a_stack(at)) return;
  const bool shared = at >= block->shared_begin() - 4096 && at < block->shared_begin() + 232448 + 4096;
  if (!shared && !is_device_memory(address)) return;  // kernel parameters, constants
  if (at % alignment != 0)
    block->fail(std::string(write ? "writes " : "reads ") + std::to_string(bytes) +
                " bytes at an address that is not a multiple of " + std::to_string(alignment) +
                (shared ? ", in shared memory at byte " + std::to_string(at - block->shared_begin()) : ", " + describe(at)));
  if (!shared) return check_global(*block, at, bytes, write);
  if (at < block->shared_begin() || at + bytes > block->shared_end())
    block->fail(std::string(write ? "writes" : "reads") + " outside of shared memory, at byte " +
                std::to_string(static_cast<int64_t>(at - block->shared_begin())) + " of " +
                std::to_string(block->shared_bytes()));
  check_shared(*block, at, bytes, write);
}

}  // namespace

void check_read(const void* address, size_t bytes, size_t alignment) { check(address, bytes, alignment, false); }
void check_write(const void* address, size_t bytes, size_t alignment) { check(address, bytes, alignment, true); }
void check_atomic(const void* address, size_t bytes) {
  Block* block = current_block;
  if (block == nullptr || !enabled || block->on_a_stack(reinterpret_cast<uintptr_t>(address))) return;
  const auto at = reinterpret_cast<uintptr_t>(address);
  if (at % bytes != 0) block->fail("an atomic operation on an address that is not a multiple of " + std::to_string(bytes));
  if (is_device_memory(address)) return check_global(*block, at, bytes, true);
  if (at < block->shared_begin() || at + bytes > block->shared_end())
    block->fail("an atomic operation outside of shared memory and of the device's");
}
bool checks_enabled() { return enabled; }
void set_checks_enabled(bool value) { enabled = value; }

}  // namespace alma::emulator

// The interface between code compiled with -fsanitize=thread and its runtime.
#define ALMA_HOOK extern "C" __attribute__((visibility("hidden"))) void
#define ALMA_HOOKS(size)                                                                                          \
  ALMA_HOOK __tsan_read##size(void* address) { alma::emulator::check_read(address, size, size); }                 \
  ALMA_HOOK __tsan_write##size(void* address) { alma::emulator::check_write(address, size, size); }               \
  ALMA_HOOK __tsan_volatile_read##size(void* address) { alma::emulator::check_read(address, size, size); }        \
  ALMA_HOOK __tsan_volatile_write##size(void* address) { alma::emulator::check_write(address, size, size); }
ALMA_HOOKS(1)
ALMA_HOOKS(2)
ALMA_HOOKS(4)
ALMA_HOOKS(8)
ALMA_HOOKS(16)
#define ALMA_UNALIGNED_HOOKS(size)                                                                             \
  ALMA_HOOK __tsan_unaligned_read##size(void* address) { alma::emulator::check_read(address, size, 1); }       \
  ALMA_HOOK __tsan_unaligned_write##size(void* address) { alma::emulator::check_write(address, size, 1); }
ALMA_UNALIGNED_HOOKS(2)
ALMA_UNALIGNED_HOOKS(4)
ALMA_UNALIGNED_HOOKS(8)
ALMA_UNALIGNED_HOOKS(16)
ALMA_HOOK __tsan_read_range(void* address, unsigned long bytes) { alma::emulator::check_read(address, bytes, 1); }
ALMA_HOOK __tsan_write_range(void* address, unsigned long bytes) { alma::emulator::check_write(address, bytes, 1); }
ALMA_HOOK __tsan_vptr_update(void**, void*) {}
ALMA_HOOK __tsan_vptr_read(void**) {}
ALMA_HOOK __tsan_func_entry(void*) {}
ALMA_HOOK __tsan_func_exit() {}
ALMA_HOOK __tsan_init() {}

#include "checks.h"

#include <link.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
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

// The addon's own segments: constants that kernels read lie there.
struct Segments {
  uintptr_t begin = ~uintptr_t{0}, end = 0;
};
Segments own_segments() {
  Segments segments;
  dl_iterate_phdr(
      [](dl_phdr_info* module, size_t, void* result) {
        Segments found;
        for (int i = 0; i < module->dlpi_phnum; ++i) {
          const auto& segment = module->dlpi_phdr[i];
          if (segment.p_type != PT_LOAD) continue;
          const uintptr_t from = module->dlpi_addr + segment.p_vaddr;
          found.begin = std::min(found.begin, from);
          found.end = std::max(found.end, from + segment.p_memsz);
        }
        const auto here = reinterpret_cast<uintptr_t>(&enabled);
        if (here < found.begin || here >= found.end) return 0;
        *static_cast<Segments*>(result) = found;
        return 1;
      },
      &segments);
  return segments;
}

const char* verb(bool write) { return write ? "writes " : "reads "; }

// The first race between blocks of the current launch; reported at its end.
std::mutex race_mutex;
std::string race;
std::atomic<bool> raced{false}, bad_value{false};

__attribute__((noinline)) void note_race(const Block& block, uintptr_t at, const char* wrong) {
  if (raced.exchange(true)) return;
  std::lock_guard lock(race_mutex);
  race = block.where() + ": " + wrong + " another block of this launch, " + describe(at);
}

__attribute__((noinline)) void check_device(Block& block, uintptr_t at, size_t bytes, bool write) {
  if (!is_allocated(at, bytes)) block.fail(verb(write) + std::to_string(bytes) + " bytes " + describe(at));
  if (device_cells == nullptr) return;
  const uint32_t first = block.first_tag(), mine = block.tag(), unfinished = block.unfinished_from();
  if (unfinished != 0 && write)
    block.fail("writes " + describe(at) + ", before grid_dependency_wait(): the kernel before may still use it");
  const DeviceCell* end = device_cell(at + bytes - 1) + 1;
  for (DeviceCell* cell = device_cell(at); cell < end; ++cell) {
    if (unfinished != 0 && cell->writer >= unfinished && cell->writer < first)
      block.fail("reads what the kernel before it writes, " + describe(at) + ", before grid_dependency_wait()");
    if (cell->writer >= first && !block.may_see(cell->writer))
      note_race(block, at, write ? "writes what is written by" : "reads what is written by");
    if (write) {
      if (cell->reader >= first && !block.may_see(cell->reader)) note_race(block, at, "writes what is read by");
      cell->writer = mine;
    } else if (cell->reader < first || block.may_see(cell->reader)) {
      cell->reader = mine;
    }
  }
}

// Bytes are rare, and two of them share a cell: their allocation is checked alone.
__attribute__((noinline)) void check_device_byte(Block& block, uintptr_t at, bool write) {
  if (!is_allocated(at, 1)) block.fail(verb(write) + std::string("1 byte ") + describe(at));
}

__attribute__((noinline)) void check_shared(Block& block, uintptr_t at, size_t bytes, bool write) {
  const size_t offset = at - block.shared_begin();
  if (at < block.shared_begin() || at + bytes > block.shared_end())
    block.fail(verb(write) + std::string("outside of shared memory, at byte ") +
               std::to_string(static_cast<int64_t>(offset)) + " of " + std::to_string(block.shared_bytes()));
  const char* wrong =
      write ? block.shadow().write(offset, bytes, block.now()) : block.shadow().read(offset, bytes, block.now());
  if (wrong != nullptr)
    block.fail(std::string(wrong) + ": byte " + std::to_string(offset) + " (" + block.shadow().other() + ")");
}

// Neither the stack, nor shared memory, nor the device's: parameters, constants and threadIdx are left, or a pointer is wrong.
__attribute__((noinline)) void check_other(Block& block, uintptr_t at, size_t bytes, bool write) {
  static const Segments segments = own_segments();
  if (block.is_parameter(at) && !write) return;
  const auto within = [at](const auto& variable) {
    return at - reinterpret_cast<uintptr_t>(&variable) < sizeof variable;
  };
  if (within(threadIdx) || within(blockIdx) || within(blockDim) || within(gridDim) || within(current_block)) return;
  if (at >= segments.begin && at < segments.end && !write) return;
  if (is_pinned(reinterpret_cast<const void*>(at))) return;
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(at));
  block.fail(verb(write) + std::to_string(bytes) + " bytes at " + text + ", which is not the device's memory");
}

__attribute__((noinline)) void fail_alignment(Block& block, uintptr_t at, size_t bytes, size_t alignment, bool write) {
  block.fail(verb(write) + std::to_string(bytes) + " bytes at an address that is not a multiple of " +
             std::to_string(alignment) +
             (block.near_shared(at) ? ", in shared memory at byte " + std::to_string(at - block.shared_begin())
                                    : ", " + describe(at)));
}

inline void check(const void* address, size_t bytes, size_t alignment, bool write) {
  if (!enabled) return;
  Block* block = current_block;
  if (block == nullptr) return;
  const auto at = reinterpret_cast<uintptr_t>(address);
  if (block->on_a_stack(at)) return;
  const bool device = is_device_memory(address);
  if (!device && !block->near_shared(at)) return check_other(*block, at, bytes, write);
  if (at % alignment != 0) fail_alignment(*block, at, bytes, alignment, write);
  if (!device) return check_shared(*block, at, bytes, write);
  if (bytes == 1) return check_device_byte(*block, at, write);
  check_device(*block, at, bytes, write);
}

}  // namespace

void check_read(const void* address, size_t bytes, size_t alignment) { check(address, bytes, alignment, false); }
void check_write(const void* address, size_t bytes, size_t alignment) { check(address, bytes, alignment, true); }
void check_atomic(const void* address, size_t bytes) {
  Block* block = current_block;
  if (block == nullptr || !enabled || block->on_a_stack(reinterpret_cast<uintptr_t>(address))) return;
  const auto at = reinterpret_cast<uintptr_t>(address);
  const Block::Internal internal(*block);
  if (at % bytes != 0)
    block->fail("an atomic operation on an address that is not a multiple of " + std::to_string(bytes));
  if (is_device_memory(address)) {
    if (!is_allocated(at, bytes))
      block->fail("an atomic operation on " + std::to_string(bytes) + " bytes " + describe(at));
    if (block->unfinished_from() != 0)
      block->fail("an atomic operation " + describe(at) + ", before grid_dependency_wait()");
    return;
  }
  if (at < block->shared_begin() || at + bytes > block->shared_end())
    block->fail("an atomic operation outside of shared memory and of the device's");
}
// The kernel's own accesses.
inline void hook(const void* address, size_t bytes, size_t alignment, bool write) {
  if (current_block == nullptr || current_block->internal()) return;
  const Block::Internal internal(*current_block);
  check(address, bytes, alignment, write);
}
void hook_read(const void* address, size_t bytes, size_t alignment) { hook(address, bytes, alignment, false); }
void hook_write(const void* address, size_t bytes, size_t alignment) { hook(address, bytes, alignment, true); }
void end_of_launch() {
  if (!raced.exchange(false)) return;
  std::lock_guard lock(race_mutex);
  if (!bad_value) report(race);
}
void note_bad_value() { bad_value = true; }
void forget_bad_values() { bad_value = false; }
void fence() {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (current_block != nullptr) current_block->device_fence();
}
unsigned atomic_increment(unsigned* address, unsigned last) {
  check_atomic(address, sizeof *address);
  return current_block->arrive_at(address, last);
}
bool checks_enabled() { return enabled; }
void set_checks_enabled(bool value) { enabled = value; }

}  // namespace alma::emulator

// The interface between code compiled with -fsanitize=thread and its runtime.
#define ALMA_HOOK extern "C" __attribute__((visibility("hidden"))) void
#define ALMA_HOOKS(size)                                                                                  \
  ALMA_HOOK __tsan_read##size(void* address) { alma::emulator::hook_read(address, size, size); }          \
  ALMA_HOOK __tsan_write##size(void* address) { alma::emulator::hook_write(address, size, size); }        \
  ALMA_HOOK __tsan_volatile_read##size(void* address) { alma::emulator::hook_read(address, size, size); } \
  ALMA_HOOK __tsan_volatile_write##size(void* address) { alma::emulator::hook_write(address, size, size); }
ALMA_HOOKS(1)
ALMA_HOOKS(2)
ALMA_HOOKS(4)
ALMA_HOOKS(8)
ALMA_HOOKS(16)
#define ALMA_UNALIGNED_HOOKS(size)                                                                      \
  ALMA_HOOK __tsan_unaligned_read##size(void* address) { alma::emulator::hook_read(address, size, 1); } \
  ALMA_HOOK __tsan_unaligned_write##size(void* address) { alma::emulator::hook_write(address, size, 1); }
ALMA_UNALIGNED_HOOKS(2)
ALMA_UNALIGNED_HOOKS(4)
ALMA_UNALIGNED_HOOKS(8)
ALMA_UNALIGNED_HOOKS(16)
ALMA_HOOK __tsan_read_range(void* address, unsigned long bytes) { alma::emulator::hook_read(address, bytes, 1); }
ALMA_HOOK __tsan_write_range(void* address, unsigned long bytes) { alma::emulator::hook_write(address, bytes, 1); }
ALMA_HOOK __tsan_vptr_update(void**, void*) {}
ALMA_HOOK __tsan_vptr_read(void**) {}
ALMA_HOOK __tsan_func_entry(void*) {}
ALMA_HOOK __tsan_func_exit() {}
ALMA_HOOK __tsan_init() {}

// Atomics of instrumented host code (std::atomic, static variables); kernels have atomicAdd() and the like, and fences.
#define ALMA_ATOMIC_UPDATE(bits, T, name, builtin)                                                            \
  extern "C" __attribute__((visibility("hidden"))) T __tsan_atomic##bits##_##name(T* address, T value, int) { \
    return builtin(address, value, __ATOMIC_SEQ_CST);                                                         \
  }
#define ALMA_ATOMIC_HOOKS(bits, T)                                                                           \
  extern "C" __attribute__((visibility("hidden"))) T __tsan_atomic##bits##_load(const T* address, int) {     \
    return __atomic_load_n(address, __ATOMIC_SEQ_CST);                                                       \
  }                                                                                                          \
  ALMA_HOOK __tsan_atomic##bits##_store(T* address, T value, int) {                                          \
    __atomic_store_n(address, value, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                          \
  extern "C" __attribute__((visibility("hidden"))) bool __tsan_atomic##bits##_compare_exchange_strong(       \
      T* address, T* expected, T value, int, int) {                                                          \
    return __atomic_compare_exchange_n(address, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                                          \
  extern "C" __attribute__((visibility("hidden"))) bool __tsan_atomic##bits##_compare_exchange_weak(         \
      T* address, T* expected, T value, int, int) {                                                          \
    return __atomic_compare_exchange_n(address, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                                          \
  ALMA_ATOMIC_UPDATE(bits, T, exchange, __atomic_exchange_n)                                                 \
  ALMA_ATOMIC_UPDATE(bits, T, fetch_add, __atomic_fetch_add)                                                 \
  ALMA_ATOMIC_UPDATE(bits, T, fetch_sub, __atomic_fetch_sub)                                                 \
  ALMA_ATOMIC_UPDATE(bits, T, fetch_and, __atomic_fetch_and)                                                 \
  ALMA_ATOMIC_UPDATE(bits, T, fetch_or, __atomic_fetch_or)                                                   \
  ALMA_ATOMIC_UPDATE(bits, T, fetch_xor, __atomic_fetch_xor)
ALMA_ATOMIC_HOOKS(8, uint8_t)
ALMA_ATOMIC_HOOKS(16, uint16_t)
ALMA_ATOMIC_HOOKS(32, uint32_t)
ALMA_ATOMIC_HOOKS(64, uint64_t)
ALMA_HOOK __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
ALMA_HOOK __tsan_atomic_signal_fence(int) {}

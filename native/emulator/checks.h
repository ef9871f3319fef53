// Checks of every load and store of a kernel. The kernels' object code is compiled with -fsanitize=thread, which calls a function before
// each access; here those functions are not ThreadSanitizer's but the emulator's (checks.cpp).
#pragma once

#include <cstddef>

namespace alma::emulator {

// An access that the compiler does not see, such as that of an emulated instruction.
void check_read(const void* address, size_t bytes, size_t alignment);
void check_write(const void* address, size_t bytes, size_t alignment);
// A prefetch reads what there is: before grid_dependency_wait() it must be what nobody writes.
void check_prefetch(const void* address);

// A kernel was given a bad value (native/cuda/value_error.h). What it then writes is nobody's result, and may come from several blocks:
// races between blocks are not reported until the host has taken notice.
void note_bad_value();
void forget_bad_values();
// All blocks of a launch have ended.
void end_of_launch();

// On unless ALMA_EMULATOR_CHECKS=off.
bool checks_enabled();
void set_checks_enabled(bool enabled);

}  // namespace alma::emulator

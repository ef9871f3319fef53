// Checks of every load and store of a kernel. The kernels' object code is compiled with -fsanitize=thread, which calls a function before
// each access; here those functions are not ThreadSanitizer's but the emulator's (checks.cpp).
#pragma once

#include <cstddef>

namespace alma::emulator {

// An access that the compiler does not see, such as that of an emulated instruction.
void check_read(const void* address, size_t bytes, size_t alignment);
void check_write(const void* address, size_t bytes, size_t alignment);

// On unless ALMA_EMULATOR_CHECKS=off.
bool checks_enabled();
void set_checks_enabled(bool enabled);

}  // namespace alma::emulator

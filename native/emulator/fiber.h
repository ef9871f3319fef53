// Fibers: one for every CUDA thread of a block. Switching costs a few nanoseconds: no system call, and no signal mask as in ucontext.
#pragma once

#include <cstddef>

namespace alma::emulator {

// Saves the caller's registers on its stack and its stack pointer in *save, then goes on where `load` was saved.
extern "C" void alma_emulator_switch(void** save, void* load);

// The stack pointer of a fiber that has not run yet: its first switch calls entry(), which never returns.
void* prepare_stack(char* top, void (*entry)());

}  // namespace alma::emulator

#include "fiber.h"

#include <cstdint>

// The callee-saved registers of the System V and AArch64 calling conventions; the others are the compiler's business at a call.
#if defined(__x86_64__)
asm(R"(
.text
.hidden alma_emulator_switch
.globl alma_emulator_switch
.type alma_emulator_switch,@function
alma_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size alma_emulator_switch, .-alma_emulator_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.hidden alma_emulator_switch
.globl alma_emulator_switch
.type alma_emulator_switch,@function
alma_emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size alma_emulator_switch, .-alma_emulator_switch
)");
#else
#error "the emulator knows x86-64 and AArch64"
#endif

namespace alma::emulator {

void* prepare_stack(char* top, void (*entry)()) {
  auto address = reinterpret_cast<uintptr_t>(top) & ~uintptr_t{63};
#if defined(__x86_64__)
  auto* stack = reinterpret_cast<void**>(address);
  *--stack = nullptr;  // where entry() would return to; also aligns the stack as behind a call
  *--stack = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--stack = nullptr;
  return stack;
#else
  auto* stack = reinterpret_cast<void**>(address - 160);
  for (int i = 0; i < 20; ++i) stack[i] = nullptr;
  stack[11] = reinterpret_cast<void*>(entry);  // x30
  return stack;
#endif
}

}  // namespace alma::emulator

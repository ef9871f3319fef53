#include "amx_support.h"

#if defined(ALMA_CPU_X86) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace alma::cpu {

bool request_amx() {
  // Intel's manual, CPUID leaf 7: EDX has AMX-BF16 in bit 22 and AMX-TILE in bit 24.
  constexpr unsigned kNeeded = 1u << 22 | 1u << 24;
  // Linux, Documentation/arch/x86/xstate.rst.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kNeeded) != kNeeded) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace alma::cpu
#else
namespace alma::cpu {

bool request_amx() { return false; }

}  // namespace alma::cpu
#endif

// setmaxnreg: a warpgroup gives registers back, or takes what others have given back. The kernel's __launch_bounds__ must name the
// blocks a multiprocessor as well, or ptxas ignores it (C7508, which the build refuses).
#pragma once

#include <cuda_runtime.h>

#include "call_site.h"

#ifdef ALMA_EMULATOR
#include "../../emulator/warpgroup.h"
#endif

namespace alma::ptx {

template <int kCount>
__device__ __forceinline__ void decrease_registers(ALMA_CALL_SITE_ONLY) {
#ifdef ALMA_EMULATOR
  emulator::set_max_registers(kCount, here);
#else
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kCount));
#endif
}

template <int kCount>
__device__ __forceinline__ void increase_registers(ALMA_CALL_SITE_ONLY) {
#ifdef ALMA_EMULATOR
  emulator::set_max_registers(kCount, here);
#else
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kCount));
#endif
}

}  // namespace alma::ptx

// Stands in for launchers that are not written yet: weak, so that the real ones take their place.
#include "../../runtime/error.h"
#include "../portable/ops.h"
#include "cuda_ops.h"

namespace alma::ALMA_CUDA::portable {
#define ALMA_MISSING(op, Arguments) \
  __attribute__((weak)) void op(Context&, const Arguments&) { throw Error("ERR_ALMA_DEVICE", #op " has no kernel yet"); }
ALMA_CUDA_OPS(ALMA_MISSING)
#undef ALMA_MISSING
}  // namespace alma::ALMA_CUDA::portable

#include "cuda_ops.h"

#include "../portable/ops.h"

namespace alma::ALMA_CUDA {

#define ALMA_DEFINE(op, Arguments) \
  void CudaOps::op(const Arguments& args) { portable::op(context_, args); }
ALMA_CUDA_OPS(ALMA_DEFINE)
#undef ALMA_DEFINE

}  // namespace alma::ALMA_CUDA

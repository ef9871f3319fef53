// The ops that native/runtime/op_parts.h puts together, as kernels. None of them uses the workspace for few rows.
#pragma once

#include "../../runtime/op_parts.h"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {

struct PartOps {
  Context& context;
  void rms_norm(const RmsNormArgs& args) { portable::rms_norm(context, args); }
  void matmul(const MatmulArgs& args) { portable::matmul(context, args); }
  void rope(const RopeArgs& args) { portable::rope(context, args); }
  void scatter_rows(const ScatterRowsArgs& args) { portable::scatter_rows(context, args); }
  void swi_glu(const SwiGluArgs& args) { portable::swi_glu(context, args); }
  void add(const AddArgs& args) { portable::add(context, args); }
};

}  // namespace alma::ALMA_CUDA::portable

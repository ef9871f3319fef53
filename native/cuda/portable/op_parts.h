// The ops that native/runtime/op_parts.h puts together, as kernels. What they leave for each other lies in the workspace, which a product
// must not use at the same time to divide k: those of decoding steps do not, others are given an order in which they do not.
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

// For args with an invariance and rows.
template <class Args>
Args without_workspace(Args args) {
  if (args.invariance == Invariance::none)
    args.invariance = args.rows <= 16 ? Invariance::few_rows : Invariance::many_rows;
  return args;
}

}  // namespace alma::ALMA_CUDA::portable

// The kernels of a plain product in one layout.
#pragma once

#include "matmul_kernel.cuh"
#include "matmul_store.cuh"

namespace alma::ALMA_CUDA::hopper {

template <class C>
void launch_config(const Context& context, const MatmulProblem& problem, bool bulk_store) {
  if (bulk_store) return launch_tiles<C, BulkEpilogue<C>>(context, "matmul", problem);
  launch_tiles<C, DirectEpilogue<C>>(context, "matmul", problem);
}

template <MatmulLayout kLayout>
void launch_layout(const Context& context, const MatmulPlan& plan, const MatmulProblem& problem, bool bulk_store) {
  switch (plan.columns) {
    case TileColumns::n64: return launch_config<MatmulConfig<kLayout, 64, 1>>(context, problem, bulk_store);
    case TileColumns::n128: return launch_config<MatmulConfig<kLayout, 128, 1>>(context, problem, bulk_store);
    case TileColumns::n256:
      if (plan.cluster == 2) return launch_config<MatmulConfig<kLayout, 256, 2>>(context, problem, bulk_store);
      return launch_config<MatmulConfig<kLayout, 256, 1>>(context, problem, bulk_store);
  }
}

}  // namespace alma::ALMA_CUDA::hopper

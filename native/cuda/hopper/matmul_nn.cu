#include "matmul_launch.cuh"

namespace alma::ALMA_CUDA::hopper {

void launch_matmul_nn(const Context& context, const MatmulPlan& plan, const MatmulProblem& problem, bool bulk_store) {
  launch_layout<MatmulLayout::nn>(context, plan, problem, bulk_store);
}

}  // namespace alma::ALMA_CUDA::hopper

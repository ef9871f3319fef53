// Losses of preference pairs from token likelihoods, with the gradient as a factor of every row.
//
// A step has a few thousand rows at most: one block, a warp a pair, all sums in f64 and of fixed shape.
#include "../../runtime/preference_formula.h"
#include "../shared_memory.cuh"
#include "../value_error.h"
#include "dispatch.h"
#include "ops.h"
#include "reduce.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kThreads = 256, kSums = 5;

struct Call {
  const float* nll;
  const int* cu_rows;
  const float* weights;
  float* row_scale;
  float* logps;
  float* losses;
  float* sums;
  int64_t rows, pairs;
  PreferenceFormula formula;
  ValueError* error;
};

struct Shared {
  double partial[kSums][kMaxWarps];
  int bad;
};

// The sum of the likelihoods of rows [begin, end), for every lane of the warp.
__device__ __forceinline__ double sum_of(const Call& call, int begin, int end, int lane) {
  double sum = 0;
  for (int row = begin + lane; row < end; row += kWarp) sum += call.nll[row];
  return warp_sum(sum);
}

__device__ __forceinline__ void set_rows(const Call& call, int begin, int end, int lane, double value) {
  for (int row = begin + lane; row < end; row += kWarp) call.row_scale[row] = static_cast<float>(value);
}

__global__ void __launch_bounds__(kThreads) preference_loss_kernel(const Call call) {
  ALMA_SHARED(Shared, shared);
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  if (threadIdx.x == 0) shared.bad = 0;
  __syncthreads();
  const int bounds = static_cast<int>(2 * call.pairs);
  for (int s = static_cast<int>(threadIdx.x); s <= bounds; s += kThreads) {
    const int before = s == 0 ? 0 : call.cu_rows[s - 1], bound = call.cu_rows[s];
    if (bound >= before && bound <= call.rows) continue;
    report_value(call.error, ValueCheck::preference_loss_cu_rows, bound, call.rows + 1);
    atomicExch(&shared.bad, 1);
  }
  __syncthreads();
  if (shared.bad != 0) return;
  for (int64_t row = threadIdx.x; row < call.rows; row += kThreads)
    if (row < call.cu_rows[0] || row >= call.cu_rows[bounds]) call.row_scale[row] = 0;

  const bool means = call.formula.takes_means();
  double total[kSums] = {};
  for (int p = warp; p < call.pairs; p += kThreads / kWarp) {
    const int other = static_cast<int>(call.pairs) + p;
    const int chosen_begin = call.cu_rows[p], chosen_end = call.cu_rows[p + 1];
    const int rejected_begin = call.cu_rows[other], rejected_end = call.cu_rows[other + 1];
    const double chosen_rows = chosen_end - chosen_begin, rejected_rows = rejected_end - rejected_begin;
    const double chosen_divisor = means ? fmax(1.0, chosen_rows) : 1,
                 rejected_divisor = means ? fmax(1.0, rejected_rows) : 1;
    const double chosen_nll = sum_of(call, chosen_begin, chosen_end, lane);
    const double rejected_nll = sum_of(call, rejected_begin, rejected_end, lane);
    const PreferencePair pair{-chosen_nll / chosen_divisor, -rejected_nll / rejected_divisor, chosen_rows,
                              rejected_rows};
    const PreferenceResult result = call.formula(pair);
    set_rows(call, chosen_begin, chosen_end, lane, call.weights[1] - call.weights[0] * result.dchosen / chosen_divisor);
    set_rows(call, rejected_begin, rejected_end, lane, -call.weights[0] * result.drejected / rejected_divisor);
    if (lane != 0) continue;
    call.logps[p] = static_cast<float>(pair.chosen);
    call.logps[other] = static_cast<float>(pair.rejected);
    call.losses[p] = static_cast<float>(result.loss);
    total[0] += result.loss;
    total[1] += chosen_nll;
    total[2] += pair.chosen;
    total[3] += pair.rejected;
    total[4] += pair.chosen > pair.rejected ? 1 : 0;
  }

#pragma unroll 1
  for (int i = 0; i < kSums; ++i) {
    const double sum = block_sum(total[i], shared.partial[i]);
    if (threadIdx.x == 0) call.sums[i] = static_cast<float>(call.sums[i] + sum);
  }
}

}  // namespace

void preference_loss(Context& context, const PreferenceLossArgs& args) {
  const Call call{pointer<float>(args.nll),
                  pointer<int>(args.cu_rows),
                  pointer<float>(args.weights),
                  pointer<float>(args.row_scale),
                  pointer<float>(args.logps),
                  pointer<float>(args.losses),
                  pointer<float>(args.sums),
                  args.rows,
                  args.pairs,
                  {args.loss, args.beta, args.label_smoothing, args.gamma, args.relax1, args.relax2},
                  context.value_error};
  launch(context, "preference_loss", {dim3(1), dim3(kThreads), sizeof(Shared)}, preference_loss_kernel, call);
}

}  // namespace alma::ALMA_CUDA::portable

// The column of the largest logit of each row, ties to the lowest; NaN never wins. A block takes a row.
#include "../shared_memory.cuh"
#include "dispatch.h"
#include "ops.h"
#include "row_statistics.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kMaxThreads = 1024;

template <class T, int N>
__global__ void __launch_bounds__(kMaxThreads) argmax_kernel(const T* logits, int64_t vocab, int* ids, float* logprob) {
  ALMA_SHARED(RowShared, shared);
  const int64_t row = blockIdx.x;
  logits += row * vocab;
  const float highest = row_maximum<N>(logits, vocab, shared);
  const int id = row_find<N>(logits, vocab, highest, 0, shared);  // 0: every logit is NaN
  if (threadIdx.x == 0) ids[row] = id;
  if (logprob == nullptr) return;
  const double sum = row_sum_of_exp<N>(logits, vocab, highest, shared);
  if (threadIdx.x == 0) logprob[row] = static_cast<float>(-log(sum));
}

}  // namespace

void argmax(Context& context, const ArgmaxArgs& args) {
  if (args.rows <= 0 || args.vocab <= 0) return;
  with_float("argmax", args.logits.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int N = kLanesOf<T>;
    const bool whole = args.vocab % N == 0 && aligned(16, args.logits);
    const unsigned threads = threads_for(ceil_div(args.vocab, whole ? 2 * N : 4), kMaxThreads);
    launch(context, "argmax", {grid_of("argmax", args.rows), dim3(threads), sizeof(RowShared)},
           whole ? argmax_kernel<T, N> : argmax_kernel<T, 1>, pointer<T>(args.logits), args.vocab,
           pointer<int>(args.ids), pointer<float>(args.logprob));
  });
}

}  // namespace alma::ALMA_CUDA::portable

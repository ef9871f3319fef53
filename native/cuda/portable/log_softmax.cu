// Log-probabilities of every token of every row, for beam search. A block takes a row.
#include "../shared_memory.cuh"
#include "dispatch.h"
#include "ops.h"
#include "row_statistics.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kMaxThreads = 1024;

template <class T, int N>
__global__ void __launch_bounds__(kMaxThreads) log_softmax_kernel(const T* logits, float* out, int64_t vocab) {
  ALMA_SHARED(RowShared, shared);
  logits += blockIdx.x * vocab;
  out += blockIdx.x * vocab;
  const float highest = row_maximum<N>(logits, vocab, shared);
  const float log_sum = static_cast<float>(log(row_sum_of_exp<N>(logits, vocab, highest, shared)));
  for (int64_t i = static_cast<int64_t>(threadIdx.x) * N; i < vocab; i += static_cast<int64_t>(blockDim.x) * N) {
    const Vector<T, N> in = load_vector<N>(logits + i);
    Vector<float, N> values;
#pragma unroll
    for (int lane = 0; lane < N; ++lane) values.elements[lane] = (in[lane] - highest) - log_sum;
    store_vector(out + i, values);
  }
}

}  // namespace

void log_softmax(Context& context, const LogSoftmaxArgs& args) {
  if (args.rows <= 0 || args.vocab <= 0) return;
  with_float("log_softmax", args.logits.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int N = kLanesOf<T>;
    const bool whole = args.vocab % N == 0 && aligned(16, args.logits, args.out);
    const unsigned threads = threads_for(ceil_div(args.vocab, whole ? 2 * N : 4), kMaxThreads);
    launch(context, "log_softmax", {grid_of("log_softmax", args.rows), dim3(threads), sizeof(RowShared)},
           whole ? log_softmax_kernel<T, N> : log_softmax_kernel<T, 1>, pointer<T>(args.logits),
           pointer<float>(args.out), args.vocab);
  });
}

}  // namespace alma::ALMA_CUDA::portable

// history[i][history_length[i]] = ids[i]; history_length[i] += 1.
#include "../value_error.h"
#include "dispatch.h"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kThreads = 128;

__global__ void append_tokens_kernel(const int* ids, int* history, int* history_length, int64_t rows, int64_t stride,
                                     ValueError* error) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= rows) return;
  const int length = history_length[row];
  if (!check_index(error, ValueCheck::append_tokens_length, length, stride)) return;
  history[row * stride + length] = ids[row];
  history_length[row] = length + 1;
}

}  // namespace

void append_tokens(Context& context, const AppendTokensArgs& args) {
  launch(context, "append_tokens", {grid_of("append_tokens", ceil_div(args.rows, kThreads)), dim3(kThreads)},
         append_tokens_kernel, pointer<int>(args.ids), pointer<int>(args.history), pointer<int>(args.history_length),
         args.rows, args.history_stride, context.value_error);
}

}  // namespace alma::ALMA_CUDA::portable

// history[i][history_length[i]] = ids[i]; history_length[i] += 1.
#include "kernels.h"

namespace alma::cpu {

void append_tokens(const AppendTokensArgs& args) {
  const auto* ids = static_cast<const int32_t*>(args.ids.data);
  auto* history = static_cast<int32_t*>(args.history.data);
  auto* length = static_cast<int32_t*>(args.history_length.data);
  for (int64_t row = 0; row < args.rows; ++row)
    if (length[row] < 0 || length[row] >= args.history_stride)
      fail_index("append_tokens", "history_length", length[row], args.history_stride);
  for (int64_t row = 0; row < args.rows; ++row) history[row * args.history_stride + length[row]++] = ids[row];
}

}  // namespace alma::cpu

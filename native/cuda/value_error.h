// Values that live on the device (ids, positions, sequence bounds) are checked by the kernel that uses them as an index. A kernel cannot
// throw: it reports the first bad value here, does without it (skips the row), and the host throws what the CPU device would have thrown
// when it next looks: at a read, a synchronize, or the end of a graph.
#pragma once

#include <cuda_runtime.h>

#include "namespace.h"

namespace alma::ALMA_CUDA {

// One line a check: enumerator, op, what (the texts of the CPU device's fail_index: "op: what value is outside [0, limit)").
#define ALMA_VALUE_CHECKS(X)                                                                               \
  X(gather_rows_row, "gather_rows", "row")                                                                 \
  X(scatter_rows_row, "scatter_rows", "row")                                                               \
  X(embedding_backward_row, "embedding_backward", "row")                                                   \
  X(rope_position, "rope", "position")                                                                     \
  X(cross_entropy_target, "cross_entropy", "target")                                                       \
  X(adamw_step, "adamw", "step, counted from 0,")                                                          \
  X(process_logits_length, "process_logits", "history_length")                                             \
  X(process_logits_id, "process_logits", "history id")                                                     \
  X(process_logits_suppressed, "process_logits", "suppressed id")                                          \
  X(attention_cu_seqlens_q, "attention", "cu_seqlens_q")                                                   \
  X(attention_k_begin, "attention", "k_begin")                                                             \
  X(attention_k_end, "attention", "k_end")                                                                 \
  X(attention_block_table, "attention", "block_table")                                                     \
  X(attention_backward_cu_seqlens_q, "attention_backward", "cu_seqlens_q")                                 \
  X(attention_backward_k_begin, "attention_backward", "k_begin")                                           \
  X(attention_backward_k_end, "attention_backward", "k_end")                                               \
  X(attention_backward_shared_rows, "attention_backward", "k_begin, within the rows of another sequence,") \
  X(append_tokens_length, "append_tokens", "history_length")                                               \
  X(copy_blocks_block, "copy_blocks", "block")                                                             \
  X(preference_loss_cu_rows, "preference_loss", "cu_rows")

enum class ValueCheck : int {
  none = 0,
#define ALMA_VALUE_CHECK(name, op, what) name,
  ALMA_VALUE_CHECKS(ALMA_VALUE_CHECK)
#undef ALMA_VALUE_CHECK
};

struct ValueError {
  int check;  // a ValueCheck; none: nothing happened
  int pad;
  long long value, limit;
};

#if defined(__CUDACC__) || defined(ALMA_EMULATOR)  // host files see the struct alone
// Reports a value that is outside [0, limit), or bad for another reason. The first report stays.
__device__ inline void report_value(ValueError* error, ValueCheck check, long long value, long long limit) {
#ifdef ALMA_EMULATOR
  emulator::note_bad_value();
#endif
  if (atomicCAS(&error->check, 0, static_cast<int>(check)) != 0) return;
  error->value = value;
  error->limit = limit;
}

// True when 0 ≤ value < limit; otherwise reports and gives false.
__device__ inline bool check_index(ValueError* error, ValueCheck check, long long value, long long limit) {
  if (value >= 0 && value < limit) return true;
  report_value(error, check, value, limit);
  return false;
}
#endif

}  // namespace alma::ALMA_CUDA

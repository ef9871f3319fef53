// Logits processors of generation (transformers generation/logits_process.py), in place: repetition penalty, then no-repeat n-grams,
// then suppressed ids. A block takes a row.
#include "../value_error.h"
#include "dispatch.h"
#include "ops.h"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kThreads = 256;

template <class T>
struct Call {
  T* logits;
  const int* history;
  const int* history_length;
  const int* suppress;
  const int* suppress_below;
  unsigned* seen;  // [rows, words]: a bit an id
  int64_t words, vocab, history_stride, suppress_count;
  float penalty;
  int ngram;
  ValueError* error;
};

template <class T>
__device__ void penalise(const Call<T>& call, T* logits, const int* history, int length, unsigned* seen) {
  for (int64_t i = threadIdx.x; i < call.words; i += kThreads) seen[i] = 0;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < length; i += kThreads) {
    const int id = history[i];
    if (!check_index(call.error, ValueCheck::process_logits_id, id, call.vocab)) continue;
    const unsigned bit = 1u << (id % 32);
    if ((atomicOr(&seen[id / 32], bit) & bit) != 0) continue;  // once an id, whichever thread is first
    const float score = to_float(logits[id]);
    logits[id] = from_float<T>(score < 0 ? score * call.penalty : score / call.penalty);
  }
}

template <class T>
__device__ void ban_repeats(const Call<T>& call, T* logits, const int* history, int length) {
  const int prefix = call.ngram - 1;
  const int* last = history + length - prefix;
  for (int i = static_cast<int>(threadIdx.x); i + prefix < length; i += kThreads) {
    bool same = true;
    for (int j = 0; j < prefix && same; ++j) same = last[j] == history[i + j];
    const int id = history[i + prefix];
    if (same && check_index(call.error, ValueCheck::process_logits_id, id, call.vocab))
      logits[id] = from_float<T>(-INFINITY);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) process_logits_kernel(const Call<T> call) {
  const int64_t row = blockIdx.x;
  T* logits = call.logits + row * call.vocab;
  const int* history = call.history + row * call.history_stride;
  const int length = call.history_length != nullptr ? call.history_length[row] : 0;
  if (!check_index(call.error, ValueCheck::process_logits_length, length, call.history_stride + 1)) return;
  if (call.penalty != 1.0f) {
    penalise(call, logits, history, length, call.seen + row * call.words);
    __syncthreads();
  }
  if (call.ngram > 0 && length >= call.ngram) {
    ban_repeats(call, logits, history, length);
    __syncthreads();
  }
  if (call.suppress == nullptr || (call.suppress_below != nullptr && length >= call.suppress_below[row])) return;
  for (int64_t i = threadIdx.x; i < call.suppress_count; i += kThreads) {
    const int id = call.suppress[i];
    if (check_index(call.error, ValueCheck::process_logits_suppressed, id, call.vocab))
      logits[id] = from_float<T>(-INFINITY);
  }
}

}  // namespace

void process_logits(Context& context, const ProcessLogitsArgs& args) {
  if (args.rows <= 0 || args.vocab <= 0) return;
  const int64_t words = ceil_div(args.vocab, 32);
  unsigned* seen = nullptr;
  if (args.repetition_penalty != 1.0f)
    seen = static_cast<unsigned*>(context.workspace->get(sizeof(unsigned) * static_cast<size_t>(args.rows * words)));
  with_float("process_logits", args.logits.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Call<T> call{pointer<T>(args.logits),
                       pointer<int>(args.history),
                       pointer<int>(args.history_length),
                       pointer<int>(args.suppress),
                       pointer<int>(args.suppress_below),
                       seen,
                       words,
                       args.vocab,
                       args.history_stride,
                       args.suppress_count,
                       args.repetition_penalty,
                       args.no_repeat_ngram,
                       context.value_error};
    launch(context, "process_logits", {grid_of("process_logits", args.rows), dim3(kThreads)}, process_logits_kernel<T>,
           call);
  });
}

}  // namespace alma::ALMA_CUDA::portable

// Logits processors of generation (transformers generation/logits_process.py), in place: repetition penalty, then no-repeat
// n-grams, then suppressed ids.
#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels.h"

namespace alma::cpu {
namespace {

float read(const float* p) { return *p; }
float read(const uint16_t* p) { return f32_from_bf16(*p); }
void write(float* p, float value) { *p = value; }
void write(uint16_t* p, float value) { *p = bf16_from_f32(value); }

template <class T>
void penalise(T* logits, const int32_t* history, int32_t length, float penalty, uint64_t* seen, size_t seen_bytes) {
  std::memset(seen, 0, seen_bytes);
  for (int32_t i = 0; i < length; ++i) {
    const auto id = static_cast<size_t>(history[i]);
    const uint64_t bit = uint64_t{1} << (id % 64);
    if (seen[id / 64] & bit) continue;
    seen[id / 64] |= bit;
    const float score = read(logits + id);
    write(logits + id, score < 0 ? score * penalty : score / penalty);
  }
}

template <class T>
void ban_repeats(T* logits, const int32_t* history, int32_t length, int32_t n) {
  const int32_t prefix = n - 1;
  const int32_t* last = history + length - prefix;
  for (int32_t i = 0; i + prefix < length; ++i)
    if (std::equal(last, last + prefix, history + i))
      write(logits + history[i + prefix], -std::numeric_limits<float>::infinity());
}

template <class T>
void process_row(const ProcessLogitsArgs& args, int64_t row, uint64_t* seen, size_t seen_bytes) {
  T* logits = static_cast<T*>(args.logits.data) + row * args.vocab;
  const auto* history = static_cast<const int32_t*>(args.history.data) + row * args.history_stride;
  const int32_t length = args.history_length.data ? static_cast<const int32_t*>(args.history_length.data)[row] : 0;
  if (args.repetition_penalty != 1.0f) penalise(logits, history, length, args.repetition_penalty, seen, seen_bytes);
  if (args.no_repeat_ngram > 0 && length >= args.no_repeat_ngram)
    ban_repeats(logits, history, length, args.no_repeat_ngram);
  if (!args.suppress.data) return;
  const auto* below = static_cast<const int32_t*>(args.suppress_below.data);
  if (below && length >= below[row]) return;
  const auto* suppress = static_cast<const int32_t*>(args.suppress.data);
  for (int64_t i = 0; i < args.suppress_count; ++i)
    write(logits + suppress[i], -std::numeric_limits<float>::infinity());
}

void check(const ProcessLogitsArgs& args) {
  if (args.logits.dtype != DType::f32 && args.logits.dtype != DType::bf16) fail("process_logits", "needs float logits");
  const bool reads_history = args.repetition_penalty != 1.0f || args.no_repeat_ngram > 0;
  const auto* length = static_cast<const int32_t*>(args.history_length.data);
  for (int64_t row = 0; length && row < args.rows; ++row) {
    if (length[row] < 0 || length[row] > args.history_stride)
      fail_index("process_logits", "history_length", length[row], args.history_stride + 1);
    if (!reads_history) continue;
    const auto* history = static_cast<const int32_t*>(args.history.data) + row * args.history_stride;
    for (int32_t i = 0; i < length[row]; ++i)
      if (history[i] < 0 || history[i] >= args.vocab)
        fail_index("process_logits", "history id", history[i], args.vocab);
  }
  const auto* suppress = static_cast<const int32_t*>(args.suppress.data);
  for (int64_t i = 0; suppress && i < args.suppress_count; ++i)
    if (suppress[i] < 0 || suppress[i] >= args.vocab)
      fail_index("process_logits", "suppressed id", suppress[i], args.vocab);
}

}  // namespace

void process_logits(ThreadPool& pool, const ProcessLogitsArgs& args) {
  check(args);
  const size_t seen_bytes = static_cast<size_t>((args.vocab + 63) / 64) * sizeof(uint64_t);
  constexpr int64_t kRows = 8;  // a row takes a microsecond or two
  pool.run((args.rows + kRows - 1) / kRows, [&](int64_t chunk, int thread) {
    auto* seen = static_cast<uint64_t*>(pool.scratch(thread, 2, seen_bytes));
    for (int64_t row = chunk * kRows; row < std::min(args.rows, (chunk + 1) * kRows); ++row) {
      if (args.logits.dtype == DType::f32) {
        process_row<float>(args, row, seen, seen_bytes);
      } else {
        process_row<uint16_t>(args, row, seen, seen_bytes);
      }
    }
  });
}

}  // namespace alma::cpu

// The column of the largest logit of each row, ties to the lowest; NaN never wins.
#include <math.h>

#include "parallel.h"
#include "row_statistics.h"

namespace alma::cpu::ALMA_ISA {
namespace {

template <class T>
int32_t find(const T* row, int64_t count, float value) {
  const I lanes = lane_numbers();
  for (int64_t i = 0; i < count; i += W) {
    const int n = static_cast<int>(min<int64_t>(W, count - i));
    const I equal = (load(row + i, n) == value) & (lanes < n);
    for (int lane = 0; lane < n; ++lane)
      if (equal[lane]) return static_cast<int32_t>(i + lane);
  }
  return 0;  // every logit is NaN
}

template <class T>
int32_t first_maximum(const T* row, int64_t count, float highest) {
  // Blocks whose maximum is not `highest` are passed over; scanning lane by lane is for one block only.
  constexpr int64_t kBlock = 32 * W;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t length = min(kBlock, count - begin);
    I any = {};
    for_lanes(length, [&](int64_t i, int lanes) ALMA_LAMBDA {
      const I equal = load(row + begin + i, lanes) == highest;
      any |= lanes >= W ? equal : equal & (lane_numbers() < lanes);
    });
    int32_t found = 0;
    for (int lane = 0; lane < W; ++lane) found |= any[lane];
    if (found) return static_cast<int32_t>(begin) + find(row + begin, length, highest);
  }
  return find(row, count, highest);
}

}  // namespace

void argmax(ThreadPool& pool, const ArgmaxArgs& args) {
  if (args.rows <= 0 || args.vocab <= 0) return;
  int32_t* ids = pointer<int32_t>(args.ids);
  float* logprob = pointer<float>(args.logprob);
  with_float("argmax", args.logits.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_rows(pool, args.rows, args.vocab, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        const T* logits = pointer<T>(args.logits, row * args.vocab);
        const float highest = row_maximum(logits, args.vocab);
        ids[row] = first_maximum(logits, args.vocab, highest);
        if (logprob) logprob[row] = static_cast<float>(-log(row_sum_of_exp(logits, args.vocab, highest)));
      }
    });
  });
}

// Row as f32 with its statistics, for sample.
void row_statistics(TensorRef row, int64_t count, float* values, float* highest, float* log_sum_exp) {
  with_float("sample", row.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* in = pointer<T>(row);
    for_lanes(count, [&](int64_t i, int lanes) ALMA_LAMBDA { store(values + i, load(in + i, lanes), lanes); });
  });
  *highest = row_maximum(values, count);
  *log_sum_exp = static_cast<float>(*highest + log(row_sum_of_exp(values, count, *highest)));
}

void exp_row(const float* values, int64_t count, float highest, float scale, float* out) {
  for_lanes(count, [&](int64_t i, int lanes)
                       ALMA_LAMBDA { store(out + i, exp((load(values + i, lanes) - highest) * scale), lanes); });
}

}  // namespace alma::cpu::ALMA_ISA

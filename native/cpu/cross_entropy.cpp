// Negative log-likelihood of the targets, and its gradient, in place where wanted: three passes over a row that stays in L2, while the next one
// comes there.
#include <math.h>

#include "parallel.h"
#include "row_statistics.h"

namespace alma::cpu::ALMA_ISA {
namespace {

// Rows that a thread takes at a time where there are many: it knows what it reads next.
constexpr int64_t kRowsTogether = 16;

// Σ exp(logits[i] − highest). `next` is read after this. kKeep: exponentials go to dlogits, which may be where the logits are.
template <bool kKeep, class T>
double sum_of_exp(const T* logits, int64_t vocab, float highest, const T* next, T* dlogits) {
  return row_sum_of_exp(logits, vocab, highest, [&](int64_t i, int lanes, F exps) ALMA_LAMBDA {
    __builtin_prefetch(next + i, 0, 2);
    if constexpr (kKeep) store(dlogits + i, exps, lanes);
  });
}

template <class T>
void rows_of(ThreadPool& pool, const CrossEntropyArgs& args, float scale) {
  const int32_t* targets = pointer<int32_t>(args.targets);
  const int64_t vocab = args.vocab;
  const int64_t grain =
      max(max<int64_t>(1, kElementGrain / 4 / vocab), min(kRowsTogether, args.rows / (8 * pool.threads())));
  parallel_ranges(pool, args.rows, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T* logits = pointer<T>(args.logits, row * vocab);
      const T* next = logits + (row + 1 < end ? vocab : 0);
      T* dlogits = pointer<T>(args.dlogits, row * vocab);
      const int32_t target = targets[row];
      const bool ignored = target == args.ignore_index;
      if (ignored && !args.log_sum_exp.data) {  // nothing is asked about this row
        if (args.nll.data) pointer<float>(args.nll)[row] = 0;
        if (dlogits) __builtin_memset(dlogits, 0, static_cast<size_t>(vocab) * sizeof(T));
        continue;
      }
      const double smoothing = args.label_smoothing;
      const float highest = row_maximum(logits, vocab), logit = ignored ? 0.0f : to_float(logits[target]);
      // The gradient needs the exponentials again; as bf16 they would not be the same, and smoothing still needs the logits.
      const bool keep = sizeof(T) == sizeof(float) && dlogits && !ignored && smoothing == 0;
      const double log_sum = log(keep ? sum_of_exp<true>(logits, vocab, highest, next, dlogits)
                                      : sum_of_exp<false>(logits, vocab, highest, next, dlogits));
      if (args.log_sum_exp.data) pointer<float>(args.log_sum_exp)[row] = static_cast<float>(highest + log_sum);
      if (args.nll.data)  // (target − highest) first: exact for close values, where lse − target would cancel
        pointer<float>(args.nll)[row] =
            ignored ? 0.0f : static_cast<float>(log_sum - (static_cast<double>(logit) - highest));
      if (args.nll.data && !ignored && smoothing > 0) {
        float& nll = pointer<float>(args.nll)[row];
        const double mean =
            sum_terms(vocab, [&](int64_t i, int lanes)
                                 ALMA_LAMBDA { return first_lanes(load(logits + i, lanes) - highest, lanes); }) /
            static_cast<double>(vocab);
        nll = static_cast<float>((1.0 - smoothing) * nll + smoothing * (log_sum - mean));
      }
      if (!dlogits) continue;
      if (ignored) {
        __builtin_memset(dlogits, 0, static_cast<size_t>(vocab) * sizeof(T));
        continue;
      }
      const double row_scale = args.row_scale.data ? scale * pointer<float>(args.row_scale)[row] : scale;
      const float factor = static_cast<float>(row_scale * ::exp(-log_sum));
      const double everywhere = smoothing / static_cast<double>(vocab);
      const auto uniform = static_cast<float>(row_scale * everywhere);
      const float at_target = static_cast<float>(
          row_scale * (::exp(static_cast<double>(logit) - highest - log_sum) - (1.0 - smoothing) - everywhere));
      for_lanes(vocab, [&](int64_t i, int lanes) ALMA_LAMBDA {
        const F exps = keep ? load(dlogits + i, lanes) : exp(load(logits + i, lanes) - highest);
        store(dlogits + i, exps * factor - uniform, lanes);
      });
      from_float(dlogits + target, at_target);
    }
  });
}

}  // namespace

void cross_entropy(ThreadPool& pool, const CrossEntropyArgs& args) {
  if (args.rows <= 0) return;
  const int32_t* targets = pointer<int32_t>(args.targets);
  for (int64_t row = 0; row < args.rows; ++row)
    if (targets[row] != args.ignore_index && (targets[row] < 0 || targets[row] >= args.vocab))
      fail_index("cross_entropy", "target", targets[row], args.vocab);
  same_dtype("cross_entropy", args.logits, args.dlogits);
  const float scale = args.grad_scale.data ? pointer<float>(args.grad_scale)[0] : 1.0f;
  with_float("cross_entropy", args.logits.dtype,
             [&](auto tag) { rows_of<typename decltype(tag)::type>(pool, args, scale); });
}

}  // namespace alma::cpu::ALMA_ISA

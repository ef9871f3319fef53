// Log-probabilities of every token of every row, for beam search.
#include <math.h>

#include "parallel.h"
#include "row_statistics.h"

namespace alma::cpu::ALMA_ISA {

void log_softmax(ThreadPool& pool, const LogSoftmaxArgs& args) {
  if (args.rows <= 0 || args.vocab <= 0) return;
  with_float("log_softmax", args.logits.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_rows(pool, args.rows, args.vocab, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        const T* logits = pointer<T>(args.logits, row * args.vocab);
        float* out = pointer<float>(args.out, row * args.vocab);
        const float highest = row_maximum(logits, args.vocab);
        const float log_sum = static_cast<float>(log(row_sum_of_exp(logits, args.vocab, highest)));
        for_lanes(args.vocab, [&](int64_t i, int lanes) ALMA_LAMBDA {
          store(out + i, (load(logits + i, lanes) - highest) - log_sum, lanes);
        });
      }
    });
  });
}

}  // namespace alma::cpu::ALMA_ISA

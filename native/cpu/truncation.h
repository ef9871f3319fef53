// Top-k and top-p of one row, shared by sample and warp_scores.
#pragma once

#include <cstdint>

namespace alma::cpu {

// The k-th largest value, NaN left out; −inf where there are fewer. scratch: `count` floats.
float kth_largest(const float* values, int64_t count, int64_t k, float* scratch);

// Sets the weights outside the nucleus to 0. transformers' TopPLogitsWarper sorts ascending and removes what has a cumulative
// probability ≤ 1 − p; said from the other end, a token stays when the tokens above it have together less than p. Among equal weights
// the lower id counts as higher. At least `keep` tokens stay where so many have a weight. scratch: `count` ids.
void keep_nucleus(float* weights, int64_t count, double p, int64_t keep, int32_t* scratch);

}  // namespace alma::cpu

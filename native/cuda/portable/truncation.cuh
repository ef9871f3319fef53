// Top-k and top-p of one row, for the block that works on it; shared by sample and warp_scores (native/cpu/truncation.h has the
// definitions). Both are radix selects, 8 bits a pass from the highest on, over a histogram in shared memory.
//
// The mass of a bin is exact: within a pass all mantissas of a bin have one exponent, so they are summed as integers, in two halves
// of 12 bits, whose sums of up to 2²⁰ fit into 32 bits: what shared memory adds natively, in any order to the same result.
#pragma once

#include "reduce.cuh"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA {

constexpr int64_t kMostTruncated = 1 << 20;  // columns
constexpr int kBins = 256;
constexpr int kBinsOfLane = kBins / kWarp;

struct TruncationShared {
  unsigned counts[kBins], low[kBins], high[kBins];
  int sums[kMaxWarps];
  // What one warp tells the others.
  unsigned digit;
  bool found;
  unsigned above;      // elements above the chosen bin
  double mass, total;  // above the chosen bin; altogether
};

// Order of the bits is order of the values.
__device__ __forceinline__ unsigned ordered_bits(float value) {
  const unsigned bits = __float_as_uint(value);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float value_of_ordered_bits(unsigned bits) {
  return __uint_as_float((bits & 0x80000000u) != 0 ? bits & 0x7fffffffu : ~bits);
}

__device__ __forceinline__ void clear_bins(TruncationShared& shared) {
  __syncthreads();
  for (int bin = static_cast<int>(threadIdx.x); bin < kBins; bin += static_cast<int>(blockDim.x)) {
    shared.counts[bin] = 0;
    shared.low[bin] = 0;
    shared.high[bin] = 0;
  }
  __syncthreads();
}

// The highest bin down to which there are `rank` elements and a mass of `target`, given those above all bins. The mass of one unit
// of a bin's integers is unit(bin). Warp 0 works; the answer is in `shared`, after a barrier.
template <class Unit>
__device__ __forceinline__ void choose_bin(TruncationShared& shared, unsigned rank, unsigned above, double target,
                                           double mass, const Unit& unit) {
  __syncthreads();
  if (threadIdx.x < kWarp) {
    const int lane = static_cast<int>(threadIdx.x);
    const int top = kBins - 1 - lane * kBinsOfLane;  // of this lane's bins, from the highest down
    const auto mass_of = [&](int bin) {
      return static_cast<double>((static_cast<unsigned long long>(shared.high[bin]) << 12) + shared.low[bin]) *
             unit(bin);
    };
    unsigned count = 0;
    double sum = 0;
    for (int i = 0; i < kBinsOfLane; ++i) {
      count += shared.counts[top - i];
      sum += mass_of(top - i);
    }
    unsigned counts_to = count;
    double sums_to = sum;
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const unsigned other_count = __shfl_up_sync(kAllLanes, counts_to, distance);
      const double other_sum = __shfl_up_sync(kAllLanes, sums_to, distance);
      if (lane >= distance) {
        counts_to += other_count;
        sums_to += other_sum;
      }
    }
    unsigned counts_before = __shfl_up_sync(kAllLanes, counts_to, 1);
    double sums_before = __shfl_up_sync(kAllLanes, sums_to, 1);
    if (lane == 0) counts_before = 0, sums_before = 0;
    const bool enough = above + counts_to >= rank && mass + sums_to >= target;
    const unsigned lanes = __ballot_sync(kAllLanes, enough);
    if (lane == kWarp - 1) shared.total = sums_to;
    if (lanes == 0) {
      if (lane == 0) shared.found = false;
    } else if (lane == __ffs(static_cast<int>(lanes)) - 1) {
      counts_before += above;
      sums_before += mass;
      int bin = top;
      // The last of the lane's bins needs no look: rounding may have it miss the target by a hair.
      while (bin > top - kBinsOfLane + 1 &&
             (counts_before + shared.counts[bin] < rank || sums_before + mass_of(bin) < target)) {
        counts_before += shared.counts[bin];
        sums_before += mass_of(bin);
        --bin;
      }
      shared.found = true;
      shared.digit = static_cast<unsigned>(bin);
      shared.above = counts_before;
      shared.mass = sums_before;
    }
  }
  __syncthreads();
}

// The k-th largest value (k ≥ 1), NaN left out; −inf where there are fewer.
template <class T>
__device__ __forceinline__ float kth_largest(const T* row, int64_t count, int64_t k, TruncationShared& shared) {
  unsigned prefix = 0, above = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    clear_bins(shared);
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
      const float value = to_float(row[i]);
      if (isnan(value)) continue;
      const unsigned bits = ordered_bits(value);
      if (shift == 24 || bits >> (shift + 8) == prefix) atomicAdd(&shared.counts[(bits >> shift) % kBins], 1u);
    }
    choose_bin(shared, static_cast<unsigned>(k), above, 0.0, 0.0, [](int) { return 0.0; });
    if (!shared.found) return -INFINITY;
    prefix = prefix << 8 | shared.digit;
    above = shared.above;
  }
  return value_of_ordered_bits(prefix);
}

// Sets the weights (≥ 0, no NaN) outside the nucleus to 0.
__device__ __forceinline__ void keep_nucleus(float* weights, int64_t count, double p, int64_t keep,
                                             TruncationShared& shared) {
  const auto rank = static_cast<unsigned>(keep < 1 ? 1 : keep);
  unsigned prefix = 0, above = 0;
  double mass = 0, target = 0;
  for (int pass = 0; pass < 4; ++pass) {
    // Bits 30–23, the exponent, then 22–15, 14–7 and 6–0.
    const int width = pass < 3 ? 8 : 7, shift = pass < 3 ? 23 - 8 * pass : 0;
    clear_bins(shared);
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
      const unsigned bits = __float_as_uint(weights[i]) & 0x7fffffffu;
      if (bits == 0 || (pass > 0 && bits >> (shift + width) != prefix)) continue;
      const unsigned digit = (bits >> shift) & ((1u << width) - 1);
      const unsigned mantissa = bits < 0x800000u ? bits : (bits & 0x7fffffu) | 0x800000u;
      atomicAdd(&shared.counts[digit], 1u);
      atomicAdd(&shared.low[digit], mantissa & 0xfffu);
      atomicAdd(&shared.high[digit], mantissa >> 12);
    }
    // 2^(exponent − 150), the exponent of subnormals being 1; no weight has one above 254.
    const auto unit = [&](int bin) {
      const unsigned exponent = pass == 0 ? static_cast<unsigned>(bin) : prefix >> (8 * (pass - 1));
      return static_cast<double>(__uint_as_float(min(max(exponent, 1u), 254u) << 23)) * 0x1p-23;
    };
    if (pass == 0) {  // the whole first, to know what to reach
      choose_bin(shared, 0xffffffffu, 0, 0.0, 0.0, unit);
      target = p * shared.total;
    }
    choose_bin(shared, rank, above, target, mass, unit);
    if (!shared.found) return;  // fewer than `keep` have a weight: all stay
    prefix = prefix << width | shared.digit;
    above = shared.above;
    mass = shared.mass;
  }
  // Of the weights that equal the last one to stay, those with the lowest ids stay, as many as are needed.
  const double last = __uint_as_float(prefix);
  double needed = ceil((target - mass) / last);
  if (needed < 1) needed = 1;
  if (above + needed < rank) needed = static_cast<double>(rank - above);
  const int64_t each = (count + blockDim.x - 1) / blockDim.x;
  const int64_t begin = each * threadIdx.x, end = begin + each < count ? begin + each : count;
  int ties = 0;
  for (int64_t i = begin; i < end; ++i) ties += __float_as_uint(weights[i]) == prefix;
  int before = block_exclusive_sum(ties, shared.sums);
  for (int64_t i = begin; i < end; ++i) {
    const unsigned bits = __float_as_uint(weights[i]);
    if (bits < prefix || (bits == prefix && before++ >= needed)) weights[i] = 0;
  }
  __syncthreads();
}

}  // namespace alma::ALMA_CUDA

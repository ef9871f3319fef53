// The k best continuations of each group of beams, or k draws without replacement (Gumbel-top-k; native/cpu/beam_top_k.cpp has the
// definition of the noise).
//
// Every row first finds its own k best, in order: each thread holds the best of its columns, the block takes the best of those, and the
// thread that had it looks for its next one. The rows of a group are then merged by counting how many candidates come before each.
#include "../../runtime/philox.h"
#include "../shared_memory.cuh"
#include "dispatch.h"
#include "ops.h"
#include "reduce.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMergeThreads = 128;
constexpr int kNone = 0x7fffffff;

struct Candidate {
  double key;  // what the order goes by: the total, with noise where there is some
  float total;
  int token;
};

struct Call {
  const float* scores;
  const float* beam_scores;
  const int* stream;  // null: no noise
  const int* position;
  double* keys;     // [rows, vocab], with noise only
  Candidate* best;  // [rows, most]
  int64_t beams, vocab, most;
  PhiloxKey seed;
};

struct Best {
  double key;
  int token;  // kNone: nothing left
};

__device__ __forceinline__ bool is_before(double key, int token, const Best& other) {
  if (token == kNone || other.token == kNone) return other.token == kNone && token != kNone;
  return key > other.key || (key == other.key && token < other.token);
}

struct Shared {
  Best warps[2][kMaxWarps];  // in turns, so that one barrier a round is enough
};

__device__ __forceinline__ Best warp_best(Best mine) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const double key = __shfl_xor_sync(kAllLanes, mine.key, distance);
    const int token = __shfl_xor_sync(kAllLanes, mine.token, distance);
    if (is_before(key, token, mine)) mine = {key, token};
  }
  return mine;
}

// −log(−log u) for the two tokens of a Philox block.
__device__ __forceinline__ void gumbel_pair(const Call& call, int64_t group, int beam, int64_t pair,
                                            double (&noise)[2]) {
  // The third word of the counter is never 0 here: these numbers are not those of sample.
  const PhiloxBlock random =
      philox(call.seed, {{static_cast<uint32_t>(call.position[group]), static_cast<uint32_t>(call.stream[group]),
                          static_cast<uint32_t>(beam) + 1, static_cast<uint32_t>(pair)}});
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint64_t bits = (uint64_t{random[2 * i]} << 32 | random[2 * i + 1]) >> 11;
    noise[i] = -log(-log((static_cast<double>(bits) + 0.5) * 0x1p-53));
  }
}

__device__ __forceinline__ float total_of(const float* scores, int64_t token, float beam_score) {
  const float total = scores[token] + beam_score;
  return isnan(total) ? -INFINITY : total;
}

template <bool kNoise>
__global__ void __launch_bounds__(kMaxThreads) best_of_row_kernel(const Call call) {
  ALMA_SHARED(Shared, shared);
  const int64_t row = blockIdx.x;
  const float* scores = call.scores + row * call.vocab;
  const float beam_score = call.beam_scores[row];
  const auto key_of = [&](int64_t token) -> double {
    if constexpr (kNoise) return call.keys[row * call.vocab + token];
    return total_of(scores, token, beam_score);
  };
  if constexpr (kNoise) {
    const int64_t group = row / call.beams;
    double* keys = call.keys + row * call.vocab;
    for (int64_t pair = threadIdx.x; 2 * pair < call.vocab; pair += blockDim.x) {
      double noise[2];
      gumbel_pair(call, group, static_cast<int>(row - group * call.beams), pair, noise);
      for (int i = 0; i < 2 && 2 * pair + i < call.vocab; ++i) {
        const float total = total_of(scores, 2 * pair + i, beam_score);
        keys[2 * pair + i] = total > -INFINITY ? total + noise[i] : double{total};
      }
    }
    __syncthreads();
  }
  // The best of this thread's columns that comes after `last`.
  const auto next_after = [&](const Best& last) {
    Best best{0, kNone};
    for (int64_t i = threadIdx.x; i < call.vocab; i += blockDim.x) {
      const double key = key_of(i);
      const int token = static_cast<int>(i);
      if ((last.token == kNone || is_before(last.key, last.token, {key, token})) && is_before(key, token, best))
        best = {key, token};
    }
    return best;
  };

  Best mine = next_after({0, kNone});
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  const int warps = static_cast<int>(blockDim.x / kWarp);
  for (int64_t k = 0; k < call.most; ++k) {
    Best* const slots = shared.warps[k % 2];
    const Best of_warp = warp_best(mine);
    if (lane == 0) slots[warp] = of_warp;
    __syncthreads();
    const Best best = warp_best(lane < warps ? slots[lane] : Best{0, kNone});
    if (mine.token != best.token) continue;
    call.best[row * call.most + k] = {best.key, total_of(scores, best.token, beam_score), best.token};
    mine = next_after(best);
  }
}

__global__ void __launch_bounds__(kMergeThreads) merge_kernel(const Candidate* best, int64_t beams, int64_t most,
                                                              int64_t k, float* totals, int* tokens, int* parents) {
  const int64_t group = blockIdx.x, count = beams * most;
  best += group * count;
  for (int64_t mine = threadIdx.x; mine < count; mine += kMergeThreads) {
    const Candidate candidate = best[mine];
    const int64_t beam = mine / most;
    int64_t rank = 0;
    for (int64_t i = 0; i < count; ++i) {
      const Candidate other = best[i];
      if (other.key != candidate.key) {
        rank += other.key > candidate.key;
      } else {
        rank += other.token != candidate.token ? other.token < candidate.token : i / most < beam;
      }
    }
    if (rank >= k) continue;
    totals[group * k + rank] = candidate.total;
    tokens[group * k + rank] = candidate.token;
    parents[group * k + rank] = static_cast<int>(beam);
  }
}

}  // namespace

void beam_top_k(Context& context, const BeamTopKArgs& args) {
  const int64_t rows = args.groups * args.beams;
  if (rows <= 0 || args.k <= 0 || args.vocab <= 0) return;
  if (args.vocab >= kNone) fail("beam_top_k", "vocab is too large");
  const int64_t most = args.k < args.vocab ? args.k : args.vocab;
  const bool noise = args.stream.data != nullptr;
  const size_t best_bytes = sizeof(Candidate) * static_cast<size_t>(rows * most);
  const size_t key_bytes = noise ? sizeof(double) * static_cast<size_t>(rows * args.vocab) : 0;
  auto* scratch = static_cast<unsigned char*>(context.workspace->get(best_bytes + key_bytes));
  auto* best = reinterpret_cast<Candidate*>(scratch);
  const Call call{pointer<float>(args.scores),
                  pointer<float>(args.beam_scores),
                  pointer<int>(args.stream),
                  pointer<int>(args.position),
                  reinterpret_cast<double*>(scratch + best_bytes),
                  best,
                  args.beams,
                  args.vocab,
                  most,
                  philox_key(args.seed)};
  const unsigned threads = threads_for(ceil_div(args.vocab, 8), kMaxThreads);
  launch(context, "beam_top_k", {grid_of("beam_top_k", rows), dim3(threads), sizeof(Shared)},
         noise ? best_of_row_kernel<true> : best_of_row_kernel<false>, call);
  launch(context, "beam_top_k", {grid_of("beam_top_k", args.groups), dim3(kMergeThreads)}, merge_kernel, best,
         args.beams, most, args.k, pointer<float>(args.totals), pointer<int>(args.tokens), pointer<int>(args.parents));
}

}  // namespace alma::ALMA_CUDA::portable

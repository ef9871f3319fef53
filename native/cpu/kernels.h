// The functions that exist once per instruction set, as a table: cpu_ops.cpp picks one at run time.
//
// The sources that include this are compiled several times with different flags, each in its own namespace ALMA_ISA. Only
// declarations here: an inline function compiled with AVX flags might otherwise be the copy the linker keeps for everybody.
#pragma once

#include "../runtime/ops.h"
#include "thread_pool.h"

namespace alma::cpu {

[[noreturn]] void fail(const char* op, const char* reason);  // throws Error("ERR_ALMA_DEVICE", "op: reason")
[[noreturn]] void fail_index(const char* op, const char* what, int64_t value, int64_t limit);

struct Kernels {
  void (*cast)(ThreadPool&, const CastArgs&);
  void (*add)(ThreadPool&, const AddArgs&);
  void (*matmul)(ThreadPool&, const MatmulArgs* products, int count);  // each of them; a, m and k are the same
  void (*rms_norm)(ThreadPool&, const RmsNormArgs&);
  void (*rms_norm_backward)(ThreadPool&, const RmsNormBackwardArgs&);
  void (*rope)(ThreadPool&, const RopeArgs&);
  void (*attention)(ThreadPool&, const AttentionArgs&);
  void (*attention_backward)(ThreadPool&, const AttentionBackwardArgs&);
  void (*swi_glu)(ThreadPool&, const SwiGluArgs&);
  void (*swi_glu_backward)(ThreadPool&, const SwiGluBackwardArgs&);
  void (*gather_rows)(ThreadPool&, const GatherRowsArgs&);
  void (*scatter_rows)(ThreadPool&, const ScatterRowsArgs&);
  void (*embedding_backward)(ThreadPool&, const EmbeddingBackwardArgs&);
  void (*cross_entropy)(ThreadPool&, const CrossEntropyArgs&);
  void (*reduce_sum)(ThreadPool&, const ReduceSumArgs&);
  void (*adamw)(ThreadPool&, const AdamWArgs&);
  void (*argmax)(ThreadPool&, const ArgmaxArgs&);
  void (*count_non_finite)(ThreadPool&, const CountNonFiniteArgs&);
  void (*scale)(ThreadPool&, const ScaleArgs&);
  void (*dropout)(ThreadPool&, const DropoutArgs&);
  void (*log_softmax)(ThreadPool&, const LogSoftmaxArgs&);

  // Parts of sample and warp_scores: the row as f32 with its maximum (NaN ignored) and log-sum-exp, and out = exp((x − maximum) · scale).
  void (*row_statistics)(TensorRef row, int64_t count, float* values, float* maximum, float* log_sum_exp);
  void (*exp_row)(const float* values, int64_t count, float maximum, float scale, float* out);

  // The ceilings of probe.cpp; the result keeps the work alive.
  double (*probe_fma)(int64_t iterations);       // kProbeFlops operations an iteration
  double (*probe_bf16_dot)(int64_t iterations);  // kProbeDotFlops operations an iteration
  double (*probe_read)(const float* data, int64_t count);
  void (*probe_copy)(const float* in, float* out, int64_t count);
  int64_t probe_fma_flops, probe_bf16_dot_flops;
};

// Ops without arithmetic worth vectorising; compiled once.
void fill(ThreadPool&, const FillArgs&);
void fill_normal(ThreadPool&, const FillNormalArgs&);
void increment(ThreadPool&, const IncrementArgs&);
void clip_coefficient(const ClipCoefficientArgs&);
void sample(ThreadPool&, const Kernels&, const SampleArgs&);
void process_logits(ThreadPool&, const ProcessLogitsArgs&);
void append_tokens(const AppendTokensArgs&);
void preference_loss(const PreferenceLossArgs&);
void warp_scores(ThreadPool&, const Kernels&, const WarpScoresArgs&);
void beam_top_k(ThreadPool&, const BeamTopKArgs&);
void copy_blocks(ThreadPool&, const CopyBlocksArgs&);

}  // namespace alma::cpu

// The ops of a GPU: each call launches the kernels of native/cuda/portable on the context's stream.
#pragma once

#include "../../runtime/ops.h"
#include "../context.h"

namespace alma::ALMA_CUDA {

// One line an op: method, argument struct.
#define ALMA_CUDA_OPS(X)                       \
  X(fill, FillArgs)                            \
  X(fill_normal, FillNormalArgs)               \
  X(cast, CastArgs)                            \
  X(add, AddArgs)                              \
  X(increment, IncrementArgs)                  \
  X(matmul, MatmulArgs)                        \
  X(rms_norm, RmsNormArgs)                     \
  X(rms_norm_backward, RmsNormBackwardArgs)    \
  X(rope, RopeArgs)                            \
  X(attention, AttentionArgs)                  \
  X(attention_backward, AttentionBackwardArgs) \
  X(swi_glu, SwiGluArgs)                       \
  X(swi_glu_backward, SwiGluBackwardArgs)      \
  X(gather_rows, GatherRowsArgs)               \
  X(scatter_rows, ScatterRowsArgs)             \
  X(embedding_backward, EmbeddingBackwardArgs) \
  X(cross_entropy, CrossEntropyArgs)           \
  X(reduce_sum, ReduceSumArgs)                 \
  X(clip_coefficient, ClipCoefficientArgs)     \
  X(adamw, AdamWArgs)                          \
  X(argmax, ArgmaxArgs)                        \
  X(sample, SampleArgs)                        \
  X(process_logits, ProcessLogitsArgs)         \
  X(append_tokens, AppendTokensArgs)           \
  X(log_softmax, LogSoftmaxArgs)               \
  X(warp_scores, WarpScoresArgs)               \
  X(beam_top_k, BeamTopKArgs)                  \
  X(copy_blocks, CopyBlocksArgs)               \
  X(count_non_finite, CountNonFiniteArgs)      \
  X(norm_qkv, NormQkvArgs)                     \
  X(norm_gate_up, NormGateUpArgs)              \
  X(qkv, QkvArgs)                              \
  X(gate_up, GateUpArgs)                       \
  X(linear_add, LinearAddArgs)                 \
  X(scale, ScaleArgs)                          \
  X(dropout, DropoutArgs)                      \
  X(preference_loss, PreferenceLossArgs)

class CudaOps final : public Ops {
 public:
  explicit CudaOps(Context& context) : context_(context) {}

#define ALMA_DECLARE(op, Arguments) void op(const Arguments& args) override;
  ALMA_CUDA_OPS(ALMA_DECLARE)
#undef ALMA_DECLARE

 private:
  Context& context_;
};

}  // namespace alma::ALMA_CUDA

// The launchers of the portable kernels (sm_80 and later), one an op; CudaOps calls them. Arguments have the meaning that
// native/runtime/ops.h states.
#pragma once

#include "../../runtime/ops.h"
#include "../context.h"

namespace alma::ALMA_CUDA::portable {

void fill(Context& context, const FillArgs& args);
void fill_normal(Context& context, const FillNormalArgs& args);
void cast(Context& context, const CastArgs& args);
void add(Context& context, const AddArgs& args);
void increment(Context& context, const IncrementArgs& args);
void matmul(Context& context, const MatmulArgs& args);
void rms_norm(Context& context, const RmsNormArgs& args);
void rms_norm_backward(Context& context, const RmsNormBackwardArgs& args);
void rope(Context& context, const RopeArgs& args);
void attention(Context& context, const AttentionArgs& args);
void attention_backward(Context& context, const AttentionBackwardArgs& args);
void swi_glu(Context& context, const SwiGluArgs& args);
void swi_glu_backward(Context& context, const SwiGluBackwardArgs& args);
void gather_rows(Context& context, const GatherRowsArgs& args);
void scatter_rows(Context& context, const ScatterRowsArgs& args);
void embedding_backward(Context& context, const EmbeddingBackwardArgs& args);
void cross_entropy(Context& context, const CrossEntropyArgs& args);
void reduce_sum(Context& context, const ReduceSumArgs& args);
void clip_coefficient(Context& context, const ClipCoefficientArgs& args);
void adamw(Context& context, const AdamWArgs& args);
void argmax(Context& context, const ArgmaxArgs& args);
void sample(Context& context, const SampleArgs& args);
void process_logits(Context& context, const ProcessLogitsArgs& args);
void append_tokens(Context& context, const AppendTokensArgs& args);
void log_softmax(Context& context, const LogSoftmaxArgs& args);
void warp_scores(Context& context, const WarpScoresArgs& args);
void beam_top_k(Context& context, const BeamTopKArgs& args);
void copy_blocks(Context& context, const CopyBlocksArgs& args);
void count_non_finite(Context& context, const CountNonFiniteArgs& args);
void norm_qkv(Context& context, const NormQkvArgs& args);
void norm_gate_up(Context& context, const NormGateUpArgs& args);
void qkv(Context& context, const QkvArgs& args);
void gate_up(Context& context, const GateUpArgs& args);
void linear_add(Context& context, const LinearAddArgs& args);
void scale(Context& context, const ScaleArgs& args);
void dropout(Context& context, const DropoutArgs& args);
void preference_loss(Context& context, const PreferenceLossArgs& args);

}  // namespace alma::ALMA_CUDA::portable

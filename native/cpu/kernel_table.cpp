// The table of this instruction set's kernels.
#include "kernels.h"
#include "probe_kernels.h"

namespace alma::cpu::ALMA_ISA {

void cast(ThreadPool&, const CastArgs&);
void add(ThreadPool&, const AddArgs&);
void matmul(ThreadPool&, const MatmulArgs*, int);
void rms_norm(ThreadPool&, const RmsNormArgs&);
void rms_norm_backward(ThreadPool&, const RmsNormBackwardArgs&);
void rope(ThreadPool&, const RopeArgs&);
void attention(ThreadPool&, const AttentionArgs&);
void attention_backward(ThreadPool&, const AttentionBackwardArgs&);
void swi_glu(ThreadPool&, const SwiGluArgs&);
void swi_glu_backward(ThreadPool&, const SwiGluBackwardArgs&);
void gather_rows(ThreadPool&, const GatherRowsArgs&);
void scatter_rows(ThreadPool&, const ScatterRowsArgs&);
void embedding_backward(ThreadPool&, const EmbeddingBackwardArgs&);
void cross_entropy(ThreadPool&, const CrossEntropyArgs&);
void reduce_sum(ThreadPool&, const ReduceSumArgs&);
void adamw(ThreadPool&, const AdamWArgs&);
void argmax(ThreadPool&, const ArgmaxArgs&);
void count_non_finite(ThreadPool&, const CountNonFiniteArgs&);
void scale(ThreadPool&, const ScaleArgs&);
void dropout(ThreadPool&, const DropoutArgs&);
void log_softmax(ThreadPool&, const LogSoftmaxArgs&);
void row_statistics(TensorRef, int64_t, float*, float*, float*);
void exp_row(const float*, int64_t, float, float, float*);
double probe_fma(int64_t);
double probe_bf16_dot(int64_t);
double probe_read(const float*, int64_t);
void probe_copy(const float*, float*, int64_t);

extern const Kernels kernels;
const Kernels kernels = {
    .cast = cast,
    .add = add,
    .matmul = matmul,
    .rms_norm = rms_norm,
    .rms_norm_backward = rms_norm_backward,
    .rope = rope,
    .attention = attention,
    .attention_backward = attention_backward,
    .swi_glu = swi_glu,
    .swi_glu_backward = swi_glu_backward,
    .gather_rows = gather_rows,
    .scatter_rows = scatter_rows,
    .embedding_backward = embedding_backward,
    .cross_entropy = cross_entropy,
    .reduce_sum = reduce_sum,
    .adamw = adamw,
    .argmax = argmax,
    .count_non_finite = count_non_finite,
    .scale = scale,
    .dropout = dropout,
    .log_softmax = log_softmax,
    .row_statistics = row_statistics,
    .exp_row = exp_row,
    .probe_fma = probe_fma,
    .probe_bf16_dot = probe_bf16_dot,
    .probe_read = probe_read,
    .probe_copy = probe_copy,
    .probe_fma_flops = kProbeFmaFlops,
    .probe_bf16_dot_flops = kProbeDotFlops,
};

}  // namespace alma::cpu::ALMA_ISA

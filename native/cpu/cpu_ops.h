// The CPU implementation of every op, on a pool of threads and the best instruction set the processor has.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../runtime/ops.h"
#include "thread_pool.h"

namespace alma::cpu {

struct Kernels;

class CpuOps final : public Ops {
 public:
  CpuOps(int threads, const Kernels& kernels, const char* isa);

  // "portable", "avx2", "avx512", "avx512bf16", or with the prefix "emulated-" in test builds.
  const char* isa() const { return isa_; }
  int threads() const { return pool_.threads(); }
  ThreadPool& pool() { return pool_; }
  const Kernels& kernels() const { return kernels_; }

  // matmul of each, with the same a, m and k. Where they read the weights in place, all of them are one parallel loop.
  void matmul_together(const MatmulArgs* products, int count);

  void fill(const FillArgs&) override;
  void fill_normal(const FillNormalArgs&) override;
  void cast(const CastArgs&) override;
  void add(const AddArgs&) override;
  void increment(const IncrementArgs&) override;
  void matmul(const MatmulArgs&) override;
  void rms_norm(const RmsNormArgs&) override;
  void rms_norm_backward(const RmsNormBackwardArgs&) override;
  void rope(const RopeArgs&) override;
  void attention(const AttentionArgs&) override;
  void attention_backward(const AttentionBackwardArgs&) override;
  void swi_glu(const SwiGluArgs&) override;
  void swi_glu_backward(const SwiGluBackwardArgs&) override;
  void gather_rows(const GatherRowsArgs&) override;
  void scatter_rows(const ScatterRowsArgs&) override;
  void embedding_backward(const EmbeddingBackwardArgs&) override;
  void cross_entropy(const CrossEntropyArgs&) override;
  void reduce_sum(const ReduceSumArgs&) override;
  void clip_coefficient(const ClipCoefficientArgs&) override;
  void adamw(const AdamWArgs&) override;
  void argmax(const ArgmaxArgs&) override;
  void sample(const SampleArgs&) override;
  void process_logits(const ProcessLogitsArgs&) override;
  void append_tokens(const AppendTokensArgs&) override;
  void log_softmax(const LogSoftmaxArgs&) override;
  void warp_scores(const WarpScoresArgs&) override;
  void beam_top_k(const BeamTopKArgs&) override;
  void copy_blocks(const CopyBlocksArgs&) override;
  void count_non_finite(const CountNonFiniteArgs&) override;
  void norm_qkv(const NormQkvArgs&) override;
  void norm_gate_up(const NormGateUpArgs&) override;
  void qkv(const QkvArgs&) override;
  void gate_up(const GateUpArgs&) override;
  void linear_add(const LinearAddArgs&) override;
  void scale(const ScaleArgs&) override;
  void dropout(const DropoutArgs&) override;
  void preference_loss(const PreferenceLossArgs&) override;

 private:
  ThreadPool pool_;
  const Kernels& kernels_;
  const char* isa_;
};

// Instruction sets that this build has and this processor can run, the best one first, emulated ones among them in test builds.
std::vector<std::string> supported_isas();

// threads 0: usable_processors(). isa nullptr or "auto": the best one; another name that is not in supported_isas() throws
// Error("ERR_ALMA_DEVICE").
std::unique_ptr<CpuOps> make_cpu_ops(int threads, const char* isa);

}  // namespace alma::cpu

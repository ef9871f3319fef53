// Every op of every device, declared once.
//
// A device implements `Ops`; lib/runtime/ops.ts has the same names in camelCase. Arguments are plain structs of pointers into
// the device's memory and of extents, so that a call can be copied into a queue, recorded into a graph and replayed.
//
// Conventions
//  - Tensors are dense and row-major; `[rows, cols]` in a comment gives the extents.
//  - "float tensor" means f32 or bf16. Within a call all activations have one dtype; weights may have the other one.
//    Reductions, softmax, norm statistics and accumulators are f32 whatever the storage is.
//  - Gradients with respect to weights are f32 and are ADDED to (gradient accumulation); gradients with respect to
//    activations are overwritten unless a flag says otherwise.
//  - Every op is deterministic: the same inputs give the same bits, whatever the number of threads.
//  - Extents have been checked against the buffers by the caller. Values that live on the device (ids, positions, sequence
//    bounds) have not: an op checks them before it uses them as an index and throws Error("ERR_ALMA_DEVICE", "op: …").
//  - A pointer that is null marks an optional tensor as absent.
#pragma once

#include <cstdint>
#include <string>

#include "dtype.h"
#include "error.h"

namespace alma {

struct TensorRef {
  void* data = nullptr;
  DType dtype = DType::f32;
};

// Which order of summation an op takes. `none`: the fastest for the extents of the call. With the other two the bits of an output
// row depend on what that row is computed from alone, not on the other rows of the call, their number, or its place among them, so
// that a sequence decodes to the same bits in every batch. Each of the two is one fixed order (they may be the same one):
// `many_rows` is for prompts, `few_rows` for decoding steps; both have to be right for any number of rows.
enum class Invariance : uint8_t { none = 0, many_rows = 1, few_rows = 2 };

// out[i] = value, for float and i32 tensors.
struct FillArgs {
  TensorRef out;
  int64_t count;
  float value;
};

// out[i] = standard_deviation · z(seed, first + i): normal random numbers (Philox 4x32-10 and Box-Muller), a function of the seed and
// the index alone, so that the same numbers come out on any number of threads. Random weights.
struct FillNormalArgs {
  TensorRef out;
  int64_t count;
  float standard_deviation;
  uint64_t seed;
  int64_t first;
};

// out[i] = (dtype of out) in[i]; f32, bf16 and f16 sources, f32 and bf16 results, or i32 to i32. Equal dtypes: a copy.
struct CastArgs {
  TensorRef in, out;
  int64_t count;
};

// out = a + b. out may be a or b.
struct AddArgs {
  TensorRef a, b, out;
  int64_t count;
};

// out[i] = factor · x[i]. out may be x.
struct ScaleArgs {
  TensorRef x, out;
  int64_t count;
  float factor;
};

// Inverted dropout: out[i] (+)= x[i] · (1 / (1 − p)) where element i is kept, 0 otherwise; 1 / (1 − p) is rounded to f32 first.
// Element i is kept when r ≥ floor(p · 2³²), r being word i % 4 of Philox 4x32-10 under the key (seed low, seed high) with the counter
// (low and high half of i / 4, step[0], 2). So the mask is a function of (seed, step, i): a backward pass calls the op again on the
// gradient. step i32[1] is read on the device. 0 ≤ p < 1. What is dropped counts as 0 even where x is NaN. out may be x.
struct DropoutArgs {
  TensorRef x, out, step;
  int64_t count;
  float probability;
  uint64_t seed;
  bool accumulate;
};

// x[i] += by, i32.
struct IncrementArgs {
  TensorRef x;
  int64_t count;
  int32_t by;
};

// c[m, n] (+)= op(a) · op(b):
//   nn: a[m, k] · b[k, n]     nt: a[m, k] · b[n, k]ᵀ     tn: a[k, m]ᵀ · b[k, n]
// a and b float tensors of any mix of dtypes, c a float tensor, accumulation in f32. c overlaps neither a nor b. Beside bf16 an f32 operand may be
// rounded to bf16 (AVX512-BF16 and AMX; not with few_rows); with may_round both may be.
// invariance: the rows are those of c; only with nt, and without accumulate.
enum class MatmulLayout : uint8_t { nn = 0, nt = 1, tn = 2 };
struct MatmulArgs {
  TensorRef a, b, c;
  int64_t m, n, k;
  MatmulLayout layout;
  bool accumulate;
  Invariance invariance = Invariance::none;
  bool may_round = false;
};

// sum = x + residual (when residual is given; sum may be x or residual), y = weight · sum / sqrt(mean(sum²) + epsilon).
// inverse_rms[rows], f32, is kept for the backward pass when given. y may be x.
struct RmsNormArgs {
  TensorRef x, residual, weight, y, sum, inverse_rms;
  int64_t rows, cols;
  float epsilon;
};

// x is what was normalised (the sum, where there was a residual). dx is overwritten, or added to with accumulate_dx.
// dweight[cols], f32, is added to. dx may be dy.
struct RmsNormBackwardArgs {
  TensorRef dy, x, weight, inverse_rms, dx, dweight;
  int64_t rows, cols;
  bool accumulate_dx;
};

// Rotary embedding, rotate_half convention: x[tokens, heads, head_dim], cos and sin f32[max_positions, head_dim / 2],
// positions i32[tokens]. out may be x. inverse rotates back, which is the backward pass.
struct RopeArgs {
  TensorRef x, out, cosine, sine, positions;
  int64_t tokens, heads, head_dim, max_positions;
  bool inverse;
};

// Attention over packed sequences of different lengths; no length² matrix is stored.
//   q, out [total_q, heads, head_dim] · k, v [total_k, kv_heads, head_dim] · log_sum_exp f32[total_q, heads]
//   cu_seqlens_q i32[batch + 1]: sequence i has the query rows [cu_seqlens_q[i], cu_seqlens_q[i + 1])
//   k_begin, k_end i32[batch]: sequence i attends to the rows [k_begin[i], k_end[i]) of k and v. For packed training these are
//   cu_seqlens_k and cu_seqlens_k + 1; for decoding they delimit the used part of a cache slot.
// Query head h uses kv head h / (heads / kv_heads). Causal: query i of a sequence sees keys 0 … k_length − q_length + i.
// log_sum_exp is the natural logarithm of the sum of exp of the scaled scores. A query that sees no key gives zeros.
// Paged keys and values (forward only), when block_table is given: i32[batch, blocks_per_sequence], and k and v are a pool of blocks
// of block_size rows each. k_begin and k_end are then row numbers of the sequence itself: its row r lies in row
// block_table[i][r / block_size] · block_size + r % block_size of k and v. Entries of blocks without a row in [k_begin, k_end) are
// not read. With an invariance, and on the CPU, the result has the bits that the same rows give where they lie one after the other.
// invariance: the rows are the query rows, each with the keys that it sees.
struct AttentionShape {
  TensorRef cu_seqlens_q, k_begin, k_end;
  int64_t batch, total_q, total_k, heads, kv_heads, head_dim;
  float scale;
  bool causal;
  Invariance invariance = Invariance::none;
  TensorRef block_table = {};
  int32_t blocks_per_sequence = 0, block_size = 0;
};
struct AttentionArgs {
  TensorRef q, k, v, out, log_sum_exp;
  AttentionShape shape;
};

// dq, dk, dv have the shapes of q, k, v and are overwritten (rows of dk and dv that no sequence covers are left alone).
struct AttentionBackwardArgs {
  TensorRef q, k, v, out, dout, log_sum_exp, dq, dk, dv;
  AttentionShape shape;
};

// out = silu(gate) · up. out may be gate or up.
struct SwiGluArgs {
  TensorRef gate, up, out;
  int64_t count;
};

// dgate and dup are overwritten; they may be gate and up. With `out` given, out = silu(gate) · up is computed again as well
// (so that a trainer need not keep it); out may be dout.
struct SwiGluBackwardArgs {
  TensorRef gate, up, dout, dgate, dup, out;
  int64_t count;
};

// out[i, :] = table[rows[i], :]; table[table_rows, cols], rows i32[count]. Embedding, and the choice of rows.
// scatter is the reverse: table[rows[i], :] = in[i, :]; rows that name a table row twice are an error of the caller.
struct GatherRowsArgs {
  TensorRef table, rows, out;
  int64_t table_rows, cols, count;
};
struct ScatterRowsArgs {
  TensorRef in, rows, table;
  int64_t table_rows, cols, count;
};

// dtable[rows[i], :] += dout[i, :], f32, in the order of i for every table row.
struct EmbeddingBackwardArgs {
  TensorRef dout, rows, dtable;
  int64_t table_rows, cols, count;
};

// nll[i] = logsumexp(logits[i]) − logits[i][targets[i]] in nats, 0 where targets[i] == ignore_index.
// log_sum_exp[rows] f32 optional. dlogits (optional, may be logits) = (softmax − onehot) · grad_scale[0], 0 on ignored rows;
// grad_scale f32[1] is read on the device, absent means 1. row_scale f32[rows] (optional) is a further factor of each row of dlogits.
// label_smoothing ε > 0, as torch has it: nll[i] = (1 − ε) · nll + ε · mean over the vocabulary of −log p, and dlogits is its gradient
// (softmax − (1 − ε) · onehot − ε / vocab); a logit of −inf then gives an infinite loss. log_sum_exp is not affected.
struct CrossEntropyArgs {
  TensorRef logits, targets, nll, log_sum_exp, dlogits, grad_scale;
  int64_t rows, vocab;
  int32_t ignore_index;
  TensorRef row_scale = {};
  float label_smoothing = 0;
};

// The losses of `pairs` preference pairs, and what each row of token likelihoods has to do with them, so that the gradient needs
// nothing read back: cross_entropy without dlogits gives nll, this op row_scale, and cross_entropy again takes it.
//   nll f32[rows] (−log p of the response tokens) · cu_rows i32[2 · pairs + 1]: response s has the rows [cu_rows[s], cu_rows[s + 1]);
//   0 … pairs − 1 are the chosen ones, pairs … 2 · pairs − 1 the rejected ones of the same pairs
//   weights f32[2], read on the device: of a pair's loss (1 / pairs of the step), and of the NLL of a chosen token (α / chosen tokens)
// Per response, logp = −Σ nll, divided by its number of rows n for ipo and simpo (0 where n is 0). Per pair, with c and r the logps of
// chosen and rejected (sources: cpo_trainer.py of trl, and of fe1ixxu/ALMA for arpo):
//   cpo:   ℓ(c − r) with ℓ(z) = −(1 − ε) · log σ(βz) − ε · log σ(−βz), ε = label_smoothing
//   simpo: ℓ(c − r − γ / β)      hinge: max(0, 1 − β(c − r))      ipo: (c − r − 1 / (2β))²
//   arpo:  ℓ(c − τr), τ = min(relax1 · exp(relax2 · |c / n_c − r / n_r|) − 1, 1); the gradient flows through τ, where it is ≤ 1
// row_scale f32[rows] = d(weights[0] · Σ losses + weights[1] · Σ nll of chosen) / d nll; 0 for rows of no response. hinge has gradient 0
// at its corner. logps f32[2 · pairs] and losses f32[pairs] are overwritten, and to sums f32[5] are added: Σ losses, Σ nll of the chosen
// rows, Σ c, Σ r, and the number of pairs with c > r. All in f64 inside, in the order of rows.
enum class PreferenceLoss : uint8_t { cpo = 0, simpo = 1, hinge = 2, ipo = 3, arpo = 4 };
struct PreferenceLossArgs {
  TensorRef nll, cu_rows, weights, row_scale, logps, losses, sums;
  int64_t rows, pairs;
  PreferenceLoss loss;
  float beta, label_smoothing, gamma, relax1, relax2;
};

// out[0] (+)= Σ x[i], or Σ x[i]², in f64 internally; out f32[1].
struct ReduceSumArgs {
  TensorRef x, out;
  int64_t count;
  bool squares, accumulate;
};

// norm[0] = sqrt(sum_of_squares[0]); coefficient[0] = min(1, max_norm / (norm + 1e-6)) as torch's clip_grad_norm_ has it;
// 1 where max_norm ≤ 0; 0 where the norm is not finite, so that the step that follows changes nothing by it.
struct ClipCoefficientArgs {
  TensorRef sum_of_squares, norm, coefficient;
  float max_norm;
};

// Decoupled weight decay (torch.optim.AdamW), one call for a whole arena of parameters:
//   p *= 1 − lr·wd;  g = grad·grad_scale;  m = β1·m + (1−β1)·g;  v = β2·v + (1−β2)·g²;
//   p −= lr · (m / (1−β1^t)) / (sqrt(v / (1−β2^t)) + ε)
// param f32, or bf16 with an f32 master (then param = bf16(master)). learning_rate f32[1], step i32[1] (t, from 1) and
// grad_scale f32[1] (optional) are read on the device. When grad_scale is 0 nothing is changed at all.
// bf16 without a master: p is computed in f32 from the stored param and rounded stochastically. To the bits of a finite p a random
// number of 16 bits is added and the low half cut off; what is not finite is rounded as ever. Element i takes half-word i % 8 (the low
// half of a word first) of Philox 4x32-10 under the key (seed low, seed high) with the counter (low and high half of i / 8, step[0], 3).
struct AdamWArgs {
  TensorRef param, master, grad, exp_avg, exp_avg_sq, learning_rate, step, grad_scale;
  int64_t count;
  double beta1, beta2, epsilon, weight_decay;  // f64: 1 − 0.999f is off by 1.3e-5
  uint64_t seed = 0;
};

// ids[rows] i32: the column of the largest logit, ties to the lowest column. logprob f32[rows] optional: its log-softmax.
struct ArgmaxArgs {
  TensorRef logits, ids, logprob;
  int64_t rows, vocab;
};

// One draw a row from softmax(logits / temperature) after top-k (0 = off, ties of the k-th value are kept) and top-p (1 = off,
// at least one token stays). The random number of row i depends on (seed, stream[i], position[i]) alone, so a result does not
// depend on the batch it was computed in. logprob: the log-softmax of the unmodified logits at the drawn id.
struct SampleArgs {
  TensorRef logits, ids, logprob, stream, position;
  int64_t rows, vocab;
  float temperature, top_p;
  int32_t top_k;
  uint64_t seed;
};

// The products of a decoder layer around attention, for the few rows of a decoding step, each one kernel on a GPU. Sums are of the
// order Invariance::few_rows. The bits may be others than those of the ops that they stand for, but on the CPU they are the same.
//
// On a GPU their kernels may start while the op enqueued just before still runs, and read what is constant in the meantime: weights,
// norm weights, cosine and sine must not be written by that op.
//
// norm_qkv: n = rms_norm(x); q = rope(n · query_weightᵀ), and the cache's rows cache_rows get rope(n · key_weightᵀ) and n · value_weightᵀ.
//   x [rows, cols] · weights [heads or kv_heads · head_dim, cols] · q [rows, heads, head_dim] · keys, values [table_rows, kv_heads, head_dim]
//   cosine, sine f32[max_positions, head_dim / 2] · positions, cache_rows i32[rows]. q has the dtype of x, the cache may have another one.
struct NormQkvArgs {
  TensorRef x, norm_weight, query_weight, key_weight, value_weight, cosine, sine, positions, cache_rows, q, keys,
      values;
  int64_t rows, cols, heads, kv_heads, head_dim, max_positions, table_rows;
  float epsilon;
};
// out = silu(n · gate_weightᵀ) · (n · up_weightᵀ), n = rms_norm(x); x [rows, cols] · weights [out_features, cols] · out [rows, out_features].
struct NormGateUpArgs {
  TensorRef x, norm_weight, gate_weight, up_weight, out;
  int64_t rows, cols, out_features;
  float epsilon;
};
// The products of a decoder layer for prompts and for training, with what follows each fused in where a kernel can. On the CPU the bits are
// those of the ops that they stand for. `invariance` is that of the products, and holds for what follows them as well.
//
// q = rope(x · query_weightᵀ), k = rope(x · key_weightᵀ), v = x · value_weightᵀ: x [rows, cols] · weights [heads or kv_heads · head_dim, cols] ·
// q [rows, heads, head_dim] · k, v [rows, kv_heads, head_dim] · cosine, sine f32[max_positions, head_dim / 2] · positions i32[rows].
struct QkvArgs {
  TensorRef x, query_weight, key_weight, value_weight, cosine, sine, positions, q, k, v;
  int64_t rows, cols, heads, kv_heads, head_dim, max_positions;
  Invariance invariance;
};
// gate = x · gate_weightᵀ, up = x · up_weightᵀ, out = silu(gate) · up; x [rows, cols] · weights [out_features, cols] · gate, up, out
// [rows, out_features]. Either out or gate and up may be absent. out has the same bits with gate and up as without: it is computed
// from them in the dtype of x.
struct GateUpArgs {
  TensorRef x, gate_weight, up_weight, gate, up, out;
  int64_t rows, cols, out_features;
  Invariance invariance;
};
// out = residual + x · weightᵀ; x [rows, in_features] · weight [out_features, in_features] · residual, out [rows, out_features]. out may be
// residual. With Invariance::few_rows it is one of the ops of a decoding step: what is said above of their weights holds.
struct LinearAddArgs {
  TensorRef x, weight, residual, out;
  int64_t rows, in_features, out_features;
  Invariance invariance;
};

// Changes logits[rows, vocab] in place. history i32[rows, history_stride] holds, for row i, history_length[i] ids (prompt, pads
// where the caller counts them, and generated ids).
//  - repetition_penalty ≠ 1: for every distinct id of the history, s < 0 ? s·p : s / p
//  - no_repeat_ngram n > 0: −inf for every id that would repeat an n-gram of the history
//  - suppress i32[suppress_count] (optional): −inf for these ids on the rows where history_length[i] < suppress_below[i] (i32)
struct ProcessLogitsArgs {
  TensorRef logits, history, history_length, suppress, suppress_below;
  int64_t rows, vocab, history_stride, suppress_count;
  float repetition_penalty;
  int32_t no_repeat_ngram;
};

// out[i, :] = log-softmax of logits[i, :]: (x − max) − log Σ exp(x − max), nats. out f32; it may be logits. −inf stays −inf; a row
// with a NaN or +inf, or with nothing but −inf, becomes NaN altogether.
struct LogSoftmaxArgs {
  TensorRef logits, out;
  int64_t rows, vocab;
};

// Changes scores[rows, vocab], f32, in place, before several tokens of a row are drawn; NaN becomes −inf throughout.
//  - x /= temperature (> 0)
//  - top_k (0 = off): −inf for what is below the max(top_k, keep)-th largest value of the row; what equals it stays
//  - top_p (1 = off), over softmax of what is left: a token stays when the tokens above it have together less than top_p, or when
//    it is among the `keep` highest and its probability is above 0 in f32; among equal values the lower token counts as higher. The others become −inf.
struct WarpScoresArgs {
  TensorRef scores;
  int64_t rows, vocab;
  float temperature, top_p;
  int32_t top_k, keep;
};

// The k best continuations of each group of `beams` consecutive rows. Token t after beam b of group g has the total
// scores[g · beams + b][t] + beam_scores[g · beams + b], one addition of f32 (scores f32[groups · beams, vocab], beam_scores f32[groups ·
// beams]; NaN counts as −inf). totals f32, tokens i32 and parents i32 (the beam, 0 … beams − 1), all [groups, k]: in descending
// order of the total, equal ones in ascending order of the token, then of the beam. 0 ≤ k ≤ beams · vocab.
// With stream and position, i32[groups], the order is that of total + noise: k draws without replacement from the softmax over all
// totals of the group, in the order in which they are drawn (Kool et al., 2019: "Stochastic beams and where to find them"). The
// noise is −log(−log u), u = (r + ½) · 2⁻⁵³ with 53 random bits r that depend on (seed, stream[g], position[g], beam, token) alone, and
// noise and sum are f64. Totals of −inf stay last, in the order above. totals are given without the noise.
struct BeamTopKArgs {
  TensorRef scores, beam_scores, totals, tokens, parents, stream, position;
  int64_t groups, beams, vocab, k;
  uint64_t seed;
};

// For every pair (from, to) of pairs i32[count, 2], in each of the `groups` tables of table[groups, blocks, block_elements] (any dtype):
// block `to` becomes a copy of block `from`. A pair with from < 0 is passed over. No block is the target of two pairs, or of one
// and the source of another: an error of the caller.
struct CopyBlocksArgs {
  TensorRef table, pairs;
  int64_t groups, blocks, block_elements, count;
};

// history[i][history_length[i]] = ids[i]; history_length[i] += 1.
struct AppendTokensArgs {
  TensorRef ids, history, history_length;
  int64_t rows, history_stride;
};

// out i32[1] += the number of elements of x that are NaN or infinite.
struct CountNonFiniteArgs {
  TensorRef x, out;
  int64_t count;
};

// The CPU implementation runs a call to its end on the engine thread and the pool; a GPU implementation launches it.
class Ops {
 public:
  virtual ~Ops() = default;

  virtual void fill(const FillArgs&) = 0;
  virtual void fill_normal(const FillNormalArgs&) = 0;
  virtual void cast(const CastArgs&) = 0;
  virtual void add(const AddArgs&) = 0;
  virtual void increment(const IncrementArgs&) = 0;
  virtual void matmul(const MatmulArgs&) = 0;
  virtual void rms_norm(const RmsNormArgs&) = 0;
  virtual void rms_norm_backward(const RmsNormBackwardArgs&) = 0;
  virtual void rope(const RopeArgs&) = 0;
  virtual void attention(const AttentionArgs&) = 0;
  virtual void attention_backward(const AttentionBackwardArgs&) = 0;
  virtual void swi_glu(const SwiGluArgs&) = 0;
  virtual void swi_glu_backward(const SwiGluBackwardArgs&) = 0;
  virtual void gather_rows(const GatherRowsArgs&) = 0;
  virtual void scatter_rows(const ScatterRowsArgs&) = 0;
  virtual void embedding_backward(const EmbeddingBackwardArgs&) = 0;
  virtual void cross_entropy(const CrossEntropyArgs&) = 0;
  virtual void reduce_sum(const ReduceSumArgs&) = 0;
  virtual void clip_coefficient(const ClipCoefficientArgs&) = 0;
  virtual void adamw(const AdamWArgs&) = 0;
  virtual void argmax(const ArgmaxArgs&) = 0;
  virtual void sample(const SampleArgs&) = 0;
  virtual void process_logits(const ProcessLogitsArgs&) = 0;
  virtual void append_tokens(const AppendTokensArgs&) = 0;
  virtual void log_softmax(const LogSoftmaxArgs&) = 0;
  virtual void warp_scores(const WarpScoresArgs&) = 0;
  virtual void beam_top_k(const BeamTopKArgs&) = 0;
  virtual void copy_blocks(const CopyBlocksArgs&) = 0;
  virtual void count_non_finite(const CountNonFiniteArgs&) = 0;
  virtual void norm_qkv(const NormQkvArgs&) = 0;
  virtual void norm_gate_up(const NormGateUpArgs&) = 0;
  virtual void qkv(const QkvArgs&) = 0;
  virtual void gate_up(const GateUpArgs&) = 0;
  virtual void linear_add(const LinearAddArgs&) = 0;

  // Only some ways of training need these; a device may be without them and then says so.
  virtual void scale(const ScaleArgs&) { unavailable("scale"); }
  virtual void dropout(const DropoutArgs&) { unavailable("dropout"); }
  virtual void preference_loss(const PreferenceLossArgs&) { unavailable("preference_loss"); }

 private:
  [[noreturn]] static void unavailable(const char* op) {
    throw Error("ERR_ALMA_DEVICE", std::string(op) + ": this device does not have the op");
  }
};

}  // namespace alma

#include "cpu_ops.h"

#include <cstring>

#include "../runtime/error.h"
#include "../runtime/op_parts.h"
#include "amx_support.h"
#include "kernels.h"

namespace alma::cpu {

namespace portable {
extern const Kernels kernels;
}
#if defined(ALMA_CPU_X86)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
namespace avx512bf16 {  // its matmul; all else is avx512's
void matmul(ThreadPool&, const MatmulArgs*, int);
double probe_bf16_dot(int64_t);
}  // namespace avx512bf16
namespace amx {
void matmul(ThreadPool&, const MatmulArgs*, int);
double probe_bf16_dot(int64_t);
extern const int64_t probe_bf16_dot_flops;
}  // namespace amx
#endif
#if defined(ALMA_CPU_EMULATED_ISA)
namespace emulated_avx512 {
extern const Kernels kernels;
}
namespace emulated_avx512bf16 {
void matmul(ThreadPool&, const MatmulArgs*, int);
double probe_bf16_dot(int64_t);
}  // namespace emulated_avx512bf16
namespace emulated_amx {
void matmul(ThreadPool&, const MatmulArgs*, int);
double probe_bf16_dot(int64_t);
extern const int64_t probe_bf16_dot_flops;
}  // namespace emulated_amx
#endif

void fail(const char* op, const char* reason) { throw Error("ERR_ALMA_DEVICE", std::string(op) + ": " + reason); }

void fail_index(const char* op, const char* what, int64_t value, int64_t limit) {
  throw Error("ERR_ALMA_DEVICE", std::string(op) + ": " + what + " " + std::to_string(value) + " is outside [0, " +
                                     std::to_string(limit) + ")");
}

namespace {

struct Isa {
  const char* name;
  const Kernels* kernels;
};

#if defined(ALMA_CPU_X86)
using Matmul = void (*)(ThreadPool&, const MatmulArgs*, int);

// An instruction set that has products of its own, and all else of `base`. There is one of each name.
template <Matmul kMatmul, double (*kProbe)(int64_t)>
Isa with_products(const char* name, const Kernels& base, int64_t probe_flops) {
  static Kernels kernels;
  kernels = base;
  kernels.matmul = kMatmul;
  kernels.probe_bf16_dot = kProbe;
  kernels.probe_bf16_dot_flops = probe_flops;
  return {name, &kernels};
}

// No processor with AMX has run these kernels yet, only their emulation: they are taken where they agree with those of AVX-512 on a product that
// fills no tile.
bool amx_agrees(const Kernels& amx, const Kernels& avx512) {
  constexpr int64_t kM = 37, kN = 45, kK = 83;
  std::vector<float> a(kM * kK), amx_c(kM * kN), avx512_c(kM * kN);
  std::vector<uint16_t> b(kN * kK);
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50);
  for (size_t i = 0; i < b.size(); ++i) b[i] = bf16_from_f32(static_cast<float>(static_cast<int>(i * 53 % 89) - 44));
  ThreadPool pool(1);
  const auto multiply = [&](const Kernels& kernels, std::vector<float>& c) {
    MatmulArgs args{};
    args.a = {a.data(), DType::f32};
    args.b = {b.data(), DType::bf16};
    args.c = {c.data(), DType::f32};
    args.m = kM;
    args.n = kN;
    args.k = kK;
    args.layout = MatmulLayout::nt;
    args.invariance = Invariance::many_rows;
    kernels.matmul(pool, &args, 1);
  };
  multiply(amx, amx_c);
  multiply(avx512, avx512_c);
  return amx_c == avx512_c;  // of small integers all sums are exact
}
#endif

// Ascending: the last one that is not emulated is the best. __builtin_cpu_supports asks the processor and whether the operating
// system saves the registers (XGETBV).
std::vector<Isa> find_isas() {
  std::vector<Isa> isas = {{"portable", &portable::kernels}};
#if defined(ALMA_CPU_X86)
  __builtin_cpu_init();
  const bool avx2_runs = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512_runs = avx2_runs && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#if defined(ALMA_CPU_EMULATED_ISA)
  if (avx2_runs) {
    const Kernels& base = emulated_avx512::kernels;
    isas.push_back({"emulated-avx512", &base});
    isas.push_back(with_products<emulated_avx512bf16::matmul, emulated_avx512bf16::probe_bf16_dot>(
        "emulated-avx512bf16", base, base.probe_bf16_dot_flops));
    const Isa amx = with_products<emulated_amx::matmul, emulated_amx::probe_bf16_dot>(
        "emulated-amx", base, emulated_amx::probe_bf16_dot_flops);
    if (amx_agrees(*amx.kernels, *isas.back().kernels)) isas.push_back(amx);
  }
#endif
  if (avx2_runs) isas.push_back({"avx2", &avx2::kernels});
  if (avx512_runs) isas.push_back({"avx512", &avx512::kernels});
  if (avx512_runs && __builtin_cpu_supports("avx512bf16")) {
    const Kernels& base = avx512::kernels;
    isas.push_back(
        with_products<avx512bf16::matmul, avx512bf16::probe_bf16_dot>("avx512bf16", base, base.probe_bf16_dot_flops));
    if (request_amx()) {
      const Isa amx = with_products<amx::matmul, amx::probe_bf16_dot>("amx", base, amx::probe_bf16_dot_flops);
      if (amx_agrees(*amx.kernels, *isas.back().kernels)) isas.push_back(amx);
    }
  }
#endif
  return isas;
}

const std::vector<Isa>& isas() {
  static const std::vector<Isa> found = find_isas();
  return found;
}

}  // namespace

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : isas()) names.emplace_back(isa.name);
  return names;
}

std::unique_ptr<CpuOps> make_cpu_ops(int threads, const char* isa) {
  if (threads < 0) throw Error("ERR_ALMA_DEVICE", "cpu: threads is negative");
  const int count = threads == 0 ? usable_processors() : threads;
  if (isa == nullptr || std::strcmp(isa, "auto") == 0)
    return std::make_unique<CpuOps>(count, *isas().back().kernels, isas().back().name);
  std::string names;
  for (const Isa& candidate : isas()) {
    if (std::strcmp(isa, candidate.name) == 0)
      return std::make_unique<CpuOps>(count, *candidate.kernels, candidate.name);
    names += names.empty() ? candidate.name : std::string(", ") + candidate.name;
  }
  throw Error("ERR_ALMA_DEVICE",
              std::string("cpu: instruction set \"") + isa + "\" is not available here; there are: " + names);
}

CpuOps::CpuOps(int threads, const Kernels& kernels, const char* isa) : pool_(threads), kernels_(kernels), isa_(isa) {}

void CpuOps::fill(const FillArgs& args) { cpu::fill(pool_, args); }
void CpuOps::fill_normal(const FillNormalArgs& args) { cpu::fill_normal(pool_, args); }
void CpuOps::cast(const CastArgs& args) { kernels_.cast(pool_, args); }
void CpuOps::add(const AddArgs& args) { kernels_.add(pool_, args); }
void CpuOps::increment(const IncrementArgs& args) { cpu::increment(pool_, args); }
void CpuOps::matmul(const MatmulArgs& args) { kernels_.matmul(pool_, &args, 1); }
void CpuOps::matmul_together(const MatmulArgs* products, int count) { kernels_.matmul(pool_, products, count); }
void CpuOps::rms_norm(const RmsNormArgs& args) { kernels_.rms_norm(pool_, args); }
void CpuOps::rms_norm_backward(const RmsNormBackwardArgs& args) { kernels_.rms_norm_backward(pool_, args); }
void CpuOps::rope(const RopeArgs& args) { kernels_.rope(pool_, args); }
void CpuOps::attention(const AttentionArgs& args) { kernels_.attention(pool_, args); }
void CpuOps::attention_backward(const AttentionBackwardArgs& args) { kernels_.attention_backward(pool_, args); }
void CpuOps::swi_glu(const SwiGluArgs& args) { kernels_.swi_glu(pool_, args); }
void CpuOps::swi_glu_backward(const SwiGluBackwardArgs& args) { kernels_.swi_glu_backward(pool_, args); }
void CpuOps::gather_rows(const GatherRowsArgs& args) { kernels_.gather_rows(pool_, args); }
void CpuOps::scatter_rows(const ScatterRowsArgs& args) { kernels_.scatter_rows(pool_, args); }
void CpuOps::embedding_backward(const EmbeddingBackwardArgs& args) { kernels_.embedding_backward(pool_, args); }
void CpuOps::cross_entropy(const CrossEntropyArgs& args) { kernels_.cross_entropy(pool_, args); }
void CpuOps::reduce_sum(const ReduceSumArgs& args) { kernels_.reduce_sum(pool_, args); }
void CpuOps::clip_coefficient(const ClipCoefficientArgs& args) { cpu::clip_coefficient(args); }
void CpuOps::adamw(const AdamWArgs& args) { kernels_.adamw(pool_, args); }
void CpuOps::argmax(const ArgmaxArgs& args) { kernels_.argmax(pool_, args); }
void CpuOps::sample(const SampleArgs& args) { cpu::sample(pool_, kernels_, args); }
void CpuOps::process_logits(const ProcessLogitsArgs& args) { cpu::process_logits(pool_, args); }
void CpuOps::append_tokens(const AppendTokensArgs& args) { cpu::append_tokens(args); }
void CpuOps::log_softmax(const LogSoftmaxArgs& args) { kernels_.log_softmax(pool_, args); }
void CpuOps::warp_scores(const WarpScoresArgs& args) { cpu::warp_scores(pool_, kernels_, args); }
void CpuOps::beam_top_k(const BeamTopKArgs& args) { cpu::beam_top_k(pool_, args); }
void CpuOps::copy_blocks(const CopyBlocksArgs& args) { cpu::copy_blocks(pool_, args); }
void CpuOps::count_non_finite(const CountNonFiniteArgs& args) { kernels_.count_non_finite(pool_, args); }
void CpuOps::norm_qkv(const NormQkvArgs& args) {
  parts::norm_qkv(*this, args, pool_.scratch(0, ThreadPool::kPartsSlot, parts::scratch_bytes(args)));
}
void CpuOps::norm_gate_up(const NormGateUpArgs& args) {
  parts::norm_gate_up(*this, args, pool_.scratch(0, ThreadPool::kPartsSlot, parts::scratch_bytes(args)));
}
void CpuOps::qkv(const QkvArgs& args) { parts::qkv(*this, args); }
void CpuOps::gate_up(const GateUpArgs& args) {
  parts::gate_up(*this, args, pool_.scratch(0, ThreadPool::kPartsSlot, parts::scratch_bytes(args)));
}
void CpuOps::linear_add(const LinearAddArgs& args) {
  parts::linear_add(*this, args, pool_.scratch(0, ThreadPool::kPartsSlot, parts::scratch_bytes(args)));
}
void CpuOps::scale(const ScaleArgs& args) { kernels_.scale(pool_, args); }
void CpuOps::dropout(const DropoutArgs& args) { kernels_.dropout(pool_, args); }
void CpuOps::preference_loss(const PreferenceLossArgs& args) { cpu::preference_loss(args); }

}  // namespace alma::cpu

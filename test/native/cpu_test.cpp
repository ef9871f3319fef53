// Every op of the CPU device against naive float64 references, for every instruction set this machine runs.
//   cpu_test [isa …]
#include <algorithm>

#include "cpu_check.h"

using namespace alma;
using namespace alma::test;

int main(int argc, char** argv) {
  std::vector<std::string> isas(argv + 1, argv + argc);
  const std::vector<std::string> all = cpu::supported_isas();
  if (isas.empty()) isas = all;
  context = "pool";
  test_thread_pool();
  context = "memory";
  test_block_arena();
  context = "files";
  test_mapped_file();
  throws("unknown instruction set", [] { cpu::make_cpu_ops(1, "sse9"); });
  throws("negative threads", [] { cpu::make_cpu_ops(-1, "auto"); });
  const auto has = [&](const char* isa) { return std::find(all.begin(), all.end(), isa) != all.end(); };
  check(has("emulated-amx") == has("emulated-avx512bf16"), "AMX, as emulated, agrees with AVX-512");
  for (const std::string& isa : isas) {
    const auto ops = cpu::make_cpu_ops(2, isa.c_str());
    context = isa;
    check(ops->isa() == isa && ops->threads() == 2, "isa and threads");
    test_elementwise(*ops);
    test_matmul(*ops);
    test_norms_and_rope(*ops);
    test_attention(*ops);
    test_losses_and_optimizer(*ops);
    test_decoding(*ops);
    test_thread_independence(isa);
    std::printf("%s: done\n", isa.c_str());
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

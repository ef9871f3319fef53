// Copies of cache blocks: beams that part after a common history.
#include <cstring>

#include "kernels.h"

namespace alma::cpu {

void copy_blocks(ThreadPool& pool, const CopyBlocksArgs& args) {
  const auto* pairs = static_cast<const int32_t*>(args.pairs.data);
  int64_t copies = 0;
  for (int64_t i = 0; i < args.count; ++i) {
    if (pairs[2 * i] < 0) continue;
    ++copies;
    for (const int32_t block : {pairs[2 * i], pairs[2 * i + 1]})
      if (block < 0 || block >= args.blocks) fail_index("copy_blocks", "block", block, args.blocks);
  }
  if (copies == 0) return;
  const bool narrow = args.table.dtype == DType::bf16 || args.table.dtype == DType::f16;
  const auto bytes = static_cast<size_t>(args.block_elements) * (narrow ? 2 : 4);
  pool.run(args.groups, [&](int64_t group, int) {
    char* table = static_cast<char*>(args.table.data) + static_cast<size_t>(group * args.blocks) * bytes;
    for (int64_t i = 0; i < args.count; ++i)
      if (pairs[2 * i] >= 0)
        std::memcpy(table + static_cast<size_t>(pairs[2 * i + 1]) * bytes,
                    table + static_cast<size_t>(pairs[2 * i]) * bytes, bytes);
  });
}

}  // namespace alma::cpu

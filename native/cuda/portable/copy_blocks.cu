// Copies of cache blocks: beams that part after a common history. A CUDA block copies a stretch of one cache block of one group.
#include "../value_error.h"
#include "dispatch.h"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 8;  // words a thread copies

template <class Word>
__global__ void __launch_bounds__(kThreads)
    copy_blocks_kernel(Word* table, const int* pairs, int64_t count, int64_t blocks, int64_t words, ValueError* error) {
  const int64_t group = blockIdx.x / count, pair = blockIdx.x - group * count;
  const int64_t from = pairs[2 * pair], to = pairs[2 * pair + 1];
  if (from < 0) return;
  if (!check_index(error, ValueCheck::copy_blocks_block, from, blocks)) return;
  if (!check_index(error, ValueCheck::copy_blocks_block, to, blocks)) return;
  const Word* source = table + (group * blocks + from) * words;
  Word* target = table + (group * blocks + to) * words;
  for (int64_t i = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x; i < words;
       i += static_cast<int64_t>(gridDim.y) * kThreads)
    target[i] = source[i];
}

template <class Word>
void copy(Context& context, const CopyBlocksArgs& args, int64_t words) {
  const int64_t parts = ceil_div(words, int64_t{kThreads} * kEach);
  const dim3 grid(grid_of("copy_blocks", args.groups * args.count).x,
                  static_cast<unsigned>(parts < 1024 ? parts : 1024));
  launch(context, "copy_blocks", {grid, dim3(kThreads)}, copy_blocks_kernel<Word>, pointer<Word>(args.table),
         pointer<int>(args.pairs), args.count, args.blocks, words, context.value_error);
}

}  // namespace

void copy_blocks(Context& context, const CopyBlocksArgs& args) {
  if (args.groups <= 0 || args.count <= 0 || args.block_elements <= 0) return;
  const auto bytes = static_cast<int64_t>(size_of(args.table.dtype)) * args.block_elements;
  if (bytes % 16 == 0 && aligned(16, args.table)) return copy<uint4>(context, args, bytes / 16);
  if (bytes % 4 == 0 && aligned(4, args.table)) return copy<uint32_t>(context, args, bytes / 4);
  copy<unsigned short>(context, args, bytes / 2);
}

}  // namespace alma::ALMA_CUDA::portable

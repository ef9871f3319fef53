// What attention forward and backward share on compute capability 9.0: warpgroup 0 copies tiles by tensor maps into rings of stages, the
// other two multiply them.
#pragma once

#include "../portable/attention_tiles.cuh"
#include "../portable/dispatch.h"
#include "../ptx/fence.cuh"
#include "../ptx/mbarrier.cuh"
#include "../ptx/named_barrier.cuh"
#include "../ptx/set_max_registers.cuh"
#include "../ptx/tensor_copy.cuh"
#include "../ptx/wgmma_n128.cuh"
#include "../ptx/wgmma_n64.cuh"
#include "../shared_memory.cuh"
#include "attention_kernels.h"

namespace alma::ALMA_CUDA::hopper {

using portable::AttentionBounds;
using portable::AttentionTile;
using portable::kNegativeInfinity;
using ptx::Major;

constexpr int kStages = 2, kThreads = 384;
constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;

// Where a ring of kStages is.
struct Ring {
  int stage = 0;
  unsigned parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// Rows of a head of a tensor as pieces of 64 columns, rows of 128 bytes. `full` expects their bytes from elsewhere.
template <int kColumns>
__device__ __forceinline__ void load_tile(bf16* to, const TensorMap* map, ptx::Mbarrier* full, int rows, int head,
                                          int row) {
#pragma unroll
  for (int column = 0; column < kColumns; column += 64)
    ptx::tensor_load_3d(to + rows * column, map, full, column, head, row);
}

// An accumulator as wgmma takes it.
template <int kTiles>
__device__ __forceinline__ float (&flat(float (&accumulator)[1][kTiles][4]))[kTiles * 4] {
  return reinterpret_cast<float(&)[kTiles * 4]>(accumulator);
}

// Tiles of box_rows rows, those of box_heads heads of a token one after the other.
inline TensorMap map_of(const char* op, const TensorRef& tensor, int64_t rows, const AttentionBounds& bounds, int heads,
                        int box_heads, int box_rows) {
  const int64_t head_dim = bounds.head_dim;
  return make_tensor_map(op, {tensor.data,
                              DType::bf16,
                              3,
                              {head_dim, heads, rows},
                              {1, head_dim, head_dim * heads},
                              {64, box_heads, box_rows / box_heads},
                              true});
}

}  // namespace alma::ALMA_CUDA::hopper

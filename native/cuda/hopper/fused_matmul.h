// The products of a decoder layer with what follows them in their epilogues, on compute capability 9.0: behind portable/qkv.cu, gate_up.cu
// and linear_add.cu. Each is the nt product of matmul_kernels.h, of many rows, whose tiles are finished in another way.
#pragma once

#include "../value_error.h"
#include "matmul_kernels.h"

namespace alma::ALMA_CUDA::hopper {

// Whether the kernel can do it, and costs no more than the product of the same extents by itself.
bool takes_qkv(const Context& context, const QkvArgs& args);
bool takes_gate_up(const Context& context, const GateUpArgs& args);
bool takes_linear_add(const Context& context, const LinearAddArgs& args);

void qkv(Context& context, const QkvArgs& args);
void gate_up(Context& context, const GateUpArgs& args);
void linear_add(Context& context, const LinearAddArgs& args);

// For tests of every tile: 128 columns, or 256 in clusters of 1 or 2 blocks.
void qkv_in_tiles(Context& context, const QkvArgs& args, TileColumns columns, int cluster);
void gate_up_in_tiles(Context& context, const GateUpArgs& args, TileColumns columns, int cluster);
void linear_add_in_tiles(Context& context, const LinearAddArgs& args, TileColumns columns, int cluster);

// A tile's columns are columns of q, of k, or of v: those have tiles of their own, one after the other.
struct QkvProblem : MatmulTiles {
  TensorMap weights[3], out[3];
  const float *cosine, *sine;  // [max_positions, head_dim / 2]
  const int* positions;
  int64_t rows, max_positions;
  int tiles[2];  // columns of tiles of q, and of k
  ValueError* error;
};
// A tile's first half are columns of gate, its second half the same columns of up.
struct GateUpProblem : MatmulTiles {
  TensorMap weights[2], gate, up, out;
  bool keeps, has_out;  // gate and up, and out, are stored
};
struct LinearAddProblem : MatmulTiles {
  TensorMap b, residual, out;
};

// One file each: they are compiled at the same time.
void launch_qkv(const Context& context, const MatmulPlan& plan, const QkvProblem& problem, int64_t head_dim);
void launch_gate_up(const Context& context, const MatmulPlan& plan, const GateUpProblem& problem);
void launch_linear_add(const Context& context, const MatmulPlan& plan, const LinearAddProblem& problem);

// body(MatmulConfig) for the plan's tile; kBuffers of 0: one buffer for every 64 columns, else so many.
template <template <MatmulLayout, int, int, int> class Config, int kBuffers, class Body>
void with_fused_tile(const MatmulPlan& plan, const Body& body) {
  constexpr int kNarrow = kBuffers == 0 ? 2 : kBuffers, kWide = kBuffers == 0 ? 4 : kBuffers;
  if (plan.columns != TileColumns::n256) return body(Config<MatmulLayout::nt, 128, 1, kNarrow>{});
  if (plan.cluster == 2) return body(Config<MatmulLayout::nt, 256, 2, kWide>{});
  body(Config<MatmulLayout::nt, 256, 1, kWide>{});
}

}  // namespace alma::ALMA_CUDA::hopper

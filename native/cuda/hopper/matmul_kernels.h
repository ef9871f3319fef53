// The matmul of compute capability 9.0, behind portable/matmul.cu.
#pragma once

#include "../portable/dispatch.h"
#include "../tensor_map.h"

namespace alma::ALMA_CUDA::hopper {

// Whether these kernels can do it, and are the better choice on this device.
bool takes_matmul(const Context& context, const MatmulArgs& args);
void matmul(Context& context, const MatmulArgs& args);

// A block's tile is 128 rows of c and this many columns.
enum class TileColumns { n64 = 64, n128 = 128, n256 = 256 };

struct MatmulPlan {
  TileColumns columns;
  int64_t tiles_m, tiles_n;
  int group;           // rows of tiles that are done together, column after column
  double cost;         // cycles, of waves of tiles
  int64_t splits = 1;  // parts of k; above 1 a second kernel adds their products
  int cluster =
      1;  // blocks that share columns of b, 2 with 256 columns alone; tiles_m and group count so many tiles as one
};
// Of all tiles the one of least cost; where a row's bits must not depend on the others, the one for all m.
MatmulPlan plan_matmul(const MatmulArgs& args, int multiprocessors);
// Of so many columns of tiles, with k in `splits` parts; the cost is without that of adding them.
MatmulPlan plan_tiles(int64_t m, int64_t tiles_n, int64_t k, TileColumns columns, int multiprocessors, int64_t splits,
                      int cluster);
// For tests of every tile and of parts of k.
void matmul_in_tiles(Context& context, const MatmulArgs& args, TileColumns columns, int64_t splits = 1,
                     int cluster = 1);

// What is multiplied, tile by tile.
struct MatmulTiles {
  TensorMap a;
  int k_blocks, tiles_m, tiles_n, group;
  int splits, split_blocks;  // parts of k, and k blocks of one
};
struct MatmulProblem : MatmulTiles {
  TensorMap b, c;
  void* c_data;  // with several parts of k f32[splits, m, n]
  int64_t m, n;
  bool accumulate, f32_out, pairs;  // of the kernel that stores from registers
};

// All of them but `a`.
void set_tiles(MatmulTiles& tiles, const MatmulPlan& plan, int64_t k);
// bf16[rows, columns], in boxes of 64 columns.
TensorMap operand_map(const char* op, const TensorRef& tensor, int64_t rows, int64_t columns, int box_rows);

// One file a layout: they are compiled at the same time.
void launch_matmul_nn(const Context& context, const MatmulPlan& plan, const MatmulProblem& problem, bool bulk_store);
void launch_matmul_nt(const Context& context, const MatmulPlan& plan, const MatmulProblem& problem, bool bulk_store);
void launch_matmul_tn(const Context& context, const MatmulPlan& plan, const MatmulProblem& problem, bool bulk_store);

}  // namespace alma::ALMA_CUDA::hopper

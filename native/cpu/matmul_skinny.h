#pragma once

#include "../runtime/ops.h"

namespace alma::cpu {
class ThreadPool;
}

namespace alma::cpu::ALMA_ISA {

constexpr int64_t kSkinnyRows = 32;

// Which nt products it is for. Reading weights that do not fit L2 where they lie beats packing them up to 32 rows (4096²: 16 rows
// at 66 GFLOP/s against 40, 48 rows at 59 against 65); for small weights the register block of the packed product wins sooner.
__attribute__((always_inline)) static constexpr inline bool is_skinny(int64_t m, int64_t n, int64_t k) {
  return m <= 8 || (m <= kSkinnyRows && n * k >= 1 << 20);
}

// nt products of any number of rows, in passes of kSkinnyRows, all with the same a and weights of one dtype: they are computed together.
// An element's bits depend on its row of a, its row of b and k.
void matmul_skinny(ThreadPool& pool, const MatmulArgs* products, int count);

}  // namespace alma::cpu::ALMA_ISA

#pragma once

#include "../runtime/ops.h"

namespace alma::cpu {
class ThreadPool;
}

namespace alma::cpu::ALMA_ISA {

constexpr int64_t kSkinnyRows = 8;

// nt products of at most kSkinnyRows rows.
void matmul_skinny(ThreadPool& pool, const MatmulArgs& args);

}  // namespace alma::cpu::ALMA_ISA

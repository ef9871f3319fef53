#pragma once

#include "simd.h"

namespace alma::cpu::ALMA_ISA {

constexpr int kProbeChains = 12;
// Of one iteration.
constexpr int64_t kProbeFmaFlops = kProbeChains * W * 2, kProbeDotFlops = kProbeChains * W * 4;
constexpr int64_t kProbeTileFlops = int64_t{32} * 32 * 32 * 2;  // of AMX

}  // namespace alma::cpu::ALMA_ISA

#pragma once

#include "simd.h"

namespace alma::cpu::ALMA_ISA {

constexpr int kProbeChains = 12;
constexpr int64_t kProbeFmaFlops = kProbeChains * W * 2, kProbeDotFlops = kProbeChains * W * 4;  // of one iteration

}  // namespace alma::cpu::ALMA_ISA

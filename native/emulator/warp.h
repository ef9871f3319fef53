// What the lanes of a warp do together: shuffles and votes.
#pragma once

#include <cstdint>

#include "block.h"

namespace alma::emulator {

enum class Shuffle { index, up, down, exclusive_or };

// The value of another lane, by its bits. A lane outside its segment of `width` lanes gives the caller's own value, as on a GPU.
uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int operand, int width, Here here);

// The lanes of `mask` for which `predicate` holds.
unsigned ballot(unsigned mask, bool predicate, Here here);

}  // namespace alma::emulator

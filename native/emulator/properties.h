// What GPU the emulator says it is, which decides on the kernels that the backend chooses.
#pragma once

#include <cstddef>

namespace alma::emulator {

// 10 · major + minor: 80, or 90 where ALMA_EMULATOR_COMPUTE is "9.0".
int compute_capability();
void set_compute_capability(int capability);
size_t shared_bytes_per_block();

}  // namespace alma::emulator

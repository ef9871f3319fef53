// Runs the blocks of a launch, as many at a time as there are processors.
#pragma once

#include "block.h"

namespace alma::emulator {

// Returns when all blocks have ended, or after the first finding.
void run_grid(const LaunchDescription& launch);

// Launches that have run so far, of all streams.
uint64_t launches();

// The name of the next kernel that this OS thread launches, for messages.
void name_next_launch(const char* name);
const char* take_launch_name();

}  // namespace alma::emulator

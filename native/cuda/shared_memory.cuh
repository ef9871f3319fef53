// All shared memory of a kernel is one struct in dynamic shared memory: `ALMA_SHARED(Tiles, tiles)` inside the kernel, and
// `shared_bytes = sizeof(Tiles)` at its launch. The emulator gives each block its own, poisoned and checked; a __shared__ variable would
// be one for all blocks there.
#pragma once

#ifdef ALMA_EMULATOR
#include "../emulator/block.h"
#define ALMA_SHARED(Type, name) \
  Type& name = *reinterpret_cast<Type*>(::alma::emulator::shared_memory(sizeof(Type), alignof(Type)))
#else
#define ALMA_SHARED(Type, name)                                        \
  extern __shared__ __align__(1024) unsigned char alma_shared_bytes[]; \
  Type& name = *reinterpret_cast<Type*>(alma_shared_bytes)
#endif

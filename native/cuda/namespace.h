// The CUDA backend's sources are compiled twice: by nvcc, and by the host compiler against native/emulator. Each time in a namespace
// of its own, so that one development build can hold both.
#pragma once

#ifdef ALMA_EMULATOR
#define ALMA_CUDA emulated_cuda
#else
#define ALMA_CUDA cuda
#endif

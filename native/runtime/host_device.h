// Marks what the host and the GPU both run.
#pragma once

#ifdef __CUDACC__
#define ALMA_HOST_DEVICE __host__ __device__
#else
#define ALMA_HOST_DEVICE
#endif

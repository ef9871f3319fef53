// Ceilings for the benchmarks: what the processor and its memory can do at best, measured, with all threads of the pool.
#pragma once

#include <cstddef>

namespace alma::cpu {

class CpuOps;

double fma_peak_flops(CpuOps& ops, double seconds);  // FLOP/s of f32 multiply-adds in registers
double bf16_dot_peak_flops(CpuOps& ops,
                           double seconds);  // FLOP/s of dot products of bf16 pairs (emulated where not native)
double read_bandwidth(CpuOps& ops, size_t bytes,
                      double seconds);  // bytes/s of a streaming sum over a buffer of `bytes`
double copy_bandwidth(CpuOps& ops, size_t bytes, double seconds);  // bytes/s, read and written bytes counted

}  // namespace alma::cpu

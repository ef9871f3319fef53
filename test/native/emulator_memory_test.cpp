// Memory: exact bounds of device and shared memory, alignment, what was never written or is freed, blocks that depend on each other.
#include "../../native/emulator/checks.h"
#include "emulator_check.h"

namespace alma::test {

namespace {

// A tail with an error of `extra` elements.
__global__ void scale(const float* in, float* out, int count, int extra_read, int extra_written) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  float value = 0;
  if (i < count + extra_read) value = in[i];
  if (i < count + extra_written) out[i] = 2 * value;
}

void run_scale(int extra_read, int extra_written) {
  const int count = 1001;
  const Device<float> in(std::vector<float>(static_cast<size_t>(count), 3.0f)), out(static_cast<size_t>(count));
  launch({dim3(8), dim3(128)}, scale, in.get(), out.get(), count, extra_read, extra_written);
  cudaDeviceSynchronize();
  if (extra_read != 0 || extra_written != 0) return;
  for (const float value : out.values()) check(value == 6.0f, "scaled");
}

struct Row {
  float values[33];
};
struct Tail {
  Row rows[2];
  float last;
};
__global__ void shared_tail(float* out, int count) {
  ALMA_SHARED(Tail, shared);
  float* all = shared.rows[0].values;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += 32) all[i] = 1;
  __syncthreads();
  out[threadIdx.x] = all[threadIdx.x];
}

void run_shared_tail(int count) {
  const Device<float> out(32);
  launch({dim3(1), dim3(32), sizeof(Tail)}, shared_tail, out.get(), count);
  cudaDeviceSynchronize();
}

__global__ void never_written(float* out) {
  ALMA_SHARED(Row, shared);
  if (threadIdx.x < 30) shared.values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = shared.values[threadIdx.x];
}

__global__ void vector_read(const float* in, float4* out) { *out = *reinterpret_cast<const float4*>(in); }

__global__ void read_one(const float* in, float* out) { *out = *in; }

__global__ void all_to_one_place(int* out) { out[0] = static_cast<int>(blockIdx.x); }
__global__ void from_the_block_before(int* values) {
  values[blockIdx.x + 1] = blockIdx.x == 0 ? 1 : values[blockIdx.x] + 1;
}
__global__ void in_place(int* values) { values[blockIdx.x] += 1; }
__global__ void count_up(int* counter, unsigned long long* largest) {
  atomicAdd(counter, 1);
  atomicMax(largest, static_cast<unsigned long long>(blockIdx.x * 100 + threadIdx.x));
  __threadfence();
}

struct Bytes {
  unsigned char values[64];
};
// Neighbouring bytes, and neighbouring halves of a word, are different places.
__global__ void bytes(int* out) {
  ALMA_SHARED(Bytes, shared);
  shared.values[threadIdx.x] = static_cast<unsigned char>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = shared.values[63 - threadIdx.x];
}

__global__ void deep_stack(int* out, int depth) {
  volatile char space[8192];
  for (int i = 0; i < 8192; ++i) space[i] = static_cast<char>(depth);
  if (depth > 0) deep_stack(out, depth - 1);
  out[threadIdx.x] = space[depth];
}

constexpr float kTable[4] = {1, 2, 3, 4};
struct Parameters {
  float values[40];
};
__global__ void constants(Parameters parameters, float* out) {
  out[threadIdx.x] = kTable[threadIdx.x % 4] + parameters.values[threadIdx.x];
}

}  // namespace

void test_memory() {
  runs_clean("a ragged tail", [] { run_scale(0, 0); });
  is_found("a tail read one too far",
           {"reads 4 bytes 0 bytes behind the end of an allocation of 4004 bytes", "block (7, 0, 0)"},
           [] { run_scale(1, 0); });
  is_found("a tail written one too far", {"writes 4 bytes 0 bytes behind the end of an allocation of 4004 bytes"},
           [] { run_scale(0, 1); });
  runs_clean("shared memory to its end", [] { run_shared_tail(67); });
  is_found("shared memory one too far", {"writes outside of shared memory, at byte 268 of 268"},
           [] { run_shared_tail(68); });
  is_found("shared memory far too far", {"outside of shared memory"}, [] { run_shared_tail(60000); });
  is_found("shared memory that nobody has written", {"that nobody has written", "byte 12"}, [] {
    const Device<float> out(32);
    launch({dim3(1), dim3(32), sizeof(Row)}, never_written, out.get());
    cudaDeviceSynchronize();
  });
  is_found("less shared memory than the kernel has", {"uses 132 bytes of shared memory, launched with 100"}, [] {
    const Device<float> out(32);
    launch({dim3(1), dim3(32), 100}, never_written, out.get());
    cudaDeviceSynchronize();
  });
  is_found("a vector that is not aligned", {"not a multiple of 16"}, [] {
    const Device<float> in(std::vector<float>(8));
    const Device<float4> out(1);
    launch({dim3(1), dim3(1)}, vector_read, in.get() + 1, out.get());
    cudaDeviceSynchronize();
  });
  is_found("memory that was freed", {"in an allocation of 64 bytes that was freed"}, [] {
    const Device<float> out(1);
    void* in = nullptr;
    cudaMalloc(&in, 64);
    cudaFree(in);
    launch({dim3(1), dim3(1)}, read_one, static_cast<const float*>(in), out.get());
    cudaDeviceSynchronize();
  });
  is_found("memory of the host", {"not the device's memory"}, [] {
    const Device<float> out(1);
    const std::vector<float> in(100);
    launch({dim3(1), dim3(1)}, read_one, in.data(), out.get());
    cudaDeviceSynchronize();
  });
  is_found("a null pointer", {"0x0, which is not the device's memory"}, [] {
    const Device<float> out(1);
    launch({dim3(1), dim3(1)}, read_one, static_cast<const float*>(nullptr), out.get());
    cudaDeviceSynchronize();
  });
  is_found("blocks that write one place", {"written by another block of this launch, at byte 0 of"}, [] {
    const Device<int> out(1);
    launch({dim3(4), dim3(1)}, all_to_one_place, out.get());
    cudaDeviceSynchronize();
  });
  is_found("a block that needs another's result", {"another block of this launch"}, [] {
    const Device<int> out(std::vector<int>(9));
    launch({dim3(8), dim3(1)}, from_the_block_before, out.get());
    cudaDeviceSynchronize();
  });
  runs_clean("blocks that meet because of a bad value, which the host is told", [] {
    const Device<int> out(1);
    emulator::note_bad_value();
    launch({dim3(4), dim3(1)}, all_to_one_place, out.get());
    cudaDeviceSynchronize();
    emulator::forget_bad_values();
  });
  runs_clean("launches that follow each other", [] {
    const Device<int> values(std::vector<int>(8));
    for (int i = 0; i < 3; ++i) launch({dim3(8), dim3(1)}, in_place, values.get());
    for (const int value : values.values()) check(value == 3, "incremented by each launch");
  });
  runs_clean("atomics", [] {
    const Device<int> counter(std::vector<int>(1));
    const Device<unsigned long long> largest(std::vector<unsigned long long>(1));
    launch({dim3(7), dim3(96)}, count_up, counter.get(), largest.get());
    check(counter.values()[0] == 7 * 96 && largest.values()[0] == 695, "atomics");
  });
  runs_clean("bytes", [] {
    const Device<int> out(64);
    launch({dim3(1), dim3(64), sizeof(Bytes)}, bytes, out.get());
    const auto values = out.values();
    for (int i = 0; i < 64; ++i) check(values[static_cast<size_t>(i)] == 63 - i, "bytes");
  });
  runs_clean("parameters and constants", [] {
    const Device<float> out(40);
    Parameters parameters{};
    for (int i = 0; i < 40; ++i) parameters.values[i] = static_cast<float>(i);
    launch({dim3(1), dim3(40)}, constants, parameters, out.get());
    const auto values = out.values();
    for (size_t i = 0; i < 40; ++i) check(values[i] == static_cast<float>(i + i % 4 + 1), "parameters and constants");
  });
  is_found("a stack that is too deep", {"its stack needs more than"}, [] {
    const Device<int> out(128);
    launch({dim3(1), dim3(128)}, deep_stack, out.get(), 15);
    cudaDeviceSynchronize();
  });
}

}  // namespace alma::test

// Measured ceilings of a GPU: bytes a second of a copy (read plus written) and of reading alone.
#include <algorithm>
#include <chrono>

#include "../../runtime/error.h"
#include "../launch.h"
#include "cuda_stream.h"

namespace alma::ALMA_CUDA {

namespace {

struct Block {
  void* data = nullptr;
  explicit Block(size_t bytes) { check("probe", cudaMalloc(&data, bytes)); }
  ~Block() { cudaFree(data); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
};

// Seconds that one call of `body` takes on the device, over `seconds` of calls after a warm-up.
template <class Body>
double time_of(cudaStream_t stream, double seconds, const Body& body) {
  cudaEvent_t begin, end;
  check("probe", cudaEventCreate(&begin));
  check("probe", cudaEventCreate(&end));
  const auto run = [&](int times) {
    check("probe", cudaEventRecord(begin, stream));
    for (int i = 0; i < times; ++i) body();
    check("probe", cudaEventRecord(end, stream));
    check("probe", cudaEventSynchronize(end));
    float milliseconds = 0;
    check("probe", cudaEventElapsedTime(&milliseconds, begin, end));
    return std::max(milliseconds, 1e-4f) * 1e-3;
  };
  run(1);
  const double once = run(1);
  const int times = static_cast<int>(std::clamp(seconds / once, 1.0, 100000.0));
  const double result = run(times) / times;
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return result;
}

}  // namespace

double CudaStream::probe(const std::string& what, double size, double seconds) {
  if (what != "read" && what != "copy") {
    throw Error("ERR_ALMA_OPTION", "no probe named '" + what + "' on a GPU, expected read or copy");
  }
  const auto bytes = static_cast<size_t>(std::clamp(size, 4096.0, 4e9)) / 4096 * 4096;
  const Block source(bytes);
  check("probe", cudaMemsetAsync(source.data, 0, bytes, stream_));
  if (what == "copy") {
    const Block target(bytes);
    const double each = time_of(stream_, seconds, [&] {
      check("probe", cudaMemcpyAsync(target.data, source.data, bytes, cudaMemcpyDeviceToDevice, stream_));
    });
    return 2.0 * static_cast<double>(bytes) / each;
  }
  const Block sum(sizeof(float));
  const double each = time_of(stream_, seconds, [&] {
    ops_.reduce_sum({{source.data, DType::f32}, {sum.data, DType::f32}, static_cast<int64_t>(bytes / 4), false, false});
  });
  return static_cast<double>(bytes) / each;
}

}  // namespace alma::ALMA_CUDA

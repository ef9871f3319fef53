// The host's side: streams, events, graphs, copies, limits, and a host that does not wait.
#include <atomic>
#include <thread>

#include "../../native/emulator/memory.h"
#include "emulator_check.h"

namespace alma::test {

namespace {

__global__ void add_one(int* values, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) values[i] += 1;
}

void add(cudaStream_t stream, int* values, int count) {
  launch_on(stream, {dim3(4), dim3(64)}, add_one, values, count);
}

struct TestStream {
  cudaStream_t stream = nullptr;
  TestStream() { cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking); }
  ~TestStream() { cudaStreamDestroy(stream); }
};

// A stream that stands still until open() is called.
struct Gate {
  std::atomic<bool> is_open{false};
  explicit Gate(cudaStream_t stream) {
    cudaLaunchHostFunc(
        stream, [](void* gate) { static_cast<Gate*>(gate)->is_open.wait(false); }, this);
  }
  void open() {
    is_open = true;
    is_open.notify_all();
  }
};

template <class T>
struct Pinned {
  T* data = nullptr;
  explicit Pinned(size_t count) { cudaHostAlloc(&data, count * sizeof(T), cudaHostAllocDefault); }
  ~Pinned() { cudaFreeHost(data); }
};

void test_streams_and_events() {
  const Device<int> values(std::vector<int>(200));
  TestStream first, second;
  Gate gate(first.stream);
  add(first.stream, values.get(), 200);
  cudaEvent_t event = nullptr;
  cudaEventCreate(&event);
  cudaEventRecord(event, first.stream);
  check(cudaEventQuery(event) == cudaErrorNotReady, "an event that is not reached");
  check(cudaStreamQuery(first.stream) == cudaErrorNotReady, "a stream at work");
  cudaStreamWaitEvent(second.stream, event, 0);
  add(second.stream, values.get(), 100);
  gate.open();
  check(cudaStreamSynchronize(second.stream) == cudaSuccess, "synchronize");
  check(cudaEventQuery(event) == cudaSuccess, "an event that is reached");
  float milliseconds = -1;
  cudaEventElapsedTime(&milliseconds, event, event);
  check(milliseconds == 0, "time between events");
  const auto got = values.values();
  check(got[0] == 2 && got[99] == 2 && got[100] == 1 && got[199] == 1, "the second stream has waited for the first");
  cudaEventDestroy(event);
}

void test_graph() {
  const Device<int> values(std::vector<int>(64));
  TestStream stream;
  cudaStreamBeginCapture(stream.stream, cudaStreamCaptureModeThreadLocal);
  add(stream.stream, values.get(), 64);
  add(stream.stream, values.get(), 32);
  void* data = nullptr;
  check(cudaMalloc(&data, 16) == cudaErrorStreamCaptureUnsupported, "no allocation by the thread that captures");
  cudaGetLastError();
  std::thread([&] { check(cudaMalloc(&data, 16) == cudaSuccess, "allocation by another thread"); }).join();
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream.stream, &graph);
  check(cudaFree(data) == cudaSuccess, "freeing behind a capture");
  cudaGraphExec_t executable = nullptr;
  cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  cudaStreamSynchronize(stream.stream);
  check(values.values()[0] == 0, "what is captured does not run");
  for (int i = 0; i < 5; ++i) cudaGraphLaunch(executable, stream.stream);
  cudaStreamSynchronize(stream.stream);
  cudaGraphExecDestroy(executable);
  const auto got = values.values();
  check(got[0] == 10 && got[63] == 5, "five launches of a graph");
}

void copy_and_do(bool to_device, const std::function<void(int*)>& meanwhile) {
  const Device<int> values(std::vector<int>(100, 7));
  TestStream stream;
  Pinned<int> host(100);
  for (int i = 0; i < 100; ++i) host.data[i] = i;
  Gate gate(stream.stream);
  if (to_device) {
    cudaMemcpyAsync(values.get(), host.data, 400, cudaMemcpyHostToDevice, stream.stream);
  } else {
    cudaMemcpyAsync(host.data, values.get(), 400, cudaMemcpyDeviceToHost, stream.stream);
  }
  meanwhile(host.data);
  gate.open();
  cudaStreamSynchronize(stream.stream);
  if (emulator::has_report()) return;
  if (to_device) check(values.values()[99] == 99, "copied to the device");
  if (!to_device) check(host.data[99] == 7, "copied to the host");
}

void test_limits() {
  const size_t total = emulator::device_bytes_total();
  emulator::set_device_bytes_total(1 << 20);
  void *data = nullptr, *more = nullptr;
  check(cudaMalloc(&data, 900 << 10) == cudaSuccess, "within the limit");
  check(cudaMalloc(&more, 200 << 10) == cudaErrorMemoryAllocation, "over the limit");
  check(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess,
        "the last error is told once");
  size_t free = 0, all = 0;
  cudaMemGetInfo(&free, &all);
  check(all == 1 << 20 && free <= 124 << 10, "cudaMemGetInfo");
  cudaFree(data);
  check(cudaMalloc(&more, 200 << 10) == cudaSuccess, "freed memory can be had again");
  cudaFree(more);
  check(cudaFree(more) == cudaErrorInvalidValue, "freed twice");
  cudaGetLastError();
  emulator::set_device_bytes_total(total);
  const auto fails = [](dim3 grid, dim3 block, size_t shared) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    const bool failed = cudaLaunchKernelEx(&config, add_one, nullptr, 0) == cudaErrorInvalidConfiguration;
    return failed && cudaGetLastError() == cudaErrorInvalidConfiguration;
  };
  check(fails(dim3(1), dim3(1025), 0), "too many threads");
  check(fails(dim3(1), dim3(0), 0), "no threads");
  check(fails(dim3(1, 65536), dim3(1), 0), "too many blocks along y");
  check(fails(dim3(1), dim3(1), 200000), "too much shared memory");
}

// Memory that was freed is not handed out at once, and new memory holds no old values.
void test_new_memory() {
  void *first = nullptr, *second = nullptr;
  cudaMalloc(&first, 1000);
  cudaFree(first);
  cudaMalloc(&second, 1000);
  check(first != second, "freed addresses are not used again soon");
  const Device<float> fresh(10);
  for (const float value : fresh.values()) check(std::isnan(value), "new memory is poisoned");
  cudaFree(second);
}

}  // namespace

void test_host() {
  runs_clean("streams and events", test_streams_and_events);
  runs_clean("graphs", test_graph);
  runs_clean("limits", test_limits);
  runs_clean("new memory", test_new_memory);
  runs_clean("a copy to the device", [] { copy_and_do(true, [](int*) {}); });
  runs_clean("a copy to the host", [] { copy_and_do(false, [](int*) {}); });
  is_found("pinned memory used again before it is copied", {"the host writes pinned memory that a queued copy reads"},
           [] { copy_and_do(true, [](int* host) { host[50] = -1; }); });
  is_found("pinned memory written before a copy into it", {"the host writes pinned memory that a queued copy writes"},
           [] { copy_and_do(false, [](int* host) { host[50] = 5; }); });
  // … and read too early, it does not hold what was there before.
  runs_clean("pinned memory read before a copy into it",
             [] { copy_and_do(false, [](int* host) { check(host[50] == -1, "poisoned until the copy has come"); }); });
  runs_clean("pageable memory is copied before the call returns", [] {
    const Device<int> values(std::vector<int>(100));
    TestStream stream;
    Gate gate(stream.stream);
    std::vector<int> host(100, 3);
    cudaMemcpyAsync(values.get(), host.data(), 400, cudaMemcpyHostToDevice, stream.stream);
    host[5] = 4;
    gate.open();
    cudaStreamSynchronize(stream.stream);
    check(values.values()[5] == 3, "pageable memory");
  });
  is_found("a copy past the end", {"copy from the device of 404 bytes"}, [] {
    const Device<int> values(std::vector<int>(100));
    std::vector<int> host(101);
    cudaMemcpy(host.data(), values.get(), 404, cudaMemcpyDeviceToHost);
  });
  is_found("a fill of memory that was freed", {"fill of 64 bytes", "that was freed"}, [] {
    void* data = nullptr;
    cudaMalloc(&data, 64);
    cudaFree(data);
    cudaMemsetAsync(data, 0, 64);
    cudaDeviceSynchronize();
  });
  is_found("memory freed while a kernel waits for its turn", {"that was freed"}, [] {
    TestStream stream;
    void* data = nullptr;
    cudaMalloc(&data, 400);
    Gate gate(stream.stream);
    add(stream.stream, static_cast<int*>(data), 100);
    emulator::free_device(data);  // cudaFree would wait, as on a GPU
    gate.open();
    cudaStreamSynchronize(stream.stream);
  });
}

}  // namespace alma::test

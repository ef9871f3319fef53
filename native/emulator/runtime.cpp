// The host's side of the emulated CUDA runtime.
#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <string>

#include "checks.h"
#include "grid.h"
#include "include/cuda_runtime_api.h"
#include "memory.h"
#include "properties.h"
#include "report.h"

using alma::emulator::Event;
using alma::emulator::Graph;
using alma::emulator::is_pinned;
using alma::emulator::Stream;
using alma::emulator::Work;

namespace {

thread_local cudaError_t last_error = cudaSuccess;

// A finding makes every later call fail, as an illegal access does on a GPU.
cudaError_t result(cudaError_t error) {
  if (error == cudaSuccess && alma::emulator::has_report()) error = cudaErrorLaunchFailure;
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

Stream& stream_of(cudaStream_t stream) { return stream == nullptr ? alma::emulator::default_stream() : *stream; }

// What a copy or a fill finds wrong with its device memory.
void check_device(const char* what, const void* data, size_t bytes) {
  const auto at = reinterpret_cast<uintptr_t>(data);
  if (bytes == 0 || !alma::emulator::is_device_memory(data) || alma::emulator::is_allocated(at, bytes)) return;
  alma::emulator::report(std::string(what) + " of " + std::to_string(bytes) + " bytes, " +
                         alma::emulator::describe(at));
}

// What memory of the host holds, to see whether the host changes it while a copy is queued.
uint64_t content(const void* data, size_t bytes) {
  uint64_t hash = 0x9e3779b97f4a7c15ull;
  const auto* at = static_cast<const char*>(data);
  for (size_t i = 0; i < bytes; i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, at + i, std::min<size_t>(8, bytes - i));
    hash = (hash ^ word) * 0xff51afd7ed558ccdull;
    hash ^= hash >> 29;
  }
  return hash;
}

bool watches_host() { return alma::emulator::checks_enabled(); }

// Between pinned memory and the device, or within the device.
void enqueue_copy(Stream& stream, void* to, const void* from, size_t bytes) {
  const bool capturing = stream.capturing();  // the host may do anything before a graph is launched
  const void* host = is_pinned(from) ? from : is_pinned(to) ? to : nullptr;
  if (host == to && host != nullptr && !capturing && watches_host())
    std::memset(to, 0xff, bytes);  // not before it has arrived
  const bool watched = host != nullptr && !capturing && watches_host();
  const uint64_t before = watched ? content(host, bytes) : 0;
  stream.enqueue([=] {
    if (alma::emulator::has_report()) return;
    check_device("copy from the device", from, bytes);
    check_device("copy to the device", to, bytes);
    if (watched && content(host, bytes) != before)
      alma::emulator::report(std::string("the host writes pinned memory that a queued copy ") +
                             (host == from ? "reads" : "writes") + ", " + std::to_string(bytes) + " bytes");
    if (!alma::emulator::has_report()) std::memmove(to, from, bytes);
  });
}

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  if (error == cudaErrorLaunchFailure) {
    thread_local std::string text;
    text = alma::emulator::last_report();
    return text.c_str();
  }
  return error == cudaErrorMemoryAllocation ? "out of memory" : cudaGetErrorName(error);
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return result(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return result(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "CUDA emulator");
  properties->totalGlobalMem = alma::emulator::device_bytes_total();
  properties->major = alma::emulator::compute_capability() / 10;
  properties->minor = alma::emulator::compute_capability() % 10;
  // Few, so that persistent kernels and grids of several waves are seen with small problems.
  properties->multiProcessorCount = 4;
  properties->l2CacheSize = 1 << 20;
  properties->sharedMemPerBlockOptin = alma::emulator::shared_bytes_per_block();
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device)) return error;
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = properties.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = properties.minor; break;
    case cudaDevAttrMultiProcessorCount: *value = properties.multiProcessorCount; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = static_cast<int>(properties.sharedMemPerBlockOptin); break;
    case cudaDevAttrL2CacheSize: *value = properties.l2CacheSize; break;
    case cudaDevAttrClockRate: *value = 1000000; break;
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  alma::emulator::synchronize_all_streams();
  return result(cudaSuccess);
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = alma::emulator::device_bytes_free();
  *total = alma::emulator::device_bytes_total();
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  if (alma::emulator::allocation_is_forbidden()) return result(cudaErrorStreamCaptureUnsupported);
  *data = alma::emulator::allocate_device(bytes);
  return result(*data == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  if (alma::emulator::allocation_is_forbidden()) return result(cudaErrorStreamCaptureUnsupported);
  alma::emulator::synchronize_all_streams();
  return result(alma::emulator::free_device(data) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  *data = alma::emulator::allocate_pinned(bytes);
  return result(*data == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFreeHost(void* data) {
  if (data == nullptr) return cudaSuccess;
  alma::emulator::synchronize_all_streams();
  return result(alma::emulator::free_pinned(data) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t handle) {
  Stream& stream = stream_of(handle);
  const bool to_device = alma::emulator::is_device_memory(to), from_device = alma::emulator::is_device_memory(from);
  if (bytes == 0) return result(cudaSuccess);
  if (to_device && !from_device && !is_pinned(from)) {
    // Pageable memory is staged before the call returns.
    auto staged = std::make_shared<std::string>(static_cast<const char*>(from), bytes);
    stream.enqueue([=] {
      check_device("copy to the device", to, bytes);
      if (!alma::emulator::has_report()) std::memcpy(to, staged->data(), bytes);
    });
    return result(cudaSuccess);
  }
  enqueue_copy(stream, to, from, bytes);
  // … and the call that copies into it waits.
  if (from_device && !to_device && !is_pinned(to) && !stream.capturing()) stream.synchronize();
  return result(cudaSuccess);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  alma::emulator::synchronize_all_streams();
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  alma::emulator::default_stream().synchronize();
  return result(error);
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  stream_of(stream).enqueue([=] {
    check_device("fill", data, bytes);
    if (!alma::emulator::has_report()) std::memset(data, value, bytes);
  });
  return result(cudaSuccess);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new Stream;
  return result(cudaSuccess);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  stream_of(stream).synchronize();
  return result(cudaSuccess);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return result(stream_of(stream).idle() ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  using Forbidden = Stream::Forbidden;
  stream_of(stream).begin_capture(mode == cudaStreamCaptureModeGlobal        ? Forbidden::everybody
                                  : mode == cudaStreamCaptureModeThreadLocal ? Forbidden::this_thread
                                                                             : Forbidden::nobody);
  return result(cudaSuccess);
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = stream_of(stream).end_capture().release();
  return result(cudaSuccess);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new std::shared_ptr<Graph>(std::make_shared<Graph>(*graph));
  return result(cudaSuccess);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  stream_of(stream).enqueue([graph = *executable] {
    for (const Work& node : graph->nodes) node();
  });
  return result(cudaSuccess);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new Event;
  return result(cudaSuccess);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return cudaEventCreate(event); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  alma::emulator::synchronize_all_streams();
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  uint64_t number;
  {
    std::lock_guard lock(event->mutex);
    number = ++event->recorded;
  }
  stream_of(stream).enqueue([event, number] {
    std::lock_guard lock(event->mutex);
    event->reached = number;
    event->time = std::chrono::steady_clock::now();
    event->done.notify_all();
  });
  return result(cudaSuccess);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  std::lock_guard lock(event->mutex);
  return result(event->reached == event->recorded ? cudaSuccess : cudaErrorNotReady);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  std::unique_lock lock(event->mutex);
  const uint64_t wanted = event->recorded;
  event->done.wait(lock, [&] { return event->reached >= wanted; });
  return result(cudaSuccess);
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const auto time_of = [](cudaEvent_t event) {
    std::lock_guard lock(event->mutex);
    return event->time;
  };
  *milliseconds = std::chrono::duration<float, std::milli>(time_of(end) - time_of(start)).count();
  return result(cudaSuccess);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  uint64_t wanted;
  {
    std::lock_guard lock(event->mutex);
    wanted = event->recorded;
  }
  stream_of(stream).enqueue([event, wanted] {
    std::unique_lock lock(event->mutex);
    event->done.wait(lock, [&] { return event->reached >= wanted; });
  });
  return result(cudaSuccess);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void*), void* data) {
  stream_of(stream).enqueue([=] { function(data); });
  return result(cudaSuccess);
}

cudaError_t alma::emulator::launch_kernel(const cudaLaunchConfig_t& config, void (*body)(const void*),
                                          const void* parameters, size_t bytes) {
  LaunchDescription launch{};
  const auto count = [](const dim3& size) { return uint64_t{size.x} * size.y * size.z; };
  launch.kernel = take_launch_name();
  if (count(config.blockDim) == 0 || count(config.blockDim) > 1024 || config.blockDim.z > 64 ||
      count(config.gridDim) == 0 || config.gridDim.x > 0x7fffffff || config.gridDim.y > 65535 ||
      config.gridDim.z > 65535 || config.dynamicSmemBytes > alma::emulator::shared_bytes_per_block())
    return result(cudaErrorInvalidConfiguration);
  // Parameters are copied at the launch, as on a GPU.
  std::shared_ptr<void> copy(::operator new (bytes, std::align_val_t{64}),
                             [](void* data) { ::operator delete (data, std::align_val_t{64}); });
  std::memcpy(copy.get(), parameters, bytes);
  launch.body = body;
  launch.parameters = copy;
  launch.parameter_bytes = bytes;
  launch.grid = {config.gridDim.x, config.gridDim.y, config.gridDim.z};
  launch.block = {config.blockDim.x, config.blockDim.y, config.blockDim.z};
  launch.shared_bytes = config.dynamicSmemBytes;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttributeValue& value = config.attrs[i].val;
    if (config.attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization)
      launch.early_start = value.programmaticStreamSerializationAllowed != 0;
    if (config.attrs[i].id != cudaLaunchAttributeClusterDimension) continue;
    launch.cluster = value.clusterDim.x;
    if (value.clusterDim.y != 1 || value.clusterDim.z != 1 || launch.cluster == 0 || launch.cluster > kMaxCluster ||
        config.gridDim.x % launch.cluster != 0)
      return result(cudaErrorInvalidConfiguration);
  }
  stream_of(config.stream).enqueue([launch = std::move(launch)] {
    if (!has_report()) run_grid(launch);
  });
  return result(cudaSuccess);
}

#include "cuda_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "../../runtime/device.h"
#include "../../runtime/error.h"
#include "../launch.h"
#include "file_reader.h"
#ifdef ALMA_EMULATOR
#include "../../emulator/checks.h"
#endif

namespace alma::ALMA_CUDA {

namespace {
#ifdef ALMA_EMULATOR
constexpr size_t kStagingBytes = size_t{1} << 20;  // small: the tests come to its end
#else
constexpr size_t kStagingBytes = size_t{64} << 20;
#endif
}  // namespace

CudaStream::CudaStream(int device, const DeviceProperties& properties) : device_(device), ops_(context_) {
  // On the JavaScript thread still: what cannot be had is said by Device.open().
  check("device", cudaSetDevice(device));
  check("stream", cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  staging_ = std::make_unique<StagingRing>(kStagingBytes);
  arena_ = std::make_unique<Arena>(device, stream_);
  void* report = nullptr;
  check("device", cudaMalloc(&report, sizeof(ValueError)));
  void* arrivals = nullptr;
  check("device", cudaMalloc(&arrivals, kArrivalCounters * sizeof(unsigned)));
  context_ = {stream_, properties, arena_.get(), static_cast<ValueError*>(report), static_cast<unsigned*>(arrivals)};
  clear_value_error();
  completion_ = std::make_unique<Completion>(device, *this, *staging_);
}

CudaStream::~CudaStream() {
  cudaSetDevice(device_);
  cudaStreamSynchronize(stream_);
  completion_.reset();
  load_buffer_.reset();
  arena_.reset();
  cudaFree(context_.value_error);
  cudaFree(context_.arrivals);
  cudaStreamDestroy(stream_);
  staging_.reset();
  cudaGetLastError();
}

void CudaStream::start() { cudaSetDevice(device_); }

void CudaStream::push(Completion::Entry entry) {
  entry.event = completion_->take_event();
  entry.staging_position = staging_->position();
  if (const cudaError_t status = cudaEventRecord(entry.event, stream_); status != cudaSuccess) {
    // The device is lost: the completion thread finds the same when it waits.
    cudaGetLastError();
    if (!entry.failure) {
      entry.failure = final_failure(status);
      entry.failure->serial = next_serial();
    }
  }
  completion_->push(std::move(entry));
}

void* CudaStream::take_staging(size_t bytes) {
  if (void* place = staging_->try_take(bytes)) return place;
  // What was handed out comes back when the device has passed this point.
  if (copying_.copy_bytes > 0) {
    push(std::exchange(copying_, {}));
  } else {
    push({});
  }
  for (;;) {
    const uint64_t seen = staging_->releases();
    if (void* place = staging_->try_take(bytes)) return place;
    staging_->wait_for_release(seen);
  }
}

void CudaStream::write(void* target, const void* source, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const size_t piece = std::min(staging_->piece(), bytes - done);
    void* staged = take_staging(piece);
    std::memcpy(staged, static_cast<const char*>(source) + done, piece);
    check("write", cudaMemcpyAsync(static_cast<char*>(target) + done, staged, piece, cudaMemcpyHostToDevice, stream_));
    done += piece;
  }
}

void CudaStream::read(void* target, const void* source, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const size_t piece = std::min(staging_->piece(), bytes - done);
    if (copying_.copy_bytes > 0) push(std::exchange(copying_, {}));  // before more is taken: it gives back all that was
    void* staged = take_staging(piece);
    check("read",
          cudaMemcpyAsync(staged, static_cast<const char*>(source) + done, piece, cudaMemcpyDeviceToHost, stream_));
    copying_.copy_to = static_cast<char*>(target) + done;
    copying_.copy_from = staged;
    copying_.copy_bytes = piece;
    done += piece;
  }
}

void CudaStream::load(const std::string& path, uint64_t offset, DType source, TensorRef target, int64_t count) {
  const size_t stored = size_of(source);
  FileReader file(path, offset, static_cast<size_t>(count) * stored);
  const auto step = static_cast<int64_t>(staging_->piece() / stored);
  if (source != target.dtype && load_buffer_ == nullptr) {
    void* buffer = nullptr;
    check("load", cudaMalloc(&buffer, staging_->piece()));
    load_buffer_ = std::shared_ptr<void>(buffer, [](void* block) { cudaFree(block); });
  }
  for (int64_t done = 0; done < count;) {
    const int64_t piece = std::min(step, count - done);
    const size_t bytes = static_cast<size_t>(piece) * stored;
    char* const place = static_cast<char*>(target.data) + static_cast<size_t>(done) * size_of(target.dtype);
    void* staged = take_staging(bytes);
    file.read(staged, bytes);
    // Converted on the device, from a buffer that the pieces share: the stream keeps them apart.
    void* landing = source == target.dtype ? place : load_buffer_.get();
    check("load", cudaMemcpyAsync(landing, staged, bytes, cudaMemcpyHostToDevice, stream_));
    if (source != target.dtype) ops_.cast({{landing, source}, {place, target.dtype}, piece});
    done += piece;
  }
}

void CudaStream::settle(Task* task, const Failure* failure) {
  if (!task->waits_for_device()) {
    task->settle(failure);
    return;
  }
  ValueError* observed = nullptr;
  if (failure == nullptr) {
    observed = static_cast<ValueError*>(take_staging(sizeof(ValueError)));
    if (cudaMemcpyAsync(observed, context_.value_error, sizeof *observed, cudaMemcpyDeviceToHost, stream_) !=
        cudaSuccess) {
      cudaGetLastError();  // lost: the event will say so
      observed = nullptr;
    }
  }
  Completion::Entry entry = std::exchange(copying_, {});
  entry.task = task;
  entry.observed = observed;
  if (failure != nullptr) entry.failure = *failure;
  push(std::move(entry));
}

ValueError CudaStream::value_error() {
  ValueError error{};
  auto* place = static_cast<ValueError*>(take_staging(sizeof(ValueError)));
  cudaMemcpyAsync(place, context_.value_error, sizeof error, cudaMemcpyDeviceToHost, stream_);
  if (cudaStreamSynchronize(stream_) == cudaSuccess) error = *place;
  cudaGetLastError();
  return error;
}

void CudaStream::clear_value_error() {
  cudaMemsetAsync(context_.value_error, 0, sizeof(ValueError), stream_);
  // What kernels made of bad values may have left some above 0.
  cudaMemsetAsync(context_.arrivals, 0, kArrivalCounters * sizeof(unsigned), stream_);
  cudaGetLastError();
#ifdef ALMA_EMULATOR
  emulator::forget_bad_values();
#endif
}

// The command that threw may come behind others that the device has yet to fail at: the first one counts.
void CudaStream::note_failure(Failure& failure) {
  copying_ = {};
  const cudaError_t status = cudaStreamSynchronize(stream_);
  push({});
  completion_->drain();
  if (Failure earlier; completion_->take_failure(earlier)) {
    failure = std::move(earlier);
    return;
  }
  if (status != cudaSuccess) {
    cudaGetLastError();
    return;
  }
  if (const ValueError error = value_error(); error.check != 0) failure.message = message_of(error);
}

bool CudaStream::recover(const Failure& failure) {
  if (completion_->device_lost()) return false;
  clear_value_error();
  Completion::Entry entry;
  entry.answered = failure.serial;
  completion_->push(std::move(entry));
  return true;
}

}  // namespace alma::ALMA_CUDA

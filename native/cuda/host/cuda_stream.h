// The stream of a GPU. The engine's thread enqueues; what has to wait for the GPU is left to the completion thread.
#pragma once

#include <memory>

#include "../../runtime/stream.h"
#include "../context.h"
#include "../value_error.h"
#include "completion.h"
#include "cuda_ops.h"
#include "device_memory.h"
#include "staging.h"

namespace alma::ALMA_CUDA {

class CudaStream final : public Stream {
 public:
  CudaStream(int device, const DeviceProperties& properties);
  ~CudaStream() override;

  Ops& ops() override { return ops_; }
  void write(void* target, const void* source, size_t bytes) override;
  void read(void* target, const void* source, size_t bytes) override;
  void load(const std::string& path, uint64_t offset, DType source, TensorRef target, int64_t count) override;
  void replay(Recording& recording) override;
  double probe(const std::string& what, double size, double seconds) override;

  void start() override;
  void settle(Task* task, const Failure* failure) override;
  bool failed_meanwhile(Failure& failure) override { return completion_->take_failure(failure); }
  void note_failure(Failure& failure) override;
  bool recover(const Failure& failure) override;
  void stop() override { completion_->drain(); }

 private:
  // Room for a transfer; waits for the GPU to use up what was handed out before, when there is none.
  void* take_staging(size_t bytes);
  // Records an event behind everything enqueued and hands the entry over.
  void push(Completion::Entry entry);
  void clear_value_error();
  ValueError value_error();

  const int device_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<StagingRing> staging_;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Completion> completion_;
  Context context_;
  CudaOps ops_;
  Completion::Entry copying_;  // the last piece of a read, not handed over yet
  std::shared_ptr<void> load_buffer_;
};

}  // namespace alma::ALMA_CUDA

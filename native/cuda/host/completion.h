// The device's second thread: it waits for the GPU, so that the engine need not.
//
// The engine hands over, in the order of the stream, what has to happen when the GPU has come to a point: copy data out of the
// staging ring, look whether a kernel has reported a bad value, settle a task. It then goes on launching.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "../../runtime/stream.h"
#include "../value_error.h"
#include "staging.h"

namespace alma::ALMA_CUDA {

// What the CPU device says of the same bad value.
std::string message_of(const ValueError& error);

// Failures after which no call on the device succeeds any more in this process, with the emulator's report where there is one.
Failure final_failure(cudaError_t status);

class Completion {
 public:
  struct Entry {
    cudaEvent_t event = nullptr;      // null: nothing to wait for
    void* copy_to = nullptr;          // host memory of a read
    const void* copy_from = nullptr;  // in the staging ring
    size_t copy_bytes = 0;
    const ValueError* observed = nullptr;  // in the staging ring: the device's report as of this point
    uint64_t staging_position = 0;
    uint64_t answered = 0;  // ≠ 0: the program knows of this failure
    Task* task = nullptr;
    std::optional<Failure> failure;  // the engine's
  };

  Completion(int device, Stream& stream, StagingRing& staging);
  ~Completion();  // drained by then
  Completion(const Completion&) = delete;
  Completion& operator=(const Completion&) = delete;

  // ---- engine's thread
  void push(Entry entry);
  void drain();  // waits until everything pushed has been completed
  // The failure that this thread found, once each.
  bool take_failure(Failure& failure);
  bool device_lost();

  // Events are used again and again; any thread.
  cudaEvent_t take_event();

 private:
  void loop();
  void complete(Entry& entry);
  void wait_for(Entry& entry);
  void fail(Failure failure);

  static constexpr size_t kCapacity = 1024;

  const int device_;
  Stream& stream_;
  StagingRing& staging_;

  std::mutex mutex_;
  std::condition_variable pushed_, completed_;
  std::vector<Entry> entries_;  // a ring
  uint64_t first_ = 0, last_ = 0;
  bool stop_ = false;
  std::optional<Failure> found_;  // not taken by the engine yet
  std::atomic<bool> any_found_{false};
  std::vector<cudaEvent_t> events_;
  bool lost_ = false;

  std::optional<Failure> current_;  // this thread's: tasks settle with it until it is answered
  std::thread thread_;
};

}  // namespace alma::ALMA_CUDA

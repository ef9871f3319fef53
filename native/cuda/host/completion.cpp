#include "completion.h"

#include <chrono>
#include <cstring>

#include "../launch.h"

#ifdef ALMA_EMULATOR
#include "../../emulator/report.h"
#endif
#if defined(__linux__)
#include <pthread.h>
#include <signal.h>
#endif

namespace alma::ALMA_CUDA {

std::string message_of(const ValueError& error) {
  const char* op = "?";
  const char* what = "value";
  switch (static_cast<ValueCheck>(error.check)) {
    case ValueCheck::none: break;
#define ALMA_VALUE_CHECK(name, op_name, what_name) \
  case ValueCheck::name:                           \
    op = op_name;                                  \
    what = what_name;                              \
    break;
      ALMA_VALUE_CHECKS(ALMA_VALUE_CHECK)
#undef ALMA_VALUE_CHECK
  }
  return std::string(op) + ": " + what + " " + std::to_string(error.value) + " is outside [0, " +
         std::to_string(error.limit) + ")";
}

Failure final_failure(cudaError_t status) {
#ifdef ALMA_EMULATOR
  const std::string report = emulator::last_report();
  if (!report.empty()) return {"ERR_ALMA_DEVICE", report};
#endif
  return {"ERR_ALMA_DEVICE", std::string("the GPU has stopped: ") + cudaGetErrorString(status) + " (" +
                                 cudaGetErrorName(status) +
                                 "). Nothing more can be computed on it in this process; results that were read before "
                                 "are unaffected"};
}

Completion::Completion(int device, Stream& stream, StagingRing& staging)
    : device_(device), stream_(stream), staging_(staging), entries_(kCapacity), thread_([this] { loop(); }) {}

Completion::~Completion() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  pushed_.notify_one();
  thread_.join();
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
  cudaGetLastError();
}

void Completion::push(Entry entry) {
  {
    std::unique_lock lock(mutex_);
    completed_.wait(lock, [&] { return last_ - first_ < kCapacity; });
    entries_[last_++ % kCapacity] = std::move(entry);
  }
  pushed_.notify_one();
}

void Completion::drain() {
  std::unique_lock lock(mutex_);
  completed_.wait(lock, [&] { return first_ == last_; });
}

bool Completion::take_failure(Failure& failure) {
  if (!any_found_.load(std::memory_order_acquire)) return false;  // asked before every command
  std::lock_guard lock(mutex_);
  any_found_ = false;
  if (!found_) return false;
  failure = std::move(*found_);
  found_.reset();
  return true;
}

bool Completion::device_lost() {
  std::lock_guard lock(mutex_);
  return lost_;
}

cudaEvent_t Completion::take_event() {
  {
    std::lock_guard lock(mutex_);
    if (!events_.empty()) {
      cudaEvent_t event = events_.back();
      events_.pop_back();
      return event;
    }
  }
  cudaEvent_t event = nullptr;
  check("event", cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync));
  return event;
}

void Completion::loop() {
#if defined(__linux__)
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), "alma-completion");
#endif
  cudaSetDevice(device_);
  std::unique_lock lock(mutex_);
  for (;;) {
    pushed_.wait(lock, [&] { return stop_ || first_ != last_; });
    if (first_ == last_) return;
    Entry entry = std::move(entries_[first_ % kCapacity]);
    lock.unlock();
    complete(entry);
    lock.lock();
    ++first_;
    if (entry.event != nullptr) events_.push_back(entry.event);
    completed_.notify_all();
  }
}

// A wake-up costs tens of microseconds, as long as a step of a small model: look for a while before going to sleep.
void Completion::wait_for(Entry& entry) {
  if (entry.event == nullptr) return;
  const auto patience = std::chrono::steady_clock::now() + std::chrono::microseconds(100);
  cudaError_t status = cudaEventQuery(entry.event);
  while (status == cudaErrorNotReady && std::chrono::steady_clock::now() < patience) {
    std::this_thread::yield();
    status = cudaEventQuery(entry.event);
  }
  if (status == cudaErrorNotReady) status = cudaEventSynchronize(entry.event);
  if (status == cudaSuccess) return;
  cudaGetLastError();
  {
    std::lock_guard lock(mutex_);
    if (lost_) return;
    lost_ = true;
  }
  fail(final_failure(status));
}

void Completion::fail(Failure failure) {
  failure.serial = stream_.next_serial();
  current_ = failure;
  std::lock_guard lock(mutex_);
  found_ = std::move(failure);
  any_found_.store(true, std::memory_order_release);
}

void Completion::complete(Entry& entry) {
  wait_for(entry);
  if (entry.answered != 0 && current_ && current_->serial == entry.answered) current_.reset();
  // The engine clears the report when it passes on that the program knows, so until then it is the one that is current.
  if (entry.observed != nullptr && entry.observed->check != 0 && !current_) {
    fail({"ERR_ALMA_DEVICE", message_of(*entry.observed)});
  }
  if (!current_ && !entry.failure && entry.copy_bytes > 0)
    std::memcpy(entry.copy_to, entry.copy_from, entry.copy_bytes);
  staging_.release(entry.staging_position);
  if (entry.task == nullptr) return;
  entry.task->settle(current_ ? &*current_ : entry.failure ? &*entry.failure : nullptr);
}

}  // namespace alma::ALMA_CUDA

#include "stream.h"

#include <signal.h>

#include <algorithm>

namespace alma::emulator {

namespace {
std::mutex streams_mutex;
std::vector<Stream*>& streams() {
  static auto* list = new std::vector<Stream*>;
  return *list;
}
}  // namespace

Stream::Stream() : thread_([this] { loop(); }) {
  std::lock_guard lock(streams_mutex);
  streams().push_back(this);
}

Stream::~Stream() {
  {
    std::lock_guard lock(streams_mutex);
    std::erase(streams(), this);
  }
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Stream::enqueue(Work work) {
  if (capture_) {
    capture_->nodes.push_back(std::move(work));
    return;
  }
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(work));
  }
  wake_.notify_one();
}

void Stream::loop() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return closed_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Work work = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    work();
    work = nullptr;
    lock.lock();
    busy_ = false;
    if (queue_.empty()) done_.notify_all();
  }
}

void Stream::synchronize() {
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return queue_.empty() && !busy_; });
}

bool Stream::idle() {
  std::lock_guard lock(mutex_);
  return queue_.empty() && !busy_;
}

void Stream::begin_capture(Forbidden forbidden) {
  std::lock_guard lock(mutex_);
  capture_ = std::make_unique<Graph>();
  forbidden_ = forbidden;
  capturer_ = std::this_thread::get_id();
}

std::unique_ptr<Graph> Stream::end_capture() {
  std::lock_guard lock(mutex_);
  forbidden_ = Forbidden::nobody;
  return std::move(capture_);
}

bool Stream::forbids_allocation() const {
  std::lock_guard lock(mutex_);
  return forbidden_ == Forbidden::everybody ||
         (forbidden_ == Forbidden::this_thread && capturer_ == std::this_thread::get_id());
}

Stream& default_stream() {
  static auto* stream = new Stream;
  return *stream;
}

void synchronize_all_streams() {
  std::lock_guard lock(streams_mutex);
  for (Stream* stream : streams()) stream->synchronize();
}

bool allocation_is_forbidden() {
  std::lock_guard lock(streams_mutex);
  return std::any_of(streams().begin(), streams().end(),
                     [](const Stream* stream) { return stream->forbids_allocation(); });
}

}  // namespace alma::emulator

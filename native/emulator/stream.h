// Streams, events and graphs. Each stream has a thread that does its work in order, so that a host that forgets to wait is seen: by
// wrong values, or by a finding about memory that was freed too early.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace alma::emulator {

using Work = std::function<void()>;

class Graph {
 public:
  std::vector<Work> nodes;
};

class Stream {
 public:
  Stream();
  ~Stream();  // does what is queued first

  void enqueue(Work work);  // or adds to the graph that is being captured
  void synchronize();
  bool idle();

  // Whom a capture forbids to allocate and to free.
  enum class Forbidden { nobody, this_thread, everybody };
  void begin_capture(Forbidden forbidden);
  std::unique_ptr<Graph> end_capture();
  bool capturing() const { return capture_ != nullptr; }  // for the thread that captures
  bool forbids_allocation() const;                        // to the calling thread

 private:
  void loop();

  std::unique_ptr<Graph> capture_;
  Forbidden forbidden_ = Forbidden::nobody;
  std::thread::id capturer_;
  mutable std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::deque<Work> queue_;
  bool busy_ = false, closed_ = false;
  std::thread thread_;
};

// cudaStream_t 0.
Stream& default_stream();
void synchronize_all_streams();
// Whether a capture forbids the calling thread to allocate and to free.
bool allocation_is_forbidden();

struct Event {
  std::mutex mutex;
  std::condition_variable done;
  uint64_t recorded = 0, reached = 0;
  std::chrono::steady_clock::time_point time;
};

}  // namespace alma::emulator

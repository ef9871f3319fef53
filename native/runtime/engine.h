// A device's own thread: it takes commands from the queue and runs them in order. Not libuv's pool: a training run that
// occupied it would stop the host application's file and DNS work.
//
// Failure. When a command throws, the stream has failed: the commands behind it are not run and the tasks among them are
// settled with the same failure, until reset() arrives in the stream. The JavaScript side sends reset() when it has delivered the
// first failure, so every result that was asked for before the program could know is a rejection, and nothing stale is read.
// A GPU fails when it comes to the command, not when it is told: commands that it was given by then have run, with what was there.
// What is asked for is rejected all the same.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "command_queue.h"
#include "stream.h"

namespace alma {

class Engine {
 public:
  explicit Engine(std::unique_ptr<Stream> stream);
  ~Engine();  // both of the below; stops after the command in progress; tasks that were still queued are settled with a failure
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  CommandQueue& queue() { return queue_; }
  void submit_task(std::unique_ptr<Task> task);
  void reset(uint64_t serial);
  void begin_stop();   // on the producer's thread: nothing is accepted from now on
  void finish_stop();  // on any thread, after it: waits for the command in progress

 private:
  void loop();
  void execute(Command& command);
  void fail(const char* code, const std::string& message);

  std::unique_ptr<Stream> stream_;
  CommandQueue queue_;
  std::optional<Failure> failure_;
  bool stopped_ = false;  // producer's thread
  // Tasks that come after the stop: they free memory, so they must outlive the command in progress.
  std::mutex late_mutex_;
  std::vector<std::unique_ptr<Task>> late_;
  bool finished_ = false;
  std::thread thread_;
};

}  // namespace alma

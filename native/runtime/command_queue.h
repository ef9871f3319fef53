// An unbounded queue of commands from one producer (the JavaScript thread) to one consumer (the engine thread).
//
// Commands lie in blocks of 256; a used-up block goes back to the producer, so that steady state allocates nothing. The
// producer never waits. The consumer spins for some microseconds before it sleeps: a wake-up costs the producer a system
// call, and ops tend to arrive in runs.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "command.h"

namespace alma {

class CommandQueue {
 public:
  CommandQueue();
  ~CommandQueue();
  CommandQueue(const CommandQueue&) = delete;
  CommandQueue& operator=(const CommandQueue&) = delete;

  // Producer: fill the slot, then publish it.
  Command& next_slot();
  void publish();

  // Consumer: the next command, or null once close() was called (what is queued then is left). Stays valid until pop().
  Command* front();
  void pop();

  // Consumer, after front() returned null: what was published and never run.
  Command* front_if_any();

  void close();

 private:
  static constexpr size_t kBlockSize = 256;
  struct Block {
    Command commands[kBlockSize];
    std::atomic<Block*> next{nullptr};
  };

  // Producer's side.
  Block* tail_;
  size_t tail_index_ = 0;
  // Consumer's side.
  Block* head_;
  size_t head_index_ = 0;
  uint64_t consumed_ = 0;
  // Shared.
  std::atomic<uint64_t> published_{0};
  std::atomic<Block*> spare_{nullptr};
  std::atomic<bool> closed_{false};
  std::atomic<bool> sleeping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace alma

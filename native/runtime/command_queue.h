// An unbounded queue of commands from one producer (the JavaScript thread) to one consumer (the engine thread).
//
// Commands lie in blocks of 256; a used-up block goes back to the producer, so that steady state allocates nothing. The
// producer never waits. A wake-up costs it a system call, and on a machine with few processors its own: so the consumer spins for some
// microseconds before it sleeps, and a sleeping one is not woken before somebody waits for a result, or a run of commands has come.
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
  void publish(bool is_awaited);

  // Consumer: the next command, null where none comes for some microseconds. Stays valid until pop().
  Command* front();
  // Consumer: sleeps until there is a command. Once close() was called (what is queued then is left): false.
  bool wait();
  void pop();

  // Consumer: what was published, without spinning; after close() what was never run.
  Command* front_if_any();

  void close();

 private:
  static constexpr size_t kBlockSize = 256;
  static constexpr int kRun = 8;
  struct Block {
    Command commands[kBlockSize];
    std::atomic<Block*> next{nullptr};
  };

  // Producer's side.
  Block* tail_;
  size_t tail_index_ = 0;
  int unannounced_ = 0;
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

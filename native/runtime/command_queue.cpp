#include "command_queue.h"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace alma {

namespace {
void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}
}  // namespace

CommandQueue::CommandQueue() : tail_(new Block), head_(tail_) {}

CommandQueue::~CommandQueue() {
  for (Block* block = head_; block != nullptr;) {
    Block* next = block->next.load(std::memory_order_relaxed);
    delete block;
    block = next;
  }
  delete spare_.load(std::memory_order_relaxed);
}

Command& CommandQueue::next_slot() {
  if (tail_index_ == kBlockSize) {
    Block* block = spare_.exchange(nullptr, std::memory_order_acquire);
    if (block == nullptr) block = new Block;
    block->next.store(nullptr, std::memory_order_relaxed);
    tail_->next.store(block, std::memory_order_release);
    tail_ = block;
    tail_index_ = 0;
  }
  return tail_->commands[tail_index_];
}

void CommandQueue::publish(bool is_awaited) {
  ++tail_index_;
  // Sequentially consistent with the consumer's store to sleeping_: one of the two sees the other's write.
  published_.fetch_add(1, std::memory_order_seq_cst);
  if (++unannounced_ < kRun && !is_awaited) return;
  unannounced_ = 0;
  if (sleeping_.load(std::memory_order_seq_cst)) {
    { std::lock_guard lock(mutex_); }
    wake_.notify_one();
  }
}

Command* CommandQueue::front_if_any() {
  if (published_.load(std::memory_order_acquire) == consumed_) return nullptr;
  if (head_index_ == kBlockSize) {
    Block* next = head_->next.load(std::memory_order_acquire);
    delete spare_.exchange(head_, std::memory_order_acq_rel);
    head_ = next;
    head_index_ = 0;
  }
  return &head_->commands[head_index_];
}

Command* CommandQueue::front() {
  // 20 µs: longer than the gap between two op calls of one JavaScript turn, too short to show as load of an idle process.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::microseconds(20);
  for (int spins = 0;; ++spins) {
    if (closed_.load(std::memory_order_acquire)) return nullptr;
    if (Command* command = front_if_any()) return command;
    relax();
    if ((spins & 63) == 63 && std::chrono::steady_clock::now() >= deadline) return nullptr;
  }
}

bool CommandQueue::wait() {
  std::unique_lock lock(mutex_);
  sleeping_.store(true, std::memory_order_seq_cst);
  wake_.wait(lock, [&] { return closed_.load() || published_.load(std::memory_order_seq_cst) != consumed_; });
  sleeping_.store(false, std::memory_order_seq_cst);
  return !closed_.load();
}

void CommandQueue::pop() {
  ++head_index_;
  ++consumed_;
}

void CommandQueue::close() {
  {
    std::lock_guard lock(mutex_);
    closed_.store(true, std::memory_order_seq_cst);
  }
  wake_.notify_all();
}

}  // namespace alma

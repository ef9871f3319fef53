#include "thread_pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "../runtime/huge_pages.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace alma::cpu {
namespace {

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

long process_id() {
#if defined(__unix__) || defined(__APPLE__)
  return getpid();
#else
  return 0;
#endif
}

// Long enough to bridge the serial ops between two parallel ones, short enough that an idle decoder costs nothing. With 20 µs, decoding
// a 110-million-weight model token by token (170 ops a token) ran at 43 instead of 56 tokens/s: workers had to be woken all the time.
constexpr std::chrono::microseconds kWorkerSpin{200};
constexpr std::chrono::microseconds kCallerSpin{200};

template <class Condition>
bool spin_until(std::chrono::microseconds limit, Condition condition) {
  const auto end = std::chrono::steady_clock::now() + limit;
  do {
    for (int i = 0; i < 32; ++i) {
      if (condition()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return condition();
}

struct AlignedDelete {
  size_t alignment = 64;
  void operator()(std::byte* pointer) const { ::operator delete (pointer, std::align_val_t{alignment}); }
};
using AlignedBytes = std::unique_ptr<std::byte, AlignedDelete>;
AlignedBytes allocate_aligned(size_t bytes, size_t alignment) {
  return {static_cast<std::byte*>(::operator new (bytes, std::align_val_t{alignment})), AlignedDelete{alignment}};
}

struct Scratch {
  AlignedBytes memory;
  size_t bytes = 0;
};

}  // namespace

struct ThreadPool::State {
  struct Job {
    Body body;
    void* context;
    int64_t chunks;
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    std::exception_ptr error;

    void work(int thread) {
      for (;;) {
        const int64_t chunk = next.fetch_add(1, std::memory_order_relaxed);
        if (chunk >= chunks) return;
        try {
          body(context, chunk, thread);
        } catch (...) {
          std::lock_guard lock(mutex);
          if (!error) error = std::current_exception();
        }
      }
    }
  };

  // A worker enters (inside += 1) before it reads `job`; the caller withdraws the job before it waits for inside == 0. Both in
  // sequentially consistent order, so no worker can hold a job that has returned: a late one finds nullptr and leaves.
  std::atomic<Job*> job{nullptr};
  std::atomic<int> inside{0};
  std::atomic<uint64_t> generation{0};
  std::atomic<int> sleepers{0};
  std::atomic<bool> caller_waits{false};
  std::atomic<bool> stopping{false};
  std::atomic<bool> resting{false};
  std::mutex mutex;
  std::condition_variable wake, done;
  std::vector<std::thread> workers;
  std::vector<Scratch> scratch;
  long owner = process_id();

  void serve(int thread) {
    uint64_t seen = 0;
    const auto has_news = [&] { return generation.load() != seen || stopping.load(); };
    for (;;) {
      if (!spin_until(kWorkerSpin, [&] { return has_news() || resting.load(std::memory_order_relaxed); }) ||
          !has_news()) {
        std::unique_lock lock(mutex);
        sleepers.fetch_add(1);
        wake.wait(lock, has_news);
        sleepers.fetch_sub(1);
      }
      if (stopping.load()) return;
      seen = generation.load();
      inside.fetch_add(1);
      if (Job* current = job.load()) current->work(thread);
      if (inside.fetch_sub(1) == 1 && caller_waits.load()) {
        std::lock_guard lock(mutex);
        done.notify_one();
      }
    }
  }

  void run(Job& current) {
    resting.store(false, std::memory_order_relaxed);
    job.store(&current);
    generation.fetch_add(1);
    if (sleepers.load() > 0) {
      { std::lock_guard lock(mutex); }  // a worker between its check and its wait must not miss this
      wake.notify_all();
    }
    current.work(0);
    job.store(nullptr);
    const auto finished = [&] { return inside.load() == 0; };
    if (spin_until(kCallerSpin, finished)) return;
    std::unique_lock lock(mutex);
    caller_waits.store(true);
    done.wait(lock, finished);
    caller_waits.store(false);
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  const int count = threads < 1 ? 1 : threads;
  state_->scratch.resize(static_cast<size_t>(count) * kScratchSlots);
  state_->workers.reserve(static_cast<size_t>(count) - 1);
  try {
    for (int thread = 1; thread < count; ++thread) {
      state_->workers.emplace_back([state = state_.get(), thread] { state->serve(thread); });
    }
  } catch (const std::system_error&) {
    // The system grants no more threads: go on with those there are.
  }
}

ThreadPool::~ThreadPool() {
  if (process_id() != state_->owner) {  // a forked child has no workers to join
    for (auto& worker : state_->workers) worker.detach();
    static_cast<void>(state_.release());  // its mutex may be held by a thread that does not exist here
    return;
  }
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping.store(true);
  }
  state_->wake.notify_all();
  for (auto& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run_erased(int64_t chunks, Body body, void* context) {
  if (chunks == 1 || state_->workers.empty() || process_id() != state_->owner) {
    std::exception_ptr error;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      try {
        body(context, chunk, 0);
      } catch (...) {
        if (!error) error = std::current_exception();
      }
    }
    if (error) std::rethrow_exception(error);
    return;
  }
  State::Job job;
  job.body = body;
  job.context = context;
  job.chunks = chunks;
  state_->run(job);
  if (job.error) std::rethrow_exception(job.error);
}

void ThreadPool::rest() { state_->resting.store(true, std::memory_order_relaxed); }

void* ThreadPool::scratch(int thread, int slot, size_t bytes) {
  Scratch& scratch = state_->scratch[static_cast<size_t>(thread) * kScratchSlots + static_cast<size_t>(slot)];
  if (scratch.bytes < bytes) {
    // Large blocks begin on a huge page: packed panels are read in an order that touches hundreds of small pages.
    const size_t alignment = bytes >= kHugePage ? kHugePage : 64, page = bytes >= kHugePage ? kHugePage : 4096;
    const size_t grown = (bytes + bytes / 4 + page - 1) / page * page;
    scratch.memory.reset();
    scratch.bytes = 0;
    scratch.memory = allocate_aligned(grown, alignment);
    scratch.bytes = grown;
#if defined(__linux__)
    if (page == kHugePage)
      madvise(scratch.memory.get(), grown, MADV_HUGEPAGE);  // where it is refused, small pages do as well
#endif
  }
  return scratch.memory.get();
}

}  // namespace alma::cpu

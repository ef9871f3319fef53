// The CPU device's workers. One engine thread calls run(); it takes part in the work itself.
//
// A worker that finds nothing spins for a few microseconds (ops follow each other closely) and then sleeps in the kernel: an
// idle process costs no CPU. Chunks of a job are claimed from one atomic counter, so uneven chunks balance; what a chunk
// computes depends on its index only, never on the thread, which keeps results independent of the number of threads.
//
// The kernels of every instruction set include this header, so nothing in it may leave an inline function behind that the
// linker could merge across them: members are defined in thread_pool.cpp, run() is instantiated with a kernel's own lambda.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace alma::cpu {

// Processors this process may use: the affinity mask and the cgroup's CPU quota, whichever is less.
int usable_processors();

class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // threads ≥ 1, the caller of run() included
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls body(chunk, thread) for chunk = 0 … chunks − 1; thread < threads() names the executing thread, for scratch memory.
  // Returns when all are done. If a body throws, the first exception is rethrown here after the others have finished.
  template <class Body>
  void run(int64_t chunks, Body&& body) {
    if (chunks <= 0) return;
    using Plain = std::remove_reference_t<Body>;
    run_erased(
        chunks, [](void* context, int64_t chunk, int thread) { (*static_cast<Plain*>(context))(chunk, thread); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  // The caller goes to sleep: workers that spin for its next job may do so too.
  void rest();

  // Scratch memory of a thread, 64-byte aligned, at least `bytes` long; grown when needed and kept. The contents are undefined, and
  // the next call for the same thread and slot may move it.
  void* scratch(int thread, int slot, size_t bytes);
  // Slots 0 to 3 are the kernels' (parallel.h); the last one, of thread 0, is what the parts of a fused op leave for each other.
  static constexpr int kPartsSlot = 4, kScratchSlots = 5;

 private:
  using Body = void (*)(void* context, int64_t chunk, int thread);
  void run_erased(int64_t chunks, Body body, void* context);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace alma::cpu

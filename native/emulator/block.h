// A block of CUDA threads, run by one OS thread: each CUDA thread is a fiber, and whatever waits in CUDA (a barrier, a warp collective)
// switches to the next fiber.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "report.h"
#include "shared_shadow.h"

namespace alma::emulator {
class AsyncProxy;
class Cluster;
struct Arena;
}  // namespace alma::emulator

namespace alma::emulator {

struct Index3 {
  unsigned x, y, z;
};

enum class Order { forward, reversed, random };
enum class AsyncCompletion { early, late, random };

// How threads are ordered and when asynchronous copies arrive: whatever CUDA leaves open.
struct Schedule {
  Order order = Order::forward;
  AsyncCompletion async = AsyncCompletion::random;
  uint64_t seed = 1;
};
// For launches from now on; from ALMA_EMULATOR_SCHEDULE (forward, reversed, random) and ALMA_EMULATOR_SEED at first.
Schedule schedule();
void set_schedule(const Schedule& schedule);

struct LaunchDescription {
  std::string kernel;
  Index3 grid, block;
  size_t shared_bytes;
  // One thread: body(parameters.get()).
  void (*body)(const void* parameters);
  std::shared_ptr<const void> parameters;
  size_t parameter_bytes;
  bool early_start = false;  // programmatic stream serialization
  unsigned cluster = 1;      // blocks, side by side in x
};

// What the blocks of a launch share. Tags tell blocks apart in what is known about device memory (memory.h).
struct GridState {
  uint32_t first_tag = 0;
  // Launched early: launches with tags from here on may not have ended before grid_dependency_wait(). 0: all have.
  uint32_t unfinished_from = 0;
  std::atomic<bool> waited{false};             // some thread has waited
  std::atomic<bool> launched_too_soon{false};  // some thread has let the next grid start before it waited itself
};

// Addresses this far from shared memory belong to nothing else.
constexpr unsigned kMaxCluster = 8;
constexpr size_t kMaxShared = 232448, kSharedMargin = size_t{1} << 20,
                 kSharedArea = 2 * kSharedMargin + (size_t{1} << 18);

class Block {
 public:
  // `tag`: the grid's first_tag + the block's number. `rank` is its place in its cluster, whose run() runs it.
  Block(const LaunchDescription& launch, Index3 index, const Schedule& schedule, GridState& grid, uint32_t tag,
        unsigned rank);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  // ---- what kernels call, on the fiber of a thread

  // bar.sync: waits until `count` threads have come to barrier `id`; 0 means all threads that have not ended.
  void barrier(int id, unsigned count, Here here);
  // bar.arrive: counts and goes on.
  void barrier_arrive(int id, unsigned count, Here here);

  // Something that the lanes of `mask` do together. The last to come runs complete() with the arguments of all lanes (null for
  // lanes outside the mask), then all go on.
  using Complete = void (*)(void* const (&lanes)[32], unsigned mask);
  void collective(const char* operation, unsigned mask, void* arguments, Complete complete, Here here);
  // __syncwarp: as above, and it orders accesses to memory.
  void warp_barrier(unsigned mask, Here here);

  // Lets the others run until ready() holds; ready() is asked again after every round.
  void wait_until(const char* what, const std::function<bool()>& ready, Here here);

  // As collective(), for the 128 threads of a warpgroup.
  using CompleteWarpgroup = void (*)(void* const (&threads)[128]);
  void warpgroup_collective(const char* operation, void* arguments, CompleteWarpgroup complete, Here here);

  [[noreturn]] void fail(const std::string& finding);  // on a fiber: ends the block
  void find(const std::string& finding);               // anywhere: the block ends when its fiber waits

  void cp_async(void* shared, const void* global, size_t bytes, bool valid, Here here);
  void cp_async_commit();
  void cp_async_wait(unsigned pending, Here here);

  void grid_dependency_wait();
  void grid_dependency_launch();
  void device_fence();
  unsigned arrive_at(unsigned* counter, unsigned last);

  Cluster& cluster() const { return *cluster_; }
  unsigned rank() const { return rank_; }
  bool ended() const { return alive_ == 0; }

  // ---- for the checks

  unsigned thread() const { return current_; }
  bool on_a_stack(uintptr_t address) const { return address >= stacks_begin_ && address < stacks_end_; }
  uintptr_t shared_begin() const { return reinterpret_cast<uintptr_t>(shared_); }
  bool near_shared(uintptr_t address) const { return address - (shared_begin() - kSharedMargin) < kSharedArea; }
  uintptr_t shared_end() const { return shared_begin() + shared_bytes_; }
  char* shared() const { return shared_; }
  size_t shared_bytes() const { return shared_bytes_; }
  SharedShadow& shadow() { return shadow_; }
  // While one exists the emulator itself runs, not the kernel: its accesses are not checked. (The linker keeps one instance of a template
  // of the standard library, which may be that of a kernel's object file.)
  class Internal {
   public:
    explicit Internal(Block& block) : block_(block), before_(block.internal_) { block_.internal_ = true; }
    ~Internal() { block_.internal_ = before_; }
    Internal(const Internal&) = delete;
    Internal& operator=(const Internal&) = delete;

   private:
    Block& block_;
    bool before_;
  };
  bool internal() const { return internal_; }
  AsyncProxy& async() { return *async_; }
  Schedule schedule() const { return schedule_; }
  uint64_t random() { return random_(); }
  unsigned threads() const { return count_; }
  uint32_t tick() { return ++time_; }
  uint32_t* seen(unsigned warp) { return warps_[warp].seen; }
  void release_accesses(Seen& to);                         // what this thread has done so far …
  void acquire_accesses(unsigned warp, const Seen& from);  // … is seen by that warp
  // What the current thread's warp has seen of another block of the cluster.
  Seen& seen_of(unsigned rank);
  // Another block of the cluster reaches into this one's shared memory.
  void note_reached() { reached_ = true; }
  Moment now() const { return {current_, time_, warps_[current_ / 32].seen}; }
  uint32_t first_tag() const { return grid_.first_tag; }
  uint32_t tag() const { return tag_; }
  // Whether what the block of `tag` wrote may be read here: this block's own, or that of one whose arrival has been seen.
  bool may_see(uint32_t tag) const {
    return tag == tag_ || (!seen_tags_.empty() && std::binary_search(seen_tags_.begin(), seen_tags_.end(), tag));
  }
  // Nonzero while the current thread may run beside the launches with tags from here on.
  uint32_t unfinished_from() const {
    return grid_.unfinished_from != 0 && !threads_[current_].waited_for_grids ? grid_.unfinished_from : 0;
  }
  bool is_parameter(uintptr_t address) const {
    return address - reinterpret_cast<uintptr_t>(launch_.parameters.get()) < launch_.parameter_bytes;
  }
  std::string where() const;  // "kernel, block (0, 0, 0), thread (3, 0, 0)"

 private:
  friend class Cluster;
  enum class State : uint8_t { ready, waiting, polling, ended };
  struct AsyncCopy {
    char* shared;
    const char* global;
    size_t bytes;
    bool valid, done;
    int group;  // −1: not committed yet
    Here here;
    char source[16];  // as it was when the copy was issued: it must not change before the copy has arrived
  };
  struct Thread {
    void* stack_pointer = nullptr;
    State state = State::ready;
    const char* waits_for = "";
    Here here{"", 0};
    const std::function<bool()>* ready = nullptr;
    std::vector<AsyncCopy> copies;
    int groups = 0;
    bool waited_for_grids = false, arrived_at_cluster = false;
    unsigned cluster_phase = 0;
    std::vector<uint32_t> published,
        arrived;  // tags: what its next arrival hands on, and what its next fence lets it see
  };
  struct Group {  // lanes on their way to a collective
    const char* operation;
    unsigned mask, arrived;
    void* arguments[32];
    Here here;
  };
  struct Warp {
    Seen seen{};
    std::vector<std::array<uint32_t, kParties>> others;  // by rank
    std::vector<Group> groups;
  };
  struct Warpgroup {  // its threads on their way to a collective
    const char* operation = nullptr;
    unsigned arrived = 0;
    void* arguments[128];
    Here here{"", 0};
  };
  struct Barrier {
    unsigned arrived = 0, count = 0;
    Here here{"", 0};
    std::vector<unsigned> waiting;
    Seen seen{};  // what those who have arrived hand to those who wait
  };

  static void enter();
  bool round();  // every thread that can goes on until it waits; false when none could
  void end_run();
  void resume(unsigned thread);
  void pause();  // back to the scheduler
  void wait(const char* what, Here here);
  void end_thread();
  void arrive(Barrier& barrier, unsigned count, Here here);
  bool complete_barrier(Barrier& barrier);
  void finish_copy(AsyncCopy& copy);
  bool poll();
  void report_deadlock();

  const LaunchDescription& launch_;
  Index3 index_;
  Schedule schedule_;
  Arena& arena_;
  unsigned rank_;
  Cluster* cluster_ = nullptr;
  bool reached_ = false;  // by another block, with no barrier of the cluster behind it
  unsigned count_, alive_, current_ = 0;
  GridState& grid_;
  uint32_t tag_;
  std::vector<uint32_t> seen_tags_;  // sorted
  uint32_t& time_;
  bool failed_ = false, internal_ = true;
  void* scheduler_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<unsigned> order_;
  std::vector<Warp> warps_;
  std::vector<Warpgroup> warpgroups_;
  Barrier barriers_[16];
  char* shared_ = nullptr;
  size_t shared_bytes_ = 0;
  SharedShadow& shadow_;
  uintptr_t stacks_begin_ = 0, stacks_end_ = 0;
  std::mt19937_64 random_;
  std::unique_ptr<AsyncProxy> async_;
};

// The block whose fiber is running on this OS thread; null on the host. Not of the faster model initial-exec: the addon is loaded by a
// process that runs already, which has too little static thread-local storage left for it and for the 4 KiB of the CUDA runtime.
#define ALMA_EMULATOR_TLS __attribute__((tls_model("local-dynamic"), visibility("hidden")))
extern thread_local Block* current_block ALMA_EMULATOR_TLS;

// The shared memory of the current block as a struct of the kernel's; checks that the launch has asked for enough.
void* shared_memory(size_t bytes, size_t alignment);

}  // namespace alma::emulator

// What kernels know about themselves; the scheduler sets it whenever a fiber goes on. Variables, not macros: cudaLaunchConfig_t has
// fields of these names.
struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz) {}
};
extern thread_local uint3 threadIdx ALMA_EMULATOR_TLS;
extern thread_local uint3 blockIdx ALMA_EMULATOR_TLS;
extern thread_local dim3 blockDim ALMA_EMULATOR_TLS;
extern thread_local dim3 gridDim ALMA_EMULATOR_TLS;

#include "block.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "async_proxy.h"
#include "cluster.h"
#include "fiber.h"
#include "memory.h"

thread_local uint3 threadIdx;
thread_local uint3 blockIdx;
thread_local dim3 blockDim;
thread_local dim3 gridDim;

namespace alma::emulator {

thread_local Block* current_block = nullptr;

namespace {
constexpr size_t kStackBytes = 128 << 10;
constexpr unsigned kMaxThreads = 1024;
// The lowest word of a stack that is not used up.
constexpr uint64_t kCanary = 0x616c6d612d656d75;
}  // namespace

// Stacks and shared memory of one OS thread and rank of a cluster, for all blocks that it ever runs, and what is known about that shared
// memory. Nothing else lies within kSharedMargin of it: whatever a kernel touches there was meant to be shared memory.
struct Arena {
  char* stack_area = static_cast<char*>(map(kStackBytes * (kMaxThreads + 1)));
  char* stacks = stack_area + kStackBytes;  // below the first one there is room as well, should it overflow
  char* shared_area = static_cast<char*>(map(kSharedArea));
  char* shared = shared_area + kSharedMargin;
  SharedShadow shadow;
  uint32_t time = 1;
  Arena() {
    for (unsigned i = 0; i < kMaxThreads; ++i) canary(i) = kCanary;
  }
  ~Arena() {
    munmap(stack_area, kStackBytes * (kMaxThreads + 1));
    munmap(shared_area, kSharedArea);
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  uint64_t& canary(unsigned thread) { return *reinterpret_cast<uint64_t*>(stacks + kStackBytes * thread); }
  static void* map(size_t bytes) {
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) std::abort();
    return data;
  }
};

namespace {

// Made when they are first needed.
Arena& arena_of(unsigned rank) {
  thread_local std::unique_ptr<Arena> arenas[kMaxCluster];
  if (arenas[rank] == nullptr) arenas[rank] = std::make_unique<Arena>();
  return *arenas[rank];
}

std::string text_of(Index3 index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

Schedule initial_schedule() {
  Schedule schedule;
  const char* order = std::getenv("ALMA_EMULATOR_SCHEDULE");
  if (order != nullptr && std::strcmp(order, "reversed") == 0) schedule.order = Order::reversed;
  if (order != nullptr && std::strcmp(order, "random") == 0) schedule.order = Order::random;
  if (const char* seed = std::getenv("ALMA_EMULATOR_SEED"); seed != nullptr && *seed != 0)
    schedule.seed = std::strtoull(seed, nullptr, 10);
  return schedule;
}

std::mutex schedule_mutex;
Schedule& current_schedule() {
  static Schedule schedule = initial_schedule();
  return schedule;
}

}  // namespace

Schedule schedule() {
  std::lock_guard lock(schedule_mutex);
  return current_schedule();
}

void set_schedule(const Schedule& schedule) {
  std::lock_guard lock(schedule_mutex);
  current_schedule() = schedule;
}

Block::Block(const LaunchDescription& launch, Index3 index, const Schedule& schedule, GridState& grid, uint32_t tag,
             unsigned rank)
    : launch_(launch),
      index_(index),
      schedule_(schedule),
      arena_(arena_of(rank)),
      rank_(rank),
      count_(launch.block.x * launch.block.y * launch.block.z),
      alive_(count_),
      grid_(grid),
      tag_(tag),
      time_(arena_.time),
      threads_(count_),
      warps_((count_ + 31) / 32),
      warpgroups_((count_ + 127) / 128),
      shared_(arena_.shared),
      shared_bytes_(launch.shared_bytes),
      shadow_(arena_.shadow),
      random_(schedule.seed * 0x9e3779b97f4a7c15ull + index.x + (uint64_t{index.y} << 20) + (uint64_t{index.z} << 40)) {
  stacks_begin_ = reinterpret_cast<uintptr_t>(arena_.stack_area);
  stacks_end_ = stacks_begin_ + kStackBytes * (kMaxThreads + 1);
  std::memset(shared_, 0xff, shared_bytes_);
  shadow_.reset(shared_bytes_, ++time_);
  for (Warp& warp : warps_) {
    std::fill_n(warp.seen, kParties, time_);
    warp.others.resize(launch.cluster);
  }
  async_ = std::make_unique<AsyncProxy>(*this);
  for (unsigned i = 0; i < count_; ++i) {
    // Stacks that all begin at the same offset in their page would share cache sets.
    char* top = arena_.stacks + kStackBytes * (i + 1) - (i % 16) * 192;
    threads_[i].stack_pointer = prepare_stack(top, &Block::enter);
  }
}

Block::~Block() {
  if (failed_) shadow_.clear_async();
}

void Block::enter() {
  Block* block = current_block;
  block->launch_.body(block->launch_.parameters.get());
  block->end_thread();
}

bool Block::round() {
  current_block = this;
  blockIdx = {index_.x, index_.y, index_.z};
  blockDim = dim3(launch_.block.x, launch_.block.y, launch_.block.z);
  gridDim = dim3(launch_.grid.x, launch_.grid.y, launch_.grid.z);
  if (order_.empty()) {
    order_.resize(count_);
    for (unsigned i = 0; i < count_; ++i) order_[i] = schedule_.order == Order::reversed ? count_ - 1 - i : i;
  }
  if (schedule_.order == Order::random) std::shuffle(order_.begin(), order_.end(), random_);
  bool progressed = false;
  for (const unsigned i : order_) {
    if (threads_[i].state != State::ready) continue;
    progressed = true;
    resume(i);
    if (failed_) return true;
  }
  if (schedule_.async == AsyncCompletion::random && (random_() & 3) == 0) async_->advance();
  return progressed;
}

void Block::end_run() {
  async_->end_block();
  if (reached_)
    find(
        "the block ends while others of its cluster may still reach into it: no barrier of the cluster is behind what "
        "they did");
}

void Block::resume(unsigned thread) {
  current_ = thread;
  const unsigned plane = launch_.block.x * launch_.block.y;
  threadIdx = {thread % launch_.block.x, thread % plane / launch_.block.x, thread / plane};
  internal_ = false;
  alma_emulator_switch(&scheduler_, threads_[thread].stack_pointer);
  internal_ = true;
}

void Block::pause() {
  if (arena_.canary(current_) != kCanary && !failed_) {
    report(where() + ": its stack needs more than " + std::to_string(kStackBytes) + " bytes");
    arena_.canary(current_) = kCanary;
    failed_ = true;  // the stack below is damaged as well: nobody goes on
  }
  alma_emulator_switch(&threads_[current_].stack_pointer, scheduler_);
}

void Block::wait(const char* what, Here here) {
  Thread& thread = threads_[current_];
  thread.state = State::waiting;
  thread.waits_for = what;
  thread.here = here;
  pause();
}

void Block::end_thread() {
  const Internal internal(*this);
  Thread& thread = threads_[current_];
  if (!thread.copies.empty()) fail("ends with an asynchronous copy that it has not waited for");
  async_->end_thread();
  thread.state = State::ended;
  --alive_;
  cluster_->thread_ended();
  // Those that wait for all threads wait for one less.
  if (barriers_[0].arrived > 0 && barriers_[0].count == 0) complete_barrier(barriers_[0]);
  pause();
  std::abort();  // an ended fiber never goes on
}

void Block::fail(const std::string& finding) {
  const Internal internal(*this);
  report(where() + ": " + finding);
  failed_ = true;
  pause();
  std::abort();
}

void Block::find(const std::string& finding) {
  report(where() + ": " + finding);
  failed_ = true;
}

std::string Block::where() const {
  const unsigned plane = launch_.block.x * launch_.block.y;
  const Index3 thread{current_ % launch_.block.x, current_ % plane / launch_.block.x, current_ / plane};
  return launch_.kernel + ", block " + text_of(index_) + ", thread " + text_of(thread);
}

void Block::release_accesses(Seen& to) {
  const Warp& warp = warps_[current_ / 32];
  for (unsigned i = 0; i < kParties; ++i) to[i] = std::max(to[i], warp.seen[i]);
  to[current_ / 32] = ++time_;
}

void Block::acquire_accesses(unsigned warp, const Seen& from) {
  for (unsigned i = 0; i < kParties; ++i) warps_[warp].seen[i] = std::max(warps_[warp].seen[i], from[i]);
}

Seen& Block::seen_of(unsigned rank) { return reinterpret_cast<Seen&>(*warps_[current_ / 32].others[rank].data()); }

void Block::arrive(Barrier& barrier, unsigned count, Here here) {
  const auto id = std::to_string(&barrier - barriers_);
  if (barrier.arrived > 0 && barrier.count != count)
    fail("barrier " + id + " at " + text_of(here) + " is for " + std::to_string(count) + " threads, at " +
         text_of(barrier.here) + " for " + std::to_string(barrier.count));
  // __syncthreads() in a branch that a part of the block takes: what then happens is not defined.
  if (barrier.arrived > 0 && count == 0 && barrier.here.line != here.line)
    fail("threads of the block wait at different __syncthreads: at " + text_of(here) + ", others at " +
         text_of(barrier.here));
  barrier.count = count;
  barrier.here = here;
  ++barrier.arrived;
  if (count != 0) release_accesses(barrier.seen);
}

bool Block::complete_barrier(Barrier& barrier) {
  if (barrier.arrived < (barrier.count == 0 ? alive_ : barrier.count)) return false;
  if (barrier.count == 0) {
    ++time_;
    Seen all{};
    for (const Warp& warp : warps_)
      for (unsigned i = kMaxWarps; i < kParties; ++i) all[i] = std::max(all[i], warp.seen[i]);
    std::fill_n(all, kMaxWarps, time_);
    for (Warp& warp : warps_) std::copy_n(all, kParties, warp.seen);
  } else {
    for (const unsigned thread : barrier.waiting) acquire_accesses(thread / 32, barrier.seen);
  }
  for (const unsigned thread : barrier.waiting) threads_[thread].state = State::ready;
  barrier.waiting.clear();
  barrier.arrived = 0;
  std::fill_n(barrier.seen, kParties, 0);
  return true;
}

void Block::barrier(int id, unsigned count, Here here) {
  const Internal internal(*this);
  Barrier& barrier = barriers_[id];
  arrive(barrier, count, here);
  barrier.waiting.push_back(current_);
  if (complete_barrier(barrier)) {
    threads_[current_].state = State::ready;
    return;
  }
  wait("a barrier", here);
}

void Block::barrier_arrive(int id, unsigned count, Here here) {
  const Internal internal(*this);
  arrive(barriers_[id], count, here);
  complete_barrier(barriers_[id]);
}

void Block::collective(const char* operation, unsigned mask, void* arguments, Complete complete, Here here) {
  const Internal internal(*this);
  const unsigned warp = current_ / 32, lane = current_ % 32;
  if ((mask >> lane & 1) == 0)
    fail(std::string(operation) + " at " + text_of(here) + " names a mask without its own lane");
  auto& groups = warps_[warp].groups;
  auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& other) { return (other.mask & mask) != 0; });
  if (group == groups.end()) {
    groups.push_back({operation, mask, 0, {}, here});
    group = groups.end() - 1;
  } else if (group->mask != mask || std::strcmp(group->operation, operation) != 0 || group->here.line != here.line) {
    fail("lanes of a warp wait for different things: " + std::string(operation) + " at " + text_of(here) +
         ", others for " + group->operation + " at " + text_of(group->here));
  }
  group->arguments[lane] = arguments;
  group->arrived |= 1u << lane;
  if (group->arrived != mask) {
    wait(operation, here);
    return;
  }
  const Group whole = *group;
  groups.erase(group);
  if (complete != nullptr) complete(whole.arguments, mask);
  for (unsigned other = 0; other < 32; ++other)
    if ((mask >> other & 1) != 0 && other != lane) threads_[warp * 32 + other].state = State::ready;
}

void Block::warpgroup_collective(const char* operation, void* arguments, CompleteWarpgroup complete, Here here) {
  const Internal internal(*this);
  Warpgroup& group = warpgroups_[current_ / 128];
  if (current_ / 128 * 128 + 128 > count_) fail(std::string(operation) + " at " + text_of(here) + " needs 128 threads");
  if (group.arrived > 0 && (std::strcmp(group.operation, operation) != 0 || group.here.line != here.line))
    fail("threads of a warpgroup wait for different things: " + std::string(operation) + " at " + text_of(here) +
         ", others for " + group.operation + " at " + text_of(group.here));
  group.operation = operation;
  group.here = here;
  group.arguments[current_ % 128] = arguments;
  if (++group.arrived < 128) {
    wait(operation, here);
    return;
  }
  group.arrived = 0;
  complete(group.arguments);
  for (unsigned i = current_ / 128 * 128; i < current_ / 128 * 128 + 128; ++i)
    if (i != current_) threads_[i].state = State::ready;
}

void Block::warp_barrier(unsigned mask, Here here) {
  const auto pass = [](void* const(&lanes)[32], unsigned lanes_mask) {
    Block* block = nullptr;
    for (unsigned lane = 0; lane < 32 && block == nullptr; ++lane)
      if ((lanes_mask >> lane & 1) != 0) block = static_cast<Block*>(lanes[lane]);
    const unsigned warp = block->current_ / 32;
    block->warps_[warp].seen[warp] = ++block->time_;
  };
  collective("__syncwarp", mask, this, pass, here);
}

void Block::wait_until(const char* what, const std::function<bool()>& ready, Here here) {
  if (ready()) return;
  Thread& thread = threads_[current_];
  thread.ready = &ready;
  thread.state = State::polling;
  thread.waits_for = what;
  thread.here = here;
  pause();
}

bool Block::poll() {
  bool woken = false;
  for (Thread& thread : threads_) {
    if (thread.state != State::polling || !(*thread.ready)()) continue;
    thread.state = State::ready;
    woken = true;
  }
  return woken;
}

void Block::report_deadlock() {
  std::map<std::string, unsigned> places;
  for (const Thread& thread : threads_) {
    if (thread.state == State::ended) continue;
    ++places[async_->describe_wait(static_cast<unsigned>(&thread - threads_.data()), thread.waits_for) + " at " +
             text_of(thread.here)];
  }
  std::string text = launch_.kernel + ", block " + text_of(index_) + ": deadlock;";
  for (const auto& [place, count] : places) text += " " + std::to_string(count) + " wait for " + place + ",";
  if (alive_ < count_) text += " " + std::to_string(count_ - alive_) + " have ended,";
  text.back() = '.';
  report(text);
  failed_ = true;
}

void* shared_memory(size_t bytes, size_t alignment) {
  Block* block = current_block;
  const Block::Internal internal(*block);
  if (bytes > block->shared_bytes())
    block->fail("uses " + std::to_string(bytes) + " bytes of shared memory, launched with " +
                std::to_string(block->shared_bytes()));
  if (alignment > 1024) block->fail("wants shared memory aligned to more than 1024 bytes");
  return block->shared();
}

}  // namespace alma::emulator

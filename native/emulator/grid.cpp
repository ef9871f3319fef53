#include "grid.h"

#include <sched.h>
#include <signal.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "checks.h"
#include "cluster.h"
#include "memory.h"

namespace alma::emulator {

namespace {

thread_local const char* next_name = "kernel";
std::atomic<uint64_t> launch_count{0};
// Of the thread of a stream: the first tag of the launches that one behind them may run beside.
thread_local uint32_t unfinished_from = 0;

// Threads that help with a launch; they live as long as the process and sleep between launches.
class Pool {
 public:
  static Pool& instance() {
    static Pool* pool = new Pool;  // never destroyed: threads may outlive static objects
    return *pool;
  }

  void run(const LaunchDescription& launch) {
    const uint64_t blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
    Work work{&launch, schedule(), blocks / launch.cluster};
    work.grid.first_tag = take_tags(blocks);
    if (launch.early_start) work.grid.unfinished_from = unfinished_from;
    run(work);
    // What a kernel that is launched early behind this one must not take for finished. Behind a kernel that has waited, everything
    // before it has.
    const bool ordered = work.grid.unfinished_from == 0 || (work.grid.waited && !work.grid.launched_too_soon);
    unfinished_from = ordered ? work.grid.first_tag : work.grid.unfinished_from;
  }

 private:
  struct Work {
    const LaunchDescription* launch;
    Schedule schedule;
    uint64_t clusters;
    GridState grid{};
    std::atomic<uint64_t> next{0};
    int helpers = 0;  // under the pool's mutex
  };

  void run(Work& work) {
    if (work.clusters > 1 && helpers_ > 0) {
      std::unique_lock lock(mutex_);
      idle_.wait(lock, [&] { return work_ == nullptr; });
      work_ = &work;
      wake_.notify_all();
      lock.unlock();
      help(work);
      lock.lock();
      work_ = nullptr;
      done_.wait(lock, [&] { return work.helpers == 0; });
      idle_.notify_one();
      return;
    }
    help(work);
  }

  Pool() {
    cpu_set_t set;
    const int processors = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    helpers_ = processors - 1;
    for (int i = 0; i < helpers_; ++i) std::thread([this] { serve(); }).detach();
  }

  void serve() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return work_ != nullptr && work_->next < work_->clusters; });
      Work& work = *work_;
      ++work.helpers;
      lock.unlock();
      help(work);
      lock.lock();
      if (--work.helpers == 0) done_.notify_all();
    }
  }

  static void help(Work& work) {
    const Index3 grid = work.launch->grid;
    for (uint64_t i; (i = work.next++) < work.clusters && !has_report();) {
      // Clusters may run in any order.
      const unsigned size = work.launch->cluster;
      const uint64_t first = (work.schedule.order == Order::reversed ? work.clusters - 1 - i : i) * size;
      std::deque<Block> blocks;
      std::vector<Block*> cluster;
      for (unsigned rank = 0; rank < size; ++rank) {
        const uint64_t at = first + rank;
        const auto x = static_cast<unsigned>(at % grid.x);
        const auto y = static_cast<unsigned>(at / grid.x % grid.y);
        const auto z = static_cast<unsigned>(at / (uint64_t{grid.x} * grid.y));
        const uint32_t tag = work.grid.first_tag + static_cast<uint32_t>(at);
        cluster.push_back(&blocks.emplace_back(*work.launch, Index3{x, y, z}, work.schedule, work.grid, tag, rank));
      }
      Cluster(cluster).run();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_, idle_;
  Work* work_ = nullptr;
  int helpers_ = 0;
};

}  // namespace

void name_next_launch(const char* name) { next_name = name; }

const char* take_launch_name() {
  const char* name = next_name;
  next_name = "kernel";
  return name;
}

uint64_t launches() { return launch_count; }

void run_grid(const LaunchDescription& launch) {
  ++launch_count;
  Pool::instance().run(launch);
  end_of_launch();
}

}  // namespace alma::emulator

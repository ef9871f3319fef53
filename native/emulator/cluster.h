// Blocks that one OS thread runs side by side: those of a cluster, or a block alone. They meet at the cluster's barrier, and reach into each
// other's shared memory by arriving at mbarriers and by copies to several of them.
#pragma once

#include <array>
#include <vector>

#include "block.h"

namespace alma::emulator {

class Cluster {
 public:
  // In the order of their ranks.
  explicit Cluster(std::vector<Block*> blocks);

  // Runs all threads to their end, or to the first finding.
  void run();

  unsigned size() const { return static_cast<unsigned>(blocks_.size()); }
  // Another block that the current thread of `from` reaches into; what is wrong about that is found.
  Block& reached(Block& from, unsigned rank, const std::string& what);

  // barrier.cluster: of all threads that have not ended
  void arrive(Block& block, Here here);
  void wait(Block& block, Here here);
  void thread_ended();

 private:
  using Clock = std::array<uint32_t, kParties>;
  void complete_if_all_arrived();

  std::vector<Block*> blocks_;
  std::vector<Clock> arriving_, seen_;  // by rank
  unsigned phase_ = 0;
};

// ---- the bodies of native/cuda/ptx/cluster.cuh

unsigned cluster_rank();
void cluster_arrive(Here here);
void cluster_wait(Here here);
void mbarrier_arrive_remote(void* barrier, unsigned rank, Here here);

}  // namespace alma::emulator

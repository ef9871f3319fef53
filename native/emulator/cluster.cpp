#include "cluster.h"

#include <algorithm>

#include "async_proxy.h"

namespace alma::emulator {

namespace {
Seen& clock(std::array<uint32_t, kParties>& array) { return reinterpret_cast<Seen&>(*array.data()); }
void raise(Seen& to, const Seen& from) {
  for (unsigned i = 0; i < kParties; ++i) to[i] = std::max(to[i], from[i]);
}
}  // namespace

Cluster::Cluster(std::vector<Block*> blocks)
    : blocks_(std::move(blocks)), arriving_(blocks_.size()), seen_(blocks_.size()) {
  for (Block* block : blocks_) block->cluster_ = this;
}

void Cluster::run() {
  const bool reversed = blocks_.front()->schedule().order == Order::reversed;
  const auto any = [&](auto&& does) {
    return std::any_of(blocks_.begin(), blocks_.end(), [&](Block* block) { return does(*block); });
  };
  const auto has_failed = [&] { return any([](Block& block) { return block.failed_; }); };
  while (any([](Block& block) { return !block.ended(); }) && !has_failed()) {
    bool progressed = false;
    for (size_t i = 0; i < blocks_.size() && !has_failed(); ++i) {
      Block& block = *blocks_[reversed ? blocks_.size() - 1 - i : i];
      if (!block.ended()) progressed = block.round() || progressed;
    }
    if (progressed || has_failed()) continue;
    for (Block* block : blocks_) progressed = block->poll() || progressed;
    // Operations that complete as late as they can do so when nobody can go on without them.
    if (progressed || any([](Block& block) { return block.async_->advance(); })) continue;
    for (Block* block : blocks_) {
      if (!block->ended()) block->report_deadlock();
    }
  }
  for (Block* block : blocks_) {
    if (has_failed()) break;
    current_block = block;
    block->end_run();
  }
  // Whoever is left does not go on.
  const bool failed = has_failed();
  for (Block* block : blocks_) block->failed_ = block->failed_ || failed;
  current_block = nullptr;
}

Block& Cluster::reached(Block& from, unsigned rank, const std::string& what) {
  if (rank >= size())
    from.fail(what + " reaches for block " + std::to_string(rank) + " of a cluster of " + std::to_string(size()));
  Block& block = *blocks_[rank];
  if (block.ended())
    from.fail(what + " reaches for block " + std::to_string(rank) + " of the cluster, which has ended");
  block.note_reached();
  return block;
}

void Cluster::arrive(Block& block, Here here) {
  Block::Thread& thread = block.threads_[block.current_];
  if (thread.arrived_at_cluster)
    block.fail("barrier.cluster.arrive at " + text_of(here) + " before the wait of the one before");
  thread.arrived_at_cluster = true;
  thread.cluster_phase = phase_;
  for (unsigned rank = 0; rank < size(); ++rank) {
    if (rank == block.rank_) {
      block.release_accesses(clock(arriving_[rank]));
    } else {
      raise(clock(arriving_[rank]), block.seen_of(rank));
    }
  }
  complete_if_all_arrived();
}

void Cluster::complete_if_all_arrived() {
  for (Block* block : blocks_)
    for (const Block::Thread& thread : block->threads_) {
      const bool here = thread.arrived_at_cluster && thread.cluster_phase == phase_;
      if (thread.state != Block::State::ended && !here) return;
    }
  for (unsigned rank = 0; rank < size(); ++rank) {
    raise(clock(seen_[rank]), clock(arriving_[rank]));
    arriving_[rank] = {};
    blocks_[rank]->reached_ = false;
  }
  ++phase_;
}

void Cluster::wait(Block& block, Here here) {
  Block::Thread& thread = block.threads_[block.current_];
  if (!thread.arrived_at_cluster)
    block.fail("barrier.cluster.wait at " + text_of(here) + " without an arrival before it");
  const unsigned phase = thread.cluster_phase;
  const std::function<bool()> ready = [this, phase] { return phase_ != phase; };
  block.wait_until("the cluster's barrier", ready, here);
  thread.arrived_at_cluster = false;
  for (unsigned rank = 0; rank < size(); ++rank) {
    if (rank == block.rank_) {
      block.acquire_accesses(block.current_ / 32, clock(seen_[rank]));
    } else {
      raise(block.seen_of(rank), clock(seen_[rank]));
    }
  }
}

void Cluster::thread_ended() {
  if (size() > 1) complete_if_all_arrived();
}

unsigned cluster_rank() { return current_block->rank(); }
void cluster_arrive(Here here) {
  const Block::Internal internal(*current_block);
  current_block->cluster().arrive(*current_block, here);
}
void cluster_wait(Here here) {
  const Block::Internal internal(*current_block);
  current_block->cluster().wait(*current_block, here);
}
void mbarrier_arrive_remote(void* barrier, unsigned rank, Here here) {
  Block& block = *current_block;
  const Block::Internal internal(block);
  if (rank == block.rank()) return block.async().arrive(barrier, 1, 0, here);
  Block& other = block.cluster().reached(block, rank, "mbarrier.arrive at " + text_of(here));
  const auto offset = static_cast<size_t>(static_cast<char*>(barrier) - block.shared());
  other.async().arrive_from(block, offset, here);
}

}  // namespace alma::emulator

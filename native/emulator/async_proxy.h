// What a block of compute capability 9.0 does asynchronously: copies by tensor maps that mbarriers count, bulk stores, matrix products
// of warpgroups. Between issue and completion an operation may happen at any time: the schedule chooses, early, late or at random.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "block.h"

namespace alma::emulator {

class AsyncProxy {
 public:
  explicit AsyncProxy(Block& block);

  // ---- the scheduler's side
  bool advance();  // one operation completes; false when there is none
  void end_thread();
  void end_block();
  std::string describe_wait(unsigned thread, const char* waits_for) const;

  // ---- fence.proxy.async
  void fence();
  ProxyFences fences() const;

  // ---- mbarrier
  void init(void* barrier, unsigned count, Here here);
  void arrive(void* barrier, unsigned arrivals, size_t expected_bytes, Here here);
  void wait(void* barrier, unsigned parity, Here here);
  // By the current thread of another block of the cluster.
  void arrive_from(Block& from, size_t offset, Here here);

  // ---- bulk copies (bulk_copy.cpp); what is written in shared memory lies in `bytes` bytes from `shared` on
  using Run = std::function<void()>;
  void load(void* barrier, void* shared, size_t bytes, Run run, Here here);
  // Issued by the current thread of another block of the cluster: mbarrier and target are this block's.
  void load_from(Block& from, size_t barrier, size_t offset, size_t bytes, Run run, Here here);
  void store(const void* shared, size_t bytes, Run run, Here here);
  void commit_stores();
  void wait_stores(unsigned pending, Here here);

  // ---- wgmma (warpgroup.cpp)
  struct Product {
    std::array<float*, 128> accumulators;
    int count;  // f32 a thread
    bool add;   // to the accumulator; otherwise it is overwritten
    // Adds the product to sums[thread][i].
    std::function<void(std::vector<float>& sums)> run;
    struct Range {
      size_t offset, bytes;
    };
    std::vector<Range> reads;
  };
  void wgmma_fence();
  void wgmma(Product product, Here here);  // by the last thread of the warpgroup
  void wgmma_commit();                     // likewise
  void wgmma_wait(unsigned pending, Here here);

  void set_registers(unsigned count, Here here);

 private:
  struct Range {
    size_t offset, bytes;
  };
  struct Mbarrier {
    size_t offset;
    unsigned count, pending, phase = 0;
    int64_t bytes = 0;  // expected and not yet arrived
    std::vector<Range> arrived;
    Seen arriving{}, seen{};
    struct Others {  // the same of another block of the cluster, which arrives as well
      Seen arriving{}, seen{};
    };
    std::vector<Others> others;  // by rank
  };
  struct Operation {
    Run run;
    bool* done;
  };
  struct Store {
    size_t offset, bytes;
    int group;  // −1: not committed yet
    std::shared_ptr<bool> done;
    Here here;
  };
  struct Accumulator {
    std::array<float*, 128> registers;
    int count = 0, last_group = 0;
    std::vector<float> sums;
  };
  struct Queued {
    size_t accumulator;
    int group;
    bool done;
    Product product;
    Here here;
  };
  struct Warpgroup {
    bool fenced = false;
    int groups = 0;  // committed
    std::vector<Accumulator> accumulators;
    std::vector<Queued> products;
    unsigned registers = 0;
  };

  size_t offset_of(const void* shared, size_t bytes, size_t alignment, const char* what, Here here);
  Mbarrier& mbarrier(void* barrier, const char* what, Here here);
  Mbarrier& mbarrier_from(Block& from, size_t offset, const std::string& what);
  void try_complete(Mbarrier& barrier);
  void submit(Run run, Here here);
  void count_bytes(Mbarrier& barrier, size_t offset, size_t bytes, Run run, Here here);
  void run_product(Warpgroup& group, Queued& queued);

  Block& block_;
  std::vector<Mbarrier> mbarriers_;
  std::vector<Run> pending_;
  std::map<unsigned, std::vector<Store>> stores_;  // by thread
  std::map<unsigned, int> store_groups_;
  std::map<unsigned, std::pair<size_t, unsigned>> waiting_;  // thread → mbarrier, parity
  std::vector<Warpgroup> warpgroups_;
  std::vector<uint32_t> fence_times_;
  std::map<unsigned, std::array<uint32_t, kMaxWarps>> fence_seen_;
};

}  // namespace alma::emulator

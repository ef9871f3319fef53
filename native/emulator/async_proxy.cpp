#include "async_proxy.h"

#include <algorithm>

#include "cluster.h"

namespace alma::emulator {

namespace {
constexpr std::array<uint32_t, kMaxWarps> kNeverFenced{};
// Who accesses shared memory from another block: a thread that no block of a cluster has.
constexpr unsigned kOtherBlock = 1023;
}  // namespace

AsyncProxy::AsyncProxy(Block& block)
    : block_(block), warpgroups_((block.threads() + 127) / 128), fence_times_(block.threads()) {
  mbarriers_.reserve(kMaxMbarriers);  // those who wait keep references
}

void AsyncProxy::submit(Run run, Here) {
  const AsyncCompletion when = block_.schedule().async;
  if (when == AsyncCompletion::early || (when == AsyncCompletion::random && (block_.random() & 3) == 0)) return run();
  pending_.push_back(std::move(run));
}

bool AsyncProxy::advance() {
  if (pending_.empty()) return false;
  // Operations overtake each other.
  size_t which = block_.schedule().order == Order::reversed ? pending_.size() - 1 : 0;
  if (block_.schedule().order == Order::random) which = block_.random() % pending_.size();
  const Run run = std::move(pending_[which]);
  pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(which));
  run();
  return true;
}

void AsyncProxy::fence() {
  const Moment now = block_.now();
  std::copy_n(now.seen, kMaxWarps, fence_seen_[now.thread].begin());
  fence_times_[now.thread] = block_.tick();
}

ProxyFences AsyncProxy::fences() const {
  const auto seen = fence_seen_.find(block_.thread());
  return {fence_times_.data(), seen == fence_seen_.end() ? kNeverFenced.data() : seen->second.data()};
}

size_t AsyncProxy::offset_of(const void* shared, size_t bytes, size_t alignment, const char* what, Here here) {
  const auto at = reinterpret_cast<uintptr_t>(shared);
  const std::string where = std::string(what) + " at " + text_of(here);
  if (at < block_.shared_begin() || at + bytes > block_.shared_end())
    block_.fail(where + " is outside of shared memory, at byte " +
                std::to_string(static_cast<int64_t>(at - block_.shared_begin())) + " of " +
                std::to_string(block_.shared_bytes()));
  if (at % alignment != 0)
    block_.fail(where + " is at an address that is not a multiple of " + std::to_string(alignment));
  return at - block_.shared_begin();
}

void AsyncProxy::init(void* barrier, unsigned count, Here here) {
  const size_t offset = offset_of(barrier, 8, 8, "mbarrier.init", here);
  if (count == 0) block_.fail("mbarrier.init at " + text_of(here) + " counts to 0");
  if (const char* wrong = block_.shadow().write(offset, 8, block_.now()))
    block_.fail("mbarrier.init at " + text_of(here) + ": " + wrong + " (" + block_.shadow().other() + ")");
  Mbarrier fresh{offset, count, count, 0, 0, {}, {}, {}, {}};
  fresh.others.resize(block_.cluster().size());
  for (Mbarrier& known : mbarriers_)
    if (known.offset == offset) {
      known = fresh;
      return;
    }
  if (mbarriers_.size() == kMaxMbarriers)
    block_.fail("the emulator knows " + std::to_string(kMaxMbarriers) + " mbarriers a block");
  mbarriers_.push_back(fresh);
}

AsyncProxy::Mbarrier& AsyncProxy::mbarrier(void* barrier, const char* what, Here here) {
  const size_t offset = offset_of(barrier, 8, 8, what, here);
  const auto found =
      std::find_if(mbarriers_.begin(), mbarriers_.end(), [&](const Mbarrier& known) { return known.offset == offset; });
  const std::string where = std::string(what) + " at " + text_of(here);
  if (found == mbarriers_.end()) block_.fail(where + ": nobody has initialised the mbarrier");
  if (const char* wrong = block_.shadow().read(offset, 8, block_.now()))
    block_.fail(where + ": " + wrong + " (the mbarrier's initialisation, " + block_.shadow().other() + ")");
  return *found;
}

// On a fiber or between fibers.
void AsyncProxy::try_complete(Mbarrier& barrier) {
  if (barrier.pending > 0 || barrier.bytes != 0) return;
  const auto index = static_cast<unsigned>(&barrier - mbarriers_.data());
  const uint32_t time = block_.tick();
  for (const Range& range : barrier.arrived)
    block_.shadow().end_proxy_write(range.offset, range.bytes, copies_of(index), time);
  barrier.arrived.clear();
  for (unsigned i = 0; i < kParties; ++i) barrier.seen[i] = std::max(barrier.seen[i], barrier.arriving[i]);
  barrier.seen[copies_of(index)] = block_.tick();
  std::fill_n(barrier.arriving, kParties, 0);
  for (Mbarrier::Others& other : barrier.others) {
    for (unsigned i = 0; i < kParties; ++i) other.seen[i] = std::max(other.seen[i], other.arriving[i]);
    std::fill_n(other.arriving, kParties, 0);
  }
  barrier.pending = barrier.count;
  ++barrier.phase;
}

void AsyncProxy::arrive(void* address, unsigned arrivals, size_t expected_bytes, Here here) {
  Mbarrier& barrier = mbarrier(address, "mbarrier.arrive", here);
  if (barrier.pending < arrivals)
    block_.fail("mbarrier.arrive at " + text_of(here) + ": more than the " + std::to_string(barrier.count) +
                " arrivals that a phase counts");
  barrier.bytes += static_cast<int64_t>(expected_bytes);
  barrier.pending -= arrivals;
  block_.release_accesses(barrier.arriving);
  try_complete(barrier);
}

void AsyncProxy::wait(void* address, unsigned parity, Here here) {
  Mbarrier& barrier = mbarrier(address, "mbarrier.try_wait", here);
  const unsigned thread = block_.thread();
  waiting_[thread] = {static_cast<size_t>(&barrier - mbarriers_.data()), parity};
  const std::function<bool()> ready = [&barrier, parity] { return (barrier.phase & 1) != parity; };
  block_.wait_until("an mbarrier", ready, here);
  waiting_.erase(thread);
  block_.acquire_accesses(thread / 32, barrier.seen);
  for (unsigned rank = 0; rank < barrier.others.size(); ++rank) {
    if (rank == block_.rank()) continue;
    Seen& seen = block_.seen_of(rank);
    for (unsigned i = 0; i < kParties; ++i) seen[i] = std::max(seen[i], barrier.others[rank].seen[i]);
  }
}

AsyncProxy::Mbarrier& AsyncProxy::mbarrier_from(Block& from, size_t offset, const std::string& what) {
  const auto found =
      std::find_if(mbarriers_.begin(), mbarriers_.end(), [&](const Mbarrier& known) { return known.offset == offset; });
  if (found == mbarriers_.end())
    from.fail(what + ": nobody has initialised the mbarrier of block " + std::to_string(block_.rank()));
  const Moment now{kOtherBlock, block_.tick(), from.seen_of(block_.rank())};
  if (const char* wrong = block_.shadow().read(offset, 8, now))
    from.fail(what + ": " + wrong + " (the initialisation of the mbarrier of block " + std::to_string(block_.rank()) +
              ")");
  return *found;
}

void AsyncProxy::arrive_from(Block& from, size_t offset, Here here) {
  const std::string what = "mbarrier.arrive at " + text_of(here);
  Mbarrier& barrier = mbarrier_from(from, offset, what);
  if (barrier.pending == 0)
    from.fail(what + ": more than the " + std::to_string(barrier.count) + " arrivals that a phase counts");
  --barrier.pending;
  from.release_accesses(barrier.others[from.rank()].arriving);
  try_complete(barrier);
}

void AsyncProxy::load_from(Block& from, size_t barrier_offset, size_t offset, size_t bytes, Run run, Here here) {
  const std::string what = "a bulk copy at " + text_of(here);
  Mbarrier& barrier = mbarrier_from(from, barrier_offset, what);
  const Moment now{kOtherBlock, block_.tick(), from.seen_of(block_.rank())};
  if (const char* wrong =
          block_.shadow().begin_proxy_write(offset, bytes, now, {fence_times_.data(), kNeverFenced.data()}))
    from.fail(what + ": block " + std::to_string(block_.rank()) + ": " + wrong);
  count_bytes(barrier, offset, bytes, std::move(run), here);
}

void AsyncProxy::count_bytes(Mbarrier& barrier, size_t offset, size_t bytes, Run run, Here here) {
  submit(
      [this, &barrier, offset, bytes, run = std::move(run)] {
        run();
        barrier.bytes -= static_cast<int64_t>(bytes);
        barrier.arrived.push_back({offset, bytes});
        try_complete(barrier);
      },
      here);
}

std::string AsyncProxy::describe_wait(unsigned thread, const char* waits_for) const {
  const auto found = waiting_.find(thread);
  if (found == waiting_.end()) return waits_for;
  const Mbarrier& barrier = mbarriers_[found->second.first];
  return "an mbarrier at byte " + std::to_string(barrier.offset) + " that misses " + std::to_string(barrier.pending) +
         " arrivals and " + std::to_string(barrier.bytes) + " bytes";
}

void AsyncProxy::load(void* barrier_address, void* shared, size_t bytes, Run run, Here here) {
  Mbarrier& barrier = mbarrier(barrier_address, "a copy's mbarrier", here);
  const size_t offset = offset_of(shared, bytes, 128, "a bulk copy", here);
  const std::string what = "a bulk copy at " + text_of(here);
  // The mbarrier was written generically: the copy must not find it older than that.
  const ProxyFences proxy_fences = fences();
  if (const char* wrong = block_.shadow().begin_proxy_read(barrier.offset, 8, block_.now(), proxy_fences))
    block_.fail(what + ": its mbarrier: " + wrong + " (" + block_.shadow().other() + ")");
  block_.shadow().end_proxy_read(barrier.offset, 8, block_.now());
  if (const char* wrong = block_.shadow().begin_proxy_write(offset, bytes, block_.now(), proxy_fences))
    block_.fail(what + ": " + wrong + " (" + block_.shadow().other() + ")");
  count_bytes(barrier, offset, bytes, std::move(run), here);
}

void AsyncProxy::store(const void* shared, size_t bytes, Run run, Here here) {
  const size_t offset = offset_of(shared, bytes, 128, "a bulk store", here);
  if (const char* wrong = block_.shadow().begin_proxy_read(offset, bytes, block_.now(), fences()))
    block_.fail("a bulk store at " + text_of(here) + ": " + wrong + " (" + block_.shadow().other() + ")");
  auto done = std::make_shared<bool>(false);
  stores_[block_.thread()].push_back({offset, bytes, -1, done, here});
  submit(
      [run = std::move(run), done] {
        run();
        *done = true;
      },
      here);
}

void AsyncProxy::commit_stores() {
  const int group = store_groups_[block_.thread()]++;
  for (Store& store : stores_[block_.thread()])
    if (store.group < 0) store.group = group;
}

void AsyncProxy::wait_stores(unsigned pending, Here here) {
  std::vector<Store>& mine = stores_[block_.thread()];
  const int arrived = store_groups_[block_.thread()] - static_cast<int>(pending);
  const auto waits_for = [&](const Store& store) { return store.group >= 0 && store.group < arrived; };
  const std::function<bool()> ready = [&] {
    return std::all_of(mine.begin(), mine.end(), [&](const Store& store) { return !waits_for(store) || *store.done; });
  };
  block_.wait_until("bulk stores", ready, here);
  for (const Store& store : mine)
    if (waits_for(store)) block_.shadow().end_proxy_read(store.offset, store.bytes, block_.now());
  std::erase_if(mine, waits_for);
}

void AsyncProxy::end_thread() {
  const auto found = stores_.find(block_.thread());
  if (found != stores_.end() && !found->second.empty())
    block_.fail("ends with a bulk store, at " + text_of(found->second.front().here) +
                ", that may still read the block's shared memory");
  const Warpgroup& group = warpgroups_[block_.thread() / 128];
  if (!group.products.empty())
    block_.fail("ends with a wgmma, at " + text_of(group.products.front().here) + ", that it has not waited for");
}

void AsyncProxy::end_block() {
  if (!pending_.empty())
    block_.find("the block ends with " + std::to_string(pending_.size()) + " bulk copies on their way");
  for (const Mbarrier& barrier : mbarriers_)
    if (barrier.bytes != 0)
      block_.find("the block ends with an mbarrier at byte " + std::to_string(barrier.offset) +
                  (barrier.bytes < 0
                       ? " to which " + std::to_string(-barrier.bytes) + " bytes came that nobody expected"
                       : " that expects " + std::to_string(barrier.bytes) + " more bytes"));
  unsigned registers = 0;
  bool all = true;
  for (const Warpgroup& group : warpgroups_) {
    registers += 128 * group.registers;
    all = all && group.registers > 0;
  }
  if (all && registers > 65536)
    block_.find("setmaxnreg: the warpgroups ask for " + std::to_string(registers) + " registers, there are 65536");
}

void AsyncProxy::set_registers(unsigned count, Here here) {
  if (count % 8 != 0 || count < 24 || count > 240)
    block_.fail("setmaxnreg at " + text_of(here) + " is for a multiple of 8 from 24 to 240");
  warpgroups_[block_.thread() / 128].registers = count;
}

}  // namespace alma::emulator

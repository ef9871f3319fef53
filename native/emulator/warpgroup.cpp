#include "warpgroup.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../cuda/layout/fragments.h"
#include "../cuda/layout/swizzle.h"
#include "../runtime/dtype.h"
#include "async_proxy.h"

namespace alma::emulator {

namespace {

constexpr uint32_t kPoison = 0x7fc0a1a1;  // a NaN that nobody computes

// Where element (row, k) of an operand lies in shared memory. Rows are m of the left operand and n of the right one.
struct Descriptor {
  size_t start, leading, stride;
  bool transposed;
  Descriptor(uint64_t bits, bool is_transposed)
      : start((bits & 0x3fff) << 4),
        leading((bits >> 16 & 0x3fff) << 4),
        stride((bits >> 32 & 0x3fff) << 4),
        transposed(is_transposed) {}
  size_t at(int row, int k) const {
    const auto r = static_cast<size_t>(row), depth = static_cast<size_t>(k);
    const size_t offset = transposed ? r / 64 * leading + r % 64 * 2 + depth / 8 * stride + depth % 8 * 128
                                     : r / 8 * stride + r % 8 * 128 + depth * 2;
    return layout::swizzle_128(start + offset);
  }
};

// Whole rows of 128 bytes, more than the instruction may read: the pieces of a row that it reads lie anywhere in it, and a stage is
// filled and released as a whole. With k in rows only the 32 bytes of this step count.
void add_reads(std::vector<AsyncProxy::Product::Range>& reads, const Descriptor& operand, int rows) {
  if (operand.transposed) {
    for (int row = 0; row < rows; row += 64)
      for (int k = 0; k < 16; k += 8)
        reads.push_back({(operand.start + static_cast<size_t>(row / 64) * operand.leading +
                          static_cast<size_t>(k / 8) * operand.stride) /
                             1024 * 1024,
                         1024});
    return;
  }
  for (int row = 0; row < rows; ++row)
    for (int k = 0; k < 16; k += 8) reads.push_back({operand.at(row, k), 16});
}

struct Call {
  float* accumulator;
  int n;
  WgmmaOperands operands;
};

}  // namespace

uint64_t shared_offset(const void* shared) {
  return static_cast<uint64_t>(static_cast<const char*>(shared) - current_block->shared());
}

void wgmma(float* accumulator, int n, const WgmmaOperands& operands, Here here) {
  struct Arguments {
    Call call;
    Here here;
  } mine{{accumulator, n, operands}, here};
  const auto complete = [](void* const(&threads)[128]) {
    Block& block = *current_block;
    const Arguments& first = *static_cast<const Arguments*>(threads[0]);
    const WgmmaOperands operands = first.call.operands;
    const int n = first.call.n;
    AsyncProxy::Product product;
    product.count = n / 2;
    product.add = operands.add;
    std::vector<float> left(64 * 16);
    for (int thread = 0; thread < 128; ++thread) {
      const Call& call = static_cast<const Arguments*>(threads[thread])->call;
      if (call.operands.a != operands.a || call.operands.b != operands.b || call.operands.add != operands.add)
        block.fail("wgmma at " + text_of(first.here) + ": the threads of the warpgroup give different operands");
      product.accumulators[static_cast<size_t>(thread)] = call.accumulator;
      if (operands.a_words == nullptr) continue;
      for (int i = 0; i < 8; ++i) {
        const layout::Place at = layout::fragment_a(thread % 32, i);
        const uint32_t word = call.operands.a_words[i / 2];
        left[static_cast<size_t>((thread / 32 * 16 + at.row) * 16 + at.col)] =
            f32_from_bf16(static_cast<uint16_t>(word >> (i % 2 * 16)));
      }
    }
    const Descriptor a(operands.a, operands.a_transposed), b(operands.b, operands.b_transposed);
    if (operands.a_words == nullptr) {
      if (operands.a >> 62 != 1) block.fail("wgmma at " + text_of(first.here) + ": a is not with 128-byte swizzle");
      add_reads(product.reads, a, 64);
    }
    if (operands.b >> 62 != 1) block.fail("wgmma at " + text_of(first.here) + ": b is not with 128-byte swizzle");
    add_reads(product.reads, b, n);
    const char* shared = block.shared();
    const bool from_registers = operands.a_words != nullptr;
    product.run = [=, left = std::move(left)](std::vector<float>& sums) mutable {
      const auto load = [&](const Descriptor& operand, int row, int k) {
        uint16_t bits;
        std::memcpy(&bits, shared + operand.at(row, k), 2);
        return f32_from_bf16(bits);
      };
      if (!from_registers)
        for (int row = 0; row < 64; ++row)
          for (int k = 0; k < 16; ++k) left[static_cast<size_t>(row * 16 + k)] = load(a, row, k);
      std::vector<float> right(static_cast<size_t>(16 * n)), row_sums(static_cast<size_t>(n));
      for (int row = 0; row < n; ++row)
        for (int k = 0; k < 16; ++k) right[static_cast<size_t>(k * n + row)] = load(b, row, k);
      for (int row = 0; row < 64; ++row) {
        const auto each = [&](auto use) {
          for (int lane = row % 8 * 4; lane < row % 8 * 4 + 4; ++lane)
            for (int i = row % 16 / 8 * 2; i < n / 2; i += 4)
              for (int e = 0; e < 2; ++e) {
                const layout::Place at = layout::warpgroup_accumulator(row / 16 * 32 + lane, i + e);
                use(sums[static_cast<size_t>((row / 16 * 32 + lane) * (n / 2) + i + e)],
                    row_sums[static_cast<size_t>(at.col)]);
              }
        };
        each([](float sum, float& to) { to = sum; });
        for (int k = 0; k < 16; ++k) {
          const float factor = left[static_cast<size_t>(row * 16 + k)];
          const float* from = right.data() + k * n;
          for (int col = 0; col < n; ++col) row_sums[static_cast<size_t>(col)] += factor * from[col];
        }
        each([](float& sum, float from) { sum = from; });
      }
    };
    block.async().wgmma(std::move(product), first.here);
  };
  current_block->warpgroup_collective("wgmma", &mine, complete, here);
}

void wgmma_fence(Here here) {
  current_block->warpgroup_collective(
      "wgmma.fence", nullptr, [](void* const(&)[128]) { current_block->async().wgmma_fence(); }, here);
}

void wgmma_commit(Here here) {
  current_block->warpgroup_collective(
      "wgmma.commit_group", nullptr, [](void* const(&)[128]) { current_block->async().wgmma_commit(); }, here);
}

void wgmma_wait(unsigned pending, Here here) {
  struct Arguments {
    unsigned pending;
    Here here;
  } mine{pending, here};
  const auto complete = [](void* const(&threads)[128]) {
    const auto& first = *static_cast<const Arguments*>(threads[0]);
    current_block->async().wgmma_wait(first.pending, first.here);
  };
  current_block->warpgroup_collective("wgmma.wait_group", &mine, complete, here);
}

void set_max_registers(unsigned count, Here here) {
  struct Arguments {
    unsigned count;
    Here here;
  } mine{count, here};
  const auto complete = [](void* const(&threads)[128]) {
    const auto& first = *static_cast<const Arguments*>(threads[0]);
    for (void* other : threads)
      if (static_cast<const Arguments*>(other)->count != first.count)
        current_block->fail("setmaxnreg at " + text_of(first.here) + ": the warpgroup's threads want different counts");
    current_block->async().set_registers(first.count, first.here);
  };
  current_block->warpgroup_collective("setmaxnreg", &mine, complete, here);
}

void AsyncProxy::wgmma_fence() { warpgroups_[block_.thread() / 128].fenced = true; }

void AsyncProxy::wgmma(Product product, Here here) {
  const unsigned index = block_.thread() / 128;
  Warpgroup& group = warpgroups_[index];
  const std::string what = "wgmma at " + text_of(here);
  if (!group.fenced) block_.fail(what + ": no wgmma.fence since the registers were last accessed");
  // What all four warps have seen.
  Seen seen;
  std::copy_n(block_.seen(index * 4), kParties, seen);
  for (unsigned warp = index * 4 + 1; warp < index * 4 + 4; ++warp)
    for (unsigned i = 0; i < kParties; ++i) seen[i] = std::min(seen[i], block_.seen(warp)[i]);
  const Moment now{block_.thread(), block_.now().time, seen};
  for (const Product::Range& range : product.reads) {
    if (range.offset + range.bytes > block_.shared_bytes())
      block_.fail(what + " reads outside of shared memory, at byte " + std::to_string(range.offset) + " of " +
                  std::to_string(block_.shared_bytes()));
    if (const char* wrong = block_.shadow().begin_proxy_read(range.offset, range.bytes, now, fences()))
      block_.fail(what + ": " + wrong + ": byte " + std::to_string(range.offset) + " (" + block_.shadow().other() +
                  ")");
  }
  size_t at = 0;
  while (at < group.accumulators.size() && (group.accumulators[at].registers != product.accumulators)) ++at;
  if (at == group.accumulators.size()) {
    Accumulator fresh;
    fresh.registers = product.accumulators;
    fresh.count = product.count;
    for (float* registers : product.accumulators)
      fresh.sums.insert(fresh.sums.end(), registers, registers + product.count);
    for (float* registers : product.accumulators)
      for (int i = 0; i < product.count; ++i) std::memcpy(registers + i, &kPoison, sizeof kPoison);
    group.accumulators.push_back(std::move(fresh));
  } else if (group.accumulators[at].count != product.count) {
    block_.fail(what + ": the same accumulator with another shape");
  }
  group.products.push_back({at, -1, false, std::move(product), here});
  const AsyncCompletion when = block_.schedule().async;
  const bool early = when == AsyncCompletion::early || (when == AsyncCompletion::random && (block_.random() & 1) != 0);
  if (early)
    for (Queued& queued : group.products) run_product(group, queued);
}

void AsyncProxy::run_product(Warpgroup& group, Queued& queued) {
  if (queued.done) return;
  queued.done = true;
  std::vector<float>& sums = group.accumulators[queued.accumulator].sums;
  if (!queued.product.add) std::fill(sums.begin(), sums.end(), 0.0f);
  queued.product.run(sums);
}

void AsyncProxy::wgmma_commit() {
  Warpgroup& group = warpgroups_[block_.thread() / 128];
  for (Queued& queued : group.products)
    if (queued.group < 0) queued.group = group.groups;
  ++group.groups;
}

void AsyncProxy::wgmma_wait(unsigned pending, Here here) {
  const unsigned index = block_.thread() / 128;
  Warpgroup& group = warpgroups_[index];
  const int arrived = group.groups - static_cast<int>(pending);
  const auto ends = [&](const Queued& queued) { return queued.group >= 0 && queued.group < arrived; };
  const uint32_t time = block_.now().time;
  for (Queued& queued : group.products) {
    if (!ends(queued)) continue;
    run_product(group, queued);
    for (const Product::Range& range : queued.product.reads)
      block_.shadow().end_proxy_read(range.offset, range.bytes, products_of(index), time);
  }
  const uint32_t after = block_.tick();
  for (unsigned warp = index * 4; warp < index * 4 + 4; ++warp) block_.seen(warp)[products_of(index)] = after;
  std::erase_if(group.products, ends);
  // Registers hold the sums when no product of theirs is left.
  std::vector<bool> busy(group.accumulators.size());
  for (const Queued& queued : group.products) busy[queued.accumulator] = true;
  std::vector<size_t> moved(group.accumulators.size());
  std::vector<Accumulator> left;
  for (size_t i = 0; i < group.accumulators.size(); ++i) {
    Accumulator& accumulator = group.accumulators[i];
    if (busy[i]) {
      moved[i] = left.size();
      left.push_back(std::move(accumulator));
      continue;
    }
    for (size_t thread = 0; thread < 128; ++thread)
      for (int e = 0; e < accumulator.count; ++e) {
        float& value = accumulator.registers[thread][e];
        if (std::memcmp(&value, &kPoison, sizeof kPoison) != 0)
          block_.fail("wgmma.wait_group at " + text_of(here) + ": an accumulator was written before it");
        value = accumulator.sums[thread * static_cast<size_t>(accumulator.count) + static_cast<size_t>(e)];
      }
  }
  for (Queued& queued : group.products) queued.accumulator = moved[queued.accumulator];
  group.accumulators = std::move(left);
  group.fenced = false;
}

}  // namespace alma::emulator

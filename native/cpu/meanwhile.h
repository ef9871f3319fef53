// What a thread does while register blocks are computed: it asks for memory that is needed next, and stores results of the block before.
#pragma once

#include "micro_kernel.h"

namespace alma::cpu::ALMA_ISA {

// Memory that is asked for while something else is computed: `rows` rows of `bytes`, `stride` bytes apart, in `calls` shares.
class Prefetch {
 public:
  Prefetch() = default;
  Prefetch(const void* begin, int64_t rows, int64_t bytes, int64_t stride, int64_t calls)
      : row_(static_cast<const char*>(begin)), rows_(bytes > 0 ? rows : 0), bytes_(bytes), stride_(stride) {
    if (rows_ > 0) share_ = ceil_div(rows_ * bytes_, calls);
  }

  // A share of less than a line: to be called from within a loop.
  ALMA_LAMBDA void next() { ask(share_); }
  // A share of several lines.
  void some() {
    for (int64_t i = 0; i < share_ && rows_ > 0; i += 64) ask(64);
  }

 private:
  ALMA_LAMBDA void ask(int64_t step) {
    __builtin_prefetch(row_ + at_, 0, 2);
    at_ += step;
    if (at_ >= bytes_) next_row();
  }
  void next_row() {
    at_ = 0;
    if (rows_ > 1) {
      row_ += stride_;
      --rows_;
    } else {
      rows_ = share_ = 0;
    }
  }

  const char* row_ = nullptr;
  int64_t rows_ = 0, bytes_ = INT64_MAX, stride_ = 0, share_ = 0, at_ = 0;
};

// The panel that is needed next: `share` bytes of it at a time, in lines of 64.
struct PanelFetch {
  const char *at = nullptr, *end = nullptr;
  int64_t share = 0;

  ALMA_LAMBDA void next() {
    for (const char* const to = at + share; at < to && at < end; at += 64) __builtin_prefetch(at, 0, 2);
  }
};

// Results of a register block that go to c while the next one is computed, a vector at a time: between two blocks they would wait for memory, for longer
// than a processor looks ahead.
template <int kRows>
class PendingStores {
 public:
  // The last ones have to be gone.
  ALMA_LAMBDA void put(const F (&acc)[kRows][2], float* c, int64_t c_stride, bool add) {
    store_block(acc, block_, kNR, false);
    at_ = 0;
    to_ = c;
    stride_ = c_stride;
    add_ = add;
  }
  // One vector of them, if there are any.
  ALMA_LAMBDA void next() {
    if (at_ >= kRows * kNR) return;
    float* const to = to_ + at_ % kNR;
    const F value = load(block_ + at_);
    store(to, add_ ? load(to) + value : value);
    at_ += W;
    if (at_ % kNR == 0) to_ += stride_;
  }
  void finish() {
    while (at_ < kRows * kNR) next();
  }

 private:
  alignas(64) float block_[kRows * kNR];
  float* to_ = nullptr;
  int64_t stride_ = 0;
  int at_ = kRows * kNR;
  bool add_ = false;
};

// What is done while register blocks are computed.
template <int kRows>
struct Meanwhile {
  Prefetch fetch;
  PanelFetch panel;
  PendingStores<kRows> stores;
};

// Stores, and a share of the next panel, with each piece of a block; with each unit, if asked for, a share of what is fetched.
template <int kRows, bool kEachUnit>
struct StoresAndFetches {
  static constexpr int kPieces = 2 * kRows;
  Meanwhile<kRows>& meanwhile;
  ALMA_LAMBDA void each_unit() const {
    if (kEachUnit) meanwhile.fetch.next();
  }
  ALMA_LAMBDA void each_piece() const {
    meanwhile.stores.next();
    meanwhile.panel.next();
  }
};

}  // namespace alma::cpu::ALMA_ISA

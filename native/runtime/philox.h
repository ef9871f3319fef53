// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): random numbers as a function of a key and a
// counter, so that any of them can be computed anywhere, in any order, and come out the same on every device.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace alma {

struct PhiloxKey {
  uint32_t words[2];
};

struct PhiloxBlock {  // a counter, and the random words that belong to it
  uint32_t words[4];
  ALMA_HOST_DEVICE constexpr uint32_t operator[](int i) const { return words[i]; }
};

// static: some callers are compiled once per instruction set, and the linker must not take the code of one set for all.
ALMA_HOST_DEVICE static inline PhiloxBlock philox(PhiloxKey key, PhiloxBlock counter) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter.words[0], b = uint64_t{0xCD9E8D57u} * counter.words[2];
    counter = {{static_cast<uint32_t>(b >> 32) ^ counter.words[1] ^ key.words[0], static_cast<uint32_t>(b),
                static_cast<uint32_t>(a >> 32) ^ counter.words[3] ^ key.words[1], static_cast<uint32_t>(a)}};
    key.words[0] += 0x9E3779B9u;
    key.words[1] += 0xBB67AE85u;
  }
  return counter;
}

static inline PhiloxKey philox_key(uint64_t seed) {
  return {{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}};
}

}  // namespace alma

// Atomic operations of kernels: checked as writes of their own kind, and done atomically, as blocks run on several OS threads.
#pragma once

#include "checks.h"

namespace alma::emulator {

// Like check_write, but several threads may do it without a barrier.
void check_atomic(const void* address, unsigned long bytes);

void fence();

template <class T, class Update>
__attribute__((no_sanitize_thread)) T atomic_update(T* address, T value, Update update) {
  check_atomic(address, sizeof(T));
  T seen = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(address, &seen, update(seen, value), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
  }
  return seen;
}

template <class T>
T atomic_add(T* address, T value) {
  return atomic_update(address, value, [](T a, T b) { return static_cast<T>(a + b); });
}

template <class T>
T atomic_exchange(T* address, T value) {
  return atomic_update(address, value, [](T, T b) { return b; });
}

// The next number, 0 after `last`. What the thread's block wrote before the thread's last fence is seen, behind its next fence, by a block
// that arrives later.
unsigned atomic_increment(unsigned* address, unsigned last);

template <class T>
T atomic_cas(T* address, T expected, T value) {
  return atomic_update(address, value, [expected](T a, T b) { return a == expected ? b : a; });
}

}  // namespace alma::emulator

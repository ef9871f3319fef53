// How the kernels divide work, and how they turn a dtype into a type.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace alma::cpu::ALMA_ISA {

// 64 KiB of f32: a chunk takes about 10 µs, several times the cost of waking a worker.
constexpr int64_t kElementGrain = 16384;

// Scratch slots: 0 and 1 of thread 0 hold what a whole call shares, 2 and 3 belong to the executing thread.
constexpr int kSharedSlot = 0, kSecondSharedSlot = 1, kThreadSlot = 2, kSecondThreadSlot = 3;

// body(begin, end, thread) over [0, count) in ranges of `grain`; a single range runs here and wakes nobody.
template <class Body>
static void parallel_ranges(ThreadPool& pool, int64_t count, int64_t grain, const Body& body) {
  const int64_t chunks = ceil_div(count, grain);
  if (chunks <= 1) {
    if (count > 0) body(int64_t{0}, count, 0);
    return;
  }
  pool.run(chunks, [&](int64_t chunk, int thread) { body(chunk * grain, min(count, (chunk + 1) * grain), thread); });
}

// Rows of `cols` elements, as many to a range as make a grain.
template <class Body>
static void parallel_rows(ThreadPool& pool, int64_t rows, int64_t cols, const Body& body) {
  parallel_ranges(pool, rows, max<int64_t>(1, kElementGrain / max<int64_t>(1, cols)), body);
}

// The next range of a loop whose ranges grow shorter, so that threads end together also where one is slower: one of `shares` of what is left,
// a multiple of `unit`, no less than `least`.
ALMA_INLINE int64_t share_of(int64_t left, int64_t shares, int64_t unit, int64_t least) {
  return max(least, round_up(ceil_div(left, shares), unit));
}

template <class T>
struct Tag {
  using type = T;
};

template <class Body>
static void with_float(const char* op, DType type, const Body& body) {
  if (type == DType::f32) return body(Tag<float>{});
  if (type == DType::bf16) return body(Tag<bf16>{});
  fail(op, "needs a float tensor (f32 or bf16)");
}

ALMA_INLINE void same_dtype(const char* op, const TensorRef& a, const TensorRef& b) {
  if (b.data && a.dtype != b.dtype) fail(op, "activations of different dtypes");
}

// Bytes of an element of a float tensor: size_of() of dtype.h is an inline function, which these files must not leave behind.
ALMA_INLINE int64_t element_size(const TensorRef& tensor) { return tensor.dtype == DType::f32 ? 4 : 2; }

template <class T>
ALMA_INLINE T* pointer(const TensorRef& tensor) {
  return static_cast<T*>(tensor.data);
}
template <class T>
ALMA_INLINE T* pointer(const TensorRef& tensor, int64_t offset) {  // null stays null
  return tensor.data ? static_cast<T*>(tensor.data) + offset : nullptr;
}

}  // namespace alma::cpu::ALMA_ISA

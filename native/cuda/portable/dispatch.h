// What launchers share: from dtypes to types, from extents to grids, and the conditions for 16-byte accesses.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <string>
#include <type_traits>

#include "../../runtime/dtype.h"
#include "../../runtime/error.h"
#include "../../runtime/ops.h"
#include "../launch.h"

namespace alma::ALMA_CUDA {

[[noreturn]] inline void fail(const char* op, const char* reason) {
  throw Error("ERR_ALMA_DEVICE", std::string(op) + ": " + reason);
}

template <class T>
struct Tag {
  using type = T;
};

// body(Tag<float>) or body(Tag<__nv_bfloat16>)
template <class Body>
void with_float(const char* op, DType type, const Body& body) {
  if (type == DType::f32) return body(Tag<float>{});
  if (type == DType::bf16) return body(Tag<__nv_bfloat16>{});
  fail(op, "needs a float tensor (f32 or bf16)");
}

// body(std::true_type or std::false_type)
template <class Body>
void with_bool(bool value, const Body& body) {
  if (value) return body(std::true_type{});
  body(std::false_type{});
}

inline void same_dtype(const char* op, const TensorRef& a, const TensorRef& b) {
  if (b.data != nullptr && a.dtype != b.dtype) fail(op, "activations of different dtypes");
}

template <class T>
T* pointer(const TensorRef& tensor) {
  return static_cast<T*>(tensor.data);
}

// Whether all of these start at a multiple of `bytes`; null does. Tensors may be views that start at any element.
template <class... Refs>
bool aligned(size_t bytes, const Refs&... refs) {
  return ((reinterpret_cast<uintptr_t>(refs.data) % bytes == 0) && ...);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks for `count` pieces of work, one each; the grid's x extent ends at 2³¹ − 1.
inline dim3 grid_of(const char* op, int64_t count) {
  if (count > 0x7fffffff) fail(op, "is too large for one launch");
  return dim3(static_cast<unsigned>(count < 0 ? 0 : count));
}

// Threads for `pieces` pieces of work of a row: whole warps, `most` at most.
inline unsigned threads_for(int64_t pieces, int64_t most) {
  const int64_t threads = ceil_div(pieces < 1 ? 1 : pieces, 32) * 32;
  return static_cast<unsigned>(threads < most ? threads : most);
}

}  // namespace alma::ALMA_CUDA

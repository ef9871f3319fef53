// out[i] = table[rows[i]] and its reverse; a copy of bytes where the dtypes agree, which includes tables of i32.
#include "parallel.h"

namespace alma::cpu::ALMA_ISA {
namespace {

void check_rows(const char* op, const int32_t* rows, int64_t count, int64_t table_rows) {
  for (int64_t i = 0; i < count; ++i)
    if (rows[i] < 0 || rows[i] >= table_rows) fail_index(op, "row", rows[i], table_rows);
}

// to[target(i)] = from[source(i)], rows of `cols`.
template <class Source, class Target>
void copy_rows(ThreadPool& pool, const char* op, const TensorRef& from, const TensorRef& to, int64_t count,
               int64_t cols, const Source& source, const Target& target) {
  if (from.dtype == to.dtype) {
    const int64_t bytes = cols * (from.dtype == DType::f32 || from.dtype == DType::i32 ? 4 : 2);
    return parallel_rows(pool, count, cols, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i)
        __builtin_memcpy(pointer<char>(to, target(i) * bytes), pointer<char>(from, source(i) * bytes),
                         static_cast<size_t>(bytes));
    });
  }
  with_float(op, from.dtype, [&](auto tag_from) {
    with_float(op, to.dtype, [&](auto tag_to) {
      using From = typename decltype(tag_from)::type;
      using To = typename decltype(tag_to)::type;
      parallel_rows(pool, count, cols, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          const From* in = pointer<From>(from, source(i) * cols);
          To* out = pointer<To>(to, target(i) * cols);
          for_lanes(cols, [&](int64_t c, int lanes) ALMA_LAMBDA { store(out + c, load(in + c, lanes), lanes); });
        }
      });
    });
  });
}

}  // namespace

void gather_rows(ThreadPool& pool, const GatherRowsArgs& args) {
  const int32_t* rows = pointer<int32_t>(args.rows);
  check_rows("gather_rows", rows, args.count, args.table_rows);
  copy_rows(
      pool, "gather_rows", args.table, args.out, args.count, args.cols, [&](int64_t i) -> int64_t { return rows[i]; },
      [](int64_t i) { return i; });
}

void scatter_rows(ThreadPool& pool, const ScatterRowsArgs& args) {
  const int32_t* rows = pointer<int32_t>(args.rows);
  check_rows("scatter_rows", rows, args.count, args.table_rows);
  copy_rows(
      pool, "scatter_rows", args.in, args.table, args.count, args.cols, [](int64_t i) { return i; },
      [&](int64_t i) -> int64_t { return rows[i]; });
}

// Every task adds a range of columns of all rows, in the order of i: no two tasks meet, and the order of a sum is fixed.
void embedding_backward(ThreadPool& pool, const EmbeddingBackwardArgs& args) {
  const int32_t* rows = pointer<int32_t>(args.rows);
  check_rows("embedding_backward", rows, args.count, args.table_rows);
  if (args.count <= 0 || args.cols <= 0) return;
  const int64_t grain = args.count * args.cols < kElementGrain ? args.cols : 128;  // 512 bytes of a table row at least
  with_float("embedding_backward", args.dout.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_ranges(pool, args.cols, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = 0; i < args.count; ++i) {
        const T* in = pointer<T>(args.dout, i * args.cols + begin);
        float* out = pointer<float>(args.dtable, rows[i] * args.cols + begin);
        for_lanes(end - begin, [&](int64_t c, int lanes)
                                   ALMA_LAMBDA { store(out + c, load(out + c, lanes) + load(in + c, lanes), lanes); });
      }
    });
  });
}

}  // namespace alma::cpu::ALMA_ISA

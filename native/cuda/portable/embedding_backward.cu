// dtable[rows[i], :] += dout[i, :] in the order of i, without atomics: the indices are sorted by table row, stably, and each table row
// adds up its stretch of them.
#include "../shared_memory.cuh"
#include "../value_error.h"
#include "dispatch.h"
#include "ops.h"
#include "reduce.cuh"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

// ---- stable radix sort, in one block: 4 bits a pass, every thread with a stretch of its own -----------------------------------

constexpr int kSortThreads = 512;
constexpr int kDigits = 16;

struct SortShared {
  unsigned counts[kDigits][kSortThreads];  // then: where a thread's next element with the digit goes
  unsigned partial[kMaxWarps];
};

// Sorts the numbers 0 … count − 1 by keys[number]. A key outside [0, table_rows) counts as table_rows. order and spare have `count`
// elements; the result is in order when `passes` is even and in spare otherwise.
__global__ void __launch_bounds__(kSortThreads)
    sort_rows_kernel(const int* keys, int count, int64_t table_rows, int passes, int* order, int* spare,
                     ValueError* error) {
  ALMA_SHARED(SortShared, shared);
  const int thread = static_cast<int>(threadIdx.x);
  const int each = (count + kSortThreads - 1) / kSortThreads;
  const int begin = min(thread * each, count), end = min(begin + each, count);
  const auto key_of = [&](int number) -> unsigned {
    const int64_t key = keys[number];
    return static_cast<unsigned>(key >= 0 && key < table_rows ? key : table_rows);
  };
  for (int i = begin; i < end; ++i) {
    check_index(error, ValueCheck::embedding_backward_row, keys[i], table_rows);
    order[i] = i;
  }
  for (int pass = 0; pass < passes; ++pass) {
    __syncthreads();
    for (int digit = 0; digit < kDigits; ++digit) shared.counts[digit][thread] = 0;
    for (int i = begin; i < end; ++i) ++shared.counts[(key_of(order[i]) >> (4 * pass)) % kDigits][thread];
    __syncthreads();
    // Exclusive sums over the counts in the order (digit, thread): each thread takes kDigits consecutive ones.
    unsigned* counts = &shared.counts[0][0] + thread * kDigits;
    unsigned total = 0;
    for (int i = 0; i < kDigits; ++i) total += counts[i];
    unsigned before = block_exclusive_sum(total, shared.partial);
    for (int i = 0; i < kDigits; ++i) {
      const unsigned here = counts[i];
      counts[i] = before;
      before += here;
    }
    __syncthreads();
    for (int i = begin; i < end; ++i) {
      const int number = order[i];
      spare[shared.counts[(key_of(number) >> (4 * pass)) % kDigits][thread]++] = number;
    }
    int* const sorted = spare;
    spare = order;
    order = sorted;
  }
}

// ---- sums over stretches of equal rows ---------------------------------------------------------------------------------------

constexpr int kThreads = 128;

// Block (i, part): if position i begins a stretch, its sum for the part of the columns.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    add_rows_kernel(const int* rows, const int* order, int count, int64_t table_rows, int64_t cols, const T* dout,
                    float* dtable) {
  const int begin = static_cast<int>(blockIdx.x);
  const int row = rows[order[begin]];
  if (row < 0 || row >= table_rows) return;  // reported by the sort
  if (begin > 0 && rows[order[begin - 1]] == row) return;
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * N;
  if (column >= cols) return;
  float* at = dtable + row * cols + column;
  Vector<float, N> total = load_vector<N>(at);
  constexpr int kAhead = 4;  // rows loaded before the first is added
  for (int i = begin; i < count;) {
    Vector<T, N> in[kAhead];
    int n = 0;
#pragma unroll
    for (int ahead = 0; ahead < kAhead; ++ahead) {
      if (n < ahead || i + ahead >= count) continue;
      const int number = order[i + ahead];
      if (rows[number] != row) continue;
      in[ahead] = load_vector<N>(dout + number * cols + column);
      n = ahead + 1;
    }
#pragma unroll
    for (int ahead = 0; ahead < kAhead; ++ahead)
      if (ahead < n)
#pragma unroll
        for (int lane = 0; lane < N; ++lane) total.elements[lane] += in[ahead][lane];
    if (n < kAhead) break;
    i += kAhead;
  }
  store_vector(at, total);
}

template <class T, int N>
void add_rows(Context& context, const EmbeddingBackwardArgs& args, const int* order) {
  const dim3 grid(grid_of("embedding_backward", args.count).x,
                  static_cast<unsigned>(ceil_div(args.cols, int64_t{kThreads} * N)));
  launch(context, "embedding_backward", {grid, dim3(kThreads)}, add_rows_kernel<T, N>, pointer<int>(args.rows), order,
         static_cast<int>(args.count), args.table_rows, args.cols, pointer<T>(args.dout), pointer<float>(args.dtable));
}

}  // namespace

void embedding_backward(Context& context, const EmbeddingBackwardArgs& args) {
  if (args.count <= 0 || args.cols <= 0) return;
  if (args.count > 0x3fffffff || args.table_rows > 0x7ffffffe) fail("embedding_backward", "has too many rows");
  auto* order = static_cast<int*>(context.workspace->get(2 * sizeof(int) * static_cast<size_t>(args.count)));
  int passes = 0;  // of 4 bits, for keys up to table_rows itself
  while ((args.table_rows >> (4 * passes)) != 0) ++passes;
  launch(context, "embedding_backward", {dim3(1), dim3(kSortThreads), sizeof(SortShared)}, sort_rows_kernel,
         pointer<int>(args.rows), static_cast<int>(args.count), args.table_rows, passes, order, order + args.count,
         context.value_error);
  if (passes % 2 != 0) order += args.count;
  with_float("embedding_backward", args.dout.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int N = kLanesOf<T>;
    if (args.cols % N == 0 && aligned(16, args.dout, args.dtable)) return add_rows<T, N>(context, args, order);
    add_rows<T, 1>(context, args, order);
  });
}

}  // namespace alma::ALMA_CUDA::portable

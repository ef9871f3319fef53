// out[i] = table[rows[i]] and its reverse: copies of rows, converted where the dtypes differ. A block takes a row.
#include "../value_error.h"
#include "dispatch.h"
#include "ops.h"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kThreads = 256;

struct Rows {
  const int* rows;
  int64_t table_rows, cols;
  ValueError* error;
};

// With kGather `from` is the table, otherwise `to` is.
template <class From, class To, int N, bool kGather>
__global__ void __launch_bounds__(kThreads) copy_rows_kernel(const From* from, To* to, const Rows call) {
  const int64_t i = blockIdx.x, row = call.rows[i];
  if (!check_index(call.error, kGather ? ValueCheck::gather_rows_row : ValueCheck::scatter_rows_row, row,
                   call.table_rows))
    return;
  from += (kGather ? row : i) * call.cols;
  to += (kGather ? i : row) * call.cols;
  for (int64_t column = static_cast<int64_t>(threadIdx.x) * N; column < call.cols;
       column += static_cast<int64_t>(blockDim.x) * N) {
    const Vector<From, N> in = load_vector<N>(from + column);
    if constexpr (std::is_same_v<From, To>) {
      store_vector(to + column, in);
    } else {
      float values[N];
#pragma unroll
      for (int lane = 0; lane < N; ++lane) values[lane] = in[lane];
      store_vector(to + column, pack<To>(values));
    }
  }
}

template <class From, class To, bool kGather>
void copy(Context& context, const char* op, const TensorRef& from, const TensorRef& to, int64_t count,
          const Rows& call) {
  constexpr int N = kLanesOf<From> < kLanesOf<To> ? kLanesOf<To> : kLanesOf<From>;
  const bool whole = call.cols % N == 0 && aligned(16, from, to);
  const int64_t pieces = whole ? call.cols / N : call.cols;
  launch(context, op, {grid_of(op, count), dim3(threads_for(pieces, kThreads))},
         whole ? copy_rows_kernel<From, To, N, kGather> : copy_rows_kernel<From, To, 1, kGather>,
         static_cast<const From*>(from.data), static_cast<To*>(to.data), call);
}

template <bool kGather>
void copy_rows(Context& context, const char* op, const TensorRef& from, const TensorRef& to, int64_t count,
               const Rows& call) {
  if (count <= 0 || call.cols <= 0) return;
  if (from.dtype == to.dtype) {  // any dtype
    if (size_of(from.dtype) == 4) return copy<uint32_t, uint32_t, kGather>(context, op, from, to, count, call);
    return copy<unsigned short, unsigned short, kGather>(context, op, from, to, count, call);
  }
  with_float(op, from.dtype, [&](auto) { with_float(op, to.dtype, [](auto) {}); });
  if (from.dtype == DType::f32) return copy<float, bf16, kGather>(context, op, from, to, count, call);
  copy<bf16, float, kGather>(context, op, from, to, count, call);
}

}  // namespace

void gather_rows(Context& context, const GatherRowsArgs& args) {
  const Rows call{pointer<int>(args.rows), args.table_rows, args.cols, context.value_error};
  copy_rows<true>(context, "gather_rows", args.table, args.out, args.count, call);
}

void scatter_rows(Context& context, const ScatterRowsArgs& args) {
  const Rows call{pointer<int>(args.rows), args.table_rows, args.cols, context.value_error};
  copy_rows<false>(context, "scatter_rows", args.in, args.table, args.count, call);
}

}  // namespace alma::ALMA_CUDA::portable

// Rotary position embedding, rotate_half convention (transformers modeling_llama.py): element i turns with element i + d/2.
//
// A thread turns the same columns of kHeads heads of a token, so that it reads their cosines and sines once: from L1, against which the
// tensor's 4 (bf16) or 8 bytes an element come from memory.
#include "../value_error.h"
#include "dispatch.h"
#include "ops.h"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {
namespace {

constexpr int kThreads = 256;
constexpr int kHeads = 4;

struct RopeShape {
  int64_t tokens, max_positions;
  int heads, half;  // half of head_dim
  float sign;
};

// N columns from each half, of one token and up to kHeads heads, a thread. N = 1 takes any head_dim and any address.
template <class T, int N>
__global__ void __launch_bounds__(kThreads) rope_kernel(const T* x, T* out, const float* cosine, const float* sine,
                                                        const int* positions, RopeShape shape, ValueError* error) {
  const int columns = shape.half / N;
  const int groups = (shape.heads + kHeads - 1) / kHeads;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t token = item / (columns * groups);
  if (token >= shape.tokens) return;
  const int within = static_cast<int>(item - token * (columns * groups));
  const int group = within / columns;
  const int column = (within - group * columns) * N;
  const int64_t position = positions[token];
  if (!check_index(error, ValueCheck::rope_position, position, shape.max_positions)) return;

  const int64_t head_dim = 2 * static_cast<int64_t>(shape.half);
  // Heads of a group lie `groups` apart: the threads of a warp then read one stretch of memory.
  const int64_t first = (token * shape.heads + group) * head_dim + column;
  Vector<T, N> low[kHeads], high[kHeads];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    if (group + h * groups >= shape.heads) break;
    const T* at = x + first + h * groups * head_dim;
    low[h] = load_vector<N>(at);
    high[h] = load_vector<N>(at + shape.half);
  }
  const Vector<float, N> c = load_vector<N>(cosine + position * shape.half + column);
  const Vector<float, N> s = load_vector<N>(sine + position * shape.half + column);
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    if (group + h * groups >= shape.heads) break;
    float a[N], b[N];
#pragma unroll
    for (int lane = 0; lane < N; ++lane) {
      const float turn = shape.sign * s[lane];
      a[lane] = low[h][lane] * c[lane] - high[h][lane] * turn;
      b[lane] = high[h][lane] * c[lane] + low[h][lane] * turn;
    }
    T* at = out + first + h * groups * head_dim;
    store_vector(at, pack<T>(a));
    store_vector(at + shape.half, pack<T>(b));
  }
}

template <class T, int N>
void run(Context& context, const RopeArgs& args, const RopeShape& shape) {
  const int64_t items = args.tokens * ceil_div(args.heads, kHeads) * (shape.half / N);
  launch(context, "rope", {grid_of("rope", ceil_div(items, kThreads)), dim3(kThreads)}, rope_kernel<T, N>,
         pointer<T>(args.x), pointer<T>(args.out), pointer<float>(args.cosine), pointer<float>(args.sine),
         pointer<int>(args.positions), shape, context.value_error);
}

}  // namespace

void rope(Context& context, const RopeArgs& args) {
  if (args.head_dim % 2 != 0) fail("rope", "head_dim is odd");
  if (args.tokens <= 0 || args.heads <= 0 || args.head_dim <= 0) return;
  if (args.heads * args.head_dim > 0x7fffffff) fail("rope", "heads · head_dim is too large");
  same_dtype("rope", args.x, args.out);
  const RopeShape shape{args.tokens, args.max_positions, static_cast<int>(args.heads),
                        static_cast<int>(args.head_dim / 2), args.inverse ? -1.0f : 1.0f};
  with_float("rope", args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int N = kLanesOf<T>;
    if (shape.half % N == 0 && aligned(16, args.x, args.out, args.cosine, args.sine))
      return run<T, N>(context, args, shape);
    run<T, 1>(context, args, shape);
  });
}

}  // namespace alma::ALMA_CUDA::portable

// Queries, keys and values of few rows: RMSNorm, the three products, RoPE, and keys and values into the cache. The two columns that RoPE
// turns together, i and i + head_dim / 2, are among the 16 rows of weights of one block, and meet in one thread.
#include "../value_error.h"
#include "matmul_skinny.cuh"
#include "op_parts.h"
#include "ops.h"

namespace alma::ALMA_CUDA::portable {
namespace {

struct Heads {
  static constexpr bool kConstantWeights = true;
  const bf16 *query, *key, *value;  // weights
  bf16 *q, *keys, *values;
  const float *cosine, *sine;
  const int *positions, *cache_rows;
  int64_t max_positions, table_rows, k, first;
  int heads, kv_heads, head_dim;
  ValueError* error;

  // Of all heads, queries' then keys' then values', the one of a block, and where the block's columns begin in each half of it.
  __device__ __forceinline__ int head_of(int64_t block, int& column) const {
    const int blocks = head_dim / skinny::kWeightRows, head = static_cast<int>(block) / blocks;
    column = (static_cast<int>(block) - head * blocks) * 8;
    return head;
  }
  __device__ __forceinline__ const bf16* weight_row(int64_t block, int half, int row) const {
    int column, head = head_of(block, column);
    const bf16* weight = query;
    if (head >= heads + kv_heads) {
      weight = value;
      head -= heads + kv_heads;
    } else if (head >= heads) {
      weight = key;
      head -= heads;
    }
    return weight + (static_cast<int64_t>(head) * head_dim + half * (head_dim / 2) + column + row) * k;
  }
  __device__ __forceinline__ void write(int64_t block, int row, int token, float low, float high) const {
    int column;
    const int head = head_of(block, column), half = head_dim / 2;
    column += row;
    if (head < heads + kv_heads) {
      const int64_t position = positions[first + token];
      if (!check_index(error, ValueCheck::rope_position, position, max_positions)) return;
      const float c = cosine[position * half + column], s = sine[position * half + column];
      const float turned = low * c - high * s;
      high = high * c + low * s;
      low = turned;
    }
    bf16* to = q + ((first + token) * heads + head) * head_dim;
    if (head >= heads) {
      const int64_t at = cache_rows[first + token];
      if (!check_index(error, ValueCheck::scatter_rows_row, at, table_rows)) return;
      const bool is_key = head < heads + kv_heads;
      to = (is_key ? keys : values) + (at * kv_heads + head - heads - (is_key ? 0 : kv_heads)) * head_dim;
    }
    to[column] = from_float<bf16>(low);
    to[column + half] = from_float<bf16>(high);
  }
};

bool takes(const NormQkvArgs& args) {
  return skinny::takes(args.cols, args.x, args.norm_weight, args.query_weight, args.key_weight, args.value_weight) &&
         args.keys.dtype == DType::bf16 && args.head_dim % skinny::kWeightRows == 0 &&
         (args.heads + 2 * args.kv_heads) * args.head_dim <= 0x7fffffff;
}

}  // namespace

void norm_qkv(Context& context, const NormQkvArgs& args) {
  same_dtype("norm_qkv", args.x, args.q);
  same_dtype("norm_qkv", args.keys, args.values);
  if (args.head_dim % 2 != 0) fail("norm_qkv", "head_dim is odd");
  if (args.rows <= 0) return;
  if (!takes(args)) {
    PartOps ops{context};
    return parts::norm_qkv(ops, args, context.workspace->get(parts::scratch_bytes(args)));
  }
  const skinny::Input input{pointer<const bf16>(args.x),
                            pointer<const bf16>(args.norm_weight),
                            static_cast<int>(args.cols),
                            0,
                            args.epsilon,
                            0};
  const Heads heads{pointer<const bf16>(args.query_weight),
                    pointer<const bf16>(args.key_weight),
                    pointer<const bf16>(args.value_weight),
                    pointer<bf16>(args.q),
                    pointer<bf16>(args.keys),
                    pointer<bf16>(args.values),
                    pointer<const float>(args.cosine),
                    pointer<const float>(args.sine),
                    pointer<const int>(args.positions),
                    pointer<const int>(args.cache_rows),
                    args.max_positions,
                    args.table_rows,
                    args.cols,
                    0,
                    static_cast<int>(args.heads),
                    static_cast<int>(args.kv_heads),
                    static_cast<int>(args.head_dim),
                    context.value_error};
  const int64_t blocks = (args.heads + 2 * args.kv_heads) * (args.head_dim / skinny::kWeightRows);
  skinny::run<true>(context, "norm_qkv", args.rows, blocks, input, heads);
}

}  // namespace alma::ALMA_CUDA::portable

// Tiles of a matmul's operands in shared memory, bf16, in rows of kColumns elements, where the 16-byte chunks of a row are permuted so
// that the same chunk of 8 neighbouring rows lies in different banks: neither cp.async's stores nor ldmatrix's reads collide.
#pragma once

#include "../ptx/cp_async.cuh"
#include "../ptx/ldmatrix.cuh"
#include "vector_access.cuh"

namespace alma::ALMA_CUDA::portable {

template <int kRows, int kColumns>
struct MatmulTile {
  static_assert(kColumns % 64 == 0, "rows of whole 128-byte lines");
  static constexpr int kChunks = kColumns / 8;
  bf16 elements[kRows * kColumns];

  __device__ __forceinline__ bf16* chunk(int row, int index) {
    return elements + row * kColumns + (index ^ (row & 7)) * 8;
  }

  // Starts the copies of the rows from `row` and columns from `column` on of a matrix [rows, columns], zeros where it has none. Its
  // rows are multiples of 8 elements, 16-byte aligned.
  template <int kThreads>
  __device__ __forceinline__ void copy(const bf16* matrix, int64_t rows, int64_t columns, int64_t row, int64_t column) {
    constexpr int kStep = kThreads / kChunks;
    static_assert(kThreads % kChunks == 0 && kRows % kStep == 0);
    const int thread = static_cast<int>(threadIdx.x), index = thread % kChunks;
    const bool inside = column + index * 8 < columns;
#pragma unroll
    for (int i = 0; i < kRows / kStep; ++i) {
      const int at = thread / kChunks + i * kStep;
      const bool valid = inside && row + at < rows;
      ptx::cp_async_16(chunk(at, index), matrix + (valid ? (row + at) * columns + column + index * 8 : 0), valid);
    }
  }
};

// Fragments of the left operand for m16n8k16: 16 rows from `m` on, 16 of k from `k` on.
template <bool kTransposed, class Tile>
__device__ __forceinline__ void load_left(uint32_t (&words)[4], Tile& tile, int m, int k, int lane) {
  if constexpr (!kTransposed) {  // the tile's rows are m
    ptx::ldmatrix_x4(words, tile.chunk(m + lane % 16, k / 8 + lane / 16));
  } else {  // the tile's rows are k: the second and third matrix change places
    ptx::ldmatrix_x4_trans(words, tile.chunk(k + lane % 8 + lane / 16 * 8, m / 8 + lane / 8 % 2));
  }
}

// Fragments of the right operand: 16 columns from `n` on (two n8 tiles: words 0, 1 and 2, 3), 16 of k from `k` on.
template <bool kTransposed, class Tile>
__device__ __forceinline__ void load_right(uint32_t (&words)[4], Tile& tile, int n, int k, int lane) {
  if constexpr (!kTransposed) {  // the tile's rows are n, as in nt
    ptx::ldmatrix_x4(words, tile.chunk(n + lane % 8 + lane / 16 * 8, k / 8 + lane / 8 % 2));
  } else {  // the tile's rows are k
    ptx::ldmatrix_x4_trans(words, tile.chunk(k + lane % 16, n / 8 + lane / 16));
  }
}

}  // namespace alma::ALMA_CUDA::portable

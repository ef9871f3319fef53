// What a matrix product is made of: its operands, the blocks, tiles and strips that it is divided into, and where results go.
#pragma once

#if defined(ALMA_AMX)
#include "amx.h"
#endif
#include "matmul_columns.h"
#include "matmul_pack.h"
#include "parallel.h"

namespace alma::cpu::ALMA_ISA {

// Of a panel: kNR · kUnitsK floats stay in L1 (24 KiB) on AVX2. Zen 5 streams panels from L2 as fast as it multiplies; what costs there is every further
// pass over C, so a part of k is long, and few columns of b and one panel of a at a time stay in L2 (512 and 56 KiB of 1 MiB).
constexpr int64_t kUnitsK = W == 16 ? 1024 : 384;
constexpr int64_t kOuterK = 2048;
constexpr int64_t kOuterM = 2048;  // as kTileM rounded up to whole panels
constexpr int64_t kOuterN = 2048;
constexpr int64_t kTileM = W == 16 ? kMR : 96;  // · kUnitsK floats of a stay in L2 (56, 144 KiB)
constexpr int64_t kTileN = (W == 16 ? 4 : 8) * kNR;
// Rows of C up to which b is packed strip by strip, as wide as a tile; kTileN · kUnitsK floats stay in L2 beside a tile's rows of a.
constexpr int64_t kStripRows = W == 16 ? INT64_MAX : 512;
// Rows of C up to which a block has all of kOuterK where b lies along k, so that its rows are read from one end to the other. With more rows, and
// where b lies across k, it has a part on AVX-512: what it needs of a should stay in L2 from panel to panel.
constexpr int64_t kLongRows = 256;
// Rows of C up to which the rows of the next panel of b, where they lie along k, are asked for from within the register block: multiplying takes about
// as long as reading them does. With more rows it costs more than it gains.
constexpr int64_t kFetchRows = W == 16 ? 256 : 64;
constexpr int64_t kLeastStrip = 2 * kNR;
constexpr int64_t kSerialWork =
    1 << 17;  // multiply-adds: under about 5 µs on one thread, less than it takes to wake another

// Copies `panels` panels of an operand from `first / R` on, k from k_begin, `units` units long. A function pointer for each operand's
// dtype: the loops below are compiled once for all of them.
using Pack = void (*)(const void* operand, int64_t first, int64_t panels, int64_t k_begin, int64_t units, float* out);

template <int R, class Units, class T>
void pack(const void* operand, int64_t first, int64_t panels, int64_t k_begin, int64_t units, float* out) {
  pack_panels<R, Units>(*static_cast<const Operand<T>*>(operand), first, panels, k_begin, units, out);
}

#if defined(ALMA_AMX)
template <class T>
void pack_rows(const void* operand, int64_t first, int64_t panels, int64_t k_begin, int64_t units, float* out) {
  AmxProduct::pack_rows(*static_cast<const Operand<T>*>(operand), first, panels, k_begin, units, out);
}
#endif

// multiply_columns of matmul_columns.h, or null.
using Columns = void (*)(const void* operand, const ColumnsArgs& args);

template <class Product, class Units, class T>
void columns(const void* operand, const ColumnsArgs& args) {
  multiply_columns<Product, Units>(*static_cast<const Operand<T>*>(operand), args);
}

struct Problem {
  const void *a, *b;  // Operand
  Pack pack_a, pack_b;
  Columns columns;
  TensorRef data_b, c;
  bool a_along_k, b_along_k;
  int64_t m, n, k;
  bool accumulate;
};

// Units that are multiplied at a time: parts of nearly equal size, of whole lines of memory.
static inline int64_t part_of(int64_t units) { return round_up(ceil_div(units, ceil_div(units, kUnitsK)), 32); }

static inline void convert_tile(const float* from, int64_t from_stride, bf16* to, int64_t to_stride, int64_t rows,
                                int64_t cols, bool add) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* row = from + i * from_stride;
    bf16* out = to + i * to_stride;
    for_lanes(cols, [&](int64_t j, int lanes) ALMA_LAMBDA {
      const F value = load(row + j, lanes);
      store(out + j, add ? value + load(out + j, lanes) : value, lanes);
    });
  }
}

// Columns of a tile: fewer than kTileN where there would be less than `wanted` tiles, to balance.
static inline int64_t tile_columns(int64_t n, int64_t tiles_m, int64_t wanted) {
  int64_t columns = kTileN;
  while (columns > 2 * kNR && tiles_m * ceil_div(n, columns) < wanted) columns /= 2;
  return columns;
}

// The strips of `n` columns, `widest` at first.
struct Strips {
  int64_t n, widest;
  int threads;

  int64_t end_of(int64_t begin) const {
    const int64_t least = min<int64_t>(widest, kLeastStrip);
    return min(n, begin + min(widest, share_of(n - begin, 2 * threads, kNR, least)));
  }
  int64_t count() const {
    int64_t strips = 0;
    for (int64_t begin = 0; begin < n; begin = end_of(begin)) ++strips;
    return strips;
  }
  int64_t begin_of(int64_t strip) const {
    int64_t begin = 0;
    while (strip-- > 0) begin = end_of(begin);
    return begin;
  }
};

// A part of the product: m rows from i0 on, n columns from j0 on, `units` units of k from element k0 on.
struct Block {
  int64_t i0, j0, k0, m, n, units;
};

// Where the sums of a tile go, which are computed as f32.
struct Tile {
  float* c;
  int64_t stride;
  bool add;
};

// The result of a block: in c itself, or wide until its last products are added.
struct Result {
  const Problem& problem;
  const Block& block;
  float* wide;  // [block.m, block.n], null where c is f32
  bool last;

  Tile tile(int64_t row, int64_t col) const {
    if (wide != nullptr) return {wide + row * block.n + col, block.n, block.k0 > 0};
    return {pointer<float>(problem.c) + (block.i0 + row) * problem.n + block.j0 + col, problem.n,
            problem.accumulate || block.k0 > 0};
  }
  void finish(int64_t row, int64_t rows, int64_t col, int64_t cols) const {
    if (wide == nullptr || !last) return;
    convert_tile(wide + row * block.n + col, block.n,
                 pointer<bf16>(problem.c) + (block.i0 + row) * problem.n + block.j0 + col, problem.n, rows, cols,
                 problem.accumulate);
  }
};

// Loops over chunks, on all threads where there is work for them.
struct Phases {
  ThreadPool& pool;
  bool serial;

  template <class Body>
  void run(int64_t chunks, const Body& body) const {
    if (!serial) return pool.run(chunks, body);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) body(chunk, 0);
  }
};

}  // namespace alma::cpu::ALMA_ISA

// Matrix product after BLIS (Van Zee & van de Geijn, 2015): operands are copied into panels, tiles of C are computed by a
// register block from panels that stay in cache.
//
// Each call works in blocks of at most kOuterM × kOuterN × kOuterK. Of a block, first all panels are packed (by all threads),
// then its tiles are computed (by all threads): two meetings a block. With few rows of C, on AVX-512 with any number of them, each
// thread packs its columns of b itself.
// An element of C adds its products in an order that depends on k alone, so neither threads nor tile sizes change the bits.
#include "matmul_columns.h"
#include "matmul_pack.h"
#include "matmul_skinny.h"
#include "micro_kernel.h"
#include "parallel.h"

namespace alma::cpu::ALMA_ISA {
namespace {

// Of a panel: kNR · kUnitsK floats stay in L1 (24 KiB) on AVX2. Zen 5 streams panels from L2 as fast as it multiplies; what costs there is every further
// pass over C, so a part of k is as long as L2 (1 MiB) allows.
constexpr int64_t kUnitsK = W == 16 ? 512 : 384;
constexpr int64_t kOuterK = 2048;
constexpr int64_t kOuterM = ceil_div(2048, kMR) * kMR;
constexpr int64_t kOuterN = 2048;
constexpr int64_t kTileM = ceil_div(W == 16 ? 112 : 96, kMR) * kMR;  // · kUnitsK floats of a stay in L2 (224, 144 KiB)
constexpr int64_t kTileN = 8 * kNR;
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

// multiply_columns of matmul_columns.h.
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
int64_t part_of(int64_t units) { return round_up(ceil_div(units, ceil_div(units, kUnitsK)), 32); }

void convert_tile(const float* from, int64_t from_stride, bf16* to, int64_t to_stride, int64_t rows, int64_t cols,
                  bool add) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* row = from + i * from_stride;
    bf16* out = to + i * to_stride;
    for_lanes(cols, [&](int64_t j, int lanes) ALMA_LAMBDA {
      const F value = load(row + j, lanes);
      store(out + j, add ? value + load(out + j, lanes) : value, lanes);
    });
  }
}

// The first `rows` rows of a block, from panels. Few rows take fewer registers.
template <class Product>
ALMA_INLINE void multiply_rows(int64_t rows, int64_t depth, const float* a, const float* b, F (&acc)[kMR][2],
                               Prefetch* later) {
  if (rows > 2 * kMR / 3) return multiply_block<Product>(depth, a, 1, kMR, b, kNR, acc, later);
  if (rows > kMR / 3) return multiply_block<Product, 2 * kMR / 3>(depth, a, 1, kMR, b, kNR, acc, later);
  multiply_block<Product, kMR / 3>(depth, a, 1, kMR, b, kNR, acc, later);
}

// Panels of an operand, `stride` floats apart.
struct Panels {
  const float* data;
  int64_t stride;
  Panels from(int64_t panel, int64_t offset) const { return {data + panel * stride + offset, stride}; }
};

// c[rows, cols] = or += the products of `depth` units: of what a tile needs of b each panel stays in L1 for all of a's. `next` is what is read
// after this, or null. `later` is asked for a share with each block of registers, or for a small one with each unit.
template <class Product, bool kEachUnit = false>
void compute_depth(const Panels& a, const Panels& b, int64_t depth, int64_t rows, int64_t cols, float* c,
                   int64_t c_stride, bool add, const float* next, Prefetch& later) {
  for (int64_t j = 0; j < cols; j += kNR) {
    const float* b_panel = b.data + j / kNR * b.stride;
    // The next panel of b comes from far away: a piece of it is fetched with each block of this one, where processors do not foresee it.
    const char* ahead = reinterpret_cast<const char*>(W == 16 ? nullptr : j + kNR < cols ? b_panel + b.stride : next);
    const int64_t bytes = ahead != nullptr ? depth * kNR * static_cast<int64_t>(sizeof(float)) : 0;
    const int64_t piece = round_up(ceil_div(bytes, ceil_div(rows, kMR)), 64);
    for (int64_t i = 0; i < rows; i += kMR) {
      for (const char *line = ahead, *end = ahead + piece; line < end; line += 64) __builtin_prefetch(line, 0, 2);
      ahead += piece;
      float* out = c + i * c_stride + j;
      for (int row = 0; row < kMR; ++row)
        for (int at = 0; at < kNR; at += 16) __builtin_prefetch(out + row * c_stride + at, 1);
      F acc[kMR][2];
      if (!kEachUnit) later.some();
      multiply_rows<Product>(rows - i, depth, a.data + i / kMR * a.stride, b_panel, acc, kEachUnit ? &later : nullptr);
      if (rows - i >= kMR && cols - j >= kNR) {
        store_block(acc, out, c_stride, add);
      } else {
        store_edge(acc, out, c_stride, static_cast<int>(min<int64_t>(kMR, rows - i)),
                   static_cast<int>(min<int64_t>(kNR, cols - j)), add);
      }
    }
  }
}

// Tile of C: rows [0, rows) and columns [0, cols) of the panels at a and b.
template <class Product>
void compute_tile(const Panels& a, const Panels& b, int64_t units, int64_t rows, int64_t cols, float* c,
                  int64_t c_stride, bool add) {
  const int64_t part = part_of(units);
  Prefetch nothing;
  for (int64_t u = 0; u < units; u += part) {
    const int64_t depth = min(part, units - u);
    const float* next = u + depth < units ? b.data + (u + depth) * kNR : nullptr;
    compute_depth<Product>(a.from(0, u * kMR), b.from(0, u * kNR), depth, rows, cols, c, c_stride, add || u > 0, next,
                           nothing);
  }
}

// Columns of a tile: fewer than kTileN where there would be less than `wanted` tiles, to balance.
int64_t tile_columns(int64_t n, int64_t tiles_m, int64_t wanted) {
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

// The tiles of a block whose a is packed: a thread packs its columns of b, in pieces that stay in L2, and uses them for all rows. Where b lies along
// k, a piece is a panel: its rows are read from one end to the other, as processors foresee it. Where it lies across k, a piece is all columns
// of a strip, in a part of k.
template <class Product, int64_t kUnit>
struct StripProduct {
  const Phases& phases;
  const Problem& problem;
  const Block& block;
  const Panels& a;
  const Strips& strips;
  const Result& result;
  const int64_t count = strips.count(), part = part_of(block.units), size = element_size(problem.data_b);
  const bool whole = problem.b_along_k;
  const int64_t width = whole ? kNR : strips.widest;
  const bool each_unit = whole && problem.m <= kFetchRows;

  void compute(int64_t chunk, int thread) const {
    const int64_t begin = strips.begin_of(chunk), end = strips.end_of(begin);
    if (whole && block.m <= kColumnsRows) {
      const Tile tile = result.tile(0, begin);
      problem.columns(problem.b, {block.j0 + begin, end - begin, block.k0, block.units, part, a.data, block.m, tile.c,
                                  tile.stride, tile.add});
      return result.finish(0, block.m, begin, end - begin);
    }
    float* const packed = static_cast<float*>(phases.pool.scratch(
        thread, kThreadSlot, sizeof(float) * ceil_div(width, kNR) * panel_stride(whole ? block.units : part, kNR)));
    for (int64_t col = begin; col < end; col += width) {
      const int64_t cols = min(width, end - col), panels = ceil_div(cols, kNR);
      Prefetch later;
      for (int64_t u = 0; u < block.units; u += part) {
        const int64_t depth = min(part, block.units - u), units = whole ? block.units : depth;
        if (!whole || u == 0) problem.pack_b(problem.b, block.j0 + col, panels, block.k0 + u * kUnit, units, packed);
        if (!whole) later = further_along_k(chunk, col, u + depth);
        if (each_unit && u == 0) later = next_columns(chunk, col);
        const Panels b{whole ? packed + u * kNR : packed, panel_stride(units, kNR)};
        for (int64_t row = 0; row < block.m; row += kTileM) {
          const Tile tile = result.tile(row, col);
          const auto multiply = each_unit ? compute_depth<Product, true> : compute_depth<Product>;
          multiply(a.from(row / kMR, u * kMR), b, depth, min(kTileM, block.m - row), cols, tile.c, tile.stride,
                   tile.add || u > 0, nullptr, later);
        }
      }
      result.finish(0, block.m, col, cols);
    }
  }

  // The strip that this thread is likely to compute next.
  int64_t next_strip(int64_t chunk) const { return chunk + strips.threads; }

  // What is packed after this part where b lies across k, whose rows have a few bytes each: the next part, or the next strip.
  Prefetch further_along_k(int64_t chunk, int64_t col, int64_t unit) const {
    const int64_t blocks = ceil_div(block.m, kMR) * ceil_div(strips.end_of(col) - col, kNR);
    if (unit >= block.units) {
      unit = 0;
      chunk = next_strip(chunk);
      if (chunk >= count) return {};
      col = strips.begin_of(chunk);
    }
    const int64_t k = block.k0 + unit * kUnit;
    return Prefetch(pointer<char>(problem.data_b, (k * problem.n + block.j0 + col) * size),
                    min(part * kUnit, problem.k - k), (strips.end_of(col) - col) * size, problem.n * size, blocks);
  }

  // What is packed after a panel where b lies along k: the rows of the next one, or of the next strip's first.
  Prefetch next_columns(int64_t chunk, int64_t col) const {
    const int64_t calls = ceil_div(block.m, kMR) * block.units;
    col += width;
    if (col >= strips.end_of(strips.begin_of(chunk))) {
      chunk = next_strip(chunk);
      if (chunk >= count) return {};
      col = strips.begin_of(chunk);
    }
    const int64_t bytes = min(block.units * kUnit, problem.k - block.k0) * size;
    return Prefetch(pointer<char>(problem.data_b, (block.j0 + col) * problem.k * size + block.k0 * size),
                    min(width, block.n - col), bytes, problem.k * size, calls);
  }
};

// The tiles of a block whose operands are both packed.
template <class Product>
void multiply_packed(const Phases& phases, const Block& block, const Panels& a, const Panels& b, const Result& result) {
  // Smaller tiles where there would be too few to balance.
  const int64_t wanted = 4 * phases.pool.threads();
  const int64_t tile_n = tile_columns(block.n, ceil_div(block.m, kTileM), wanted), tiles_n = ceil_div(block.n, tile_n);
  int64_t tile_m = kTileM;
  while (tile_m > 4 * kMR && ceil_div(block.m, tile_m) * tiles_n < wanted) tile_m = round_up(tile_m / 2, kMR);
  phases.run(ceil_div(block.m, tile_m) * tiles_n, [&](int64_t chunk, int) {
    const int64_t row = chunk / tiles_n * tile_m, col = chunk % tiles_n * tile_n;
    const int64_t rows = min(tile_m, block.m - row), cols = min(tile_n, block.n - col);
    const Tile tile = result.tile(row, col);
    compute_tile<Product>(a.from(row / kMR, 0), b.from(col / kNR, 0), block.units, rows, cols, tile.c, tile.stride,
                          tile.add);
    result.finish(row, rows, col, cols);
  });
}

// kUnit: elements of k to a unit.
template <class Product, int64_t kUnit>
void multiply(ThreadPool& pool, const Problem& problem) {
  const Phases phases{pool, problem.m * problem.n * problem.k < kSerialWork};
  const bool convert = problem.c.dtype == DType::bf16;
  // In strips what a thread needs of b is packed when it is needed: it stays in L2, and b is read once instead of being written and
  // read again as panels.
  const int64_t strips_n = convert ? min(problem.n, kOuterN) : problem.n;
  const int64_t wanted = 4 * pool.threads(), strip = tile_columns(strips_n, 1, wanted);
  const bool in_strips = problem.m <= kStripRows && ceil_div(strips_n, strip) >= wanted;
  const int64_t outer_n = in_strips ? strips_n : kOuterN;
  const int64_t block_m = min(problem.m, kOuterM), block_n = min(problem.n, outer_n);
  // Units of the block that begins at k0. Parts of k depend on k alone, whether a block has one of them or all.
  const bool long_blocks = W != 16 || (problem.b_along_k && problem.m <= kLongRows);
  const auto units_at = [&](int64_t k0) {
    const int64_t outer = kOuterK * kUnit, begin = k0 / outer * outer;
    const int64_t units = ceil_div(min(outer, problem.k - begin), kUnit);
    return long_blocks ? units : min(part_of(units), units - (k0 - begin) / kUnit);
  };
  const int64_t max_units = min(ceil_div(problem.k, kUnit), long_blocks ? kOuterK : kUnitsK);
  const int64_t floats_a = ceil_div(block_m, kMR) * panel_stride(max_units, kMR);
  const int64_t floats_b = in_strips ? 0 : ceil_div(block_n, kNR) * panel_stride(max_units, kNR);
  const int64_t floats_c = convert ? block_m * block_n : 0;
  float* const packed_a = static_cast<float*>(pool.scratch(0, kSharedSlot, sizeof(float) * (floats_a + floats_b)));
  float* const packed_b = packed_a + floats_a;
  float* const wide_c =
      convert ? static_cast<float*>(pool.scratch(0, kSecondSharedSlot, sizeof(float) * floats_c)) : nullptr;

  for (int64_t j0 = 0; j0 < problem.n; j0 += outer_n)
    for (int64_t i0 = 0; i0 < problem.m; i0 += kOuterM)
      for (int64_t k0 = 0, units; k0 < problem.k; k0 += units * kUnit) {
        units = units_at(k0);
        const Block block{i0, j0, k0, min(kOuterM, problem.m - i0), min(outer_n, problem.n - j0), units};
        const Result result{problem, block, wide_c, k0 + units * kUnit >= problem.k};
        const Panels a{packed_a, panel_stride(block.units, kMR)}, b{packed_b, panel_stride(block.units, kNR)};
        const int64_t panels_a = ceil_div(block.m, kMR),
                      group_a = panels_at_a_time<kMR>(problem.a_along_k, block.units);
        const int64_t panels_b = in_strips ? 0 : ceil_div(block.n, kNR),
                      group_b = panels_at_a_time<kNR>(problem.b_along_k, block.units);
        const int64_t chunks_a = ceil_div(panels_a, group_a);
        phases.run(chunks_a + ceil_div(panels_b, group_b), [&](int64_t chunk, int) {
          if (chunk < chunks_a) {
            const int64_t p = chunk * group_a;
            problem.pack_a(problem.a, i0 + p * kMR, min(group_a, panels_a - p), k0, block.units,
                           packed_a + p * a.stride);
          } else {
            const int64_t p = (chunk - chunks_a) * group_b;
            problem.pack_b(problem.b, j0 + p * kNR, min(group_b, panels_b - p), k0, block.units,
                           packed_b + p * b.stride);
          }
        });
        if (in_strips) {
          const Strips strips{block.n, strip, pool.threads()};
          const StripProduct<Product, kUnit> product{phases, problem, block, a, strips, result};
          phases.run(product.count, [&](int64_t chunk, int thread) { product.compute(chunk, thread); });
        } else {
          multiply_packed<Product>(phases, block, a, b, result);
        }
      }
}

void clear(const TensorRef& c, int64_t count) {
  __builtin_memset(c.data, 0, static_cast<size_t>(count * element_size(c)));
}

bool reads_weights_in_place(const MatmulArgs& args) {
  return args.layout == MatmulLayout::nt && args.invariance != Invariance::many_rows &&
         (args.invariance == Invariance::few_rows || is_skinny(args.m, args.n, args.k));
}

void check_result(const MatmulArgs& args) {
  if (args.c.dtype != DType::f32 && args.c.dtype != DType::bf16)
    fail("matmul", "c needs to be a float tensor (f32 or bf16)");
}

void multiply_one(ThreadPool& pool, const MatmulArgs& args) {
  if (args.m <= 0 || args.n <= 0) return;
  check_result(args);
  if (args.k <= 0) {
    if (!args.accumulate) clear(args.c, args.m * args.n);
    return;
  }
  if (reads_weights_in_place(args)) return matmul_skinny(pool, &args, 1);
  with_float("matmul", args.a.dtype, [&](auto tag_a) {
    with_float("matmul", args.b.dtype, [&](auto tag_b) {
      using TA = typename decltype(tag_a)::type;
      using TB = typename decltype(tag_b)::type;
      const bool a_along_k = args.layout != MatmulLayout::tn, b_along_k = args.layout == MatmulLayout::nt;
      const Operand<TA> a{pointer<TA>(args.a), a_along_k ? args.k : args.m, args.m, args.k, a_along_k};
      const Operand<TB> b{pointer<TB>(args.b), b_along_k ? args.k : args.n, args.n, args.k, b_along_k};
      const auto problem = [&](Pack pack_a, Pack pack_b, Columns columns) {
        return Problem{&a,        &b,        pack_a, pack_b, columns, args.b,         args.c,
                       a_along_k, b_along_k, args.m, args.n, args.k,  args.accumulate};
      };
#if defined(ALMA_BF16_DOT)
      if constexpr (sizeof(TA) == 2 || sizeof(TB) == 2) {
        multiply<Bf16Product, 2>(
            pool, problem(pack<kMR, PairUnits, TA>, pack<kNR, PairUnits, TB>, columns<Bf16Product, PairUnits, TB>));
        return;
      }
#endif
      multiply<F32Product, 1>(
          pool, problem(pack<kMR, SingleUnits, TA>, pack<kNR, SingleUnits, TB>, columns<F32Product, SingleUnits, TB>));
    });
  });
}

}  // namespace

void matmul(ThreadPool& pool, const MatmulArgs* products, int count) {
  bool together = count > 1;
  for (int i = 0; i < count; ++i) {
    const MatmulArgs& args = products[i];
    together = together && args.b.dtype == products[0].b.dtype && args.m > 0 && args.n > 0 && args.k > 0 &&
               reads_weights_in_place(args);
  }
  if (together) {
    for (int i = 0; i < count; ++i) check_result(products[i]);
    return matmul_skinny(pool, products, count);
  }
  for (int i = 0; i < count; ++i) multiply_one(pool, products[i]);
}

}  // namespace alma::cpu::ALMA_ISA

// Matrix product after BLIS (Van Zee & van de Geijn, 2015): operands are copied into panels, tiles of C are computed by a
// register block from panels that stay in cache.
//
// Each call works in blocks of at most kOuterM × kOuterN × kOuterK. Of a block, first all panels are packed (by all threads),
// then its tiles are computed (by all threads): two meetings a block. With few rows of C, on AVX-512 with any number of them, each
// thread packs its columns of b itself.
// An element of C adds its products in an order that depends on k alone, so neither threads nor tile sizes change the bits.
#include "matmul_problem.h"
#include "matmul_skinny.h"
#include "matmul_tiles.h"

namespace alma::cpu::ALMA_ISA {
namespace {

// Whether a block has all of kOuterK, in several parts.
bool has_long_blocks(const Problem& problem) { return W != 16 || (problem.b_along_k && problem.m <= kLongRows); }

// The tiles of a block whose a is packed: a thread packs its columns of b, in pieces that stay in L2, and uses them for all rows. Of a long block whose
// b lies along k, a piece is a panel: its rows are read from one end to the other, as processors foresee it. Otherwise a piece is all columns of
// a strip, in a part of k.
template <class Product, int64_t kUnit>
struct StripProduct {
  const Phases& phases;
  const Problem& problem;
  const Block& block;
  const Panels& a;
  const Strips& strips;
  const Result& result;
  const int64_t count = strips.count(), part = part_of(block.units), size = element_size(problem.data_b);
  const bool whole = problem.b_along_k && has_long_blocks(problem);
  static constexpr int64_t kTileRows = whole_panels<Product>(kTileM),
                           kPieces = StoresAndFetches<Product::kRows, false>::kPieces;
  const int64_t width = whole ? kNR : strips.widest;
  const bool fetch_rows = whole && problem.m <= kFetchRows, each_unit = fetch_rows && Product::kMeanwhile;

  void compute(int64_t chunk, int thread) const {
    [[maybe_unused]] const typename Product::Session session;
    const int64_t begin = strips.begin_of(chunk), end = strips.end_of(begin);
    if (problem.columns != nullptr && whole && block.m <= kColumnsRows) {
      const Tile tile = result.tile(0, begin);
      problem.columns(problem.b, {block.j0 + begin, end - begin, block.k0, block.units, part, a.data, block.m, tile.c,
                                  tile.stride, tile.add});
      return result.finish(0, block.m, begin, end - begin);
    }
    float* const packed = static_cast<float*>(phases.pool.scratch(
        thread, kThreadSlot, sizeof(float) * ceil_div(width, kNR) * panel_stride(whole ? block.units : part, kNR)));
    Meanwhile<Product::kRows> meanwhile;
    for (int64_t col = begin; col < end; col += width) {
      const int64_t cols = min(width, end - col), panels = ceil_div(cols, kNR);
      meanwhile.fetch = {};
      for (int64_t u = 0; u < block.units; u += part) {
        const int64_t depth = min(part, block.units - u), units = whole ? block.units : depth;
        if (!whole || u == 0) problem.pack_b(problem.b, block.j0 + col, panels, block.k0 + u * kUnit, units, packed);
        if (!problem.b_along_k) meanwhile.fetch = further_along_k(begin, end, u + depth);
        if (fetch_rows && u == 0) meanwhile.fetch = next_columns(col, end);
        const Panels b{whole ? packed + u * kNR : packed, panel_stride(units, kNR)};
        for (int64_t row = 0; row < block.m; row += kTileRows) {
          const Tile tile = result.tile(row, col);
          meanwhile.panel = next_panel(a.from(0, u * Product::kRows), row, panels);
          const auto multiply = each_unit ? compute_depth<Product, true> : compute_depth<Product>;
          multiply(a.from(row / Product::kRows, u * Product::kRows), b, depth, min(kTileRows, block.m - row), cols,
                   tile.c, tile.stride, tile.add || u > 0, nullptr, meanwhile);
        }
      }
      if (result.wide != nullptr) meanwhile.stores.finish();
      result.finish(0, block.m, col, cols);
    }
    meanwhile.stores.finish();
  }

  // The panel of a that is used after the one at `row`, where a tile is one panel and several of b: all of a passes through L2 for each strip, and
  // waiting for it would take longer than multiplying where others use L3 as well.
  PanelFetch next_panel(const Panels& part_of_a, int64_t row, int64_t panels_b) const {
    if (kTileRows > Product::kRows || block.m <= kTileRows || panels_b < 2) return {};
    const int64_t next = row + kTileRows < block.m ? row / kTileRows + 1 : 0;
    const int64_t bytes = a.stride * static_cast<int64_t>(sizeof(float));
    const char* const from = reinterpret_cast<const char*>(part_of_a.from(next, 0).data);
    return {from, from + bytes, round_up(ceil_div(bytes, panels_b * kPieces), 64)};
  }

  // The beginning of the strip that this thread is likely to compute after the one that ends at `end`, as many strips on as there are threads; block.n
  // where there is none.
  int64_t next_strip(int64_t end) const {
    for (int i = 1; i < strips.threads; ++i) end = strips.end_of(end);
    return end;
  }

  // What is packed after this part of a strip where b lies across k, whose rows have a few bytes each: the next part, or the next strip.
  Prefetch further_along_k(int64_t begin, int64_t end, int64_t unit) const {
    const int64_t blocks = ceil_div(block.m, Product::kRows) * ceil_div(end - begin, kNR);
    if (unit >= block.units) {
      unit = 0;
      begin = next_strip(end);
      if (begin >= block.n) return {};
      end = strips.end_of(begin);
    }
    const int64_t k = block.k0 + unit * kUnit;
    return Prefetch(pointer<char>(problem.data_b, (k * problem.n + block.j0 + begin) * size),
                    min(part * kUnit, problem.k - k), (end - begin) * size, problem.n * size, blocks);
  }

  // What is packed after a panel of a strip where b lies along k: the rows of the next one, or of the next strip's first.
  Prefetch next_columns(int64_t col, int64_t end) const {
    const int64_t calls = ceil_div(block.m, Product::kRows) * (each_unit ? block.units : ceil_div(block.units, part));
    col += width;
    if (col >= end) col = next_strip(end);
    if (col >= block.n) return {};
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
  const int64_t tile_n = tile_columns(block.n, ceil_div(block.m, whole_panels<Product>(kTileM)), wanted),
                tiles_n = ceil_div(block.n, tile_n);
  int64_t tile_m = whole_panels<Product>(kTileM);
  while (tile_m > 4 * Product::kRows && ceil_div(block.m, tile_m) * tiles_n < wanted)
    tile_m = whole_panels<Product>(tile_m / 2);
  phases.run(ceil_div(block.m, tile_m) * tiles_n, [&](int64_t chunk, int) {
    [[maybe_unused]] const typename Product::Session session;
    const int64_t row = chunk / tiles_n * tile_m, col = chunk % tiles_n * tile_n;
    const int64_t rows = min(tile_m, block.m - row), cols = min(tile_n, block.n - col);
    const Tile tile = result.tile(row, col);
    compute_tile<Product>(a.from(row / Product::kRows, 0), b.from(col / kNR, 0), block.units, rows, cols, tile.c,
                          tile.stride, tile.add);
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
  constexpr int64_t kOuterRows = whole_panels<Product>(kOuterM);
  const int64_t block_m = min(problem.m, kOuterRows), block_n = min(problem.n, outer_n);
  // Units of the block that begins at k0. Parts of k depend on k alone, whether a block has one of them or all.
  const bool long_blocks = has_long_blocks(problem);
  const auto units_at = [&](int64_t k0) {
    const int64_t outer = kOuterK * kUnit, begin = k0 / outer * outer;
    const int64_t units = round_up(ceil_div(min(outer, problem.k - begin), kUnit), Product::kDepth);
    return long_blocks ? units : min(part_of(units), units - (k0 - begin) / kUnit);
  };
  const int64_t max_units = min(round_up(ceil_div(problem.k, kUnit), Product::kDepth), long_blocks ? kOuterK : kUnitsK);
  const int64_t floats_a = ceil_div(block_m, Product::kRows) * panel_stride(max_units, Product::kRows);
  const int64_t floats_b = in_strips ? 0 : ceil_div(block_n, kNR) * panel_stride(max_units, kNR);
  const int64_t floats_c = convert ? block_m * block_n : 0;
  float* const packed_a = static_cast<float*>(pool.scratch(0, kSharedSlot, sizeof(float) * (floats_a + floats_b)));
  float* const packed_b = packed_a + floats_a;
  float* const wide_c =
      convert ? static_cast<float*>(pool.scratch(0, kSecondSharedSlot, sizeof(float) * floats_c)) : nullptr;

  for (int64_t j0 = 0; j0 < problem.n; j0 += outer_n)
    for (int64_t i0 = 0; i0 < problem.m; i0 += kOuterRows)
      for (int64_t k0 = 0, units; k0 < problem.k; k0 += units * kUnit) {
        units = units_at(k0);
        const Block block{i0, j0, k0, min(kOuterRows, problem.m - i0), min(outer_n, problem.n - j0), units};
        const Result result{problem, block, wide_c, k0 + units * kUnit >= problem.k};
        const Panels a{packed_a, panel_stride(block.units, Product::kRows)},
            b{packed_b, panel_stride(block.units, kNR)};
        const int64_t panels_a = ceil_div(block.m, Product::kRows),
                      group_a = panels_at_a_time<Product::kRows>(problem.a_along_k, block.units);
        const int64_t panels_b = in_strips ? 0 : ceil_div(block.n, kNR),
                      group_b = panels_at_a_time<kNR>(problem.b_along_k, block.units);
        const int64_t chunks_a = ceil_div(panels_a, group_a);
        phases.run(chunks_a + ceil_div(panels_b, group_b), [&](int64_t chunk, int) {
          if (chunk < chunks_a) {
            const int64_t p = chunk * group_a;
            problem.pack_a(problem.a, i0 + p * Product::kRows, min(group_a, panels_a - p), k0, block.units,
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
      constexpr bool kPairs = sizeof(TA) == 2 || sizeof(TB) == 2;
      if (kPairs || args.may_round) {
#if defined(ALMA_AMX)
        multiply<AmxProduct, 2>(pool, problem(pack_rows<TA>, pack<kNR, PairUnits, TB>, nullptr));
#else
        multiply<Bf16Product, 2>(
            pool, problem(pack<kMR, PairUnits, TA>, pack<kNR, PairUnits, TB>, columns<Bf16Product, PairUnits, TB>));
#endif
        return;
      }
#else
      constexpr bool kPairs = false;
#endif
      if constexpr (!kPairs)
        multiply<F32Product, 1>(pool, problem(pack<kMR, SingleUnits, TA>, pack<kNR, SingleUnits, TB>,
                                              columns<F32Product, SingleUnits, TB>));
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

// The products of decoding: a few activation rows times a large weight matrix, c[m, n] = a[m, k] · b[n, k]ᵀ. Bound by memory:
// every weight is read once, in order. An element's sum depends neither on m nor on its place, so a token's logits are the same
// in every batch that comes here.
#include "matmul_skinny.h"

#include "parallel.h"
#include "skinny_dot.h"
#include "transpose.h"

namespace alma::cpu::ALMA_ISA {
namespace {

// Products of the same activations that are computed together: query, key and value.
constexpr int kMaxProducts = 3;

// A piece is so many columns that the activations of a group (16 KiB with bf16 weights) and what the rows of b have of them stay in the caches
// nearby for the other groups.
template <class TB>
int64_t piece_columns(int64_t rows, int64_t k) {
  constexpr int64_t kActivations = (sizeof(TB) == 2 ? 512 : 256) * (W < 8 ? W : 8);
  const int64_t whole = round_up(k, kLine<TB>), pieces = ceil_div(whole * rows, kActivations);
  return round_up(ceil_div(whole, max<int64_t>(1, pieces)), kLine<TB>);
}

struct Output {
  TensorRef c;
  int64_t m, n;
  bool add;
};

// Rows of activations in groups of `most` rows and then of one less, one after the other in memory. A group's sums with several rows of weights
// (stream_rows) fit the registers. The fewer rows of weights there are to a row of activations, the more often these come from L2, so five
// rows are a group only where they are all there are.
struct Groups {
  int64_t rows, count, most, full;

  explicit Groups(int64_t rows)
      : rows(rows),
        count(rows == 5 ? 1 : ceil_div(rows, 4)),
        most(ceil_div(rows, count)),
        full(rows - count * (most - 1)) {}
  int64_t begin(int64_t group) const { return group * most - max<int64_t>(0, group - full); }
};

// Rows of weights that are read side by side for `rows` rows of activations: with the sums no more than the 16 registers of AVX2, or the 32 of
// AVX-512.
constexpr int stream_rows(int rows) {
  if (rows <= 2) return 4;
  if (W == 16) return rows == 4 ? 6 : 5;
  return rows <= 4 ? 3 : 2;
}

// What W vectors add up to, each as sum() does it.
ALMA_INLINE F sums_of(F (&vectors)[W]) {
  transpose(vectors);
#pragma GCC unroll 8
  for (int half = W / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) vectors[i] += vectors[i + half];
  return vectors[0];
}

// Rows of one product's weights.
struct Range {
  int product;
  int64_t begin, end;
};

// Rows [begin, end) of b as kRows streams that are read side by side, each from its beginning to its end: a processor follows a few
// long streams best. The sums of W rows of each stream lie together, to be added up and stored W at a time. kM: rows of the largest group.
template <int kM, class TB>
struct Product {
  static constexpr bool kSeveral = kM == 3 || kM == 4;  // there may be more groups, also of one row less
  static constexpr int kRows = stream_rows(kM);

  const float* a;
  const TB* b;
  int64_t k, depth;
  int64_t share;  // columns of a piece that come next, for each group to fetch
  Groups groups;
  const Output& out;
  // The range that this thread is likely to take next: its number of steps and its beginning, or null.
  int64_t then_steps;
  const TB* then;

  static int64_t steps_of(const Range& range) { return ceil_div(range.end - range.begin, kRows); }

  Rows<kRows, TB> first_of_next_range() const {
    Rows<kRows, TB> rows;
    for (int r = 0; r < kRows; ++r) rows.at[r] = then + r * then_steps * k;
    return rows;
  }

  // The last row again where a stream has no more.
  Rows<kRows, TB> at(const Range& range, int64_t steps, int64_t step) const {
    Rows<kRows, TB> rows;
    for (int r = 0; r < kRows; ++r) rows.at[r] = b + min(range.begin + r * steps + step, range.end - 1) * k;
    return rows;
  }

  // `columns` columns from p on, of the kGroup rows of a from `first` on.
  template <int kGroup>
  __attribute__((always_inline)) void add_up_group(int64_t first, int64_t p, int64_t columns,
                                                   const Rows<kRows, TB>& rows, const Rows<kRows, TB>& next,
                                                   RowSums<kRows>* sums) const {
    const float* x = a + first * round_up(k, kLine<TB>) + p * kGroup;
    const int64_t whole = columns / kLine<TB> * kLine<TB>;
    if constexpr (kM <= 2) {
      dot_few<kGroup, kRows, TB>(x, rows, next, whole, p == 0, sums);
    } else {
      dot_apart<kGroup, kRows, TB>(x, rows, next, groups.count, whole, p == 0, sums);
    }
    if (whole < columns) dot_rest<kGroup, kRows, TB>(x + whole * kGroup, rows.from(whole), columns - whole, sums);
  }

  // The sums of a step: kRows rows of b times all rows of a.
  __attribute__((always_inline)) void add_up(const Range& range, int64_t steps, int64_t step, RowSums<kRows> (*sums)[W],
                                             int64_t s) const {
    Rows<kRows, TB> rows = at(range, steps, step);
    for (int64_t p = 0; p < k; p += depth) {
      const int64_t columns = min(depth, k - p);
      const Rows<kRows, TB> next = p + depth < k                         ? rows.from(depth)
                                   : step + 1 < steps || then == nullptr ? at(range, steps, step + 1)
                                                                         : first_of_next_range();
      for (int64_t g = 0; g < groups.count; ++g) {
        const int64_t first = groups.begin(g);
        RowSums<kRows>* const total = sums[first] + s;
        const Rows<kRows, TB> mine = next.from(g * share);
        if (!kSeveral || g < groups.full) {
          add_up_group<kM>(first, p, columns, rows, mine, total);
        } else {
          add_up_group<kSeveral ? kM - 1 : kM>(first, p, columns, rows, mine, total);
        }
      }
      rows = next;
    }
  }

  void compute(const Range& range) const {
    const int64_t steps = steps_of(range);
    RowSums<kRows> sums[kSeveral ? kSkinnyRows : kM][W];
    for (int64_t first = 0; first < steps; first += W) {
      const int64_t count = min<int64_t>(W, steps - first);
      for (int64_t s = 0; s < count; ++s) add_up(range, steps, first + s, sums, s);
      for (int64_t i = 0; i < (kSeveral ? out.m : kM); ++i)
        for (int64_t s = count; s < W; ++s) sums[i][s] = {};
      if (out.c.dtype == DType::f32) {
        finish(pointer<float>(out.c), sums, range, steps, first);
      } else {
        finish(pointer<bf16>(out.c), sums, range, steps, first);
      }
    }
  }

  // c = or += what the vectors of a block add up to.
  template <class TC>
  __attribute__((noinline)) void finish(TC* c, const RowSums<kRows> (*sums)[W], const Range& range, int64_t steps,
                                        int64_t first) const {
    for (int64_t r = 0; r < kRows; ++r) {
      const int64_t column = range.begin + r * steps + first;
      const int count = static_cast<int>(min<int64_t>(min<int64_t>(W, steps - first), range.end - column));
      if (count <= 0) return;
      TC* at = c + column;
      for (int64_t i = 0; i < out.m; ++i, at += out.n) {
        F vectors[W];
#pragma GCC unroll 16
        for (int s = 0; s < W; ++s) vectors[s] = sums[i][s].of[r];
        const F value = sums_of(vectors);
        store(at, out.add ? load(at, count) + value : value, count);
      }
    }
  }
};

// Ranges of a call, whose products have `rows` rows of weights in all, in the order in which threads take them.
struct Ranges {
  Range* of;
  int64_t count;
};
Ranges divide(ThreadPool& pool, const Output* outs, int products, int64_t rows, int64_t unit) {
  const int64_t threads = pool.threads(), least = round_up(ceil_div(rows, 32 * threads), unit);
  const size_t room = static_cast<size_t>(ceil_div(rows, least) + products);
  Ranges ranges{static_cast<Range*>(pool.scratch(0, kSecondSharedSlot, room * sizeof(Range))), 0};
  for (int i = 0; i < products; ++i)
    for (int64_t begin = 0; begin < outs[i].n;) {
      const int64_t end = min(outs[i].n, begin + share_of(rows, 4 * threads, unit, least));
      ranges.of[ranges.count++] = {i, begin, end};
      rows -= end - begin;
      begin = end;
    }
  return ranges;
}

template <int kM, class TB>
void multiply(ThreadPool& pool, const float* a, int64_t k, const Groups& groups, const TensorRef* weights,
              const Output* outs, int products) {
  const int64_t depth = kM <= 2 ? k : piece_columns<TB>(kM, k);
  const int64_t share = round_up(ceil_div(depth, groups.count), kLine<TB>);
  const auto compute = [&](const Range& range, const Range* next) {
    const TB* const then = next != nullptr ? pointer<TB>(weights[next->product], next->begin * k) : nullptr;
    const int64_t then_steps = next != nullptr ? Product<kM, TB>::steps_of(*next) : 0;
    const Product<kM, TB> product{
        a, pointer<TB>(weights[range.product]), k, depth, share, groups, outs[range.product], then_steps, then};
    product.compute(range);
  };
  int64_t rows = 0;
  for (int i = 0; i < products; ++i) rows += outs[i].n;
  if (rows * k * groups.rows < (1 << 17)) {
    for (int i = 0; i < products; ++i) compute({i, 0, outs[i].n}, nullptr);
    return;
  }
  const Ranges ranges = divide(pool, outs, products, rows, Product<kM, TB>::kRows);
  pool.run(ranges.count, [&](int64_t i, int) {
    // Where memory bounds the product, threads are equally fast.
    const bool follows = kM <= 2 && i + pool.threads() < ranges.count;
    compute(ranges.of[i], follows ? ranges.of + i + pool.threads() : nullptr);
  });
}

template <class TB>
void multiply_rows(ThreadPool& pool, const MatmulArgs& args, const TensorRef* weights, const Output* outs,
                   int products) {
  const Groups groups(args.m);
  const int64_t k = args.k, columns = round_up(k, kLine<TB>);
  float* a =
      static_cast<float*>(pool.scratch(0, kSharedSlot, sizeof(float) * static_cast<size_t>(groups.rows * columns)));
  with_float("matmul", args.a.dtype, [&](auto tag) {
    const auto* from = pointer<typename decltype(tag)::type>(args.a);
    for (int64_t g = 0; g < groups.count; ++g) {
      const int64_t first = groups.begin(g);
      pack_activations<TB>(from + first * k, groups.begin(g + 1) - first, k, a + first * columns);
    }
  });
  switch (groups.most) {
    case 1: return multiply<1, TB>(pool, a, k, groups, weights, outs, products);
    case 2: return multiply<2, TB>(pool, a, k, groups, weights, outs, products);
    case 3: return multiply<3, TB>(pool, a, k, groups, weights, outs, products);
    case 4: return multiply<4, TB>(pool, a, k, groups, weights, outs, products);
    default: return multiply<5, TB>(pool, a, k, groups, weights, outs, products);
  }
}

}  // namespace

void matmul_skinny(ThreadPool& pool, const MatmulArgs* products, int count) {
  for (; count > kMaxProducts; products += kMaxProducts, count -= kMaxProducts)
    matmul_skinny(pool, products, kMaxProducts);
  const MatmulArgs& args = products[0];
  // Passes of nearly equal size: the last one reads the weights for as many rows as the others.
  const int64_t passes = max<int64_t>(1, ceil_div(args.m, kSkinnyRows));
  const int64_t rows = passes == 1 ? args.m : round_up(ceil_div(args.m, passes), 4);
  for (int64_t first = 0; first < args.m; first += rows) {
    MatmulArgs pass = args;
    pass.m = min(rows, args.m - first);
    const auto skip = [&](const TensorRef& ref, int64_t elements) {
      return TensorRef{pointer<char>(ref, elements * element_size(ref)), ref.dtype};
    };
    pass.a = skip(args.a, first * args.k);
    TensorRef weights[kMaxProducts];
    Output outs[kMaxProducts];
    for (int i = 0; i < count; ++i) {
      weights[i] = products[i].b;
      outs[i] = {skip(products[i].c, first * products[i].n), pass.m, products[i].n, products[i].accumulate};
    }
    with_float("matmul", args.b.dtype,
               [&](auto tag) { multiply_rows<typename decltype(tag)::type>(pool, pass, weights, outs, count); });
  }
}

}  // namespace alma::cpu::ALMA_ISA

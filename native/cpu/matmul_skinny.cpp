// The products of decoding: a few activation rows times a large weight matrix, c[m, n] = a[m, k] · b[n, k]ᵀ. Bound by memory:
// every weight is read once, in order. An element's sum depends neither on m nor on its place, so a token's logits are the same
// in every batch that comes here.
#include "matmul_skinny.h"

#include "parallel.h"

namespace alma::cpu::ALMA_ISA {
namespace {

// Rows of a go in groups, whose sums with several rows of b fit the registers. A piece is so many columns that the activations of a group
// (16 KiB with bf16 weights on AVX2) and what the rows of b have of them stay in the caches nearby for the other groups.
template <class TB>
constexpr int64_t kActivations = (sizeof(TB) == 2 ? 512 : 256) * W;
constexpr int64_t kMaxGroups = ceil_div(kSkinnyRows, 4);

// Columns of a cache line of weights, the step of the inner loop.
template <class TB>
constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(TB));
// How far ahead weights are fetched where a product does nothing but read them; otherwise there is time for a piece.
template <class TB>
constexpr int64_t kAhead = 16 * kLine<TB>;

struct Output {
  TensorRef c;
  int64_t m, n;
  bool add;
};

// c[i, column] of f32 or bf16.
ALMA_INLINE void put(const Output& out, int64_t i, int64_t column, float value) {
  if (out.c.dtype == DType::f32) {
    float* at = pointer<float>(out.c, i * out.n + column);
    *at = out.add ? *at + value : value;
  } else {
    bf16* at = pointer<bf16>(out.c, i * out.n + column);
    from_float(at, out.add ? to_float(*at) + value : value);
  }
}

// Rows of a group: as few as possible that are computed for nothing, then as few groups as possible.
int64_t group_rows(int64_t m) {
  const auto rows_of = [&](int64_t most) { return ceil_div(m, ceil_div(m, most)); };
  const int64_t four = rows_of(4), five = rows_of(5);
  return round_up(m, five) <= round_up(m, four) ? five : four;
}

// a as [group][column / W][kM][W]: what one step needs lies together. Rows of a power of two would all fall into the same cache set. For
// bf16 weights, whose pairs are widened in place, the even ones of 2 W columns make a vector and the odd ones the next. Rows beyond m and
// columns beyond k are zero.
template <class TB, class TA>
void pack_activations(const TA* a, int64_t m, int64_t kM, int64_t k, float* out) {
  for (int64_t first = 0; first < m; first += kM)
    for (int64_t p = 0; p < k; p += kLine<TB>, out += kM * kLine<TB>)
      for (int64_t i = 0; i < kM; ++i) {
        F line[kLine<TB> / W] = {};
        const TA* const from = a + (first + i) * k + p;
        for (int64_t v = 0; first + i < m && v < kLine<TB> / W && p + v * W < k; ++v)
          line[v] = load(from + v * W, static_cast<int>(min<int64_t>(W, k - p - v * W)));
        if constexpr (sizeof(TB) == 2)
          for (int64_t v = 0; v < kLine<TB> / W; v += 2) {
            const F even = unzip_even(line[v], line[v + 1]);
            line[v + 1] = unzip_odd(line[v], line[v + 1]);
            line[v] = even;
          }
        for (int64_t v = 0; v < kLine<TB> / W; ++v) store(out + (v * kM + i) * W, line[v]);
      }
}

template <int kM, int kRows>
struct Sums {
  F of[kM][kRows];
};

// What `count` vectors add up to, each as sum() does it, W of them at a time.
ALMA_INLINE void sums_of(const F* vectors, int64_t count, float* out) {
  if (count < W) {
    for (int64_t i = 0; i < count; ++i) out[i] = sum(vectors[i]);
    return;
  }
  for (int64_t first = 0; first < count; first += W) {
    F block[W];
    for (int64_t i = 0; i < W; ++i) block[i] = first + i < count ? vectors[first + i] : F{};
    transpose(block);
    for (int half = W / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) block[i] += block[i + half];
    store(out + first, block[0], static_cast<int>(min<int64_t>(W, count - first)));
  }
}

// Keeps the compiler from loading a value again wherever it is used.
ALMA_INLINE void hold(F& value) {
#if defined(__aarch64__)
  asm("" : "+w"(value));
#elif defined(__x86_64__) && (ALMA_SIMD_WIDTH == 4 || (ALMA_SIMD_WIDTH == 8 && defined(__AVX__)))
  asm("" : "+x"(value));
#elif defined(__AVX512F__)
  asm("" : "+v"(value));
#else
  static_cast<void>(value);  // a vector in no register: tests only
#endif
}

template <int kM, int kRows>
ALMA_INLINE void multiply_add(const float* x, F (&weights)[kRows], Sums<kM, kRows>& sums) {
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) hold(weights[r]);
#pragma GCC unroll 8
  for (int i = 0; i < kM; ++i) {
    F row = load(x + i * W);
    // Used twice, it would be loaded twice; GCC keeps what is used more often.
    if constexpr (kRows == 2) hold(row);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums.of[i][r] = row * weights[r] + sums.of[i][r];
  }
}

// A line of kRows rows of weights times the same columns of kM rows of a.
template <int kM, int kRows>
ALMA_INLINE void multiply_line(const float* a, const float* const (&row)[kRows], int64_t p, Sums<kM, kRows>& sums) {
#pragma GCC unroll 8
  for (int64_t c = 0; c < kLine<float>; c += W) {
    F weights[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) weights[r] = load(row[r] + p + c);
    multiply_add<kM, kRows>(a + c * kM, weights, sums);
  }
}
template <int kM, int kRows>
ALMA_INLINE void multiply_line(const float* a, const bf16* const (&row)[kRows], int64_t p, Sums<kM, kRows>& sums) {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
#pragma GCC unroll 8
  for (int64_t c = 0; c < kLine<bf16>; c += 2 * W) {
    F weights[kRows];
    const auto pairs = [&](int r) ALMA_LAMBDA {
      return reinterpret_cast<U>(load(reinterpret_cast<const int32_t*>(row[r] + p + c)));
    };
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) weights[r] = as_float(pairs(r) << 16);
    multiply_add<kM, kRows>(a + c * kM, weights, sums);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) weights[r] = as_float(pairs(r) & 0xffff0000u);
    multiply_add<kM, kRows>(a + (c + W) * kM, weights, sums);
  }
}

// Rows of weights, from a common column on.
template <int kRows, class TB>
struct Rows {
  const TB* at[kRows];
  __attribute__((always_inline)) Rows from(int64_t column) const {
    Rows later;
    for (int r = 0; r < kRows; ++r) later.at[r] = at[r] + column;
    return later;
  }
};

// sums += the products of `columns` columns, whole lines, of kRows rows of b with the rows of a group. For every `each` lines, a line of
// `ahead` is fetched.
template <int kM, int kRows, class TB>
ALMA_INLINE void dot_lines(const float* a, const Rows<kRows, TB>& rows, const Rows<kRows, TB>& ahead, int64_t each,
                           int64_t columns, Sums<kM, kRows>& sums) {
  int64_t at = 0;
  for (int64_t p = 0; p < columns; at += kLine<TB>) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) __builtin_prefetch(ahead.at[r] + at);
    const int64_t stop = min(columns, p + each * kLine<TB>);
    for (; p < stop; p += kLine<TB>) multiply_line<kM, kRows>(a + p * kM, rows.at, p, sums);
  }
}

// A function of its own: what is around it must not take registers from the sums.
template <int kM, int kRows, class TB>
__attribute__((noinline)) static void dot_apart(const float* a, const Rows<kRows, TB>& rows,
                                                const Rows<kRows, TB>& ahead, int64_t each, int64_t columns,
                                                bool begins, Sums<kM, kRows>& total) {
  const Rows<kRows, TB> row = rows, further = ahead;
  Sums<kM, kRows> sums = {};
  if (!begins) sums = total;
  dot_lines<kM, kRows, TB>(a, row, further, each, columns, sums);
  total = sums;
}

// One or two rows, for which the weights are hardly there in time: those kAhead further on are fetched, then what comes next.
template <int kM, int kRows, class TB>
ALMA_INLINE void dot_few(const float* a, const Rows<kRows, TB>& rows, const Rows<kRows, TB>& next, int64_t columns,
                         bool begins, Sums<kM, kRows>& total) {
  const int64_t near = max<int64_t>(0, columns - kAhead<TB>);
  Sums<kM, kRows> sums = {};
  if (!begins) sums = total;
  dot_lines<kM, kRows, TB>(a, rows, rows.from(kAhead<TB>), 1, near, sums);
  dot_lines<kM, kRows, TB>(a + near * kM, rows.from(near), next, 1, columns - near, sums);
  total = sums;
}

// The last columns of a row that is no multiple of a line, with zeros behind.
template <int kM, int kRows, class TB>
__attribute__((noinline)) static void dot_rest(const float* a, const Rows<kRows, TB>& rows, int64_t rest,
                                               Sums<kM, kRows>& sums) {
  TB lines[kRows][kLine<TB>] = {};
  const TB* at[kRows];
  for (int r = 0; r < kRows; ++r) {
    __builtin_memcpy(lines[r], rows.at[r], static_cast<size_t>(rest) * sizeof(TB));
    at[r] = lines[r];
  }
  multiply_line<kM, kRows>(a, at, 0, sums);
}

// Rows [begin, end) of b as kRows streams that are read side by side, each from its beginning to its end: a processor follows a few
// long streams best.
template <int kM, class TB>
struct Product {
  static constexpr int kRows = kM <= 2 ? 4 : kM <= 4 ? 3 : 2;  // with the sums no more than 16 registers

  const float* a;
  const TB* b;
  int64_t k, groups, group_stride, depth;
  const Output& out;

  void range(int64_t begin, int64_t end) const {
    const int64_t steps = ceil_div(end - begin, kRows);
    // The last row again where a stream has no more.
    const auto point = [&](int64_t step, int64_t p) {
      Rows<kRows, TB> rows;
      for (int r = 0; r < kRows; ++r) rows.at[r] = b + min(begin + r * steps + step, end - 1) * k + p;
      return rows;
    };
    for (int64_t step = 0; step < steps; ++step) {
      Sums<kM, kRows> sums[kMaxGroups];
      for (int64_t p = 0; p < k; p += depth) {
        const int64_t columns = min(depth, k - p), whole = columns / kLine<TB> * kLine<TB>;
        const Rows<kRows, TB> rows = point(step, p), next = p + depth < k ? point(step, p + depth) : point(step + 1, 0);
        const int64_t lines = ceil_div(whole / kLine<TB>, groups);
        for (int64_t g = 0; g < groups; ++g) {
          const float* x = a + g * group_stride + p * kM;
          if constexpr (kM <= 2) {
            dot_few<kM, kRows, TB>(x, rows, next, whole, p == 0, sums[g]);
          } else {
            // Each group fetches its share of what comes next.
            dot_apart<kM, kRows, TB>(x, rows, next.from(g * lines * kLine<TB>), groups, whole, p == 0, sums[g]);
          }
          if (whole < columns) dot_rest<kM, kRows, TB>(x + whole * kM, rows.from(whole), columns - whole, sums[g]);
        }
      }
      float totals[kMaxGroups * kM * kRows];
      sums_of(&sums[0].of[0][0], groups * kM * kRows, totals);
      for (int64_t r = 0; r < kRows; ++r) {
        const int64_t column = begin + r * steps + step;
        if (column >= end) break;
        for (int64_t i = 0; i < out.m; ++i) put(out, i, column, totals[i * kRows + r]);
      }
    }
  }
};

template <int kM, class TB>
void multiply(ThreadPool& pool, const float* a, const TB* b, int64_t k, const Output& out) {
  const int64_t groups = ceil_div(out.m, kM), whole = round_up(k, kLine<TB>);
  const int64_t pieces = ceil_div(whole * kM, kActivations<TB>);
  const int64_t depth = max(kLine<TB>, round_up(ceil_div(whole, max<int64_t>(1, pieces)), kLine<TB>));
  const Product<kM, TB> product{a, b, k, groups, kM * whole, depth, out};
  // 8 ranges a thread, for balance.
  const int64_t grain = round_up(ceil_div(out.n, 8 * pool.threads()), Product<kM, TB>::kRows);
  parallel_ranges(pool, out.n, out.n * k * out.m < (1 << 17) ? out.n : grain,
                  [&](int64_t begin, int64_t end, int) { product.range(begin, end); });
}

template <class TB>
void multiply_rows(ThreadPool& pool, const MatmulArgs& args) {
  const int64_t rows = group_rows(args.m), k = args.k;
  float* a = static_cast<float*>(pool.scratch(
      0, kSharedSlot, sizeof(float) * static_cast<size_t>(round_up(args.m, rows) * round_up(k, kLine<TB>))));
  with_float("matmul", args.a.dtype, [&](auto tag) {
    pack_activations<TB>(pointer<typename decltype(tag)::type>(args.a), args.m, rows, k, a);
  });
  const Output out{args.c, args.m, args.n, args.accumulate};
  const TB* b = pointer<TB>(args.b);
  switch (rows) {
    case 1: return multiply<1>(pool, a, b, k, out);
    case 2: return multiply<2>(pool, a, b, k, out);
    case 3: return multiply<3>(pool, a, b, k, out);
    case 4: return multiply<4>(pool, a, b, k, out);
    default: return multiply<5>(pool, a, b, k, out);
  }
}

}  // namespace

void matmul_skinny(ThreadPool& pool, const MatmulArgs& args) {
  // Passes of nearly equal size: the last one reads the weights for as many rows as the others.
  const int64_t passes = max<int64_t>(1, ceil_div(args.m, kSkinnyRows));
  const int64_t rows = passes == 1 ? args.m : round_up(ceil_div(args.m, passes), 4);
  for (int64_t first = 0; first < args.m; first += rows) {
    MatmulArgs pass = args;
    pass.m = min(rows, args.m - first);
    pass.a.data = pointer<char>(args.a, first * args.k * (args.a.dtype == DType::f32 ? 4 : 2));
    pass.c.data = pointer<char>(args.c, first * args.n * (args.c.dtype == DType::f32 ? 4 : 2));
    with_float("matmul", args.b.dtype, [&](auto tag) { multiply_rows<typename decltype(tag)::type>(pool, pass); });
  }
}

}  // namespace alma::cpu::ALMA_ISA

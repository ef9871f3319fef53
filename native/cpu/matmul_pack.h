// Copies of operands in the order in which the register block reads them: panels of R rows (or columns), one "unit" of k after
// the other. A unit is one f32, or a pair of bf16 for vdpbf16ps.
#pragma once

#include "bf16_dot.h"
#include "transpose.h"

namespace alma::cpu::ALMA_ISA {

// One operand of a product: `extent` rows (or columns) by k; the one of the two that is contiguous in memory is named.
template <class T>
struct Operand {
  const T* data;
  int64_t stride;  // between neighbours in the direction that is not contiguous
  int64_t extent, k;
  bool k_contiguous;
};

// Units that are single elements, widened to f32.
struct SingleUnits {
  static constexpr int64_t kSize = 1;  // elements of k to a unit
  // W units along k; of bf16, which is transposed as pairs, 2 W.
  template <class T>
  ALMA_INLINE F load_along(const T* p) {
    return load(reinterpret_cast<const float*>(p));
  }
  template <class T>
  ALMA_INLINE F load_across(const Operand<T>& source, int64_t unit, int64_t at, int n) {
    return load(source.data + unit * source.stride + at, n);
  }
};

// Units that are pairs of bf16 (k = 2u in the low half, 2u + 1 in the high half), to which f32 is rounded; an odd k is padded with zero.
struct PairUnits {
  static constexpr int64_t kSize = 2;
  ALMA_INLINE F load_along(const bf16* p) { return load(reinterpret_cast<const float*>(p)); }
  ALMA_INLINE F load_along(const float* p) { return pairs_along(load(p), load(p + W)); }
  template <class T>
  ALMA_INLINE F load_across(const Operand<T>& source, int64_t unit, int64_t at, int n) {
    const T* const row = source.data + 2 * unit * source.stride + at;
    const F low = 2 * unit < source.k ? load(row, n) : F{},
            high = 2 * unit + 1 < source.k ? load(row + source.stride, n) : F{};
    if constexpr (sizeof(T) == 2) return as_float(bits_of(low) >> 16 | bits_of(high));
    return pairs_across(low, high);
  }
};

// Floats that the panel of `units` takes: one vector more than its contents, because the last store of a panel whose R is not
// a multiple of W reaches beyond it (and two threads may be packing neighbours).
ALMA_INLINE int64_t panel_stride(int64_t units, int R) { return units * R + W; }

// Rows along k, a vector of each at a time: kCount units.
template <int R, class Units, class T>
struct RowVectors {
  // bf16 are transposed as pairs, half the shuffles, and widened afterwards.
  static constexpr bool kPairs = sizeof(T) == 2 && Units::kSize == 1;
  static constexpr int64_t kCount = kPairs ? 2 * W : W;
  static constexpr int64_t kElements = kCount * Units::kSize;
  static constexpr int64_t kLine = max<int64_t>(64 / sizeof(T), kElements);

  // body(i, unit) for each unit of the rows.
  template <class Body>
  ALMA_INLINE void for_units(F (&rows)[W], const Body& body) {
    transpose(rows);
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) {
      if constexpr (kPairs) {
        body(2 * i, as_float(bits_of(rows[i]) << 16));
        body(2 * i + 1, as_float(bits_of(rows[i]) & 0xffff0000u));
      } else {
        body(i, rows[i]);
      }
    }
  }
  ALMA_INLINE void write(F (&rows)[W], float* out) {
    for_units(rows, [&](int i, F unit) ALMA_LAMBDA { store(out + i * R, unit); });
  }
  // The first `count` of a row's elements; the others are zero.
  ALMA_INLINE F load_some(const T* row, int64_t count) {
    T line[kElements] = {};
    __builtin_memcpy(line, row, static_cast<size_t>(count) * sizeof(T));
    return Units::load_along(line);
  }
};

template <int R, class Units, class T>
static void pack_panel_along_k(const Operand<T>& source, int64_t first, int64_t k_begin, int64_t units, float* out) {
  using Step = RowVectors<R, Units, T>;
  constexpr int kGroups = (R + W - 1) / W, kRows = R < W ? R : W;
  static_assert(kGroups == 1 || R % W == 0, "stores of a group would overwrite the next one");
  const int64_t elements = min(units * Units::kSize, source.k - k_begin), rows = min<int64_t>(R, source.extent - first);
  const T* data = source.data + first * source.stride + k_begin;
  // All of 16 rows of a line of memory before the next line: as many lines may well fall into the same set of a cache. Zen 5 does not foresee them
  // all, so their next lines are asked for (1 to 16 rows of C: 5 to 20 %; on Zen 3 it is of no use).
  constexpr int kTogether = min(kGroups, 16 / W);
  const int64_t whole = rows == R ? elements / Step::kLine * Step::kLine : 0;
  for (int first_group = 0; first_group < kGroups; first_group += kTogether)
    for (int64_t p = 0; p < whole; p += Step::kLine) {
#pragma GCC unroll 1
      for (int group = first_group; group < first_group + kTogether; ++group)
#pragma GCC unroll 1
        for (int64_t at = p; at < p + Step::kLine; at += Step::kElements) {
          F block[W] = {};
#pragma GCC unroll 16
          for (int i = 0; i < kRows; ++i) {
            const T* const from = data + (group * W + i) * source.stride + at;
            if constexpr (W == 16) __builtin_prefetch(from + 2 * Step::kLine);
            block[i] = Units::load_along(from);
          }
          Step::write(block, out + at / Units::kSize * R + group * W);
        }
    }
  // Rows and columns that are not there are zero.
  for (int group = 0; group < kGroups; ++group)
    for (int64_t u = whole / Units::kSize; u < units; u += Step::kCount) {
      const int64_t at = u * Units::kSize, count = min<int64_t>(Step::kElements, elements - at);
      F block[W] = {};
      float unpacked[Step::kCount * R + W];
      for (int64_t i = 0; i < min<int64_t>(kRows, rows - group * W); ++i)
        block[i] = Step::load_some(data + (group * W + i) * source.stride + at, count);
      Step::write(block, unpacked);
      for (int64_t j = 0; j < min(Step::kCount, units - u); ++j)
        store(out + (u + j) * R + group * W, load(unpacked + j * R));
    }
}

// Several panels at once, a few units of each: rows of the source are far from each other, and a processor that sees a few hundred bytes of
// each fetches nothing by itself, so the next units are asked for first.
template <int R, class Units, class T>
static void pack_panels_across(const Operand<T>& source, int64_t first, int64_t panels, int64_t k_begin, int64_t units,
                               float* out) {
  constexpr int64_t kBlock = 4;
  const int64_t unit_begin = k_begin / Units::kSize, stride = panel_stride(units, R);
  const int64_t beyond =
      source.extent - first - round_up(R, W);  // of a vector that begins at `first`, to the last that is whole
  const int64_t whole = beyond < 0 ? 0 : min(panels, beyond / R + 1);
  const auto ask_for = [&](int64_t begin, int64_t end) ALMA_LAMBDA {
    const int64_t bytes = min(panels * R, source.extent - first) * static_cast<int64_t>(sizeof(T));
    for (int64_t k = k_begin + begin * Units::kSize; k < min(source.k, k_begin + end * Units::kSize); ++k) {
      const char* row = reinterpret_cast<const char*>(source.data + k * source.stride + first);
      for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at);
    }
  };
  for (int64_t begin = 0; begin < units; begin += kBlock) {
    const int64_t end = min(units, begin + kBlock);
    ask_for(end, min(units, end + kBlock));
    float* to = out;
    int64_t at = first, panel = 0;
    // A whole vector where the source has one, also beyond R: the next unit overwrites that part.
    for (; panel < whole; ++panel, at += R, to += stride)
      for (int64_t u = begin; u < end; ++u) {
#pragma GCC unroll 4
        for (int i = 0; i < R; i += W) store(to + u * R + i, Units::load_across(source, unit_begin + u, at + i, W));
      }
    for (; panel < panels; ++panel, at += R, to += stride)
      for (int64_t u = begin; u < end; ++u)
        for (int i = 0; i < R; i += W) {
          const int n = static_cast<int>(min<int64_t>(W, max<int64_t>(0, source.extent - at - i)));
          store(to + u * R + i, Units::load_across(source, unit_begin + u, at + i, n));
        }
  }
}

// Panels of an operand that a thread copies at a time: about 32 KiB, and where they lie across k no less than four lines of memory in a row.
template <int R>
ALMA_INLINE int64_t panels_at_a_time(bool k_contiguous, int64_t units) {
  return max<int64_t>(k_contiguous ? 1 : ceil_div(64, R), 8192 / (units * R));
}

// `panels` panels from first / R on: rows (columns) first and following, zero where there are none, k from k_begin.
template <int R, class Units, class T>
static void pack_panels(const Operand<T>& source, int64_t first, int64_t panels, int64_t k_begin, int64_t units,
                        float* out) {
  if (!source.k_contiguous) return pack_panels_across<R, Units>(source, first, panels, k_begin, units, out);
  for (int64_t panel = 0; panel < panels; ++panel)
    pack_panel_along_k<R, Units>(source, first + panel * R, k_begin, units, out + panel * panel_stride(units, R));
}

}  // namespace alma::cpu::ALMA_ISA

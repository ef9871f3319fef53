#include "cpu_check.h"

namespace alma::test {
namespace {

// Pairs of bf16 are multiplied where the processor can and an operand is bf16: the other one is rounded. Weights that are read in place are not
// multiplied that way.
bool rounds_operands(const cpu::CpuOps& ops, MatmulLayout layout, int64_t m, DType da, DType db,
                     Invariance invariance) {
  const bool in_place = layout == MatmulLayout::nt && m <= 8 && invariance != Invariance::many_rows;
  const std::string_view isa = ops.isa();
  return (da == DType::bf16 || db == DType::bf16) && !in_place && (isa.ends_with("bf16") || isa.ends_with("amx"));
}

void one(cpu::CpuOps& ops, Random& random, MatmulLayout layout, int64_t m, int64_t n, int64_t k, DType da, DType db,
         DType dc, bool accumulate, Invariance invariance = Invariance::none) {
  Tensor a = Tensor::normal(da, static_cast<size_t>(m * k), random),
         b = Tensor::normal(db, static_cast<size_t>(k * n), random);
  Tensor c = Tensor::normal(dc, static_cast<size_t>(m * n), random);
  std::vector<double> expected = c.values();
  const bool rounds = rounds_operands(ops, layout, m, da, db, invariance);
  const auto operand = [&](const Tensor& tensor, int64_t i) {
    const double value = tensor.get(static_cast<size_t>(i));
    return rounds ? f32_from_bf16(bf16_from_f32(static_cast<float>(value))) : value;
  };
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t p = 0; p < k; ++p) {
        const double x = operand(a, layout == MatmulLayout::tn ? p * m + i : i * k + p);
        const double y = operand(b, layout == MatmulLayout::nt ? j * k + p : p * n + j);
        sum += x * y;
      }
      double& out = expected[static_cast<size_t>(i * n + j)];
      out = accumulate ? out + sum : sum;
    }
  ops.matmul({a.ref(), b.ref(), c.ref(), m, n, k, layout, accumulate, invariance});
  static const char* const names[] = {"nn", "nt", "tn"};
  close(c, expected, tolerance_of(dc, 2e-6),
        std::string("matmul ") + names[static_cast<int>(layout)] + " " + shape_text({m, n, k}) + " " + name_of(da) +
            "·" + name_of(db) + "→" + name_of(dc) + (accumulate ? " +" : "") +
            (invariance == Invariance::many_rows ? " of many rows" : ""));
}

// A row has the same bits whatever the number of rows.
void test_rows(cpu::CpuOps& ops, Random& random, DType type, Invariance invariance, int64_t most) {
  constexpr int64_t kN = 700, kK = 2213;  // several parts of k
  Tensor a = Tensor::normal(type, static_cast<size_t>(most * kK), random);
  Tensor b = Tensor::normal(type, kN * kK, random);
  Tensor all(type, static_cast<size_t>(most * kN));
  ops.matmul({a.ref(), b.ref(), all.ref(), most, kN, kK, MatmulLayout::nt, false, invariance});
  for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 9, 12, 14, 15, 33, 100}) {
    if (rows > most) break;
    Tensor c(type, static_cast<size_t>(rows * kN));
    ops.matmul({a.ref(), b.ref(), c.ref(), rows, kN, kK, MatmulLayout::nt, false, invariance});
    int different = 0;
    for (size_t i = 0; i < static_cast<size_t>(rows * kN); ++i) different += c.get(i) != all.get(i);
    check(different == 0, std::string("matmul: ") + std::to_string(rows) + " of " + std::to_string(most) + " rows " +
                              name_of(type) + ", the same bits");
  }
}

// Memory in which operands are copied is used again: what a product of NaN left there is in none of the next ones, whose rows and columns are no
// whole blocks.
void test_left_over(cpu::CpuOps& ops, Random& random, DType type) {
  constexpr int64_t kRows = 7, kN = 13, kWhole = 256;
  for (const MatmulLayout layout : {MatmulLayout::nn, MatmulLayout::nt, MatmulLayout::tn})
    for (const Invariance invariance : {Invariance::few_rows, Invariance::many_rows}) {
      Tensor nan(type, 64 * kWhole), c(type, 64 * 64);
      for (size_t i = 0; i < 64 * kWhole; ++i) nan.set(i, NAN);
      ops.matmul({nan.ref(), nan.ref(), c.ref(), 64, 64, kWhole, layout, false, invariance});
      for (const int64_t k : {1, 5, 9, 17, 33, 41, 77}) {
        Tensor a = Tensor::normal(type, static_cast<size_t>(kRows * k), random);
        Tensor b = Tensor::normal(type, static_cast<size_t>(kN * k), random);
        ops.matmul({a.ref(), b.ref(), c.ref(), kRows, kN, k, layout, false, invariance});
        int wrong = 0;
        for (size_t i = 0; i < kRows * kN; ++i) wrong += !std::isfinite(c.get(i));
        check(wrong == 0, std::string("matmul after one of NaN, k = ") + std::to_string(k) + " " + name_of(type));
      }
    }
}

// Products of one a together have the bits that each has by itself.
void test_together(cpu::CpuOps& ops, Random& random, DType type, Invariance invariance) {
  constexpr int64_t kRows = 7, kK = 517, kN[] = {300, 37, 101};
  Tensor a = Tensor::normal(type, kRows * kK, random);
  std::vector<Tensor> weights, together, apart;
  std::vector<MatmulArgs> products;
  for (const int64_t n : kN) {
    weights.push_back(Tensor::normal(type, static_cast<size_t>(n * kK), random));
    together.push_back(Tensor::normal(type, static_cast<size_t>(kRows * n), random));
    apart.push_back(together.back());
  }
  for (size_t i = 0; i < 3; ++i) {
    const MatmulArgs args{a.ref(), weights[i].ref(), apart[i].ref(), kRows,     kN[i],
                          kK,      MatmulLayout::nt, i == 1,         invariance};
    ops.matmul(args);
    products.push_back(args);
    products.back().c = together[i].ref();
  }
  ops.matmul_together(products.data(), 3);
  for (size_t i = 0; i < 3; ++i)
    check(together[i].values() == apart[i].values(),
          std::string("matmul_together ") + name_of(type) + ", product " + std::to_string(i));
}

}  // namespace

void test_matmul(cpu::CpuOps& ops) {
  Random random;
  const DType types[] = {DType::f32, DType::bf16};
  const int64_t shapes[][3] = {{1, 1, 1},    {1, 37, 5},   {2, 33, 130}, {3, 9, 64}, {4, 50, 77},  {5, 19, 33},
                               {6, 40, 100}, {7, 21, 48},  {8, 65, 129}, {9, 16, 3}, {13, 47, 31}, {14, 32, 1},
                               {31, 17, 65}, {40, 70, 90}, {0, 5, 5},    {5, 0, 5},  {3, 4, 0},    {12, 5, 0}};
  for (const auto& s : shapes)
    for (const MatmulLayout layout : {MatmulLayout::nn, MatmulLayout::nt, MatmulLayout::tn})
      for (const DType da : types)
        for (const DType db : types)
          for (const DType dc : types)
            for (const bool accumulate : {false, true})
              for (const Invariance invariance : {Invariance::none, Invariance::many_rows})
                one(ops, random, layout, s[0], s[1], s[2], da, db, dc, accumulate, invariance);
  // Few rows whose columns are divided among threads, k in several parts and in several outer blocks.
  for (const int64_t m : {1, 2, 5, 14, 17})
    for (const DType da : types)
      for (const DType db : types)
        for (const bool accumulate : {false, true})
          for (const int64_t k : {613, 4500})
            one(ops, random, MatmulLayout::nt, m, 603, k, da, db, da, accumulate, Invariance::many_rows);
  // Larger than a tile and than a block of k; enough work for several threads.
  for (const MatmulLayout layout : {MatmulLayout::nn, MatmulLayout::nt, MatmulLayout::tn})
    for (const DType type : types) one(ops, random, layout, 203, 301, 517, type, type, type, true);
  for (const DType type : types) {
    one(ops, random, MatmulLayout::nn, 17, 35, 4500, type, type, type, false);   // several outer blocks of k
    one(ops, random, MatmulLayout::tn, 2100, 20, 9, type, type, type, false);    // … of m
    one(ops, random, MatmulLayout::nt, 20, 2100, 9, type, type, type, true);     // … of n
    one(ops, random, MatmulLayout::nt, 3, 1001, 513, type, type, type, false);   // skinny, in parallel
    one(ops, random, MatmulLayout::nt, 29, 1021, 1037, type, type, type, true);  // … with many rows
    one(ops, random, MatmulLayout::nt, 75, 1021, 600, type, type, type, true);   // weights packed strip by strip
    for (const int64_t rows : {2, 4, 5, 6, 7, 10, 11, 12})  // groups of every size, columns that are no whole blocks
      one(ops, random, MatmulLayout::nt, rows, 205, 1301, type, type, type, rows % 4 == 0);
    test_rows(ops, random, type, Invariance::few_rows, 40);
    test_rows(ops, random, type, Invariance::many_rows, 600);
    test_left_over(ops, random, type);
    test_together(ops, random, type, Invariance::few_rows);
    test_together(ops, random, type, Invariance::many_rows);
  }

  // Strips and several blocks of k, also of pairs, which are half as many; weights in bf16 beside activations in f32.
  one(ops, random, MatmulLayout::nt, 75, 1021, 2301, DType::bf16, DType::bf16, DType::bf16, true);
  for (const MatmulLayout layout : {MatmulLayout::nn, MatmulLayout::nt, MatmulLayout::tn})
    one(ops, random, layout, 61, 530, 2301, DType::f32, DType::bf16, DType::f32, false);
  // So many rows that a block of k is one part of it, whatever the layout.
  for (const DType type : types) one(ops, random, MatmulLayout::nt, 263, 300, 2301, type, type, type, true);

  // Register blocks that are all whole, whatever the instruction set: the last one's results are stored too.
  for (const MatmulLayout layout : {MatmulLayout::nn, MatmulLayout::nt, MatmulLayout::tn})
    for (const DType type : types)
      for (const bool accumulate : {false, true})
        one(ops, random, layout, 168, 1024, 70, type, type, type, accumulate, Invariance::many_rows);

  // A row of a skinny product does not depend on the other rows.
  Tensor a = Tensor::normal(DType::f32, 8 * 100, random), b = Tensor::normal(DType::f32, 50 * 100, random);
  Tensor eight(DType::f32, 8 * 50), one_row(DType::f32, 50);
  ops.matmul({a.ref(), b.ref(), eight.ref(), 8, 50, 100, MatmulLayout::nt, false});
  ops.matmul({a.ref(), b.ref(), one_row.ref(), 1, 50, 100, MatmulLayout::nt, false});
  bool same = true;
  for (size_t i = 0; i < 50; ++i) same = same && eight.get(i) == one_row.get(i);
  check(same, "skinny matmul: rows independent of the batch");

  // NaN and infinity go where they belong and nowhere else.
  Tensor x = Tensor::normal(DType::f32, 20 * 30, random), y = Tensor::normal(DType::f32, 30 * 40, random),
         z(DType::f32, 20 * 40);
  x.set(3 * 30 + 4, NAN);
  ops.matmul({x.ref(), y.ref(), z.ref(), 20, 40, 30, MatmulLayout::nn, false});
  int wrong = 0;
  for (size_t i = 0; i < 20 * 40; ++i) wrong += std::isnan(z.get(i)) != (i / 40 == 3);
  check(wrong == 0, "matmul: NaN in one row");
}

}  // namespace alma::test

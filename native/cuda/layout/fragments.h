// Which element of a matrix each lane of a warp holds in each register of an mma fragment (PTX ISA, "Matrix Fragments for mma.m16n8k16").
// Pure functions: kernels, emulator and tests use the same ones.
#pragma once

#ifdef __CUDACC__
#define ALMA_LAYOUT __host__ __device__ constexpr
#else
#define ALMA_LAYOUT constexpr
#endif

namespace alma::layout {

struct Place {
  int row, col;
};

// Element i (0 … 7) of the bf16 fragment of a, 16 rows × 16 columns; registers hold elements 2r and 2r + 1.
ALMA_LAYOUT Place fragment_a(int lane, int i) {
  return {lane / 4 + ((i >> 1) & 1) * 8, lane % 4 * 2 + (i & 1) + (i >> 2) * 8};
}

// Element i (0 … 3) of the bf16 fragment of b, 16 rows (k) × 8 columns (n).
ALMA_LAYOUT Place fragment_b(int lane, int i) { return {lane % 4 * 2 + (i & 1) + (i >> 1) * 8, lane / 4}; }

// Element i (0 … 3) of the f32 accumulator, 16 rows × 8 columns.
ALMA_LAYOUT Place fragment_accumulator(int lane, int i) { return {lane / 4 + (i >> 1) * 8, lane % 4 * 2 + (i & 1)}; }

// ldmatrix: register r of a lane holds elements (2r', 2r'+1) of row `lane / 4` of 8×8 matrix r; with .trans, of the transposed matrix.
// Gives the place in matrix r of element e (0, 1).
ALMA_LAYOUT Place ldmatrix_element(int lane, int e, bool transposed) {
  return transposed ? Place{lane % 4 * 2 + e, lane / 4} : Place{lane / 4, lane % 4 * 2 + e};
}

// Which lane's address names row `row` of matrix `matrix`.
ALMA_LAYOUT int ldmatrix_address_lane(int matrix, int row) { return matrix * 8 + row; }

}  // namespace alma::layout

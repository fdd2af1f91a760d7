// Panels: B of a matrix product copied into strips two vectors wide, so that the micro-kernel reads it in one stream.
//
// Panels of B (k, n): the runs of 512 along k one after the other; in each run the strips of panel_width columns one
// after the other; in each strip element (kk, j) at [kk * panel_width + j]. Columns past n are zeros. So the strip of
// columns j.. in the run that starts at kk begins at kk * padded(n) + j * (length of the run), and all panels take
// k * padded(n) elements.
#pragma once

#include "gemm_kernel.h"

namespace {

FASTBP_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
template <class T>
FASTBP_INLINE int64_t padded_columns(int64_t n) {
  return ceil_div(n, panel_width<T>) * panel_width<T>;
}

// One strip from B stored with contiguous rows: B(kk, j) at b[kk * stride + j], `columns` of them.
template <class T>
void pack_strip(const T* b, int64_t stride, int64_t columns, int64_t k, T* strip) {
  constexpr int64_t L = lanes<T>;
  const int64_t low = smaller(columns, L), high = columns - low;
  for (int64_t kk = 0; kk < k; ++kk, b += stride, strip += 2 * L) {
    store(strip, load_n(b, low));
    store(strip + L, load_n(b + low, high));
  }
}

// One strip from B stored with contiguous columns: B(kk, j) at b[j * stride + kk]. Its lines are filled one by one: by
// halves of the strip, the second half would find them gone from the first-level cache.
template <class T>
void pack_strip_transposed(const T* b, int64_t stride, int64_t columns, int64_t k, T* strip) {
  constexpr int64_t L = lanes<T>, W = panel_width<T>;
  for (int64_t kk = 0; kk < k; kk += L) {
    for (int64_t j = 0; j < W; j += L) {
      const int64_t present = columns < j ? 0 : smaller(columns - j, L);
      vec<T> x[L];
      load_square(b + j * stride + kk, stride, present, smaller(k - kk, L), x);
      transpose_square<T>(x);
      store_square(strip + kk * W + j, W, smaller(k - kk, L), L, x);
    }
  }
}

// The strips of `columns` columns over one run of k, from B(kk, j) at b[kk * b_k + j * b_column], one stride being 1.
template <class T>
void pack_strips(const T* b, int64_t b_k, int64_t b_column, int64_t columns, int64_t k, T* strips) {
  constexpr int64_t W = panel_width<T>;
  if (b_column != 1) {
    for (int64_t j = 0; j < columns; j += W) {
      pack_strip_transposed(b + j * b_column, b_column, smaller(columns - j, W), k, strips + j * k);
    }
    return;
  }
  const int64_t whole = columns / W * W;
  for (int64_t kk = 0; kk < k; kk += 4) {  // four rows of each strip at a time: runs of 4 on both sides
    const int64_t rows = smaller(k - kk, 4);
    T* to = strips + kk * W;
    for (int64_t j = 0; j < whole; j += W, to += W * k) {
      const T* from = b + kk * b_k + j;
      for (int64_t r = 0; r < rows; ++r) {
        store(to + r * W, load(from + r * b_k));
        store(to + r * W + lanes<T>, load(from + r * b_k + lanes<T>));
      }
    }
  }
  if (whole < columns) pack_strip(b + whole, b_k, columns - whole, k, strips + whole * k);
}

// Rows of A copied one after the other, `kPackedRow` apart: for rows whose distance is a large power of two, so that
// they would fall into the same few cache sets. 512 and one cache line keep neighbours in different sets.
template <class T>
inline constexpr int64_t kPackedRow = kChunk + 64 / int64_t(sizeof(T));

template <class T>
void pack_rows(const T* a, int64_t stride, int64_t rows, int64_t k, T* out) {
  for (int64_t r = 0; r < rows; ++r) __builtin_memcpy(out + r * kPackedRow<T>, a + r * stride, size_t(k) * sizeof(T));
}

// The same from A stored with contiguous columns: A(r, kk) at a[kk * stride + r].
template <class T>
void pack_rows_transposed(const T* a, int64_t stride, int64_t rows, int64_t k, T* out) {
  constexpr int64_t L = lanes<T>;
  for (int64_t kk = 0; kk < k; kk += L) {
    for (int64_t r = 0; r < rows; r += L) {
      vec<T> x[L];
      load_square(a + kk * stride + r, stride, smaller(k - kk, L), smaller(rows - r, L), x);
      transpose_square<T>(x);
      store_square(out + r * kPackedRow<T> + kk, kPackedRow<T>, smaller(rows - r, L), smaller(k - kk, L), x);
    }
  }
}

}  // namespace

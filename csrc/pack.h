// Panels: B of a matrix product copied into strips two vectors wide, so that the micro-kernel reads it in one stream.
//
// Panels of B (k, n): the runs of 512 along k one after the other; in each run the strips of panel_width columns one
// after the other; in each strip element (kk, j) at [kk * panel_width + j]. Columns past n are zeros. So the strip of
// columns j.. in the run that starts at kk begins at kk * padded(n) + j * (length of the run), and all panels take
// k * padded(n) elements.
#pragma once

#include "gemm_kernel.h"

namespace {

FASTBP_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
FASTBP_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
template <class T> FASTBP_INLINE int64_t padded_columns(int64_t n) { return ceil_div(n, panel_width<T>) * panel_width<T>; }

// Transposes lanes × lanes values in registers: first inside pieces of 16 bytes, where shuffles are cheap, by
// interleaving runs of 1, 2, ... elements of neighbouring rows; then whole pieces, by separating even and odd ones.
template <class T> struct Transpose {
  static constexpr int kLanes = lanes<T>;
  static constexpr int kPiece = kLanes < int(16 / sizeof(T)) ? kLanes : int(16 / sizeof(T));

  // Element i of the low (half = 0) or high interleaving of runs of `run` elements of a and b.
  static constexpr int interleaved(int i, int run, int half) {
    const int piece = i / kPiece, at = i % kPiece, which = at / run;
    return (which % 2) * kLanes + piece * kPiece + (which / 2) * run + half * (kPiece / 2) + at % run;
  }
  static constexpr int separated(int i, int odd) { return (2 * (i / kPiece) + odd) * kPiece + i % kPiece; }

  template <int run, int half, int... i> static FASTBP_INLINE vec<T> interleave(vec<T> a, vec<T> b, Indices<i...>) {
    return __builtin_shufflevector(a, b, interleaved(i, run, half)...);
  }
  template <int odd, int... i> static FASTBP_INLINE vec<T> separate(vec<T> a, vec<T> b, Indices<i...>) {
    return __builtin_shufflevector(a, b, separated(i, odd)...);
  }

  // Rows r and r + run of each group of 2·run rows give rows 2r and 2r + 1 of it, two halves of runs twice as long.
  template <int run> static FASTBP_INLINE void inside_pieces(vec<T> (&x)[kLanes]) {
    if constexpr (run < kPiece) {
      constexpr auto all = indices<kLanes>{};
      vec<T> y[kLanes];
      FASTBP_UNROLL for (int pair = 0; pair < kLanes / 2; ++pair) {
        const int group = pair / run * 2 * run, r = pair % run;
        y[group + 2 * r] = interleave<run, 0>(x[group + r], x[group + run + r], all);
        y[group + 2 * r + 1] = interleave<run, 1>(x[group + r], x[group + run + r], all);
      }
      FASTBP_UNROLL for (int r = 0; r < kLanes; ++r) x[r] = y[r];
      inside_pieces<2 * run>(x);
    }
  }
  // Row r of group g (rows [g·size, (g + 1)·size)) pairs with row r of group g + 1; even pieces go to row r of the
  // merged group, odd ones `size` rows further.
  template <int size> static FASTBP_INLINE void whole_pieces(vec<T> (&x)[kLanes]) {
    if constexpr (size < kLanes) {
      constexpr auto all = indices<kLanes>{};
      vec<T> y[kLanes];
      FASTBP_UNROLL for (int pair = 0; pair < kLanes / 2; ++pair) {
        const int group = pair / size * 2 * size, r = pair % size;
        y[group + r] = separate<0>(x[group + r], x[group + size + r], all);
        y[group + size + r] = separate<1>(x[group + r], x[group + size + r], all);
      }
      FASTBP_UNROLL for (int r = 0; r < kLanes; ++r) x[r] = y[r];
      whole_pieces<2 * size>(x);
    }
  }
};

template <class T> FASTBP_INLINE void transpose(vec<T> (&x)[lanes<T>]) {
  Transpose<T>::template inside_pieces<1>(x);
  Transpose<T>::template whole_pieces<Transpose<T>::kPiece>(x);
}

// Up to lanes rows of up to lanes values; what is absent loads as zeros and is not stored.
template <class T>
FASTBP_INLINE void load_square(const T* p, int64_t stride, int64_t rows, int64_t columns, vec<T> (&x)[lanes<T>]) {
  if (rows == lanes<T> && columns == lanes<T>) {
    FASTBP_UNROLL for (int r = 0; r < lanes<T>; ++r) x[r] = load(p + r * stride);
  } else {
    FASTBP_UNROLL for (int r = 0; r < lanes<T>; ++r) x[r] = r < rows ? load_n(p + r * stride, columns) : zero<T>();
  }
}
template <class T>
FASTBP_INLINE void store_square(T* p, int64_t stride, int64_t rows, int64_t columns, const vec<T> (&x)[lanes<T>]) {
  if (rows == lanes<T> && columns == lanes<T>) {
    FASTBP_UNROLL for (int r = 0; r < lanes<T>; ++r) store(p + r * stride, x[r]);
  } else {
    FASTBP_UNROLL for (int r = 0; r < lanes<T>; ++r) {
      if (r < rows) store_n(p + r * stride, x[r], columns);
    }
  }
}

// One strip from B stored with contiguous rows: B(kk, j) at b[kk * stride + j], `columns` of them.
template <class T> void pack_strip(const T* b, int64_t stride, int64_t columns, int64_t k, T* strip) {
  constexpr int64_t L = lanes<T>;
  const int64_t low = least(columns, L), high = columns - low;
  for (int64_t kk = 0; kk < k; ++kk, b += stride, strip += 2 * L) {
    store(strip, load_n(b, low));
    store(strip + L, load_n(b + low, high));
  }
}

// One strip from B stored with contiguous columns: B(kk, j) at b[j * stride + kk].
template <class T> void pack_strip_transposed(const T* b, int64_t stride, int64_t columns, int64_t k, T* strip) {
  constexpr int64_t L = lanes<T>, W = panel_width<T>;
  for (int64_t j = 0; j < W; j += L) {
    const int64_t present = columns < j ? 0 : least(columns - j, L);
    for (int64_t kk = 0; kk < k; kk += L) {
      vec<T> x[L];
      load_square(b + j * stride + kk, stride, present, least(k - kk, L), x);
      transpose<T>(x);
      store_square(strip + kk * W + j, W, least(k - kk, L), L, x);
    }
  }
}

// The strips of `columns` columns over one run of k, from B(kk, j) at b[kk * b_k + j * b_column], one stride being 1.
template <class T>
void pack_strips(const T* b, int64_t b_k, int64_t b_column, int64_t columns, int64_t k, T* strips) {
  constexpr int64_t W = panel_width<T>;
  if (b_column != 1) {
    for (int64_t j = 0; j < columns; j += W) {
      pack_strip_transposed(b + j * b_column, b_column, least(columns - j, W), k, strips + j * k);
    }
    return;
  }
  const int64_t whole = columns / W * W;
  for (int64_t kk = 0; kk < k; kk += 4) {  // four rows of each strip at a time: runs of 4 on both sides
    const int64_t rows = least(k - kk, 4);
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
template <class T> inline constexpr int64_t kPackedRow = kChunk + 64 / int64_t(sizeof(T));

template <class T> void pack_rows(const T* a, int64_t stride, int64_t rows, int64_t k, T* out) {
  for (int64_t r = 0; r < rows; ++r) __builtin_memcpy(out + r * kPackedRow<T>, a + r * stride, size_t(k) * sizeof(T));
}

// The same from A stored with contiguous columns: A(r, kk) at a[kk * stride + r].
template <class T> void pack_rows_transposed(const T* a, int64_t stride, int64_t rows, int64_t k, T* out) {
  constexpr int64_t L = lanes<T>;
  for (int64_t kk = 0; kk < k; kk += L) {
    for (int64_t r = 0; r < rows; r += L) {
      vec<T> x[L];
      load_square(a + kk * stride + r, stride, least(k - kk, L), least(rows - r, L), x);
      transpose<T>(x);
      store_square(out + r * kPackedRow<T> + kk, kPackedRow<T>, least(rows - r, L), least(k - kk, L), x);
    }
  }
}

}  // namespace

// Squares of lanes × lanes values: loaded, transposed in registers, stored.
#pragma once

#include "kernel.h"
#include "simd.h"

namespace {
using namespace fastbp;

#define FASTBP_UNROLL _Pragma("GCC unroll 16")

template <int... I>
struct Indices {};
template <int N, int... I>
struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <int... I>
struct MakeIndices<0, I...> {
  using type = Indices<I...>;
};
template <int N>
using indices = typename MakeIndices<N>::type;

// Transposes lanes × lanes values in registers: first inside pieces of 16 bytes, where shuffles are cheap, by
// interleaving runs of 1, 2, ... elements of neighbouring rows; then whole pieces, by separating even and odd ones.
template <class T>
struct Transpose {
  static constexpr int kLanes = lanes<T>;
  static constexpr int kPiece = kLanes < int(16 / sizeof(T)) ? kLanes : int(16 / sizeof(T));

  // Element i of the low (half = 0) or high interleaving of runs of `run` elements of a and b.
  static constexpr int interleaved(int i, int run, int half) {
    const int piece = i / kPiece, at = i % kPiece, which = at / run;
    return (which % 2) * kLanes + piece * kPiece + (which / 2) * run + half * (kPiece / 2) + at % run;
  }
  static constexpr int separated(int i, int odd) { return (2 * (i / kPiece) + odd) * kPiece + i % kPiece; }

  template <int run, int half, int... i>
  static FASTBP_INLINE vec<T> interleave(vec<T> a, vec<T> b, Indices<i...>) {
    return __builtin_shufflevector(a, b, interleaved(i, run, half)...);
  }
  template <int odd, int... i>
  static FASTBP_INLINE vec<T> separate(vec<T> a, vec<T> b, Indices<i...>) {
    return __builtin_shufflevector(a, b, separated(i, odd)...);
  }

  // Rows r and r + run of each group of 2·run rows give rows 2r and 2r + 1 of it, two halves of runs twice as long.
  template <int run>
  static FASTBP_INLINE void inside_pieces(vec<T> (&x)[kLanes]) {
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
  template <int size>
  static FASTBP_INLINE void whole_pieces(vec<T> (&x)[kLanes]) {
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

template <class T>
FASTBP_INLINE void transpose_square(vec<T> (&x)[lanes<T>]) {
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

}  // namespace

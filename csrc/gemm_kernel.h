// The micro-kernel of matrix products: R rows × V vectors of the output, held in registers over one run of k.
//
// Each output is one ascending chain of fused multiply-adds from +0 (the numerical contract), so the shape of a tile
// and the number of lanes cannot change a bit. B comes as contiguous vectors, A as broadcast scalars.
#pragma once

#include "sum.h"
#include "transpose.h"

namespace {

// A panel is a strip of B, two vectors wide: element (kk, j) at [kk * panel_width + j].
template <class T>
inline constexpr int panel_width = 2 * lanes<T>;

template <class T>
struct Tile {
  const T* a;  // A(row, kk) at a[row * a_row + kk * a_k]
  int64_t a_row;
  int64_t a_k;
  const T* b;  // vector v of B(kk, ·) at b[kk * b_k + (v / 2) * b_pair + (v % 2) * lanes]
  int64_t b_k;
  int64_t b_pair;
  int64_t b_column;  // tile_transposed alone: B(kk, j) at b[j * b_column + kk]
  T* c;              // C(row, j) at c[row * c_row + j]
  int64_t c_row;
  const T* bias;  // added last, or null
  int64_t k;
  int64_t tail;  // columns in the last vector, 1 to lanes
  bool add;      // C += product instead of C = product
};

template <class T>
using TileFn = void (*)(const Tile<T>&);

// C from the sums of a tile.
template <class T, int R, int V>
FASTBP_INLINE void store_tile(const Tile<T>& t, vec<T> (&sum)[R][V]) {
  // The last vector may be a part; a masked store is slow, so whole ones avoid it.
  const int64_t tail = t.tail, c_row = t.c_row;
  const bool whole = tail == lanes<T>;
  constexpr int last = V - 1;
  if (t.add) {
    FASTBP_UNROLL for (int r = 0; r < R; ++r) {
      const T* p = t.c + r * c_row;
      FASTBP_UNROLL for (int v = 0; v < last; ++v) sum[r][v] = load(p + v * lanes<T>) + sum[r][v];
      p += last * lanes<T>;
      sum[r][last] = (whole ? load(p) : load_n(p, tail)) + sum[r][last];
    }
  }
  if (t.bias) {
    FASTBP_UNROLL for (int v = 0; v < V; ++v) {
      const T* p = t.bias + v * lanes<T>;
      const vec<T> bias = v < last || whole ? load(p) : load_n(p, tail);
      FASTBP_UNROLL for (int r = 0; r < R; ++r) sum[r][v] = sum[r][v] + bias;
    }
  }
  FASTBP_UNROLL for (int r = 0; r < R; ++r) {
    T* p = t.c + r * c_row;
    FASTBP_UNROLL for (int v = 0; v < last; ++v) store(p + v * lanes<T>, sum[r][v]);
    p += last * lanes<T>;
    if (whole) store(p, sum[r][last]);
    else store_n(p, sum[r][last], tail);
  }
}

template <class T, int R, int V>
void tile(const Tile<T>& t) {
  vec<T> sum[R][V];
  FASTBP_UNROLL for (int r = 0; r < R; ++r) { FASTBP_UNROLL for (int v = 0; v < V; ++v) sum[r][v] = zero<T>(); }
  const T* a = t.a;
  const T* high = a + R / 2 * t.a_row;  // a second pointer for the upper rows: fewer offsets to keep in registers
  const T* b = t.b;
  const int64_t a_row = t.a_row, a_k = t.a_k, b_k = t.b_k, b_pair = t.b_pair;
  // Unrolled, pointers and counter are fewer of the instructions. Alone on its core a thread can afford them; where a
  // second hardware thread shares the core, the rate of issue decides (0.72 of the peak before, 0.84 after).
#pragma GCC unroll 4
  for (int64_t left = t.k; left > 0; --left) {
    const auto a_at = [=](int r) { return set1<T>(r < R / 2 ? a[r * a_row] : high[(r - R / 2) * a_row]); };
    const auto b_at = [=](int v) { return load(b + (v / 2) * b_pair + (v % 2) * lanes<T>); };
    // The shorter side stays in registers, R * V sums beside it, and the other passes through the one that is left.
    if constexpr (R < V) {
      vec<T> as[R];
      FASTBP_UNROLL for (int r = 0; r < R; ++r) as[r] = a_at(r);
      FASTBP_UNROLL for (int v = 0; v < V; ++v) {
        const vec<T> bs = b_at(v);
        FASTBP_UNROLL for (int r = 0; r < R; ++r) sum[r][v] = fma(as[r], bs, sum[r][v]);
      }
    } else {
      vec<T> bs[V];
      FASTBP_UNROLL for (int v = 0; v < V; ++v) bs[v] = b_at(v);
      FASTBP_UNROLL for (int r = 0; r < R; ++r) {
        const vec<T> as = a_at(r);
        FASTBP_UNROLL for (int v = 0; v < V; ++v) sum[r][v] = fma(as, bs[v], sum[r][v]);
      }
    }
    a += a_k;
    high += a_k;
    b += b_k;
  }
  store_tile<T, R, V>(t, sum);
}

// The same from a B stored with contiguous columns, transposed on the way: for so few rows that a copy would not pay.
template <class T, int R, int V>
void tile_transposed(const Tile<T>& t) {
  constexpr int L = lanes<T>;
  vec<T> sum[R][V];
  FASTBP_UNROLL for (int r = 0; r < R; ++r) { FASTBP_UNROLL for (int v = 0; v < V; ++v) sum[r][v] = zero<T>(); }
  const int64_t a_row = t.a_row, a_k = t.a_k;
  for (int64_t kk = 0; kk < t.k; kk += L) {
    const T* a = t.a + kk * a_k;
    const int64_t count = smaller(t.k - kk, L);
    FASTBP_UNROLL for (int v = 0; v < V; ++v) {
      vec<T> bs[L];
      load_square(t.b + v * L * t.b_column + kk, t.b_column, v + 1 < V ? L : t.tail, count, bs);
      transpose_square<T>(bs);
      FASTBP_UNROLL for (int i = 0; i < L; ++i) {
        if (i >= count) break;
        FASTBP_UNROLL for (int r = 0; r < R; ++r) sum[r][v] = fma(set1<T>(a[r * a_row + i * a_k]), bs[i], sum[r][v]);
      }
    }
  }
  store_tile<T, R, V>(t, sum);
}

// Rows of a tile for 1, 2 and 4 vectors: as many sums as the registers hold beside V vectors of B and one broadcast
// (16 registers on AVX2, 32 on AVX-512 and NEON), and at least 8 sums = 2 FMA ports × 4 cycles latency where possible.
#if defined(FASTBP_SIMD_AVX2)
constexpr int kRows1 = 12, kRows2 = 6, kRows4 = 3;
#elif defined(FASTBP_SIMD_AVX512)
constexpr int kRows1 = 14, kRows2 = 14, kRows4 = 6;
#elif defined(FASTBP_SIMD_NEON)
constexpr int kRows1 = 12, kRows2 = 10, kRows4 = 5;
#else
constexpr int kRows1 = 4, kRows2 = 4, kRows4 = 1;
#endif
// Rows of tile_transposed: more would not fit beside the square.
constexpr int kRowsTransposed = 3;

// [rows - 1] for 1, 2 and 4 vectors.
template <class T>
struct TileTable {
  TileFn<T> one[kRows1];
  TileFn<T> two[kRows2];
  TileFn<T> four[kRows4];
  TileFn<T> transposed_one[kRowsTransposed];
  TileFn<T> transposed_two[kRowsTransposed];
};

template <class T, int... I, int... J, int... K, int... N>
constexpr TileTable<T> make_tiles(Indices<I...>, Indices<J...>, Indices<K...>, Indices<N...>) {
  return {{tile<T, I + 1, 1>...},
          {tile<T, J + 1, 2>...},
          {tile<T, K + 1, 4>...},
          {tile_transposed<T, N + 1, 1>...},
          {tile_transposed<T, N + 1, 2>...}};
}
template <class T>
constexpr TileTable<T> kTiles =
    make_tiles<T>(indices<kRows1>{}, indices<kRows2>{}, indices<kRows4>{}, indices<kRowsTransposed>{});

}  // namespace

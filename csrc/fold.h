// What reductions of x (outer, r, inner) to y (outer, inner) share: how they are split into units of work, and how the
// values of one row (inner = 1) or of some columns combine.
//
// A unit is one output row (inner = 1) or a block of columns. Few outputs over a long r are split over runs of 512
// instead: their results go to shared memory and a last phase merges them by the same rule, so the bits are equal.
#pragma once

#include "broadcast.h"
#include "sum.h"

namespace {
using namespace fastbp;

constexpr int64_t kBlockColumns = 64;
constexpr int64_t kFewUnits = 32;  // with fewer, a team of threads is better fed with runs of 512

template <class T>
inline constexpr bool is_integer = T(0.5) == T(0);

struct ReduceShape {
  int64_t outer, r, inner, runs, blocks;
  bool split;
  FASTBP_INLINE explicit ReduceShape(const Args& a) : outer(a.n[0]), r(a.n[1]), inner(a.n[2]) {
    runs = chunks_of(r);
    blocks = (inner + kBlockColumns - 1) / kBlockColumns;
    split = runs > 1 && outer * blocks < kFewUnits;
  }
  FASTBP_INLINE int64_t units() const { return outer * blocks; }
};

// Calls body(row of y, first column, columns) for the units [begin, end), the blocks of one row together.
template <class Body>
FASTBP_INLINE void for_each_block(const ReduceShape& s, int64_t begin, int64_t end, Body body) {
  int64_t row = begin / s.blocks, block = begin % s.blocks;
  for (int64_t left = end - begin; left > 0; ++row, block = 0) {
    const int64_t blocks = smaller(left, s.blocks - block), first = block * kBlockColumns;
    body(row, first, smaller(s.inner, first + blocks * kBlockColumns) - first);
    left -= blocks;
  }
}

template <bool kMax, bool kNan, class T>
FASTBP_INLINE T row_extreme_float(const T* x, int64_t n) {
  const auto combine = [](vec<T> a, vec<T> b)
                           __attribute__((always_inline)) { return kMax ? at_least(a, b) : at_most(a, b); };
  vec<T> best, other;
  auto bad = ne(zero<T>(), zero<T>());
  if (n < lanes<T>) {
    const T last = static_cast<T>(kMax ? -__builtin_inf() : __builtin_inf());
    best = other = select(first_lanes<T>(n), load_n(x, n), set1<T>(last));
    if constexpr (kNan) bad = ne(best, best);
  } else {
    best = other = load(x + n - lanes<T>);  // the tail, overlapping what follows
    if constexpr (kNan) bad = ne(best, best);
    int64_t i = 0;
    for (; i + 2 * lanes<T> <= n; i += 2 * lanes<T>) {
      const vec<T> a = load(x + i), b = load(x + i + lanes<T>);
      best = combine(best, a);
      other = combine(other, b);
      if constexpr (kNan) bad = m_or(bad, m_or(ne(a, a), ne(b, b)));
    }
    if (i + lanes<T> <= n) {
      const vec<T> a = load(x + i);
      best = combine(best, a);
      if constexpr (kNan) bad = m_or(bad, ne(a, a));
    }
  }
  if (kNan && any<T>(bad)) return static_cast<T>(__builtin_nan(""));
  return fold_lanes<T>(combine(best, other), combine);
}

// The largest (smallest) value of a row. A NaN wins with kNan, else it may get lost; a zero may have either sign.
template <bool kMax, bool kNan, class T>
FASTBP_INLINE T row_extreme(const T* x, int64_t n) {
  if constexpr (is_integer<T>) {
    T best = kMax ? INT64_MIN : INT64_MAX;
    for (int64_t i = 0; i < n; ++i) best = (kMax ? best < x[i] : x[i] < best) ? x[i] : best;
    return best;
  } else {
    return row_extreme_float<kMax, kNan>(x, n);
  }
}

// ---------------------------------------------------------------- folds: how values of one row or column combine

struct SumFold {
  template <class T>
  static FASTBP_INLINE T row(const T* x, int64_t n) {
    if constexpr (is_integer<T>) {
      uint64_t sum = 0;  // wraps around, as NumPy's does
      for (int64_t i = 0; i < n; ++i) sum += static_cast<uint64_t>(x[i]);
      return static_cast<T>(sum);
    } else {
      return row_sum(x, n);
    }
  }
  // y[j] over r rows of x, j < w.
  template <class T>
  static FASTBP_INLINE void columns(const T* x, int64_t r, int64_t stride, int64_t w, T* y) {
    if constexpr (is_integer<T>) {
      for (int64_t j = 0; j < w; ++j) y[j] = 0;
      for (int64_t i = 0; i < r; ++i)
        for (int64_t j = 0; j < w; ++j) y[j] = IntAdd::apply(y[j], x[i * stride + j]);
    } else {
      column_sums<T>(r, w, y, [=](vec<T> acc, int64_t i, int64_t j, int64_t n) __attribute__((always_inline)) {
        return acc + load_some(x + i * stride + j, n);
      });
    }
  }
  template <class T>
  static FASTBP_INLINE T merge(const T* run, int64_t n) {
    if constexpr (is_integer<T>) return row(run, n);
    else return merge_runs(run, n);
  }
  template <class T>
  static FASTBP_INLINE void merge_columns(const T* run, int64_t n, int64_t stride, int64_t w, T* y) {
    if constexpr (is_integer<T>) columns(run, n, stride, w, y);
    else merge_column_runs(run, n, stride, w, y);
  }
};

// The order of an extreme does not matter, so runs need no rule.
template <class Op, class IntOp, bool kMax>
struct ExtremeFold {
  template <class T>
  static constexpr T identity() {
    if constexpr (is_integer<T>) return kMax ? INT64_MIN : INT64_MAX;
    else return kMax ? -static_cast<T>(__builtin_inf()) : static_cast<T>(__builtin_inf());
  }
  template <class T>
  static FASTBP_INLINE T row(const T* x, int64_t n) {
    const T best = row_extreme<kMax, true>(x, n);
    if constexpr (!is_integer<T>) {
      for (int64_t i = 0; best == 0 && i < n; ++i)
        if (x[i] == 0 && (__builtin_signbit(x[i]) != 0) != kMax) return x[i];
    }
    return best;
  }
  template <class T>
  static FASTBP_INLINE void columns(const T* x, int64_t r, int64_t stride, int64_t w, T* y) {
    if constexpr (is_integer<T>) {
      for (int64_t j = 0; j < w; ++j) y[j] = identity<T>();
      for (int64_t i = 0; i < r; ++i)
        for (int64_t j = 0; j < w; ++j) y[j] = IntOp::apply(y[j], x[i * stride + j]);
    } else {
      const auto step = [=](vec<T> acc, int64_t i, int64_t j, int64_t n) __attribute__((always_inline)) {
        return Op::template apply<T>(acc, load_some(x + i * stride + j, n));
      };
      fold_columns<T>(identity<T>(), 0, r, w, y, step);
    }
  }
  template <class T>
  static FASTBP_INLINE T merge(const T* run, int64_t n) {
    return row(run, n);
  }
  template <class T>
  static FASTBP_INLINE void merge_columns(const T* run, int64_t n, int64_t stride, int64_t w, T* y) {
    columns(run, n, stride, w, y);
  }
};
using MaxFold = ExtremeFold<Maximum, IntMaximum, true>;
using MinFold = ExtremeFold<Minimum, IntMinimum, false>;

// Results of the runs [begin, end) of a split reduction: run i of row o at partial[(o · runs + i) · inner].
template <class Fold, class T>
FASTBP_INLINE void fold_runs(const ReduceShape& s, const T* x, int64_t begin, int64_t end, T* partial) {
  for (int64_t u = begin; u < end; ++u) {
    const int64_t run = u % s.runs, at = u / s.runs * s.r + run * kChunk, rows = smaller(kChunk, s.r - run * kChunk);
    if (s.inner == 1) partial[u] = Fold::row(x + at, rows);
    else Fold::columns(x + at * s.inner, rows, s.inner, s.inner, partial + u * s.inner);
  }
}

// Merges them for the columns j … j+w−1 of row o.
template <class Fold, class T>
FASTBP_INLINE void merge_block(const ReduceShape& s, const T* partial, int64_t o, int64_t j, int64_t w, T* y) {
  if (s.inner == 1) *y = Fold::merge(partial + o * s.runs, s.runs);
  else Fold::merge_columns(partial + o * s.runs * s.inner + j, s.runs, s.inner, w, y);
}

inline int64_t reduce_units(const Args& a) {
  const ReduceShape s(a);
  return s.split ? s.outer * s.runs : s.units();
}
inline int64_t reduce_merge_units(const Args& a) {
  const ReduceShape s(a);
  return s.split ? s.units() : 0;
}
template <int Cost>
int64_t reduce_work(const Args& a) {
  return a.n[0] * a.n[1] * a.n[2] * Cost;
}
template <int Bytes>
int64_t reduce_shared(const Args& a) {
  const ReduceShape s(a);
  return s.split ? s.outer * s.runs * s.inner * Bytes : 0;
}

}  // namespace

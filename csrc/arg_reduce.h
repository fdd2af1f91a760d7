// argmax and argmin: x (outer, r, inner) → y int64 (outer, inner), the place along r of the first of the largest
// (smallest; +0 equals −0) or of the first NaN. Args as in reduce.h; r ≥ 1.
#pragma once

#include "fold.h"

namespace {
using namespace fastbp;

template <bool kMax, class T>
FASTBP_INLINE bool better(T x, T best) {
  return (kMax ? x > best : x < best) || (x != x && best == best);
}

// The first place where x equals `value`, or is NaN where `value` is; it is there. n is at most a run.
template <class T>
FASTBP_INLINE int64_t first_place(const T* x, int64_t n, T value) {
  if constexpr (is_integer<T>) {
    int64_t i = 0;
    while (x[i] != value) ++i;
    return i;
  } else {
    const vec<T> sought = set1<T>(value), beyond = set1<T>(static_cast<T>(kChunk));
    const auto least = [](vec<T> a, vec<T> b) __attribute__((always_inline)) { return at_most(a, b); };
    vec<T> place = to_float(lane_index<T>()), best = beyond;
    for (int64_t i = 0; i < n; i += lanes<T>, place = place + set1<T>(static_cast<T>(lanes<T>))) {
      const vec<T> some = load_some(x + i, n - i);
      const auto found = value == value ? eq(some, sought) : ne(some, some);
      best = least(best, select(m_and(found, first_lanes<T>(smaller(n - i, lanes<T>))), place, beyond));
    }
    return static_cast<int64_t>(fold_lanes<T>(best, least));
  }
}

// The best value of each run first, then its place in the best run.
template <bool kMax, class T>
FASTBP_INLINE int64_t arg_row(const T* x, int64_t r) {
  T best = x[0];
  int64_t at = 0;
  for (int64_t i = 0; i < r; i += kChunk) {
    const T value = row_extreme<kMax, true>(x + i, smaller(kChunk, r - i));
    if (!better<kMax>(value, best)) continue;
    best = value;
    at = i;
  }
  return at + first_place(x + at, smaller(kChunk, r - at), best);
}

// Places within a run, counted in integers as wide as T so that the compiler vectorises the choice.
template <class T>
struct PlaceOf {
  using type = int64_t;
};
template <>
struct PlaceOf<float> {
  using type = int32_t;
};

template <bool kMax, class T>
void arg_columns(const T* x, int64_t r, int64_t stride, int64_t w, int64_t* y) {
  using Place = typename PlaceOf<T>::type;
  T best[kBlockColumns];
  Place place[kBlockColumns];
  for (int64_t first = 0; first < w; first += kBlockColumns) {
    const int64_t n = smaller(kBlockColumns, w - first);
    for (int64_t begin = 0; begin < r; begin += kChunk) {
      const T* from = x + begin * stride + first;
      const Place rows = static_cast<Place>(smaller(kChunk, r - begin));
      for (int64_t j = 0; j < n; ++j) best[j] = from[j], place[j] = 0;
      for (Place i = 1; i < rows; ++i) {
        const T* row = from + i * stride;
        for (int64_t j = 0; j < n; ++j) {
          const bool wins = better<kMax>(row[j], best[j]);
          best[j] = wins ? row[j] : best[j];
          place[j] = wins ? i : place[j];
        }
      }
      for (int64_t j = 0; j < n; ++j) {
        int64_t& at = y[first + j];
        if (begin == 0 || better<kMax>(best[j], x[at * stride + first + j])) at = begin + place[j];
      }
    }
  }
}

template <bool kMax, class T>
void arg_reduce(const Args& a, int64_t begin, int64_t end, Scratch scratch) {
  const ReduceShape s(a);
  const T* x = static_cast<const T*>(a.p[0]);
  int64_t* y = static_cast<int64_t*>(a.p[1]);
  if (s.split) {
    int64_t* partial = static_cast<int64_t*>(scratch.shared);  // places counted from the start of the run
    for (int64_t u = begin; u < end; ++u) {
      const int64_t run = u % s.runs, rows = smaller(kChunk, s.r - run * kChunk);
      const T* from = x + (u / s.runs * s.r + run * kChunk) * s.inner;
      if (s.inner == 1) partial[u] = arg_row<kMax>(from, rows);
      else arg_columns<kMax>(from, rows, s.inner, s.inner, partial + u * s.inner);
    }
  } else if (s.inner == 1) {
    for (int64_t o = begin; o < end; ++o) y[o] = arg_row<kMax>(x + o * s.r, s.r);
  } else {
    for_each_block(s, begin, end, [&](int64_t o, int64_t j, int64_t w) {
      arg_columns<kMax>(x + o * s.r * s.inner + j, s.r, s.inner, w, y + o * s.inner + j);
    });
  }
}

template <bool kMax, class T>
void arg_merge(const Args& a, int64_t begin, int64_t end, Scratch scratch) {
  const ReduceShape s(a);
  for_each_block(s, begin, end, [&](int64_t o, int64_t first, int64_t w) {
    const T* x = static_cast<const T*>(a.p[0]) + o * s.r * s.inner;
    const int64_t* partial = static_cast<const int64_t*>(scratch.shared) + o * s.runs * s.inner;
    for (int64_t j = first; j < first + w; ++j) {
      int64_t at = partial[j];
      for (int64_t run = 1; run < s.runs; ++run) {
        const int64_t other = run * kChunk + partial[run * s.inner + j];
        if (better<kMax>(x[other * s.inner + j], x[at * s.inner + j])) at = other;
      }
      static_cast<int64_t*>(a.p[1])[o * s.inner + j] = at;
    }
  });
}

template <bool kMax, class T>
constexpr Kernel arg_kernel() {
  return {{{arg_reduce<kMax, T>, reduce_units}, {arg_merge<kMax, T>, reduce_merge_units}},
          reduce_work<4>,
          reduce_shared<sizeof(int64_t)>};
}

template <bool kMax>
constexpr Entry arg_entry(const char* name) {
  return {name,
          Family::kArgReduce,
          0,
          {arg_kernel<kMax, float>(), arg_kernel<kMax, double>(), arg_kernel<kMax, int64_t>()}};
}

}  // namespace

// Reductions over the middle axis: x (outer, r, inner) → y (outer, inner).
//
//   sum        Σx, and for integers modulo 2^64        max, min   NaN wins, +0 above −0
//   mean       Σx / r                                  var        Σ(x − mean)² / max(r − correction, 0)
//   logsumexp  m + log Σ e^(x − m), m = max x, or 0 where that is not finite
//   argmax, argmin: in their own file
// Args: p = {x, y}; n = {outer, r, inner, correction}. Sums follow the last-axis rule when inner = 1, else the
// leading-axis rule (sum.h).
#pragma once

#include "arg_reduce.h"
#include "arg_reduce.h"
#include "fold.h"
#include "vmath.h"

namespace {
using namespace fastbp;

constexpr int64_t kRowsAtOnce = 64;  // rows whose results are finished together, on whole vectors

// ---------------------------------------------------------------- one pass: sum, mean, max, min

struct SumOp : SumFold {
  template <class T>
  static FASTBP_INLINE void finish(T*, int64_t, const Args&) {}
};
struct MeanOp : SumFold {
  template <class T>
  static FASTBP_INLINE void finish(T* y, int64_t n, const Args& a) {
    const T r = static_cast<T>(a.n[1]);
    for (int64_t i = 0; i < n; ++i) y[i] = y[i] / r;
  }
};
struct MaxOp : MaxFold {
  template <class T>
  static FASTBP_INLINE void finish(T*, int64_t, const Args&) {}
};
struct MinOp : MinFold {
  template <class T>
  static FASTBP_INLINE void finish(T*, int64_t, const Args&) {}
};

template <class Op, class T>
void reduce_once(const Args& a, int64_t begin, int64_t end, Scratch scratch) {
  const ReduceShape s(a);
  const T* x = static_cast<const T*>(a.p[0]);
  T* y = static_cast<T*>(a.p[1]);
  if (s.split) {
    fold_runs<Op>(s, x, begin, end, static_cast<T*>(scratch.shared));
  } else if (s.inner == 1) {
    for (int64_t o = begin; o < end; ++o) y[o] = Op::row(x + o * s.r, s.r);
    Op::finish(y + begin, end - begin, a);
  } else {
    for_each_block(s, begin, end, [&](int64_t o, int64_t j, int64_t w) {
      T* out = y + o * s.inner + j;
      Op::columns(x + o * s.r * s.inner + j, s.r, s.inner, w, out);
      Op::finish(out, w, a);
    });
  }
}

template <class Op, class T>
void reduce_merge(const Args& a, int64_t begin, int64_t end, Scratch scratch) {
  const ReduceShape s(a);
  for_each_block(s, begin, end, [&](int64_t o, int64_t j, int64_t w) {
    T* out = static_cast<T*>(a.p[1]) + o * s.inner + j;
    merge_block<Op>(s, static_cast<const T*>(scratch.shared), o, j, w, out);
    Op::finish(out, w, a);
  });
}

// ---------------------------------------------------------------- two passes: a pivot, then a sum about the pivot

struct VarOp {
  using First = SumFold;
  static constexpr int cost = 3;
  template <class T>
  static FASTBP_INLINE void make_pivots(T* pivot, int64_t n, const Args& a) {
    MeanOp::finish(pivot, n, a);
  }
  template <class T>
  static FASTBP_INLINE vec<T> add(vec<T> acc, vec<T> x, vec<T> pivot) {
    const vec<T> d = x - pivot;
    return fma(d, d, acc);
  }
  template <class T>
  static FASTBP_INLINE void finish(T* y, const T*, int64_t n, const Args& a) {
    const int64_t freedom = a.n[1] - a.n[3];
    const T divisor = static_cast<T>(freedom > 0 ? freedom : 0);
    for (int64_t i = 0; i < n; ++i) y[i] = y[i] / divisor;
  }
};

struct LogSumExpOp {
  using First = MaxFold;
  static constexpr int cost = 24;
  template <class T>
  static FASTBP_INLINE void make_pivots(T* pivot, int64_t n, const Args&) {
    for (int64_t i = 0; i < n; ++i) pivot[i] = pivot[i] - pivot[i] == 0 ? pivot[i] : T(0);
  }
  template <class T>
  static FASTBP_INLINE vec<T> add(vec<T> acc, vec<T> x, vec<T> pivot) {
    return acc + vexp(x - pivot);
  }
  template <class T>
  static FASTBP_INLINE void finish(T* y, const T* pivot, int64_t n, const Args&) {
    for (int64_t i = 0; i < n; i += lanes<T>)
      store_some(y + i, load_some(pivot + i, n - i) + vlog(load_some(y + i, n - i)), n - i);
  }
};

template <class Op, class T>
FASTBP_INLINE T row_about(const T* x, int64_t r, T pivot) {
  return row_sum<T>(r, [=](vec<T> acc, int64_t i, int64_t n) __attribute__((always_inline)) {
    return Op::template add<T>(acc, load_some(x + i, n), set1<T>(pivot));
  });
}

template <class Op, class T>
FASTBP_INLINE void columns_about(const T* x, int64_t r, int64_t stride, int64_t w, const T* pivot, T* y) {
  column_sums<T>(r, w, y, [=](vec<T> acc, int64_t i, int64_t j, int64_t n) __attribute__((always_inline)) {
    return Op::template add<T>(acc, load_some(x + i * stride + j, n), load_some(pivot + j, n));
  });
}

// The second results of a split reduction lie behind the first.
template <class T>
FASTBP_INLINE T* second_runs(const ReduceShape& s, Scratch scratch) {
  return static_cast<T*>(scratch.shared) + s.outer * s.runs * s.inner;
}

template <class Op, class T>
void reduce_twice(const Args& a, int64_t begin, int64_t end, Scratch scratch) {
  const ReduceShape s(a);
  const T* x = static_cast<const T*>(a.p[0]);
  T* y = static_cast<T*>(a.p[1]);
  using First = typename Op::First;
  T pivot[kColumns];
  if (s.split) {
    fold_runs<First>(s, x, begin, end, static_cast<T*>(scratch.shared));
  } else if (s.inner == 1) {
    for (int64_t o = begin; o < end; o += kRowsAtOnce) {
      const int64_t n = smaller(kRowsAtOnce, end - o);
      for (int64_t i = 0; i < n; ++i) {
        const T* row = x + (o + i) * s.r;
        pivot[i] = First::row(row, s.r);
        Op::make_pivots(pivot + i, 1, a);
        y[o + i] = row_about<Op>(row, s.r, pivot[i]);
      }
      Op::finish(y + o, pivot, n, a);
    }
  } else {
    for_each_block(s, begin, end, [&](int64_t o, int64_t j, int64_t w) {
      for (const int64_t last = j + w; j < last; j += kColumns) {
        const int64_t n = smaller(kColumns, last - j);
        const T* from = x + o * s.r * s.inner + j;
        T* out = y + o * s.inner + j;
        First::columns(from, s.r, s.inner, n, pivot);
        Op::make_pivots(pivot, n, a);
        columns_about<Op>(from, s.r, s.inner, n, pivot, out);
        Op::finish(out, pivot, n, a);
      }
    });
  }
}

// Second pass of a split reduction over the runs [begin, end); each thread finds the pivots it needs for itself.
template <class Op, class T>
void reduce_about(const Args& a, int64_t begin, int64_t end, Scratch scratch) {
  const ReduceShape s(a);
  const T* x = static_cast<const T*>(a.p[0]);
  T* second = second_runs<T>(s, scratch);
  T pivot[kColumns];
  for (int64_t u = begin; u < end;) {
    const int64_t o = u / s.runs, next = smaller(end, (o + 1) * s.runs);
    for (int64_t j = 0; j < s.inner; j += kColumns) {
      const int64_t w = smaller(kColumns, s.inner - j);
      merge_block<typename Op::First>(s, static_cast<const T*>(scratch.shared), o, j, w, pivot);
      Op::make_pivots(pivot, w, a);
      for (int64_t i = u; i < next; ++i) {
        const int64_t run = i % s.runs, rows = smaller(kChunk, s.r - run * kChunk);
        const T* from = x + (o * s.r + run * kChunk) * s.inner + j;
        if (s.inner == 1) second[i] = row_about<Op>(from, rows, pivot[0]);
        else columns_about<Op>(from, rows, s.inner, w, pivot, second + i * s.inner + j);
      }
    }
    u = next;
  }
}

template <class Op, class T>
void reduce_merge_about(const Args& a, int64_t begin, int64_t end, Scratch scratch) {
  const ReduceShape s(a);
  T pivot[kColumns];
  for_each_block(s, begin, end, [&](int64_t o, int64_t j, int64_t w) {
    for (const int64_t last = j + w; j < last; j += kColumns) {
      const int64_t n = smaller(kColumns, last - j);
      T* out = static_cast<T*>(a.p[1]) + o * s.inner + j;
      merge_block<typename Op::First>(s, static_cast<const T*>(scratch.shared), o, j, n, pivot);
      Op::make_pivots(pivot, n, a);
      merge_block<SumFold>(s, static_cast<const T*>(second_runs<T>(s, scratch)), o, j, n, out);
      Op::finish(out, pivot, n, a);
    }
  });
}

// ---------------------------------------------------------------- entries

inline int64_t reduce_second_units(const Args& a) {
  const ReduceShape s(a);
  return s.split ? s.outer * s.runs : 0;
}
template <class Op, class T>
constexpr Kernel once_kernel() {
  return {{{reduce_once<Op, T>, reduce_units}, {reduce_merge<Op, T>, reduce_merge_units}},
          reduce_work<4>,
          reduce_shared<sizeof(T)>};
}
template <class Op, class T>
constexpr Kernel twice_kernel() {
  return {{{reduce_twice<Op, T>, reduce_units},
           {reduce_about<Op, T>, reduce_second_units},
           {reduce_merge_about<Op, T>, reduce_merge_units}},
          reduce_work<Op::cost>,
          reduce_shared<2 * sizeof(T)>};
}
template <class Op, bool kIntegers>
constexpr Entry once_entry(const char* name) {
  Entry e{name, Family::kReduce, 0, {once_kernel<Op, float>(), once_kernel<Op, double>()}};
  if constexpr (kIntegers) e.kernel[kInt64] = once_kernel<Op, int64_t>();
  return e;
}
template <class Op>
constexpr Entry twice_entry(const char* name, int constants) {
  return {name, Family::kReduce, constants, {twice_kernel<Op, float>(), twice_kernel<Op, double>()}};
}

constexpr Entry kReduceEntries[] = {
    once_entry<SumOp, true>("reduce_sum"),
    once_entry<MeanOp, false>("reduce_mean"),
    once_entry<MaxOp, true>("reduce_max"),
    once_entry<MinOp, true>("reduce_min"),
    twice_entry<VarOp>("reduce_var", 1),
    twice_entry<LogSumExpOp>("reduce_logsumexp", 0),
    arg_entry<true>("argmax"),
    arg_entry<false>("argmin"),
};

}  // namespace

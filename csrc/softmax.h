// Softmax over rows (rows, cols).
//
// softmax y = e^(x − m) / Σ e^(x − m), m = max x; backward dx = y ⊙ (dy − Σ dy ⊙ y).
// log_softmax y = (x − m) − log Σ e^(x − m); backward dx = dy − e^y Σ dy.
// Args: p = {x, y} or {dy, y, dx}; n = {rows, cols}. Sums follow the last-axis rule (sum.h).
//
// Short rows go in blocks, one step for the whole block at a time: rows are independent, so their latencies overlap,
// and what is one number a row (logarithm, reciprocal) fills whole vectors. Long rows go one by one and stay in cache.
#pragma once

#include "fold.h"
#include "vmath.h"

namespace {
using namespace fastbp;

constexpr int64_t kRowBlock = 32;            // a multiple of every lane count
constexpr int64_t kRowBlockElements = 2048;  // inputs and outputs of a block: half a first-level cache of 32 KiB

FASTBP_INLINE int64_t rows_together(int64_t cols) {
  const int64_t rows = cols > 0 ? kRowBlockElements / cols : kRowBlock;
  return rows < 1 ? 1 : smaller(rows, kRowBlock);
}

// The largest value of a row, to be taken from its terms. A NaN may get lost here, but not in the sum of their
// exponentials; a zero comes out as +0.
template <class T>
FASTBP_INLINE T row_peak(const T* x, int64_t n) {
  return row_extreme<true, false>(x, n) + T(0);
}

// y[j] = f(j, n) for the columns of a row, n of them at a time.
template <class T, class F>
FASTBP_INLINE void map_row(T* y, int64_t cols, F f) {
  int64_t j = 0;
  for (; j + lanes<T> <= cols; j += lanes<T>) store(y + j, f(j, static_cast<int64_t>(lanes<T>)));
  if (j < cols) store_n(y + j, f(j, cols - j), cols - j);
}

// Σ e^(x − peak) over a row; the terms themselves go to e when it is wanted.
template <class T, bool kStore>
FASTBP_INLINE T exp_sum(const T* x, int64_t cols, T peak, T* e) {
  return row_sum<T>(cols, [=](vec<T> acc, int64_t j, int64_t n) __attribute__((always_inline)) {
    const vec<T> term = vexp(load_some(x + j, n) - set1<T>(peak));
    if constexpr (kStore) store_some(e + j, term, n);
    return acc + term;
  });
}

// x[i] = f(x[i]) for the numbers of a block, on whole vectors.
template <class T, class F>
FASTBP_INLINE void map_block(T (&x)[kRowBlock], int64_t rows, F f) {
  for (int64_t i = 0; i < rows; i += lanes<T>) store(x + i, f(load(x + i)));
}

template <class T>
void softmax_forward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t cols = a.n[1], together = rows_together(cols);
  const T* x = static_cast<const T*>(a.p[0]);
  T* y = static_cast<T*>(a.p[1]);
  T scale[kRowBlock] = {};
  for (int64_t first = begin; first < end; first += together) {
    const int64_t rows = smaller(together, end - first);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = (first + i) * cols;
      scale[i] = exp_sum<T, true>(x + at, cols, row_peak(x + at, cols), y + at);
    }
    map_block(scale, rows, [](vec<T> sum) __attribute__((always_inline)) { return set1<T>(1) / sum; });
    for (int64_t i = 0; i < rows; ++i) {
      T* row = y + (first + i) * cols;
      map_row(row, cols, [&](int64_t j, int64_t n) __attribute__((always_inline)) {
        return load_some(row + j, n) * set1<T>(scale[i]);
      });
    }
  }
}

template <class T>
void softmax_backward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t cols = a.n[1];
  for (int64_t at = begin * cols; at < end * cols; at += cols) {
    const T *dy = static_cast<const T*>(a.p[0]) + at, *y = static_cast<const T*>(a.p[1]) + at;
    const T dot = row_sum<T>(cols, [=](vec<T> acc, int64_t j, int64_t n) __attribute__((always_inline)) {
      return fma(load_some(dy + j, n), load_some(y + j, n), acc);
    });
    map_row(static_cast<T*>(a.p[2]) + at, cols, [=](int64_t j, int64_t n) __attribute__((always_inline)) {
      return load_some(y + j, n) * (load_some(dy + j, n) - set1<T>(dot));
    });
  }
}

template <class T>
void log_softmax_forward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t cols = a.n[1], together = rows_together(cols);
  const T* x = static_cast<const T*>(a.p[0]);
  T peak[kRowBlock], log_sum[kRowBlock] = {};
  for (int64_t first = begin; first < end; first += together) {
    const int64_t rows = smaller(together, end - first);
    for (int64_t i = 0; i < rows; ++i) {
      const T* row = x + (first + i) * cols;
      peak[i] = row_peak(row, cols);
      log_sum[i] = exp_sum<T, false>(row, cols, peak[i], nullptr);
    }
    map_block(log_sum, rows, [](vec<T> sum) __attribute__((always_inline)) { return vlog(sum); });
    for (int64_t i = 0; i < rows; ++i) {
      const T* row = x + (first + i) * cols;
      map_row(static_cast<T*>(a.p[1]) + (first + i) * cols, cols,
              [&](int64_t j, int64_t n) __attribute__((always_inline)) {
                return (load_some(row + j, n) - set1<T>(peak[i])) - set1<T>(log_sum[i]);
              });
    }
  }
}

template <class T>
void log_softmax_backward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t cols = a.n[1];
  for (int64_t at = begin * cols; at < end * cols; at += cols) {
    const T *dy = static_cast<const T*>(a.p[0]) + at, *y = static_cast<const T*>(a.p[1]) + at;
    const T sum = row_sum(dy, cols);
    map_row(static_cast<T*>(a.p[2]) + at, cols, [=](int64_t j, int64_t n) __attribute__((always_inline)) {
      return fma(-vexp(load_some(y + j, n)), set1<T>(sum), load_some(dy + j, n));
    });
  }
}

inline int64_t row_count(const Args& a) { return a.n[0]; }
template <int Cost>
int64_t row_work(const Args& a) {
  return a.n[0] * a.n[1] * Cost;
}
template <int Cost>
constexpr Kernel row_kernel(RangeFn run) {
  return {{{run, row_count}}, row_work<Cost>};
}

constexpr Entry kSoftmaxEntries[] = {
    {"softmax_forward",
     Family::kRows,
     0,
     {row_kernel<32>(softmax_forward<float>), row_kernel<64>(softmax_forward<double>)}},
    {"softmax_backward",
     Family::kRowsBackward,
     0,
     {row_kernel<8>(softmax_backward<float>), row_kernel<16>(softmax_backward<double>)}},
    {"log_softmax_forward",
     Family::kRows,
     0,
     {row_kernel<32>(log_softmax_forward<float>), row_kernel<64>(log_softmax_forward<double>)}},
    {"log_softmax_backward",
     Family::kRowsBackward,
     0,
     {row_kernel<32>(log_softmax_backward<float>), row_kernel<64>(log_softmax_backward<double>)}},
};

}  // namespace

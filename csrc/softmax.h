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
constexpr int64_t kRowBlockElements = 2048;  // a quarter of a first-level cache of 32 KiB; inputs and outputs beside it

FASTBP_INLINE int64_t rows_together(int64_t cols) {
  const int64_t rows = cols > 0 ? kRowBlockElements / cols : kRowBlock;
  return rows < 1 ? 1 : smaller(rows, kRowBlock);
}

// Some rows and their terms, which a second step turns into results. Each row of terms has room for whole vectors. A
// row that is too long for the block keeps them in its own output.
template <class T>
struct RowBlock {
  int64_t room, together;
  bool held;
  alignas(64) T terms[kRowBlockElements];

  FASTBP_INLINE explicit RowBlock(int64_t cols) {
    room = (cols + lanes<T> - 1) / lanes<T> * lanes<T>;
    held = room <= kRowBlockElements;
    together = rows_together(room);
    if (!held) room = cols;
  }
  FASTBP_INLINE T* row(int64_t i, T* output) { return held ? terms + i * room : output; }
};

// The largest value of a row, to be taken from its terms. A NaN may get lost here, but not in the sum of their
// exponentials; a zero comes out as +0.
template <class T>
FASTBP_INLINE T row_peak(const T* x, int64_t n) {
  return row_extreme<true, false>(x, n) + T(0);
}

// Σ e^(x − peak) over a row.
template <class T>
FASTBP_INLINE T exp_sum(const T* x, int64_t cols, T peak) {
  return row_sum<T>(cols, [=](vec<T> acc, int64_t j, int64_t n) __attribute__((always_inline)) {
    return acc + vexp(load_some(x + j, n) - set1<T>(peak));
  });
}

// e[j] = e^(x[j] − peak) over a row, its last vector whole where there is room for it.
template <class T, bool kNear>
FASTBP_INLINE void exp_terms(const T* x, int64_t cols, T peak, T* e, int64_t room) {
  const auto term = [=](int64_t j, int64_t n) __attribute__((always_inline)) {
    const vec<T> d = load_some(x + j, n) - set1<T>(peak);
    return kNear ? exp_bounded(d) : vexp(d);
  };
  const int64_t whole = cols / lanes<T> * lanes<T>;
  map_values(e, whole, false, term);
  if (whole < cols) store_some(e + whole, term(whole, cols - whole), room - whole);
}
template <class T>
FASTBP_INLINE void exp_terms(const T* x, int64_t cols, T peak, T* e, int64_t room) {
  // The same bits for a sixth less, in rows where no term is anywhere near 0.
  if (peak - row_extreme<false, false>(x, cols) < kExpBound<T>) exp_terms<T, true>(x, cols, peak, e, room);
  else exp_terms<T, false>(x, cols, peak, e, room);
}

// n terms from e[j] on.
template <class T>
FASTBP_INLINE vec<T> load_terms(const T* e, int64_t j, int64_t n, int64_t room) {
  return n < lanes<T> ? load_some(e + j, room - j) : load(e + j);
}

// x[i] = f(x[i]) for the numbers of a block, on whole vectors.
template <class T, class F>
FASTBP_INLINE void map_block(T (&x)[kRowBlock], int64_t rows, F f) {
  for (int64_t i = 0; i < rows; i += lanes<T>) store(x + i, f(load(x + i)));
}

template <class T>
void softmax_forward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t cols = a.n[1];
  const T* x = static_cast<const T*>(a.p[0]);
  T* y = static_cast<T*>(a.p[1]);
  RowBlock<T> block(cols);
  const Streaming streaming(y, cols, 2, a.n[0] * cols, block.held && y != x);
  T peak[kRowBlock], scale[kRowBlock] = {};
  for (int64_t first = begin; first < end; first += block.together) {
    const int64_t rows = smaller(block.together, end - first);
    for (int64_t i = 0; i < rows; ++i) peak[i] = row_peak(x + (first + i) * cols, cols);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = (first + i) * cols;
      if (streaming.on) prefetch(x + at + block.together * cols, cols);
      exp_terms(x + at, cols, peak[i], block.row(i, y + at), block.room);
    }
    for (int64_t i = 0; i < rows; ++i) scale[i] = row_sum(block.row(i, y + (first + i) * cols), cols);
    map_block(scale, rows, [](vec<T> sum) __attribute__((always_inline)) { return set1<T>(1) / sum; });
    for (int64_t i = 0; i < rows; ++i) {
      T* row = y + (first + i) * cols;
      const T* e = block.row(i, row);
      map_values(row, cols, streaming.on, [&](int64_t j, int64_t n) __attribute__((always_inline)) {
        return load_terms(e, j, n, block.room) * set1<T>(scale[i]);
      });
    }
  }
}

// For a backward kernel's output.
template <class T>
FASTBP_INLINE Streaming backward_streaming(const Args& a) {
  return {static_cast<const T*>(a.p[2]), a.n[1], 3, a.n[0] * a.n[1], a.p[2] != a.p[0] && a.p[2] != a.p[1]};
}

template <class T>
void softmax_backward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t cols = a.n[1];
  const Streaming streaming = backward_streaming<T>(a);
  for (int64_t at = begin * cols; at < end * cols; at += cols) {
    const T *dy = static_cast<const T*>(a.p[0]) + at, *y = static_cast<const T*>(a.p[1]) + at;
    const T dot = row_sum<T>(cols, [=](vec<T> acc, int64_t j, int64_t n) __attribute__((always_inline)) {
      return fma(load_some(dy + j, n), load_some(y + j, n), acc);
    });
    T* dx = static_cast<T*>(a.p[2]) + at;
    map_values(dx, cols, streaming.on, [=](int64_t j, int64_t n) __attribute__((always_inline)) {
      return load_some(y + j, n) * (load_some(dy + j, n) - set1<T>(dot));
    });
  }
}

template <class T>
void log_softmax_forward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t cols = a.n[1];
  const T* x = static_cast<const T*>(a.p[0]);
  T* y = static_cast<T*>(a.p[1]);
  const int64_t together = rows_together(cols);
  const Streaming streaming(y, cols, 2, a.n[0] * cols, y != x);
  T peak[kRowBlock], log_sum[kRowBlock] = {};
  for (int64_t first = begin; first < end; first += together) {
    const int64_t rows = smaller(together, end - first);
    for (int64_t i = 0; i < rows; ++i) peak[i] = row_peak(x + (first + i) * cols, cols);
    for (int64_t i = 0; i < rows; ++i) log_sum[i] = exp_sum(x + (first + i) * cols, cols, peak[i]);
    map_block(log_sum, rows, [](vec<T> sum) __attribute__((always_inline)) { return vlog(sum); });
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = (first + i) * cols;
      map_values(y + at, cols, streaming.on, [&](int64_t j, int64_t n) __attribute__((always_inline)) {
        return (load_some(x + at + j, n) - set1<T>(peak[i])) - set1<T>(log_sum[i]);
      });
    }
  }
}

template <class T>
void log_softmax_backward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t cols = a.n[1];
  const Streaming streaming = backward_streaming<T>(a);
  for (int64_t at = begin * cols; at < end * cols; at += cols) {
    const T *dy = static_cast<const T*>(a.p[0]) + at, *y = static_cast<const T*>(a.p[1]) + at;
    const T sum = row_sum(dy, cols);
    T* dx = static_cast<T*>(a.p[2]) + at;
    map_values(dx, cols, streaming.on, [=](int64_t j, int64_t n) __attribute__((always_inline)) {
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

// Normalisation of a matrix (rows, cols): layer and RMS norm over its rows, batch norm over its columns.
//
// With mean μ, deviations d = x − μ and r = 1 / √(Σd²/n + ε) of n terms, y = d r w + b, where w and b may be absent.
// With g = dy w, and all sums over the terms of one mean:
//   dx = r (g − Σg/n − d r² Σgd / n), dw = Σ over rows of dy d r, db = Σ over rows of dy
// RMS norm takes nothing off: μ = 0, and Σg is left out. Sums follow the last-axis rule in rows, the leading-axis rule
// in columns (sum.h).
//
// Where the mean is far larger than the deviations, its rounding would pass for one. So the sums are corrected, as in
// the two-pass algorithm of Chan, Golub and LeVeque (1983): with d taken from Σx/n as it was rounded,
// μ = Σx/n + Σd/n and Σ(x − μ)² = Σd² − (Σd)²/n.
//
//   row_norm_forward          p = {x, w, b, mean, rstd, y}; c = {ε}; mean null: RMS norm, also in the next two
//   row_norm_backward_input   p = {dy, x, w, mean, rstd, dx}
//   row_norm_backward_weight  p = {dy, x, mean, rstd, dw, db}; db may be null; cut by columns
//   batch_norm_forward        p = {x, w, b, batches, running_mean, running_var, y, mean, rstd}; c = {ε, momentum}; the
//                             last of the running ones may be null; cut by columns
//   batch_norm_apply          p = {x, mean, variance, w, b, y}; c = {ε}; mean may be null, and is 0 then
//   batch_norm_backward       p = {dy, x, w, mean, rstd, dx, dw, db}; dx may be null; cut by columns
// n = {rows, cols}, of row_norm_backward_weight {rows, cols, 0, accumulate}.
#pragma once

#include "epilogue.h"
#include "softmax.h"

namespace {
using namespace fastbp;

// v w[j] + b[j]; what is absent is left out.
template <class T>
FASTBP_INLINE vec<T> affine(vec<T> v, const T* w, const T* b, int64_t j, int64_t n) {
  if (w && b) return fma(v, load_some(w + j, n), load_some(b + j, n));
  if (w) return v * load_some(w + j, n);
  return b ? v + load_some(b + j, n) : v;
}

template <class T>
FASTBP_INLINE vec<T> inverse_deviation(vec<T> squares, T n, T eps) {
  return set1<T>(1) / sqrt(squares / set1<T>(n) + set1<T>(eps));
}

// Σd/n, by which the mean is off; 0 where it is not finite, so that an infinite mean stays as it is.
template <class T>
FASTBP_INLINE vec<T> mean_error(vec<T> sum, T n) {
  const vec<T> error = sum / set1<T>(n), zero = set1<T>(0);
  return select(eq(error - error, zero), error, zero);
}

// Σd² − (Σd)²/n, which roundings must not bring below 0.
template <class T>
FASTBP_INLINE vec<T> corrected_squares(vec<T> squares, vec<T> error, T n) {
  const vec<T> value = fma(-error, error * set1<T>(n), squares), zero = set1<T>(0);
  return select(lt(value, zero), zero, value);
}

// ---------------------------------------------------------------- rows

template <class T>
void row_norm_forward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t cols = a.n[1], together = rows_together(cols);
  const T *x = static_cast<const T*>(a.p[0]), *w = static_cast<const T*>(a.p[1]), *b = static_cast<const T*>(a.p[2]);
  T *means = static_cast<T*>(a.p[3]), *rstds = static_cast<T*>(a.p[4]), *y = static_cast<T*>(a.p[5]);
  const T n = static_cast<T>(cols), eps = static_cast<T>(a.c[0]);
  const Streaming streaming(y, cols, 2, a.n[0] * cols, true);
  T mean[kRowBlock] = {}, error[kRowBlock] = {}, rstd[kRowBlock] = {};
  for (int64_t first = begin; first < end; first += together) {
    const int64_t rows = smaller(together, end - first);
    if (means) {
      for (int64_t i = 0; i < rows; ++i) mean[i] = row_sum(x + (first + i) * cols, cols);
      map_block(mean, rows, [=](vec<T> sum) __attribute__((always_inline)) { return sum / set1<T>(n); });
    }
    for (int64_t i = 0; i < rows; ++i) {
      const T* row = x + (first + i) * cols;
      const auto step = [=, m = mean[i]](vec<T>(&acc)[2], int64_t j, int64_t k) __attribute__((always_inline)) {
        const vec<T> d = load_some(row + j, k) - set1<T>(m);
        acc[0] = acc[0] + d;
        acc[1] = fma(d, d, acc[1]);
      };
      const Sums<T, 2> sums = row_sums<T, 2>(cols, step);
      error[i] = sums.total[0];
      rstd[i] = sums.total[1];
    }
    if (means) {
      map_block(error, rows, [=](vec<T> sum) __attribute__((always_inline)) { return mean_error<T>(sum, n); });
      for (int64_t i = 0; i < rows; i += lanes<T>) {
        store(mean + i, load(mean + i) + load(error + i));
        store(rstd + i, corrected_squares<T>(load(rstd + i), load(error + i), n));
      }
      __builtin_memcpy(means + first, mean, rows * sizeof(T));
    }
    map_block(rstd, rows, [=](vec<T> sum) __attribute__((always_inline)) { return inverse_deviation<T>(sum, n, eps); });
    __builtin_memcpy(rstds + first, rstd, rows * sizeof(T));
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = (first + i) * cols;
      const auto value = [=, m = mean[i], r = rstd[i]](int64_t j, int64_t k) __attribute__((always_inline)) {
        return affine<T>((load_some(x + at + j, k) - set1<T>(m)) * set1<T>(r), w, b, j, k);
      };
      map_values(y + at, cols, streaming.on, value);
    }
  }
}

template <class T>
void row_norm_backward_input(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t cols = a.n[1];
  const T *w = static_cast<const T*>(a.p[2]), *means = static_cast<const T*>(a.p[3]);
  const T n = static_cast<T>(cols);
  T* to = static_cast<T*>(a.p[5]);
  const Streaming streaming(to, cols, 3, a.n[0] * cols, true);
  for (int64_t row = begin; row < end; ++row) {
    const T *dy = static_cast<const T*>(a.p[0]) + row * cols, *x = static_cast<const T*>(a.p[1]) + row * cols;
    const T mean = means ? means[row] : T(0), rstd = static_cast<const T*>(a.p[4])[row];
    const auto slope = [=](int64_t j, int64_t k)
                           __attribute__((always_inline)) { return affine<T>(load_some(dy + j, k), w, nullptr, j, k); };
    const auto step = [=](vec<T>(&acc)[2], int64_t j, int64_t k) __attribute__((always_inline)) {
      const vec<T> g = slope(j, k);
      acc[0] = acc[0] + g;
      acc[1] = fma(g, load_some(x + j, k) - set1<T>(mean), acc[1]);
    };
    const Sums<T, 2> sums = row_sums<T, 2>(cols, step);
    const T shift = means ? sums.total[0] / n : T(0), tilt = rstd * rstd * (sums.total[1] / n);
    map_values(to + row * cols, cols, streaming.on, [=](int64_t j, int64_t k) __attribute__((always_inline)) {
      const vec<T> d = load_some(x + j, k) - set1<T>(mean);
      return set1<T>(rstd) * fma(-d, set1<T>(tilt), slope(j, k) - set1<T>(shift));
    });
  }
}

// ---------------------------------------------------------------- columns

template <class T>
void row_norm_backward_weight(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t rows = a.n[0], cols = a.n[1];
  const bool add = a.n[3] != 0;
  const T *mean = static_cast<const T*>(a.p[2]), *rstd = static_cast<const T*>(a.p[3]);
  T sums[kColumns];
  for (int64_t first = begin; first < end; first += kColumns) {
    const int64_t columns = smaller(kColumns, end - first);
    const T *dy = static_cast<const T*>(a.p[0]) + first, *x = static_cast<const T*>(a.p[1]) + first;
    column_sums<T>(rows, columns, sums,
                   [=](vec<T> acc, int64_t i, int64_t j, int64_t n) __attribute__((always_inline)) {
                     const vec<T> d = load_some(x + i * cols + j, n) - set1<T>(mean ? mean[i] : T(0));
                     return fma(load_some(dy + i * cols + j, n), d * set1<T>(rstd[i]), acc);
                   });
    add_rows(static_cast<T*>(a.p[4]) + first, 0, sums, 0, 1, columns, add);
  }
  if (T* db = static_cast<T*>(a.p[5]))
    add_column_sums(static_cast<const T*>(a.p[0]) + begin, cols, rows, end - begin, add, db + begin);
}

// y = (x − mean) scale + b for w columns of some rows.
template <class T>
FASTBP_INLINE void scale_columns(const T* x, int64_t rows, int64_t stride, int64_t w, const T* mean, const T* scale,
                                 const T* b, bool streamed, T* y) {
  for (int64_t i = 0; i < rows; ++i)
    map_values(y + i * stride, w, streamed, [=](int64_t j, int64_t n) __attribute__((always_inline)) {
      return affine<T>(load_some(x + i * stride + j, n) - load_some(mean + j, n), scale, b, j, n);
    });
}

// y[j] = f(j, n) for a few columns.
template <class T, class F>
FASTBP_INLINE void map_columns(T* y, int64_t w, F f) {
  for (int64_t j = 0; j < w; j += lanes<T>) store_some(y + j, f(j, w - j), w - j);
}

// running = (1 − share) running + share · now
template <class T, class F>
FASTBP_INLINE void follow(T* running, int64_t w, double share, F now) {
  const T keep = static_cast<T>(1 - share), take = static_cast<T>(share);
  map_columns(running, w, [=](int64_t j, int64_t n) __attribute__((always_inline)) {
    return fma(set1<T>(take), now(j, n), set1<T>(keep) * load_some(running + j, n));
  });
}

template <class T>
void batch_norm_forward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t rows = a.n[0], cols = a.n[1];
  const int64_t* batches = static_cast<const int64_t*>(a.p[3]);
  const T m = static_cast<T>(rows), freedom = static_cast<T>(rows > 1 ? rows - 1 : 0), eps = static_cast<T>(a.c[0]);
  const double share = batches ? 1 / static_cast<double>(*batches) : a.c[1];
  const Streaming streaming(static_cast<T*>(a.p[6]) + begin, cols, 2, rows * cols, true);
  const auto from = [&](int operand, int64_t first) __attribute__((always_inline)) {
    T* p = static_cast<T*>(a.p[operand]);
    return p ? p + first : nullptr;
  };
  T squares[kColumns], error[kColumns], scale[kColumns];
  T* const sums[2] = {error, squares};
  for (int64_t first = begin; first < end; first += kColumns) {
    const int64_t columns = smaller(kColumns, end - first);
    const T *x = from(0, first), *w = from(1, first), *b = from(2, first);
    T *mean = from(7, first), *rstd = from(8, first);
    add_column_sums(x, cols, rows, columns, false, mean);
    map_columns(mean, columns, [=](int64_t j, int64_t n) __attribute__((always_inline)) {
      return load_some(mean + j, n) / set1<T>(m);
    });
    column_sums<T, 2>(rows, columns, sums,
                      [=](vec<T>(&acc)[2], int64_t i, int64_t j, int64_t n) __attribute__((always_inline)) {
                        const vec<T> d = load_some(x + i * cols + j, n) - load_some(mean + j, n);
                        acc[0] = acc[0] + d;
                        acc[1] = fma(d, d, acc[1]);
                      });
    map_columns(error, columns, [&](int64_t j, int64_t n) __attribute__((always_inline)) {
      return mean_error<T>(load_some(error + j, n), m);
    });
    map_columns(mean, columns, [&](int64_t j, int64_t n) __attribute__((always_inline)) {
      return load_some(mean + j, n) + load_some(error + j, n);
    });
    map_columns(squares, columns, [&](int64_t j, int64_t n) __attribute__((always_inline)) {
      return corrected_squares<T>(load_some(squares + j, n), load_some(error + j, n), m);
    });
    map_columns(rstd, columns, [&](int64_t j, int64_t n) __attribute__((always_inline)) {
      return inverse_deviation<T>(load_some(squares + j, n), m, eps);
    });
    map_columns(scale, columns, [=](int64_t j, int64_t n) __attribute__((always_inline)) {
      return affine<T>(load_some(rstd + j, n), w, nullptr, j, n);
    });
    if (T* running = from(4, first))
      follow(running, columns, share,
             [=](int64_t j, int64_t n) __attribute__((always_inline)) { return load_some(mean + j, n); });
    if (T* running = from(5, first))
      follow(running, columns, share, [&](int64_t j, int64_t n) __attribute__((always_inline)) {
        return load_some(squares + j, n) / set1<T>(freedom);
      });
    scale_columns(x, rows, cols, columns, mean, scale, b, streaming.on, from(6, first));
  }
}

template <class T>
void batch_norm_apply(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t cols = a.n[1];
  const T *x = static_cast<const T*>(a.p[0]), *means = static_cast<const T*>(a.p[1]);
  const T *variance = static_cast<const T*>(a.p[2]), *w = static_cast<const T*>(a.p[3]);
  const T *b = static_cast<const T*>(a.p[4]), eps = static_cast<T>(a.c[0]);
  T* y = static_cast<T*>(a.p[5]);
  const Streaming streaming(y, cols, 2, a.n[0] * cols, true);
  T none[kColumns] = {}, scale[kColumns];
  for (int64_t first = 0; first < cols; first += kColumns) {
    const int64_t columns = smaller(kColumns, cols - first), at = begin * cols + first;
    map_columns(scale, columns, [=](int64_t j, int64_t n) __attribute__((always_inline)) {
      const vec<T> rstd = inverse_deviation<T>(load_some(variance + first + j, n), T(1), eps);
      return affine<T>(rstd, w, nullptr, first + j, n);
    });
    scale_columns(x + at, end - begin, cols, columns, means ? means + first : none, scale, b ? b + first : nullptr,
                  streaming.on, y + at);
  }
}

template <class T>
void batch_norm_backward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t rows = a.n[0], cols = a.n[1];
  const T m = static_cast<T>(rows);
  T* to = static_cast<T*>(a.p[5]);
  const Streaming streaming(to ? to + begin : to, cols, 3, rows * cols, to != nullptr);
  const auto from = [&](int operand, int64_t first)
                        __attribute__((always_inline)) { return static_cast<T*>(a.p[operand]) + first; };
  T scale[kColumns], shift[kColumns], tilt[kColumns];
  for (int64_t first = begin; first < end; first += kColumns) {
    const int64_t columns = smaller(kColumns, end - first);
    const T *dy = from(0, first), *x = from(1, first), *mean = from(3, first), *rstd = from(4, first);
    T *dw = from(6, first), *db = from(7, first);
    const auto deviation = [=](int64_t i, int64_t j, int64_t n) __attribute__((always_inline)) {
      return load_some(x + i * cols + j, n) - load_some(mean + j, n);
    };
    add_column_sums(dy, cols, rows, columns, false, db);
    column_sums<T>(rows, columns, dw, [=](vec<T> acc, int64_t i, int64_t j, int64_t n) __attribute__((always_inline)) {
      return fma(load_some(dy + i * cols + j, n), deviation(i, j, n) * load_some(rstd + j, n), acc);
    });
    if (!to) continue;
    const T* w = a.p[2] ? from(2, first) : nullptr;
    map_columns(scale, columns, [=](int64_t j, int64_t n) __attribute__((always_inline)) {
      return affine<T>(load_some(rstd + j, n), w, nullptr, j, n);
    });
    map_columns(shift, columns,
                [=](int64_t j, int64_t n) __attribute__((always_inline)) { return load_some(db + j, n) / set1<T>(m); });
    map_columns(tilt, columns, [=](int64_t j, int64_t n) __attribute__((always_inline)) {
      return load_some(rstd + j, n) * (load_some(dw + j, n) / set1<T>(m));
    });
    for (int64_t i = 0; i < rows; ++i)
      map_values(to + i * cols + first, columns, streaming.on,
                 [&](int64_t j, int64_t n) __attribute__((always_inline)) {
                   const vec<T> rest = load_some(dy + i * cols + j, n) - load_some(shift + j, n);
                   return load_some(scale + j, n) * fma(-deviation(i, j, n), load_some(tilt + j, n), rest);
                 });
  }
}

// ---------------------------------------------------------------- entries

constexpr int64_t kColumnGrain = 16;  // whole cache lines of a row

inline int64_t column_count(const Args& a) { return a.n[1]; }
template <int Cost>
constexpr Kernel columns_kernel(RangeFn run) {
  return {{{run, column_count, kColumnGrain}}, row_work<Cost>};
}

constexpr Entry kNormEntries[] = {
    {"row_norm_forward",
     Family::kSingle,
     1,
     {row_kernel<8>(row_norm_forward<float>), row_kernel<16>(row_norm_forward<double>)}},
    {"row_norm_backward_input",
     Family::kSingle,
     0,
     {row_kernel<12>(row_norm_backward_input<float>), row_kernel<24>(row_norm_backward_input<double>)}},
    {"row_norm_backward_weight",
     Family::kSingle,
     0,
     {columns_kernel<8>(row_norm_backward_weight<float>), columns_kernel<16>(row_norm_backward_weight<double>)}},
    {"batch_norm_forward",
     Family::kSingle,
     2,
     {columns_kernel<8>(batch_norm_forward<float>), columns_kernel<16>(batch_norm_forward<double>)}},
    {"batch_norm_apply",
     Family::kSingle,
     1,
     {row_kernel<4>(batch_norm_apply<float>), row_kernel<8>(batch_norm_apply<double>)}},
    {"batch_norm_backward",
     Family::kSingle,
     0,
     {columns_kernel<12>(batch_norm_backward<float>), columns_kernel<24>(batch_norm_backward<double>)}},
};

}  // namespace

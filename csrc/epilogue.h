// What follows the last run of k while a block of the output is hot in the cache: activation or its derivative (bias
// acts in the registers of the micro-kernel), and totals that had to be held apart.
#pragma once

#include "elementwise.h"
#include "pack.h"

namespace {

// c += *offset, then y = forward(c) or c = backward(c, s), each where given; element (r, j) of every operand at
// [r * stride + j].
template <class T>
struct Epilogue {
  const T* offset = nullptr;
  UnaryLoop<T> forward = nullptr;
  UnaryBackwardLoop<T> backward = nullptr;
  const double* constants = nullptr;
  const T* s = nullptr;
  T* y = nullptr;
  int64_t stride = 0;
};

template <class T>
void add_offset(T* c, int64_t n, T offset) {
  for (int64_t i = 0; i < n; i += lanes<T>) {
    const int64_t count = smaller(n - i, lanes<T>);
    store_n(c + i, load_n(c + i, count) + set1<T>(offset), count);
  }
}

// The "activation" that only copies, where the output is wanted twice.
template <class T>
void copy_loop(const T* x, T* y, int64_t n, const double*) {
  __builtin_memcpy(y, x, size_t(n) * sizeof(T));
}

template <class T>
void apply_epilogue(const Epilogue<T>& e, T* c, int64_t row, int64_t column, int64_t rows, int64_t columns) {
  if (!e.offset && !e.forward && !e.backward) return;
  if (columns == e.stride) {  // whole rows are one run
    columns *= rows;
    rows = 1;
  }
  for (int64_t r = row; r < row + rows; ++r) {
    const int64_t at = r * e.stride + column;
    if (e.offset) add_offset(c + at, columns, *e.offset);
    if (e.forward) e.forward(c + at, e.y + at, columns, e.constants);
    if (e.backward) e.backward(c + at, e.s + at, c + at, columns, e.constants);
  }
}

// to (+)= from, row by row.
template <class T>
void add_rows(T* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t rows, int64_t columns, bool add) {
  constexpr int64_t L = lanes<T>;
  for (int64_t r = 0; r < rows; ++r, to += to_stride, from += from_stride) {
    for (int64_t j = 0; j < columns; j += L) {
      const int64_t count = smaller(columns - j, L);
      const vec<T> x = load_n(from + j, count);
      store_n(to + j, add ? load_n(to + j, count) + x : x, count);
    }
  }
}

// y (+)= the column sums of a (k, n) matrix, element (kk, j) at a[kk * stride + j].
template <class T>
void add_column_sums(const T* a, int64_t stride, int64_t k, int64_t n, bool add, T* y) {
  T sums[kColumns];
  for (int64_t j = 0; j < n; j += kColumns) {
    const int64_t count = smaller(n - j, kColumns);
    column_sums<T>(k, count, sums, [=](vec<T> sum, int64_t kk, int64_t i, int64_t some) __attribute__((always_inline)) {
      return sum + load_some(a + kk * stride + j + i, some);
    });
    add_rows(y + j, 0, sums, 0, 1, count, add);
  }
}

}  // namespace

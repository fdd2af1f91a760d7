// What follows the last run of k while a block of the output is hot in the cache: activation or its derivative (bias
// acts in the registers of the micro-kernel), and totals that had to be held apart.
#pragma once

#include "elementwise.h"
#include "pack.h"

namespace {

// y = forward(c) or c = backward(c, s); element (r, j) of every operand at [r * stride + j].
template <class T> struct Epilogue {
  UnaryLoop<T> forward = nullptr;
  UnaryBackwardLoop<T> backward = nullptr;
  const double* constants = nullptr;
  const T* s = nullptr;
  T* y = nullptr;
  int64_t stride = 0;
};

// What stands for the activation where there is none and z is asked for beside y.
template <class T> void identity_loop(const T* x, T* y, int64_t n, const double*) {
  __builtin_memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
}

template <class T>
void apply_epilogue(const Epilogue<T>& e, T* c, int64_t row, int64_t column, int64_t rows, int64_t columns) {
  if (!e.forward && !e.backward) return;
  if (columns == e.stride) {  // whole rows are one run
    columns *= rows;
    rows = 1;
  }
  for (int64_t r = row; r < row + rows; ++r) {
    const int64_t at = r * e.stride + column;
    if (e.forward) e.forward(c + at, e.y + at, columns, e.constants);
    else e.backward(c + at, e.s + at, c + at, columns, e.constants);
  }
}

// to (+)= from, row by row.
template <class T>
void add_rows(T* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t rows, int64_t columns, bool add) {
  constexpr int64_t L = lanes<T>;
  for (int64_t r = 0; r < rows; ++r, to += to_stride, from += from_stride) {
    for (int64_t j = 0; j < columns; j += L) {
      const int64_t count = least(columns - j, L);
      const vec<T> x = load_n(from + j, count);
      store_n(to + j, add ? load_n(to + j, count) + x : x, count);
    }
  }
}

// The column sums of a (k, n) matrix, element (kk, j) at a[kk * stride + j], by the rule of products: chains of 512,
// runs of 512 chains. y (+)= sums. A sum that starts at +0 is never −0, so the first total may be added to +0 too.
template <class T> void column_sums(const T* a, int64_t stride, int64_t k, int64_t columns, bool add, T* y) {
  constexpr int64_t L = lanes<T>;
  constexpr int V = 4;  // chains side by side hide the latency of an addition
  for (int64_t j = 0; j < columns; j += V * L) {
    int64_t count[V];
    vec<T> total[V], super[V], sum[V];
    for (int v = 0; v < V; ++v) {
      count[v] = columns - j - v * L < 0 ? 0 : least(columns - j - v * L, L);
      total[v] = super[v] = zero<T>();
    }
    const bool whole = count[V - 1] == L;
    for (int64_t first = 0, chunk = 1; first < k; first += kChunk, ++chunk) {
      const int64_t end = least(k, first + kChunk);
      for (int v = 0; v < V; ++v) sum[v] = zero<T>();
      for (int64_t kk = first; kk < end; ++kk) {
        const T* row = a + kk * stride + j;
        if (whole) {
          FASTBP_UNROLL for (int v = 0; v < V; ++v) sum[v] = sum[v] + load(row + v * L);
        } else {
          for (int v = 0; v < V; ++v) sum[v] = sum[v] + load_n(row + v * L, count[v]);
        }
      }
      const bool complete = chunk % kChunk == 0 || end == k;
      for (int v = 0; v < V; ++v) {
        super[v] = super[v] + sum[v];
        if (complete) {
          total[v] = total[v] + super[v];
          super[v] = zero<T>();
        }
      }
    }
    for (int v = 0; v < V; ++v) {
      T* p = y + j + v * L;
      store_n(p, add ? load_n(p, count[v]) + total[v] : total[v], count[v]);
    }
  }
}

}  // namespace

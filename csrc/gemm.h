// Matrix products: matmul, linear_forward, linear_backward_input, linear_backward_weight.
//
// Every output is a sum over k by the rule of products: each 512 consecutive terms one ascending chain of fused
// multiply-adds from +0, the chain totals added in order; beyond 512 chains each 512 totals give a super total, and
// these are added in order. Then accumulate (y_old + total), bias, activation. Nothing else decides a bit.
//
// matmul                  p = {a, b, y}
//                         n = {batch, m, n, k, transpose_a, transpose_b, accumulate, batch_a, batch_b, partition}
//                         y (batch, m, n) (+)= a (batch_a, m, k) · b (batch_b, k, n), batch_a and batch_b being batch
//                         or 1; a transposed operand is stored (batch_a, k, m) or (batch_b, n, k)
// linear_forward          p = {x, w, b, z, y, panels}, n = {m, n, k, activation, partition}, c = {constant}
//                         y (m, n) = activation(x (m, k) · w (n, k)ᵀ + b (n)); b, z and panels may be null; z takes
//                         what the activation is applied to; panels is wᵀ as linear_pack leaves it
// linear_backward_input   p = {dy, w, s, dx, panels}, n = {m, n, k, activation, partition}, c = {constant}
//                         dx (m, k) = activation'(s) · (dy (m, n) · w (n, k)); s may be null without activation, panels
//                         may be null, or w as linear_pack leaves it
// linear_backward_weight  p = {dy, x, dw, db, panels}, n = {m, n, k, accumulate, partition}
//                         dw (n, k) (+)= dy (m, n)ᵀ · x (m, k), db (n) (+)= column sums of dy; db and panels may be
//                         null; panels is x as linear_pack_rows leaves it
// linear_pack             p = {w, panels}, n = {n, k, as_stored}: the panels (pack.h) of w (n, k), or of wᵀ unless
//                         as_stored; an item is a strip
// linear_pack_rows        p = {w, panels}, n = {n, k, 1}: the panels of w (n, k) as stored; an item is a row of w
//
// activation: index in the unary table, -1 for none. partition: how a range cuts the output: 1 into its rows (of the
// whole batch), 2 into strips of columns and each strip into its rows, 0 whichever divides the longer side.
#pragma once

#include "gemm_loops.h"

namespace {

template <class T>
Product<T> matmul_product(const Args& a) {
  Product<T> g;
  g.batch = a.n[0];
  g.m = a.n[1];
  g.n = a.n[2];
  g.k = a.n[3];
  const bool transpose_a = a.n[4], transpose_b = a.n[5];
  g.accumulate = a.n[6];
  g.a = static_cast<const T*>(a.p[0]);
  g.a_row = transpose_a ? 1 : g.k;
  g.a_k = transpose_a ? g.m : 1;
  g.a_batch = a.n[7] == 1 ? 0 : g.m * g.k;
  g.b = static_cast<const T*>(a.p[1]);
  g.b_k = transpose_b ? 1 : g.n;
  g.b_column = transpose_b ? g.k : 1;
  g.b_batch = a.n[8] == 1 ? 0 : g.n * g.k;
  g.c = static_cast<T*>(a.p[2]);
  if (g.b_batch == 0 && g.a_batch != 0 && !transpose_a) {  // the same B for all: one product with more rows
    g.m *= g.batch;
    g.batch = 1;
  }
  choose_partition(g, a.n[9]);
  return g;
}

template <class T>
Product<T> linear_forward_product(const Args& a) {
  Product<T> g;
  g.m = a.n[0];
  g.n = a.n[1];
  g.k = a.n[2];
  g.a = static_cast<const T*>(a.p[0]);
  g.a_row = g.k;
  g.a_k = 1;
  g.b = static_cast<const T*>(a.p[1]);
  g.b_k = 1;
  g.b_column = g.k;
  g.panels = static_cast<const T*>(a.p[5]);
  g.bias = static_cast<const T*>(a.p[2]);
  T* y = static_cast<T*>(a.p[4]);
  g.c = a.p[3] ? static_cast<T*>(a.p[3]) : y;
  g.epilogue.stride = g.n;
  g.epilogue.constants = a.c;
  g.epilogue.y = y;
  if (a.n[3] >= 0) g.epilogue.forward = unary_loop_at<T>(a.n[3]);
  else if (a.p[3]) g.epilogue.forward = copy_loop<T>;
  choose_partition(g, a.n[4]);
  return g;
}

template <class T>
Product<T> linear_backward_input_product(const Args& a) {
  Product<T> g;
  g.m = a.n[0];
  g.n = a.n[2];
  g.k = a.n[1];
  g.a = static_cast<const T*>(a.p[0]);
  g.a_row = g.k;
  g.a_k = 1;
  g.b = static_cast<const T*>(a.p[1]);
  g.b_k = g.n;
  g.b_column = 1;
  g.panels = static_cast<const T*>(a.p[4]);
  g.c = static_cast<T*>(a.p[3]);
  g.epilogue.stride = g.n;
  g.epilogue.constants = a.c;
  g.epilogue.s = static_cast<const T*>(a.p[2]);
  if (a.n[3] >= 0) g.epilogue.backward = unary_backward_loop_at<T>(a.n[3]);
  choose_partition(g, a.n[4]);
  return g;
}

template <class T>
Product<T> linear_backward_weight_product(const Args& a) {
  Product<T> g;
  g.m = a.n[1];
  g.n = a.n[2];
  g.k = a.n[0];
  g.a = static_cast<const T*>(a.p[0]);
  g.a_row = 1;
  g.a_k = g.m;
  g.b = static_cast<const T*>(a.p[1]);
  g.b_k = g.n;
  g.b_column = 1;
  g.c = static_cast<T*>(a.p[2]);
  g.row_sums = static_cast<T*>(a.p[3]);
  g.panels = static_cast<const T*>(a.p[4]);
  g.accumulate = a.n[3];
  choose_partition(g, a.n[4]);
  return g;
}

template <class T>
using ProductOf = Product<T> (*)(const Args&);

template <class T, ProductOf<T> product>
constexpr Kernel product_kernel() {
  Kernel kernel;
  kernel.phases[0] = {
      [](const Args& a, int64_t begin, int64_t end, Scratch s) { run_product<T>(product(a), begin, end, s.local); },
      [](const Args& a) { return product_count<T>(product(a)); }, 1};
  kernel.work = [](const Args& a) {
    const Product<T> g = product(a);
    return 2 * g.batch * g.m * g.n * g.k;
  };
  kernel.local_bytes = [](const Args& a) { return Plan<T>(product(a), nullptr).bytes; };
  return kernel;
}

// B as linear_pack sees it.
template <class T>
Product<T> packed_product(const Args& a) {
  const bool as_stored = a.n[2];
  Product<T> g;
  g.n = as_stored ? a.n[1] : a.n[0];
  g.k = as_stored ? a.n[0] : a.n[1];
  g.b = static_cast<const T*>(a.p[0]);
  g.b_k = as_stored ? a.n[1] : 1;
  g.b_column = as_stored ? 1 : a.n[1];
  return g;
}

// Strips [begin, end), all runs of k.
template <class T>
void linear_pack(const Args& a, int64_t begin, int64_t end, Scratch) {
  constexpr int64_t W = panel_width<T>;
  const Product<T> g = packed_product<T>(a);
  T* panels = static_cast<T*>(a.p[1]);
  const int64_t column = begin * W, columns = smaller(g.n, end * W) - column;
  for (int64_t first = 0; first < g.k; first += kChunk) {
    const int64_t run = smaller(g.k - first, kChunk);
    pack_strips(g.b + column * g.b_column + first * g.b_k, g.b_k, g.b_column, columns, run,
                panels + first * padded_columns<T>(g.n) + column * run);
  }
}
// Rows [begin, end) of w, eight at a time through all strips: the stores of a single row may all fall into one set of
// the cache, and many rows at once are too many streams to read.
template <class T>
void linear_pack_rows(const Args& a, int64_t begin, int64_t end, Scratch) {
  constexpr int64_t W = panel_width<T>, kRowsAtOnce = 8;
  const int64_t n = a.n[0], k = a.n[1], whole = k / W * W;
  while (begin < end) {
    const int64_t first = begin / kChunk * kChunk, run = smaller(n - first, kChunk);
    const int64_t past = smaller(smaller(end, first + run), begin + kRowsAtOnce);
    const T* w = static_cast<const T*>(a.p[0]) + begin * k;
    T* panels = static_cast<T*>(a.p[1]) + first * padded_columns<T>(k) + (begin - first) * W;
    for (int64_t j = 0; j < whole; j += W, panels += W * run) {
      for (int64_t row = 0; row < past - begin; ++row) {
        store(panels + row * W, load(w + row * k + j));
        store(panels + row * W + lanes<T>, load(w + row * k + j + lanes<T>));
      }
    }
    if (whole < k) pack_strip(w + whole, k, k - whole, past - begin, panels);
    begin = past;
  }
}

template <class T>
constexpr Kernel linear_pack_rows_kernel() {
  Kernel kernel;
  kernel.phases[0] = {linear_pack_rows<T>, [](const Args& a) { return a.n[0]; }, 1};
  kernel.work = [](const Args& a) { return a.n[0] * a.n[1] * Cheap::cost; };
  return kernel;
}

template <class T>
constexpr Kernel linear_pack_kernel() {
  Kernel kernel;
  kernel.phases[0] = {linear_pack<T>,
                      [](const Args& a) { return ceil_div(packed_product<T>(a).n, int64_t(panel_width<T>)); }, 1};
  kernel.work = [](const Args& a) { return a.n[0] * a.n[1] * Cheap::cost; };
  return kernel;
}

constexpr Entry kGemmEntries[] = {
    {"matmul",
     Family::kSingle,
     0,
     {product_kernel<float, matmul_product<float>>(), product_kernel<double, matmul_product<double>>(), {}, {}}},
    {"linear_forward",
     Family::kSingle,
     1,
     {product_kernel<float, linear_forward_product<float>>(),
      product_kernel<double, linear_forward_product<double>>(),
      {},
      {}}},
    {"linear_pack", Family::kSingle, 0, {linear_pack_kernel<float>(), linear_pack_kernel<double>(), {}, {}}},
    {"linear_pack_rows",
     Family::kSingle,
     0,
     {linear_pack_rows_kernel<float>(), linear_pack_rows_kernel<double>(), {}, {}}},
    {"linear_backward_input",
     Family::kSingle,
     1,
     {product_kernel<float, linear_backward_input_product<float>>(),
      product_kernel<double, linear_backward_input_product<double>>(),
      {},
      {}}},
    {"linear_backward_weight",
     Family::kSingle,
     0,
     {product_kernel<float, linear_backward_weight_product<float>>(),
      product_kernel<double, linear_backward_weight_product<double>>(),
      {},
      {}}},
};

}  // namespace

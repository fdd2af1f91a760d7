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
// linear_pack             p = {w, panels}, n = {n, k}: the panels of wᵀ, k * padded(n) elements, aligned to 64 bytes
// linear_backward_input   p = {dy, w, s, dx}, n = {m, n, k, activation, partition}, c = {constant}
//                         dx (m, k) = activation'(s) · (dy (m, n) · w (n, k)); s may be null without activation
// linear_backward_weight  p = {dy, x, dw, db}, n = {m, n, k, accumulate, partition}
//                         dw (n, k) (+)= dy (m, n)ᵀ · x (m, k), db (n) (+)= column sums of dy; db may be null
//
// activation: index in the unary table, -1 for none. partition: how a range cuts the output: 1 into its rows (of the
// whole batch), 2 into strips of columns and each strip into its rows, 0 whichever divides the longer side.
#pragma once

#include "epilogue.h"

namespace {

// C (+)= A·B for each of a batch. A(r, kk) at a[r * a_row + kk * a_k], B(kk, j) at b[kk * b_k + j * b_column]; of each
// pair of strides one is 1. C is contiguous.
template <class T> struct Product {
  int64_t batch = 1, m = 0, n = 0, k = 0;
  const T* a = nullptr;
  int64_t a_row = 0, a_k = 0, a_batch = 0;
  const T* b = nullptr;
  int64_t b_k = 0, b_column = 0, b_batch = 0;
  const T* panels = nullptr;  // B as panels, or null
  T* c = nullptr;
  const T* bias = nullptr;
  bool accumulate = false;
  bool by_columns = false;
  T* row_sums = nullptr;      // (+)= the sums of A's rows, or null; needs a_row = 1
  Epilogue<T> epilogue;
};

// B is packed in blocks that stay in half of a common second-level cache while all rows pass.
constexpr int64_t kBlockBytes = 256 * 1024;
constexpr int64_t kRun = 512;
// Fewer rows than this do not repay a copy of B that lies right already.
constexpr int64_t kDirectRows = 24;
// Rows per pass where totals are held outside the output.
constexpr int64_t kHeldRows = 256;

template <class T> int64_t block_columns(int64_t n, int64_t k) {
  constexpr int64_t W = panel_width<T>;
  const int64_t run = k < 1 ? 1 : least(k, kChunk);
  return least(padded_columns<T>(n), kBlockBytes / int64_t(sizeof(T)) / run / W * W);
}

FASTBP_INLINE int64_t chunk_count(int64_t k) { return k < 1 ? 1 : ceil_div(k, kChunk); }
// Whether the output itself cannot serve as the running total.
FASTBP_INLINE bool holds_totals(int64_t k, bool accumulate) { return k > kChunk * (accumulate ? 1 : kChunk); }

// Local scratch: a block of packed B, a tile of packed A, two blocks of totals.
template <class T> struct Local {
  T* b;
  T* a;
  T* carry;
  int64_t carry_row;
  T* total;
  T* grand_total;
  int64_t bytes;

  Local(void* memory, int64_t n, int64_t k, bool accumulate) {
    const int64_t columns = block_columns<T>(n, k);
    const int64_t b_size = columns * least(k, kChunk);
    const int64_t a_size = kMaxRows * kPackedRow<T> + lanes<T>;
    const int64_t total_size = holds_totals(k, accumulate) ? kHeldRows * columns : 0;
    b = static_cast<T*>(memory);
    a = b + b_size;
    carry = a + a_size;
    carry_row = columns;
    total = carry + kMaxRows * columns;
    grand_total = total + total_size;
    bytes = (b_size + a_size + kMaxRows * columns + 2 * total_size) * int64_t(sizeof(T));
  }
};

// One run of k for some rows and columns: the operands at their first element.
template <class T> struct Pass {
  const T* a;
  int64_t a_row, a_k;
  const T* b;        // strips, `pair` elements apart
  int64_t b_k, pair;
  T* c;
  int64_t c_row;
  const T* bias;
  int64_t k, rows, columns;
  bool add;
};

// The micro-kernel over all tiles. Rows are dealt out evenly, so that there is no small remainder. `finish(row, rows)`
// follows each row of tiles.
template <class T, class Finish> void run_tiles(const Pass<T>& p, const Local<T>& local, Finish finish) {
  constexpr int64_t L = lanes<T>, W = panel_width<T>;
  const bool narrow = p.columns <= L;
  const int64_t tiles = ceil_div(p.rows, narrow ? kRows1 : kRows2);
  // Copying A pays when several strips use the copy and reading it in place would fight for cache sets.
  const int64_t a_stride = p.a_row == 1 ? p.a_k : p.a_row;
  const bool collides = a_stride * int64_t(sizeof(T)) % 2048 == 0 || (p.a_row == 1 && p.a_k != 1);
  const bool pack_a = collides && p.columns > 2 * W && p.k > 16;
  Tile<T> t;
  t.b_k = p.b_k;
  t.b_pair = p.pair;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t row = p.rows * i / tiles, rows = p.rows * (i + 1) / tiles - row;
    const T* a = p.a + row * p.a_row;
    t.a_row = p.a_row;
    t.a_k = p.a_k;
    if (pack_a) {
      if (p.a_row == 1) {
        pack_columns(a, p.a_k, rows, p.k, local.a);
        t.a_k = rows;
      } else {
        pack_rows(a, p.a_row, rows, p.k, local.a);
        t.a_row = kPackedRow<T>;
      }
      a = local.a;
    }
    for (int64_t first = 0; first == 0 || first < p.k; first += kRun) {
      const bool last = first + kRun >= p.k;
      t.k = least(p.k - first, kRun);
      t.a = a + first * t.a_k;
      t.add = last && p.add;
      t.start = nullptr;
      for (int64_t j = 0; j < p.columns;) {
        const int64_t left = p.columns - j;
        TileFn<T> run;
        int64_t width;
        if (rows <= kRows4 && left >= 2 * W) run = kTiles<T>.four[rows - 1], width = 2 * W;
        else if (left > L) run = kTiles<T>.two[rows - 1], width = W;
        else run = kTiles<T>.one[rows - 1], width = L;
        t.b = p.b + j / W * p.pair + first * p.b_k;
        if (first > 0) t.start = local.carry + j;
        t.start_row = local.carry_row;
        t.c = last ? p.c + row * p.c_row + j : local.carry + j;
        t.c_row = last ? p.c_row : local.carry_row;
        t.bias = last && p.bias ? p.bias + j : nullptr;
        t.tail = !last || left >= width ? L : left - (width - L);
        run(t);
        j += width;
      }
    }
    finish(row, rows);
  }
}

// Columns [column, column + columns), at most one block, of rows [row, row + rows): all runs of k.
template <class T>
void run_block(const Product<T>& g, int64_t batch, int64_t row, int64_t rows, int64_t column, int64_t columns,
               const Local<T>& local) {
  constexpr int64_t W = panel_width<T>;
  const T* a = g.a + batch * g.a_batch + row * g.a_row;
  const T* b = g.b + batch * g.b_batch + column * g.b_column;
  T* c = g.c + batch * g.m * g.n;
  T* c_block = c + row * g.n + column;
  const bool held = holds_totals(g.k, g.accumulate);
  const int64_t chunks = chunk_count(g.k), held_stride = block_columns<T>(g.n, g.k);
  const bool in_place = !g.panels && g.b_column == 1 && rows < kDirectRows;
  const int64_t whole = columns / W * W;

  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first = chunk * kChunk, run = least(g.k - first, kChunk);
    const bool last = chunk + 1 == chunks;
    Pass<T> p;
    p.a = a + first * g.a_k;
    p.a_row = g.a_row;
    p.a_k = g.a_k;
    p.c = held ? local.total : c_block;
    p.c_row = held ? held_stride : g.n;
    p.bias = g.bias && last && !held ? g.bias + column : nullptr;
    p.k = run;
    p.rows = rows;
    p.add = held ? chunk % kChunk != 0 : chunk != 0 || g.accumulate;
    const auto pass = [&](const T* strips, int64_t b_k, int64_t pair, int64_t from, int64_t to) {
      Pass<T> part = p;
      part.b = strips;
      part.b_k = b_k;
      part.pair = pair;
      part.c = p.c + from;
      part.bias = p.bias ? p.bias + from : nullptr;
      part.columns = to - from;
      run_tiles(part, local, [&](int64_t at, int64_t count) {
        if (last && !held) apply_epilogue(g.epilogue, c, row + at, column + from, count, to - from);
      });
    };
    // The last strip may be narrow enough for one vector and then has its own number of rows.
    const int64_t split = columns - whole > lanes<T> ? columns : whole;
    const T* strips = local.b;
    if (g.panels) strips = g.panels + first * padded_columns<T>(g.n) + column * run;
    if (in_place) {
      if (whole > 0) pass(b + first * g.b_k, g.b_k, W, 0, whole);
      if (whole < columns) {
        pack_strip(b + first * g.b_k + whole, g.b_k, columns - whole, run, local.b);
        pass(local.b, W, W * run, whole, columns);
      }
    } else {
      if (!g.panels) pack_strips(b + first * g.b_k, g.b_k, g.b_column, columns, run, local.b);
      if (split > 0) pass(strips, W, W * run, 0, split);
      if (split < columns) pass(strips + split * run, W, W * run, split, columns);
    }
    if (held && (last || chunk % kChunk == kChunk - 1)) {
      T* to = g.accumulate ? local.grand_total : c_block;
      add_rows(to, g.accumulate ? held_stride : g.n, local.total, held_stride, rows, columns, chunk >= kChunk);
    }
  }
  if (held) {
    if (g.accumulate) add_rows(c_block, g.n, local.grand_total, held_stride, rows, columns, true);
    if (g.bias) add_rows(c_block, g.n, g.bias + column, 0, rows, columns, true);
    apply_epilogue(g.epilogue, c, row, column, rows, columns);
  }
}

// Items [begin, end) of the partition: (batch, strip of columns or all columns, row), the row running fastest, so that
// a range is whole strips but for its two ends and each thread packs (nearly) its own columns only.
template <class T> void run_product(const Product<T>& g, int64_t begin, int64_t end, void* memory) {
  if (g.m == 0) return;
  const Local<T> local(memory, g.n, g.k, g.accumulate);
  const int64_t width = g.by_columns ? panel_width<T> : g.n;
  const int64_t strips = g.by_columns ? ceil_div(g.n, width) : 1;
  const int64_t block = block_columns<T>(g.n, g.k);
  const int64_t row_block = holds_totals(g.k, g.accumulate) ? kHeldRows : g.m;
  while (begin < end) {
    const int64_t row = begin % g.m, strip = begin / g.m % strips, batch = begin / g.m / strips;
    int64_t rows = least(g.m - row, end - begin), taken = 1;
    if (rows == g.m) taken = least((end - begin) / g.m, strips - strip);
    begin += rows * taken;
    const int64_t last = least(g.n, (strip + taken) * width);
    for (int64_t column = strip * width; column < last; column += block) {
      for (int64_t r = row; r < row + rows; r += row_block) {
        run_block(g, batch, r, least(row_block, row + rows - r), column, least(block, last - column), local);
      }
    }
    if (g.row_sums && strip == 0) column_sums(g.a + row, g.a_k, g.k, rows, g.accumulate, g.row_sums + row);
  }
}

template <class T> int64_t product_count(const Product<T>& g) {
  return g.batch * g.m * (g.by_columns ? ceil_div(g.n, panel_width<T>) : 1);
}
template <class T> int64_t product_local_bytes(const Product<T>& g) {
  return Local<T>(nullptr, g.n, g.k, g.accumulate).bytes;
}
template <class T> int64_t product_work(const Product<T>& g) { return 2 * g.batch * g.m * g.n * g.k; }

constexpr int64_t kByRows = 1, kByColumns = 2;
FASTBP_INLINE bool divides_columns(int64_t partition, int64_t m, int64_t n) {
  return n > 0 && (partition == kByColumns || (partition != kByRows && n > m));
}

template <class T> Product<T> matmul_product(const Args& a) {
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
  g.by_columns = divides_columns(a.n[9], g.m, g.n);
  return g;
}

template <class T> Product<T> linear_forward_product(const Args& a) {
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
  g.by_columns = divides_columns(a.n[4], g.m, g.n);
  if (a.n[3] >= 0) g.epilogue = {unary_loop_at<T>(int(a.n[3])), nullptr, a.c, nullptr, y, g.n};
  return g;
}

template <class T> Product<T> linear_backward_input_product(const Args& a) {
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
  g.c = static_cast<T*>(a.p[3]);
  g.by_columns = divides_columns(a.n[4], g.m, g.n);
  const T* s = static_cast<const T*>(a.p[2]);
  if (a.n[3] >= 0) g.epilogue = {nullptr, unary_backward_loop_at<T>(int(a.n[3])), a.c, s, nullptr, g.n};
  return g;
}

template <class T> Product<T> linear_backward_weight_product(const Args& a) {
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
  g.accumulate = a.n[3];
  g.by_columns = divides_columns(a.n[4], g.m, g.n);
  return g;
}

template <class T> using ProductOf = Product<T> (*)(const Args&);

template <class T, ProductOf<T> product> constexpr Kernel product_kernel() {
  Kernel kernel;
  kernel.phases[0] = {[](const Args& a, int64_t begin, int64_t end, Scratch s) {
                        run_product<T>(product(a), begin, end, s.local);
                      },
                      [](const Args& a) { return product_count<T>(product(a)); }, 1};
  kernel.work = [](const Args& a) { return product_work<T>(product(a)); };
  kernel.local_bytes = [](const Args& a) { return product_local_bytes<T>(product(a)); };
  return kernel;
}

// Strips [begin, end) of the panels of wᵀ, all runs of k.
template <class T> void linear_pack(const Args& a, int64_t begin, int64_t end, Scratch) {
  constexpr int64_t W = panel_width<T>;
  const T* w = static_cast<const T*>(a.p[0]);
  T* panels = static_cast<T*>(a.p[1]);
  const int64_t n = a.n[0], k = a.n[1], column = begin * W, columns = least(n, end * W) - column;
  for (int64_t first = 0; first < k; first += kChunk) {
    const int64_t run = least(k - first, kChunk);
    pack_strips(w + column * k + first, 1, k, columns, run, panels + first * padded_columns<T>(n) + column * run);
  }
}
template <class T> constexpr Kernel linear_pack_kernel() {
  Kernel kernel;
  kernel.phases[0] = {linear_pack<T>, [](const Args& a) { return ceil_div(a.n[0], panel_width<T>); }, 1};
  kernel.work = [](const Args& a) { return a.n[0] * a.n[1]; };
  return kernel;
}

constexpr Entry kGemmEntries[] = {
    {"matmul", Family::kSingle, 0,
     {product_kernel<float, matmul_product<float>>(), product_kernel<double, matmul_product<double>>(), {}, {}}},
    {"linear_forward", Family::kSingle, 1,
     {product_kernel<float, linear_forward_product<float>>(), product_kernel<double, linear_forward_product<double>>(),
      {}, {}}},
    {"linear_pack", Family::kSingle, 0, {linear_pack_kernel<float>(), linear_pack_kernel<double>(), {}, {}}},
    {"linear_backward_input", Family::kSingle, 1,
     {product_kernel<float, linear_backward_input_product<float>>(),
      product_kernel<double, linear_backward_input_product<double>>(), {}, {}}},
    {"linear_backward_weight", Family::kSingle, 0,
     {product_kernel<float, linear_backward_weight_product<float>>(),
      product_kernel<double, linear_backward_weight_product<double>>(), {}, {}}},
};

}  // namespace

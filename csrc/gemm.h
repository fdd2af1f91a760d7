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

// B passes in blocks that stay in half of a common second-level cache while rows of A go by.
constexpr int64_t kBlockBytes = 256 * 1024;
// Where A is copied as well, so many blocks of B are packed at once, so that one copy of A serves them all.
constexpr int64_t kPackedBlocks = 4;
// A is copied so many tiles at a time: with 512 of k about 100 KB, which the second-level cache holds beside B.
constexpr int64_t kGroupTiles = kRows2 > 8 ? 4 : 8;
// Fewer rows than this do not repay a copy of B that lies right already.
constexpr int64_t kDirectRows = 24;
// ... or than this where B spans little memory.
constexpr int64_t kDirectRowsOfSmall = 96;
constexpr int64_t kSmallBytes = 512 * 1024;
// Rows per pass where totals are held outside the output.
constexpr int64_t kHeldRows = 256;

FASTBP_INLINE int64_t chunk_count(int64_t k) { return k < 1 ? 1 : ceil_div(k, kChunk); }
// Whether the output itself cannot serve as the running total.
FASTBP_INLINE bool holds_totals(int64_t k, bool accumulate) { return k > kChunk * (accumulate ? 1 : kChunk); }

// How a product is cut, and where in the local scratch its parts lie. Sizes follow from the shape alone.
template <class T> struct Plan {
  bool pack_a;            // several strips would read an A that is slow to read in place
  int64_t block;          // columns of a block of B
  int64_t packed;         // columns of B packed at once
  int64_t row_block;      // rows of the output at once
  bool held;              // totals are held in scratch
  T *b, *a, *total, *grand_total;
  int64_t bytes;

  Plan(const Product<T>& g, void* memory) {
    constexpr int64_t W = panel_width<T>, size = sizeof(T);
    const int64_t run = g.k < 1 ? 1 : least(g.k, kChunk), columns = padded_columns<T>(g.n);
    // Rows 2 KB apart, or a multiple, share a few sets of the first-level cache; columns use a part of each line.
    const bool collides = g.a_k != 1 || g.a_row * size % 2048 == 0;
        pack_a = collides && columns > 2 * W && g.k > 16;
    block = least(columns, kBlockBytes / size / run / W * W);
    packed = pack_a ? least(columns, block * kPackedBlocks) : block;
    held = holds_totals(g.k, g.accumulate);
    row_block = held ? kHeldRows : g.m;
    const int64_t a_rows = pack_a ? least(g.m, (kGroupTiles + 1) * kRows2) : 0;
    const int64_t total_size = held ? least(g.m, kHeldRows) * packed : 0;
    b = static_cast<T*>(memory);
    a = b + packed * run;
    total = a + a_rows * kPackedRow<T>;
    grand_total = total + total_size;
    bytes = (packed * run + a_rows * kPackedRow<T> + 2 * total_size) * size;
  }
};

// One run of k for some rows and columns: the operands at their first element.
template <class T> struct Pass {
  const T* a;
  int64_t a_row, a_k;
  const T* b;        // strips, b_pair elements apart
  int64_t b_k, b_pair;
  T* c;
  int64_t c_row;
  const T* bias;
  int64_t k, rows, columns;
  bool add;
};

// The micro-kernel over all tiles. Rows are dealt out evenly, so that there is no small remainder. `finish(row, rows)`
// follows each row of tiles.
template <class T, class Finish> void run_tiles(const Pass<T>& p, Finish finish) {
  constexpr int64_t L = lanes<T>, W = panel_width<T>;
  const int64_t tiles = ceil_div(p.rows, p.columns <= L ? kRows1 : kRows2);
  Tile<T> t;
  t.a_row = p.a_row;
  t.a_k = p.a_k;
  t.b_k = p.b_k;
  t.b_pair = p.b_pair;
  t.c_row = p.c_row;
  t.k = p.k;
  t.add = p.add;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t row = p.rows * i / tiles, rows = p.rows * (i + 1) / tiles - row;
    t.a = p.a + row * p.a_row;
    for (int64_t j = 0; j < p.columns;) {
      const int64_t left = p.columns - j;
      TileFn<T> run;
      int64_t width;
      if (rows <= kRows4 && left >= 2 * W) run = kTiles<T>.four[rows - 1], width = 2 * W;
      else if (left > L) run = kTiles<T>.two[rows - 1], width = W;
      else run = kTiles<T>.one[rows - 1], width = L;
      t.b = p.b + j / W * p.b_pair;
      t.c = p.c + row * p.c_row + j;
      t.bias = p.bias ? p.bias + j : nullptr;
      t.tail = left >= width ? L : left - (width - L);
      run(t);
      j += width;
    }
    finish(row, rows);
  }
}

// Columns [from, to) of the strips of a pass, block by block.
template <class T, class Finish>
void run_strips(const Pass<T>& p, int64_t from, int64_t to, int64_t block, Finish finish) {
  for (int64_t j = from; j < to; j += block) {
    Pass<T> part = p;
    part.b = p.b + j / panel_width<T> * p.b_pair;
    part.c = p.c + j;
    part.bias = p.bias ? p.bias + j : nullptr;
    part.columns = least(block, to - j);
    run_tiles(part, [&](int64_t row, int64_t rows) { finish(row, rows, j, part.columns); });
  }
}

// Columns [column, column + columns), at most as many as are packed at once, of rows [row, row + rows): all runs of k.
template <class T>
void run_block(const Product<T>& g, const Plan<T>& plan, int64_t batch, int64_t row, int64_t rows, int64_t column,
               int64_t columns) {
  constexpr int64_t W = panel_width<T>;
  const T* a = g.a + batch * g.a_batch + row * g.a_row;
  const T* b = g.b + batch * g.b_batch + column * g.b_column;
  T* c = g.c + batch * g.m * g.n;
  T* c_block = c + row * g.n + column;
  const int64_t chunks = chunk_count(g.k);
  const bool small = least(g.k, kChunk) * g.b_k * int64_t(sizeof(T)) <= kSmallBytes;
  const bool in_place = !g.panels && g.b_column == 1 && rows < (small ? kDirectRowsOfSmall : kDirectRows);
  const int64_t whole = columns / W * W;
  const int64_t tiles = ceil_div(rows, kRows2), groups = plan.pack_a ? ceil_div(tiles, kGroupTiles) : 1;

  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first = chunk * kChunk, run = least(g.k - first, kChunk);
    const bool last = chunk + 1 == chunks;
    const T* strips = plan.b;
    if (g.panels) strips = g.panels + first * padded_columns<T>(g.n) + column * run;
    else if (!in_place) pack_strips(b + first * g.b_k, g.b_k, g.b_column, columns, run, plan.b);
    else if (whole < columns) pack_strip(b + first * g.b_k + whole, g.b_k, columns - whole, run, plan.b);

    for (int64_t i = 0; i < groups; ++i) {
      const int64_t group = rows * (tiles * i / groups) / tiles;
      Pass<T> p;
      p.rows = rows * (tiles * (i + 1) / groups) / tiles - group;
      p.a = a + group * g.a_row + first * g.a_k;
      p.a_row = g.a_row;
      p.a_k = g.a_k;
      if (plan.pack_a) {
        if (g.a_k == 1) pack_rows(p.a, g.a_row, p.rows, run, plan.a);
        else pack_rows_transposed(p.a, g.a_k, p.rows, run, plan.a);
        p.a = plan.a;
        p.a_row = kPackedRow<T>;
        p.a_k = 1;
      }
      p.c_row = plan.held ? plan.packed : g.n;
      p.c = (plan.held ? plan.total : c_block) + group * p.c_row;
      p.bias = g.bias && last && !plan.held ? g.bias + column : nullptr;
      p.k = run;
      p.add = plan.held ? chunk % kChunk != 0 : chunk != 0 || g.accumulate;
      const auto finish = [&](int64_t r, int64_t count, int64_t j, int64_t width) {
        if (last && !plan.held) apply_epilogue(g.epilogue, c, row + group + r, column + j, count, width);
      };
      p.b = strips;
      p.b_k = W;
      p.b_pair = W * run;
      if (in_place) {
        Pass<T> direct = p;
        direct.b = b + first * g.b_k;
        direct.b_k = g.b_k;
        direct.b_pair = W;
        run_strips(direct, 0, whole, plan.block, finish);
        p.b -= whole * run;  // the strip that was packed is the first one there
        run_strips(p, whole, columns, plan.block, finish);
      } else {
        run_strips(p, 0, columns, plan.block, finish);
      }
    }
    if (plan.held && (last || chunk % kChunk == kChunk - 1)) {
      T* to = g.accumulate ? plan.grand_total : c_block;
      const int64_t stride = g.accumulate ? plan.packed : g.n;
      add_rows(to, stride, plan.total, plan.packed, rows, columns, chunk >= kChunk);
    }
  }
  if (plan.held) {
    if (g.accumulate) add_rows(c_block, g.n, plan.grand_total, plan.packed, rows, columns, true);
    if (g.bias) add_rows(c_block, g.n, g.bias + column, 0, rows, columns, true);
    apply_epilogue(g.epilogue, c, row, column, rows, columns);
  }
}

// Items [begin, end) of the partition: (batch, strip of columns or all columns, row), the row running fastest, so that
// a range is whole strips but for its two ends and each thread packs (nearly) its own columns only.
template <class T> void run_product(const Product<T>& g, int64_t begin, int64_t end, void* memory) {
  if (g.m == 0) return;
  const Plan<T> plan(g, memory);
  const int64_t width = g.by_columns ? panel_width<T> : g.n;
  const int64_t strips = g.by_columns ? ceil_div(g.n, width) : 1;
  while (begin < end) {
    const int64_t row = begin % g.m, strip = begin / g.m % strips, batch = begin / g.m / strips;
    int64_t rows = least(g.m - row, end - begin), taken = 1;
    if (rows == g.m) taken = least((end - begin) / g.m, strips - strip);
    begin += rows * taken;
    const int64_t last = least(g.n, (strip + taken) * width);
    for (int64_t column = strip * width; column < last; column += plan.packed) {
      for (int64_t r = row; r < row + rows; r += plan.row_block) {
        const int64_t columns = least(plan.packed, last - column);
        run_block(g, plan, batch, r, least(plan.row_block, row + rows - r), column, columns);
      }
    }
    if (g.row_sums && strip == 0) column_sums(g.a + row, g.a_k, g.k, rows, g.accumulate, g.row_sums + row);
  }
}

template <class T> int64_t product_count(const Product<T>& g) {
  return g.batch * g.m * (g.by_columns ? ceil_div(g.n, panel_width<T>) : 1);
}
template <class T> int64_t product_local_bytes(const Product<T>& g) {
  return Plan<T>(g, nullptr).bytes;
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
  const UnaryLoop<T> activation = a.n[3] >= 0 ? unary_loop_at<T>(int(a.n[3])) : identity_loop<T>;
  if (a.n[3] >= 0 || g.c != y) g.epilogue = {activation, nullptr, a.c, nullptr, y, g.n};
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

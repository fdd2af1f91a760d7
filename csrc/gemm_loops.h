// The loop nest of matrix products: blocks of B, groups of rows of A, tiles; and how a range cuts the output.
//
// A thread's range is cut into regions of the output. For each run of 512 of k the columns of B that a region needs
// are brought into strips (pack.h), unless they can be read where they lie; then rows of A pass over them, tile by
// tile. What follows the last run happens while the rows just finished are hot (epilogue.h).
#pragma once

#include "epilogue.h"

namespace {

// C (+)= A·B for each of a batch. A(r, kk) at a[r * a_row + kk * a_k], B(kk, j) at b[kk * b_k + j * b_column]; of each
// pair of strides one is 1. C is contiguous.
template <class T>
struct Product {
  int64_t batch = 1, m = 0, n = 0, k = 0;
  const T* a = nullptr;
  int64_t a_row = 0, a_k = 0, a_batch = 0;
  const T* b = nullptr;
  int64_t b_k = 0, b_column = 0, b_batch = 0;
  const T* panels = nullptr;  // B as panels, or null
  T* c = nullptr;
  const T* bias = nullptr;
  bool accumulate = false;
  int64_t strip = 0;      // the partition goes by strips of so many columns, each by its rows; 0: by rows alone
  T* row_sums = nullptr;  // (+)= the sums of A's rows, or null; needs a_row = 1
  Epilogue<T> epilogue;
};

// B passes in blocks that stay in half of the second-level cache while rows of A go by: 256 KB of 512, or of the 1 MB
// and more that processors with AVX-512 have, twice that.
#if defined(FASTBP_SIMD_AVX512)
constexpr int64_t kBlockBytes = 512 * 1024;
#else
constexpr int64_t kBlockBytes = 256 * 1024;
#endif
// Where A is copied as well, so many blocks of B are packed at once, so that one copy of A serves them all. Half as
// many cost 1024³ 2 to 6 percent; twice as many gain nothing more, and push large matrices out of the caches.
constexpr int64_t kPackedBlocks = 8;
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
template <class T>
struct Plan {
  bool pack_a;        // several strips would read an A that is slow to read in place
  int64_t block;      // columns of a block of B
  int64_t packed;     // columns of B packed at once
  int64_t row_block;  // rows of the output at once
  bool held;          // totals are held in scratch
  T *b, *a, *total, *grand_total;
  int64_t bytes;

  Plan(const Product<T>& g, void* memory) {
    constexpr int64_t W = panel_width<T>, size = sizeof(T);
    const int64_t run = g.k < 1 ? 1 : smaller(g.k, kChunk), columns = padded_columns<T>(g.n);
    // Rows 2 KB apart, or a multiple, share a few sets of the first-level cache; columns use a part of each line.
    const bool collides = g.a_k != 1 || g.a_row * size % 2048 == 0;
    pack_a = collides && g.m > kRows2 && columns > 2 * W && g.k > 16;
    block = smaller(columns, kBlockBytes / size / run / W * W);
    packed = pack_a ? smaller(columns, block * kPackedBlocks) : block;
    held = holds_totals(g.k, g.accumulate);
    row_block = held ? kHeldRows : g.m;
    const int64_t a_rows = pack_a ? smaller(g.m, (kGroupTiles + 1) * kRows2) : 0;
    const int64_t total_size = held ? smaller(g.m, kHeldRows) * packed : 0;
    b = static_cast<T*>(memory);
    a = b + packed * run;
    total = a + a_rows * kPackedRow<T>;
    grand_total = total + total_size;
    bytes = (packed * run + a_rows * kPackedRow<T> + 2 * total_size) * size;
  }
};

// A part of the output.
struct Region {
  int64_t batch, row, rows, column, columns;
};

// One run of k for some rows and columns: the operands at their first element.
template <class T>
struct Pass {
  const T* a;
  int64_t a_row, a_k;
  const T* b;  // strips, b_pair elements apart
  int64_t b_k, b_pair;
  T* c;
  int64_t c_row;
  const T* bias;
  int64_t k, rows, columns;
  bool add;
  int64_t b_column;   // 0, or B is read in place by tile_transposed
  bool whole_strips;  // the last strip may be read past the columns
};

// Tiles of `rows` rows over the columns of one row of tiles.
template <class T>
void run_row(const Pass<T>& p, Tile<T>& t, int64_t rows) {
  constexpr int64_t L = lanes<T>, W = panel_width<T>;
  const TileTable<T>& tiles = kTiles<T>;
  T* const c = t.c;
  for (int64_t j = 0, width; j < p.columns; j += width) {
    const int64_t left = p.columns - j;
    TileFn<T> run;
    if (p.b_column != 0) run = (left > L ? tiles.transposed_two : tiles.transposed_one)[rows - 1];
    else if (rows <= kRows4 && left >= 2 * W) run = tiles.four[rows - 1];
    else run = (left > L ? tiles.two : tiles.one)[rows - 1];
    width = left <= L ? L : p.b_column == 0 && rows <= kRows4 && left >= 2 * W ? 2 * W : W;
    t.b = p.b + j / W * p.b_pair;
    t.c = c + j;
    t.bias = p.bias ? p.bias + j : nullptr;
    t.tail = left >= width ? L : left - (width - L);
    run(t);
  }
}

// The micro-kernel over all rows. They are dealt out evenly, so that there is no small remainder. `finish(row, rows)`
// follows each row of tiles.
template <class T, class Finish>
void run_tiles(const Pass<T>& p, Finish finish) {
  const int64_t tiles = ceil_div(p.rows, p.columns <= lanes<T> && p.b_column == 0 ? kRows1 : kRows2);
  Tile<T> t;
  t.a_row = p.a_row;
  t.a_k = p.a_k;
  t.b_k = p.b_k;
  t.b_pair = p.b_pair;
  t.b_column = p.b_column;
  t.c_row = p.c_row;
  t.k = p.k;
  t.add = p.add;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t row = p.rows * i / tiles, rows = p.rows * (i + 1) / tiles - row;
    t.a = p.a + row * p.a_row;
    t.c = p.c + row * p.c_row;
    run_row(p, t, rows);
    finish(row, rows);
  }
}

// All strips of a pass, block by block.
template <class T, class Finish>
void run_strips(const Pass<T>& p, int64_t block, Finish finish) {
  for (int64_t j = 0; j < p.columns; j += block) {
    Pass<T> part = p;
    part.b = p.b + j / panel_width<T> * p.b_pair;
    part.c = p.c + j;
    part.bias = p.bias ? p.bias + j : nullptr;
    part.columns = smaller(block, p.columns - j);
    run_tiles(part, [&](int64_t row, int64_t rows) { finish(row, rows, j, part.columns); });
  }
}

// Where a pass reads B: panels, in place, in place by columns (tile_transposed), or strips packed now.
template <class T>
Pass<T> pass_over_b(const Product<T>& g, const Plan<T>& plan, const Region& at, int64_t first, int64_t run) {
  constexpr int64_t W = panel_width<T>;
  const T* b = g.b + at.batch * g.b_batch + at.column * g.b_column + first * g.b_k;
  const bool small = run * g.b_k * int64_t(sizeof(T)) <= kSmallBytes;
  Pass<T> p;
  p.columns = at.columns;
  p.k = run;
  p.b = plan.b;
  p.b_k = W;
  p.b_pair = W * run;
  p.b_column = 0;
  p.whole_strips = true;
  if (g.panels) {
    p.b = g.panels + first * padded_columns<T>(g.n) + at.column * run;
  } else if (g.b_column == 1 && at.rows < (small ? kDirectRowsOfSmall : kDirectRows)) {
    p.b = b;
    p.b_k = g.b_k;
    p.b_pair = W;
    p.whole_strips = false;
  } else if (g.b_column != 1 && at.rows <= kRowsTransposed) {
    p.b = b;
    p.b_pair = W * g.b_column;
    p.b_column = g.b_column;
  } else {
    pack_strips(b, g.b_k, g.b_column, at.columns, run, plan.b);
  }
  return p;
}

// The run of k that starts at `first` for all of a region; the region is finished when it is the last one and its
// totals are not held.
template <class T>
void run_chunk(const Product<T>& g, const Plan<T>& plan, const Region& at, int64_t first, bool finished) {
  constexpr int64_t W = panel_width<T>;
  const int64_t run = smaller(g.k - first, kChunk);
  Pass<T> p = pass_over_b(g, plan, at, first, run);
  const T* a = g.a + at.batch * g.a_batch + at.row * g.a_row + first * g.a_k;
  T* y = g.c + at.batch * g.m * g.n;
  p.c_row = plan.held ? plan.packed : g.n;
  T* c = plan.held ? plan.total : y + at.row * g.n + at.column;
  p.bias = g.bias && finished ? g.bias + at.column : nullptr;
  p.add = plan.held ? first / kChunk % kChunk != 0 : first != 0 || g.accumulate;

  const int64_t tiles = ceil_div(at.rows, kRows2), groups = plan.pack_a ? ceil_div(tiles, kGroupTiles) : 1;
  for (int64_t i = 0; i < groups; ++i) {
    const int64_t group = at.rows * (tiles * i / groups) / tiles;
    p.rows = at.rows * (tiles * (i + 1) / groups) / tiles - group;
    p.a = a + group * g.a_row;
    p.a_row = g.a_row;
    p.a_k = g.a_k;
    p.c = c + group * p.c_row;
    if (plan.pack_a) {
      if (g.a_k == 1) pack_rows(p.a, g.a_row, p.rows, run, plan.a);
      else pack_rows_transposed(p.a, g.a_k, p.rows, run, plan.a);
      p.a = plan.a;
      p.a_row = kPackedRow<T>;
      p.a_k = 1;
    }
    const auto finish = [&](int64_t row, int64_t rows, int64_t j, int64_t columns) {
      if (finished) apply_epilogue(g.epilogue, y, at.row + group + row, at.column + j, rows, columns);
    };
    // Read in place, the last strip would reach past the end of B, so it is packed.
    const int64_t rest = p.whole_strips ? 0 : at.columns % W;
    Pass<T> whole = p;
    whole.columns = at.columns - rest;
    run_strips(whole, plan.block, finish);
    if (rest > 0) {
      Pass<T> last = p;
      pack_strip(p.b + whole.columns, p.b_k, rest, run, plan.b);
      last.b = plan.b;
      last.b_k = W;
      last.c = p.c + whole.columns;
      last.bias = p.bias ? p.bias + whole.columns : nullptr;
      last.columns = rest;
      run_tiles(last, [&](int64_t row, int64_t rows) { finish(row, rows, whole.columns, rest); });
    }
  }
}

// All runs of k for a region of at most plan.packed columns and plan.row_block rows.
template <class T>
void run_region(const Product<T>& g, const Plan<T>& plan, const Region& at) {
  const int64_t chunks = chunk_count(g.k);
  T* y = g.c + at.batch * g.m * g.n;
  T* c = y + at.row * g.n + at.column;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const bool last = chunk + 1 == chunks;
    run_chunk(g, plan, at, chunk * kChunk, last && !plan.held);
    if (plan.held && (last || chunk % kChunk == kChunk - 1)) {
      T* to = g.accumulate ? plan.grand_total : c;
      const int64_t stride = g.accumulate ? plan.packed : g.n;
      add_rows(to, stride, plan.total, plan.packed, at.rows, at.columns, chunk >= kChunk);
    }
  }
  if (plan.held) {
    if (g.accumulate) add_rows(c, g.n, plan.grand_total, plan.packed, at.rows, at.columns, true);
    if (g.bias) add_rows(c, g.n, g.bias + at.column, 0, at.rows, at.columns, true);
    apply_epilogue(g.epilogue, y, at.row, at.column, at.rows, at.columns);
  }
}

// Items [begin, end) of the partition: (batch, strip, row), the row running fastest, so that a range is whole strips
// but for its two ends and each thread packs (nearly) its own columns only.
template <class T>
void run_product(const Product<T>& g, int64_t begin, int64_t end, void* memory) {
  if (g.m == 0) return;
  const Plan<T> plan(g, memory);
  const int64_t width = g.strip > 0 ? g.strip : g.n;
  const int64_t strips = g.strip > 0 ? ceil_div(g.n, g.strip) : 1;
  while (begin < end) {
    const int64_t row = begin % g.m, strip = begin / g.m % strips, batch = begin / g.m / strips;
    const int64_t rows = smaller(g.m - row, end - begin);
    const int64_t taken = rows == g.m ? smaller((end - begin) / g.m, strips - strip) : 1;
    begin += rows * taken;
    const int64_t last = smaller(g.n, (strip + taken) * width);
    for (int64_t column = strip * width; column < last; column += plan.packed) {
      for (int64_t r = row; r < row + rows; r += plan.row_block) {
        const int64_t count = smaller(plan.row_block, row + rows - r), columns = smaller(plan.packed, last - column);
        run_region(g, plan, {batch, r, count, column, columns});
      }
    }
    if (g.row_sums && strip == 0) add_column_sums(g.a + row, g.a_k, g.k, rows, g.accumulate, g.row_sums + row);
  }
}

template <class T>
int64_t product_count(const Product<T>& g) {
  return g.batch * g.m * (g.strip > 0 ? ceil_div(g.n, g.strip) : 1);
}

// Cuts by rows or strips as asked, or whichever divides the longer side. A single column is computed as a single row
// of the transposed product instead, where vectors lie along the output; an item is still one row of the output.
template <class T>
void choose_partition(Product<T>& g, int64_t partition) {
  constexpr int64_t kByRows = 1, kByColumns = 2;
  if (g.n == 1 && g.m > 1 && !g.panels && !g.row_sums) {
    const Product<T> old = g;
    g.m = 1;
    g.n = old.m;
    g.a = old.b;
    g.a_row = g.a_k = 1;
    g.a_batch = old.b_batch;
    g.b = old.a;
    g.b_k = old.a_k;
    g.b_column = old.a_row;
    g.b_batch = old.a_batch;
    g.bias = nullptr;
    g.epilogue.offset = old.bias;
    g.epilogue.stride = g.n;
    g.strip = 1;
  } else if (g.n > 0 && (partition == kByColumns || (partition != kByRows && g.n > g.m))) {
    g.strip = panel_width<T>;
  }
}

}  // namespace

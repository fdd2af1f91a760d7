// Copies and their kin: copy, fill, cast, concatenate, gather, scatter_add, accumulate, arange.
//
// Args (positions count elements; strides too; kernels that only move values take them as bits of their size):
//   copy         p = {x, y}; n as in broadcast.h, any strides for both: {ndim ≥ 1, count, shape[8], strides of x[8],
//                of y[8]}. Fastest when the dimensions are collapsed and in the order of y's strides, largest first.
//   fill         p = {null, y}; n as for copy, the strides of x all 0; the value is the by-value constant of operand 0
//   cast         p = {x, y}; n = {count, dtype of y}
//   concatenate  p = {xs, y}; an operand list of widths, the elements of each x from `axis` on; n = {count, tensors}
//   gather       p = {x, index, y}; n = {count, inner}
//   scatter_add  p = {dy, index, dx}; n = {inner, indices}
//   accumulate   p = {x, y}; n = {count}
//   arange       p = {y}; n = {count, start, step} for int64, c = {start, step} for floats
//
// An operand list (here xs, in optim.h grads, params, ...) is a pointer to an array of pointers, n[1] of them, and
// p[kOffsetsAt] points to n[1] + 1 ascending sums of their sizes, from 0 to the whole.
#pragma once

#include "broadcast.h"

namespace {

constexpr int kOffsetsAt = 11;

inline const int64_t* list_offsets(const Args& a) { return static_cast<const int64_t*>(a.p[kOffsetsAt]); }

// The tensor of a list that holds `position`: the last one that starts at or before it, so never an empty one.
inline int64_t tensor_at(const int64_t* offsets, int64_t tensors, int64_t position) {
  int64_t low = 0, high = tensors;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (offsets[middle] <= position) low = middle;
    else high = middle;
  }
  return low;
}

template <class B> FASTBP_INLINE void copy_values(const B* x, B* y, int64_t n) {
  __builtin_memcpy(y, x, static_cast<size_t>(n) * sizeof(B));
}

// The same past the caches (map.h), for a copy that they could not hold.
template <class B> void copy_streamed(const B* x, B* y, int64_t n) {
  const char* from = reinterpret_cast<const char*>(x);
  char* to = reinterpret_cast<char*>(y);
  constexpr int64_t line = 64;
  const int64_t bytes = n * static_cast<int64_t>(sizeof(B)), head = -reinterpret_cast<uintptr_t>(y) % line;
  const int64_t middle = (bytes - head) / line * line, tail = head + middle;
  __builtin_memcpy(to, from, head);
  const float* source = reinterpret_cast<const float*>(from + head);
  map_values(reinterpret_cast<float*>(to + head), middle / 4, true,
             [=](int64_t i, int64_t) __attribute__((always_inline)) { return load(source + i); });
  __builtin_memcpy(to + tail, from + tail, bytes - tail);
  stream_fence();
}

// For some dozens of values: the call of memcpy would cost more than the copy.
template <class B> FASTBP_INLINE void copy_short(const B* x, B* y, int64_t n) {
  constexpr int64_t step = 32 / sizeof(B);
  int64_t i = 0;
  for (; i + step <= n; i += step) __builtin_memcpy(y + i, x + i, 32);
  for (; i < n; ++i) y[i] = x[i];
}

template <class B> FASTBP_INLINE void fill_values(B value, B* y, int64_t n) {
  if (value == 0) __builtin_memset(y, 0, static_cast<size_t>(n) * sizeof(B));
  else
    for (int64_t i = 0; i < n; ++i) y[i] = value;
}

// A small tile, y[i, j] = x[j, i], by vectors of 16 bytes: every instruction set has them and their shuffles.
typedef uint32_t Bits32x4 __attribute__((vector_size(16)));
typedef uint64_t Bits64x2 __attribute__((vector_size(16)));
template <class B> inline constexpr int kTile = sizeof(B) == 8 ? 2 : 4;

FASTBP_INLINE void transpose_tile(const uint32_t* x, int64_t ldx, uint32_t* y, int64_t ldy) {
  Bits32x4 r[4];
  for (int j = 0; j < 4; ++j) __builtin_memcpy(&r[j], x + j * ldx, 16);
  const Bits32x4 a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
  const Bits32x4 b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
  const Bits32x4 c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
  const Bits32x4 d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  const Bits32x4 out[4] = {__builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
                           __builtin_shufflevector(c, d, 0, 1, 4, 5), __builtin_shufflevector(c, d, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) __builtin_memcpy(y + i * ldy, &out[i], 16);
}

FASTBP_INLINE void transpose_tile(const uint64_t* x, int64_t ldx, uint64_t* y, int64_t ldy) {
  Bits64x2 a, b;
  __builtin_memcpy(&a, x, 16);
  __builtin_memcpy(&b, x + ldx, 16);
  const Bits64x2 first = __builtin_shufflevector(a, b, 0, 2), second = __builtin_shufflevector(a, b, 1, 3);
  __builtin_memcpy(y, &first, 16);
  __builtin_memcpy(y + ldy, &second, 16);
}

FASTBP_INLINE void transpose_tile(const uint8_t* x, int64_t ldx, uint8_t* y, int64_t ldy) {
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) y[i * ldy + j] = x[j * ldx + i];
}

// y[i, j] = x[j, i], rows × cols of y. By way of a small block: rows of y a power of two apart fall into the same cache
// sets, where half-written lines push each other out; whole rows of a block go out at once (measured on 1024 × 1024: 25
// instead of 9.5 GB/s).
template <class B> void transpose(const B* x, int64_t ldx, B* y, int64_t ldy, int64_t rows, int64_t cols) {
  constexpr int64_t side = sizeof(B) == 8 ? 32 : 64, tile = kTile<B>;  // at most half of the first-level cache
  alignas(64) B block[side * side];
  for (int64_t i0 = 0; i0 < rows; i0 += side) {
    const int64_t h = rows - i0 < side ? rows - i0 : side, whole_h = h / tile * tile;
    for (int64_t j0 = 0; j0 < cols; j0 += side) {
      const int64_t w = cols - j0 < side ? cols - j0 : side, whole_w = w / tile * tile;
      const B* from = x + j0 * ldx + i0;
      for (int64_t j = 0; j < whole_w; j += tile)
        for (int64_t i = 0; i < whole_h; i += tile) transpose_tile(from + j * ldx + i, ldx, block + i * side + j, side);
      for (int64_t j = 0; j < w; ++j)
        for (int64_t i = j < whole_w ? whole_h : 0; i < h; ++i) block[i * side + j] = from[j * ldx + i];
      for (int64_t i = 0; i < h; ++i) copy_short(block + i * side, y + (i0 + i) * ldy + j0, w);
    }
  }
}

template <class B> void copy_runs(const Args& a, const B* x, B* y, int64_t begin, int64_t end) {
  const int last = static_cast<int>(a.n[0]) - 1;
  const int64_t sx = a.n[kStridesAt + last], sy = a.n[kStridesAt + kMaxDims + last];
  constexpr int64_t kLongRun = 4096;  // bytes; shorter ones would wait for the memory too often
  const bool large = 2 * a.n[1] * static_cast<int64_t>(sizeof(B)) >= stream_gate;
  for_each_row<2>(a, begin, end, [&](const int64_t* offset, int64_t, int64_t n) {
    const B* from = x + offset[0];
    B* to = y + offset[1];
    if (sy == 1 && sx == 1 && large && n * int64_t(sizeof(B)) >= kLongRun) copy_streamed(from, to, n);
    else if (sy == 1 && sx == 1) copy_values(from, to, n);
    else if (sy == 1 && sx == 0) fill_values(*from, to, n);
    else
      for (int64_t i = 0; i < n; ++i) to[i * sy] = from[i * sx];
  });
}

// Whole runs of the last dimension, [begin, end) of them, where one operand is contiguous along it and the other along
// the dimension before: plane by plane.
template <class B> void copy_planes(const Args& a, const B* x, B* y, int64_t begin, int64_t end) {
  const int last = static_cast<int>(a.n[0]) - 1;
  const int64_t* shape = a.n + kShapeAt;
  const int64_t *sx = a.n + kStridesAt, *sy = sx + kMaxDims;
  const int64_t rows = shape[last - 1], cols = shape[last];
  while (begin < end) {
    int64_t rest = begin / rows;
    const int64_t row = begin % rows, take = rows - row < end - begin ? rows - row : end - begin;
    int64_t x_at = row * sx[last - 1], y_at = row * sy[last - 1];
    for (int d = last - 2; d >= 0; --d) {
      x_at += rest % shape[d] * sx[d];
      y_at += rest % shape[d] * sy[d];
      rest /= shape[d];
    }
    if (sy[last] == 1) transpose(x + x_at, sx[last], y + y_at, sy[last - 1], take, cols);
    else transpose(x + x_at, sx[last - 1], y + y_at, sy[last], cols, take);
    begin += take;
  }
}

template <class B> void copy_strided(const Args& a, const B* x, B* y, int64_t begin, int64_t end) {
  const int last = static_cast<int>(a.n[0]) - 1;
  const int64_t* shape = a.n + kShapeAt;
  const int64_t *sx = a.n + kStridesAt, *sy = sx + kMaxDims;
  const bool transposed =
      last > 0 && shape[last] >= kTile<B> && shape[last - 1] >= kTile<B> &&
      ((sx[last - 1] == 1 && sy[last] == 1 && sx[last] > 1) || (sy[last - 1] == 1 && sx[last] == 1 && sy[last] > 1));
  const int64_t cols = shape[last];
  const int64_t first = (begin + cols - 1) / cols, past = end / cols;  // whole runs inside the range
  if (!transposed || first >= past) return copy_runs(a, x, y, begin, end);
  copy_runs(a, x, y, begin, first * cols);
  copy_planes(a, x, y, first, past);
  copy_runs(a, x, y, past * cols, end);
}

template <class B> void copy(const Args& a, int64_t begin, int64_t end, Scratch) {
  copy_strided(a, static_cast<const B*>(a.p[0]), static_cast<B*>(a.p[1]), begin, end);
}

template <class T, class B> void fill(const Args& a, int64_t begin, int64_t end, Scratch) {
  const B value = bits_as<B>(constant<T>(a, 0));
  copy_strided(a, &value, static_cast<B*>(a.p[1]), begin, end);
}

// bool is a byte, true where it is not 0. A float that int64 cannot hold becomes INT64_MIN, as x86 converts it.
template <class X, class Y> FASTBP_INLINE Y convert(X x) {
  if constexpr (sizeof(Y) == 1) return x != 0;
  else if constexpr (sizeof(X) == 1) return static_cast<Y>(x != 0);
  else if constexpr (X(0.5) != X(0) && Y(0.5) == Y(0))
    return x >= X(-0x1p63) && x < X(0x1p63) ? static_cast<Y>(x) : static_cast<Y>(INT64_MIN);
  else return static_cast<Y>(x);
}

template <class X, class Y> void convert_values(const X* x, void* to, int64_t begin, int64_t end) {
  Y* y = static_cast<Y*>(to);
  for (int64_t i = begin; i < end; ++i) y[i] = convert<X, Y>(x[i]);
}

template <class X> void cast(const Args& a, int64_t begin, int64_t end, Scratch) {
  const X* x = static_cast<const X*>(a.p[0]);
  switch (a.n[1]) {
    case kFloat32:
      return convert_values<X, float>(x, a.p[1], begin, end);
    case kFloat64:
      return convert_values<X, double>(x, a.p[1], begin, end);
    case kInt64:
      return convert_values<X, int64_t>(x, a.p[1], begin, end);
    default:
      return convert_values<X, uint8_t>(x, a.p[1], begin, end);
  }
}

// y is (outer, sum of the widths); a row of it is the rows of all xs one after the other.
template <class B> void concatenate(const Args& a, int64_t begin, int64_t end, Scratch) {
  const B* const* xs = static_cast<const B* const*>(a.p[0]);
  B* y = static_cast<B*>(a.p[1]);
  const int64_t* offsets = list_offsets(a);
  const int64_t tensors = a.n[1], width = offsets[tensors];
  int64_t row = begin / width, column = begin % width;
  int64_t t = tensor_at(offsets, tensors, column);
  while (begin < end) {
    const int64_t left = offsets[t + 1] - column, n = left < end - begin ? left : end - begin;
    copy_values(xs[t] + row * (offsets[t + 1] - offsets[t]) + (column - offsets[t]), y + begin, n);
    begin += n;
    column += n;
    if (column == width) {
      column = t = 0;
      ++row;
    }
    while (offsets[t + 1] == column) ++t;
  }
}

// y[i, :] = x[index[i], :]
template <class B> void gather(const Args& a, int64_t begin, int64_t end, Scratch) {
  const B* x = static_cast<const B*>(a.p[0]);
  const int64_t* index = static_cast<const int64_t*>(a.p[1]);
  B* y = static_cast<B*>(a.p[2]);
  const int64_t inner = a.n[1];
  if (inner == 1) {
    for (int64_t i = begin; i < end; ++i) y[i] = x[index[i]];
    return;
  }
  int64_t row = begin / inner, column = begin % inner;
  while (begin < end) {
    const int64_t n = inner - column < end - begin ? inner - column : end - begin;
    copy_values(x + index[row] * inner + column, y + begin, n);
    begin += n;
    column = 0;
    ++row;
  }
}

// y += x. Integers are added unsigned: they wrap around, as NumPy's do.
template <class T> FASTBP_INLINE void add_values(const T* __restrict x, T* __restrict y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

template <class T> void accumulate(const Args& a, int64_t begin, int64_t end, Scratch) {
  add_values(static_cast<const T*>(a.p[0]) + begin, static_cast<T*>(a.p[1]) + begin, end - begin);
}

// dx[index[i], :] += dy[i, :], i ascending, for columns [begin, end): the order of additions never depends on threads.
template <class T> void scatter_add(const Args& a, int64_t begin, int64_t end, Scratch) {
  const T* dy = static_cast<const T*>(a.p[0]);
  const int64_t* index = static_cast<const int64_t*>(a.p[1]);
  T* dx = static_cast<T*>(a.p[2]);
  const int64_t inner = a.n[0], indices = a.n[1];
  for (int64_t i = 0; i < indices; ++i) add_values(dy + i * inner + begin, dx + index[i] * inner + begin, end - begin);
}

// y[i] = start + i · step, in double and then rounded to float.
template <class T> void arange(const Args& a, int64_t begin, int64_t end, Scratch) {
  T* y = static_cast<T*>(a.p[0]);
  for (int64_t i = begin; i < end; ++i) {
    if constexpr (T(0.5) != T(0)) y[i] = static_cast<T>(a.c[0] + static_cast<double>(i) * a.c[1]);
    else y[i] = static_cast<T>(a.n[1]) + static_cast<T>(i) * static_cast<T>(a.n[2]);
  }
}

// Far less than its memory traffic: two threads that add to parts of the same rows gain nothing while these are in the
// caches (4 MB: 250 µs on one thread, up to 300 µs on two), and 10 percent beyond.
inline int64_t scatter_work(const Args& a) { return a.n[0] * a.n[1] / 8; }

inline int64_t count_of_one(const Args&) { return 1; }
template <int Cost> int64_t flat_work(const Args& a) { return a.n[0] * Cost; }

// Kernels over n[0] elements where memory traffic dominates, where arithmetic does, over columns, and serial ones.
constexpr Kernel flat_kernel(RangeFn run) { return {{{run, flat_count, kFlatGrain}}, unary_work<Cheap>}; }
template <int Cost> constexpr Kernel costly_kernel(RangeFn run) {
  return {{{run, flat_count, kFlatGrain}}, flat_work<Cost>};
}
constexpr Kernel lone_kernel(RangeFn run) { return {{{run, count_of_one, 1}}}; }
constexpr Kernel column_kernel(RangeFn run) { return {{{run, flat_count, 16}}, scatter_work}; }

constexpr Entry single_entry(const char* name, int constants, Kernel float32, Kernel float64, Kernel int64 = {},
                             Kernel boolean = {}) {
  return {name, Family::kSingle, constants, {float32, float64, int64, boolean}};
}

constexpr Entry kCopyEntries[] = {
    single_entry("copy", 0, broadcast_kernel<8>(copy<uint32_t>), broadcast_kernel<8>(copy<uint64_t>),
                 broadcast_kernel<8>(copy<uint64_t>), broadcast_kernel<kByteCost>(copy<uint8_t>)),
    single_entry("fill", 1, broadcast_kernel<4>(fill<float, uint32_t>), broadcast_kernel<4>(fill<double, uint64_t>),
                 broadcast_kernel<4>(fill<int64_t, uint64_t>), broadcast_kernel<1>(fill<uint8_t, uint8_t>)),
    single_entry("cast", 0, flat_kernel(cast<float>), flat_kernel(cast<double>), flat_kernel(cast<int64_t>),
                 flat_kernel(cast<uint8_t>)),
    single_entry("concatenate", 1, flat_kernel(concatenate<uint32_t>), flat_kernel(concatenate<uint64_t>),
                 flat_kernel(concatenate<uint64_t>), flat_kernel(concatenate<uint8_t>)),
    single_entry("gather", 0, flat_kernel(gather<uint32_t>), flat_kernel(gather<uint64_t>),
                 flat_kernel(gather<uint64_t>), flat_kernel(gather<uint8_t>)),
    single_entry("scatter_add", 0, column_kernel(scatter_add<float>), column_kernel(scatter_add<double>),
                 column_kernel(scatter_add<uint64_t>)),
    single_entry("accumulate", 0, flat_kernel(accumulate<float>), flat_kernel(accumulate<double>),
                 flat_kernel(accumulate<uint64_t>)),
    single_entry("arange", 2, flat_kernel(arange<float>), flat_kernel(arange<double>), flat_kernel(arange<uint64_t>)),
};

}  // namespace

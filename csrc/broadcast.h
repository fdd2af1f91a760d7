// Element-wise kernels of two or three operands with broadcasting: y = f(a, b), y = condition ? a : b.
//
// The output is contiguous and seen as `ndim` collapsed dimensions; an operand has an element stride per dimension, 0
// where it is broadcast, and along the last dimension 0 or 1. A null operand is the by-value constant beside it.
// Args: p = {a, b, y} (where: {condition, a, b, y}); n = {ndim, count, shape[8], strides of a[8], of b[8], of the
// third[8], integer constants of a, b}; c = {constant of a, constant of b}.
#pragma once

#include "elementwise.h"

namespace {

constexpr int kShapeAt = 2;
constexpr int kStridesAt = kShapeAt + kMaxDims;
constexpr int kIntConstantAt = kStridesAt + 3 * kMaxDims;

// Calls row(offsets of the N operands, output position, length) for every run along the last dimension in [begin, end).
template <int N, class Row> FASTBP_INLINE void for_each_row(const Args& a, int64_t begin, int64_t end, Row row) {
  const int64_t ndim = a.n[0];
  const int64_t* shape = a.n + kShapeAt;
  const int64_t* strides = a.n + kStridesAt;
  const int last = static_cast<int>(ndim) - 1;
  int64_t index[kMaxDims] = {};
  int64_t offset[N] = {};
  int64_t rest = begin;
  for (int d = last; d >= 0; --d) {
    index[d] = rest % shape[d];
    rest /= shape[d];
    for (int k = 0; k < N; ++k) offset[k] += index[d] * strides[k * kMaxDims + d];
  }
  while (begin < end) {
    int64_t length = shape[last] - index[last];
    if (length > end - begin) length = end - begin;
    row(offset, begin, length);
    begin += length;
    // Advance to the start of the next run, carrying into the outer dimensions.
    for (int k = 0; k < N; ++k) offset[k] -= index[last] * strides[k * kMaxDims + last];
    index[last] = 0;
    for (int d = last - 1; d >= 0; --d) {
      for (int k = 0; k < N; ++k) offset[k] += strides[k * kMaxDims + d];
      if (++index[d] < shape[d]) break;
      for (int k = 0; k < N; ++k) offset[k] -= shape[d] * strides[k * kMaxDims + d];
      index[d] = 0;
    }
  }
}

template <class T> FASTBP_INLINE T constant(const Args& a, int which) {
  if constexpr (T(0.5) != T(0)) return static_cast<T>(a.c[which]);
  else return static_cast<T>(a.n[kIntConstantAt + which]);
}

struct Add {
  static constexpr int cost = 8;
  template <class T, class V> static FASTBP_INLINE V apply(V a, V b) { return a + b; }
};
struct Sub {
  static constexpr int cost = 8;
  template <class T, class V> static FASTBP_INLINE V apply(V a, V b) { return a - b; }
};
struct Mul {
  static constexpr int cost = 8;
  template <class T, class V> static FASTBP_INLINE V apply(V a, V b) { return a * b; }
};
struct Div {
  static constexpr int cost = 8;
  template <class T, class V> static FASTBP_INLINE V apply(V a, V b) { return a / b; }
};
struct Pow {
  static constexpr int cost = 64;
  template <class T, class V> static FASTBP_INLINE V apply(V a, V b) { return vpow(a, b); }
};
// NaN wins, +0 is above −0: of equal values the bitwise and (or) has the wanted sign, and a + b is NaN where either is.
struct Maximum {
  static constexpr int cost = 8;
  template <class T, class V> static FASTBP_INLINE V apply(V a, V b) {
    V equal = as_float(as_int(a) & as_int(b));
    return select(lt(b, a), a, select(lt(a, b), b, select(eq(a, b), equal, a + b)));
  }
};
struct Minimum {
  static constexpr int cost = 8;
  template <class T, class V> static FASTBP_INLINE V apply(V a, V b) {
    V equal = as_float(as_int(a) | as_int(b));
    return select(lt(a, b), a, select(lt(b, a), b, select(eq(a, b), equal, a + b)));
  }
};

// One run of a binary kernel; A and B tell at compile time whether an operand moves along it.
template <class Op, class T, bool A, bool B>
FASTBP_INLINE void binary_run(const T* a, const T* b, T* y, int64_t n, bool streamed) {
  const vec<T> a0 = A ? zero<T>() : set1<T>(*a), b0 = B ? zero<T>() : set1<T>(*b);
  map_values<T, Op::cost == Cheap::cost ? 4 : 1>(
      y, n, streamed, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
        return Op::template apply<T>(A ? load_some(a + i, k) : a0, B ? load_some(b + i, k) : b0);
      });
}

template <class Op, class T> void binary(const Args& args, int64_t begin, int64_t end, Scratch) {
  const T ca = constant<T>(args, 0), cb = constant<T>(args, 1);
  const T* pa = args.p[0] ? static_cast<const T*>(args.p[0]) : &ca;
  const T* pb = args.p[1] ? static_cast<const T*>(args.p[1]) : &cb;
  T* y = static_cast<T*>(args.p[2]);
  const int last = static_cast<int>(args.n[0]) - 1;
  const bool a_moves = args.n[kStridesAt + last] != 0, b_moves = args.n[kStridesAt + kMaxDims + last] != 0;
  const int64_t row = last > 0 ? args.n[kShapeAt + last] : 0;
  const Streaming streaming(y + begin, row, 1 + a_moves + b_moves, args.n[1], y != pa && y != pb);
  for_each_row<2>(args, begin, end, [&](const int64_t* offset, int64_t at, int64_t n) {
    const T *a = pa + offset[0], *b = pb + offset[1];
    if (a_moves && b_moves) binary_run<Op, T, true, true>(a, b, y + at, n, streaming.on);
    else if (a_moves) binary_run<Op, T, true, false>(a, b, y + at, n, streaming.on);
    else if (b_moves) binary_run<Op, T, false, true>(a, b, y + at, n, streaming.on);
    else binary_run<Op, T, false, false>(a, b, y + at, n, streaming.on);
  });
}

// Plain loops for results of another type and for integers; the compiler vectorises them as far as it pays.
template <class F, class T, class R> void map_pair(const Args& args, int64_t begin, int64_t end, Scratch) {
  const T ca = constant<T>(args, 0), cb = constant<T>(args, 1);
  const T* pa = args.p[0] ? static_cast<const T*>(args.p[0]) : &ca;
  const T* pb = args.p[1] ? static_cast<const T*>(args.p[1]) : &cb;
  R* y = static_cast<R*>(args.p[2]);
  const int last = static_cast<int>(args.n[0]) - 1;
  const int64_t sa = args.n[kStridesAt + last], sb = args.n[kStridesAt + kMaxDims + last];
  for_each_row<2>(args, begin, end, [&](const int64_t* offset, int64_t at, int64_t n) {
    const T *a = pa + offset[0], *b = pb + offset[1];
    R* out = y + at;
    if (sa && sb)
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<R>(F::apply(a[i], b[i]));
    else
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<R>(F::apply(a[i * sa], b[i * sb]));
  });
}

// Integer arithmetic wraps around, as NumPy's does: unsigned inside, where overflow is defined.
struct IntAdd {
  static int64_t apply(int64_t a, int64_t b) { return int64_t(uint64_t(a) + uint64_t(b)); }
};
struct IntSub {
  static int64_t apply(int64_t a, int64_t b) { return int64_t(uint64_t(a) - uint64_t(b)); }
};
struct IntMul {
  static int64_t apply(int64_t a, int64_t b) { return int64_t(uint64_t(a) * uint64_t(b)); }
};
struct IntMaximum {
  static int64_t apply(int64_t a, int64_t b) { return a < b ? b : a; }
};
struct IntMinimum {
  static int64_t apply(int64_t a, int64_t b) { return b < a ? b : a; }
};

struct Eq {
  template <class T> static bool apply(T a, T b) { return a == b; }
};
struct Ne {
  template <class T> static bool apply(T a, T b) { return a != b; }
};
struct Lt {
  template <class T> static bool apply(T a, T b) { return a < b; }
};
struct Le {
  template <class T> static bool apply(T a, T b) { return a <= b; }
};
struct Gt {
  template <class T> static bool apply(T a, T b) { return a > b; }
};
struct Ge {
  template <class T> static bool apply(T a, T b) { return a >= b; }
};
struct And {
  template <class T> static bool apply(T a, T b) { return (a != 0) & (b != 0); }
};
struct Or {
  template <class T> static bool apply(T a, T b) { return (a != 0) | (b != 0); }
};
struct Xor {
  template <class T> static bool apply(T a, T b) { return (a != 0) != (b != 0); }
};

template <class T> void where(const Args& args, int64_t begin, int64_t end, Scratch) {
  const uint8_t* pc = static_cast<const uint8_t*>(args.p[0]);
  const T ca = constant<T>(args, 0), cb = constant<T>(args, 1);
  const T* pa = args.p[1] ? static_cast<const T*>(args.p[1]) : &ca;
  const T* pb = args.p[2] ? static_cast<const T*>(args.p[2]) : &cb;
  T* y = static_cast<T*>(args.p[3]);
  const int last = static_cast<int>(args.n[0]) - 1;
  const int64_t* strides = args.n + kStridesAt + last;
  const int64_t sc = strides[0], sa = strides[kMaxDims], sb = strides[2 * kMaxDims];
  for_each_row<3>(args, begin, end, [&](const int64_t* offset, int64_t at, int64_t n) {
    const uint8_t* c = pc + offset[0];
    const T *a = pa + offset[1], *b = pb + offset[2];
    T* out = y + at;
    if (sc && sa && sb)
      for (int64_t i = 0; i < n; ++i) out[i] = c[i] ? a[i] : b[i];
    else
      for (int64_t i = 0; i < n; ++i) out[i] = c[i * sc] ? a[i * sa] : b[i * sb];
  });
}

constexpr int kByteCost = 2;  // of an element of one byte, where Cheap is that of four and more

inline void logical_not(const Args& a, int64_t begin, int64_t end, Scratch) {
  const uint8_t* x = static_cast<const uint8_t*>(a.p[0]);
  uint8_t* y = static_cast<uint8_t*>(a.p[1]);
  for (int64_t i = begin; i < end; ++i) y[i] = x[i] == 0;
}

inline int64_t broadcast_count(const Args& a) { return a.n[1]; }
template <int Cost> int64_t broadcast_work(const Args& a) { return a.n[1] * Cost; }

template <int Cost> constexpr Kernel broadcast_kernel(RangeFn run) {
  return {{{run, broadcast_count, kFlatGrain}}, broadcast_work<Cost>};
}

template <class Op> constexpr Entry binary_entry(const char* name, Kernel integers = {}) {
  return {name,
          Family::kBinary,
          0,
          {broadcast_kernel<Op::cost>(binary<Op, float>), broadcast_kernel<Op::cost>(binary<Op, double>), integers}};
}

template <class F> constexpr Kernel integer_kernel() { return broadcast_kernel<8>(map_pair<F, int64_t, int64_t>); }

template <class F> constexpr Entry comparison_entry(const char* name) {
  return {name,
          Family::kComparison,
          0,
          {broadcast_kernel<8>(map_pair<F, float, bool>), broadcast_kernel<8>(map_pair<F, double, bool>),
           broadcast_kernel<8>(map_pair<F, int64_t, bool>), broadcast_kernel<8>(map_pair<F, uint8_t, bool>)}};
}

template <class F> constexpr Entry logical_entry(const char* name) {
  return {name, Family::kComparison, 0, {{}, {}, {}, broadcast_kernel<kByteCost>(map_pair<F, uint8_t, bool>)}};
}

constexpr Entry kBroadcastEntries[] = {
    binary_entry<Add>("add", integer_kernel<IntAdd>()),
    binary_entry<Sub>("sub", integer_kernel<IntSub>()),
    binary_entry<Mul>("mul", integer_kernel<IntMul>()),
    binary_entry<Div>("div"),
    binary_entry<Pow>("pow"),
    binary_entry<Maximum>("maximum", integer_kernel<IntMaximum>()),
    binary_entry<Minimum>("minimum", integer_kernel<IntMinimum>()),
    comparison_entry<Eq>("eq"),
    comparison_entry<Ne>("ne"),
    comparison_entry<Lt>("lt"),
    comparison_entry<Le>("le"),
    comparison_entry<Gt>("gt"),
    comparison_entry<Ge>("ge"),
    logical_entry<And>("logical_and"),
    logical_entry<Or>("logical_or"),
    logical_entry<Xor>("logical_xor"),
    {"where",
     Family::kSingle,
     0,
     {broadcast_kernel<8>(where<float>), broadcast_kernel<8>(where<double>), broadcast_kernel<8>(where<int64_t>),
      broadcast_kernel<kByteCost>(where<uint8_t>)}},
    {"logical_not",
     Family::kSingle,
     0,
     {{}, {}, {}, {{{logical_not, flat_count, kFlatGrain}}, [](const Args& a) { return a.n[0] * kByteCost; }}}},
};

}  // namespace

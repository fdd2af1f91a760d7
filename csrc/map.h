// Writing results: y[i] = f(i), by whole vectors, and past the caches where that is worth it.
#pragma once

#include "kernel.h"
#include "simd.h"

namespace {
using namespace fastbp;

// On x86 GCC leaves the order of instructions to the processor, whose window does not reach over the long chains of the
// vector functions: mixing those of several vectors makes them 10 to 20 % faster. Not for all code: tiles of products
// would lose registers.
#if defined(__GNUC__) && !defined(__clang__)
#define FASTBP_MIXED __attribute__((noinline, optimize("schedule-insns", "sched-pressure")))
#else
#define FASTBP_MIXED __attribute__((noinline))
#endif

FASTBP_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <class T>
FASTBP_INLINE vec<T> load_some(const T* p, int64_t n) {
  return n >= lanes<T> ? load(p) : load_n(p, n);
}
template <class T>
FASTBP_INLINE void store_some(T* p, vec<T> x, int64_t n) {
  if (n >= lanes<T>) store(p, x);
  else store_n(p, x, n);
}

int64_t stream_gate = int64_t{32} << 20;  // set through the table to what the last cache holds

// Whether a range writes its output y by streaming stores. A plain store first reads the line that it overwrites, a
// third of all traffic where the caches cannot hold it; a streaming store does not. Not for an output that is an input
// too: that line was read anyway. y and what its rows take (0: there is one) must be whole vectors. The fence at the
// end makes the stores visible to the thread that takes the result.
struct Streaming {
  const bool on;
  template <class T>
  FASTBP_INLINE Streaming(const T* y, int64_t row, int64_t operands, int64_t count, bool only_written)
      : on(only_written && operands * count * static_cast<int64_t>(sizeof(T)) >= stream_gate &&
           (reinterpret_cast<uintptr_t>(y) | static_cast<uintptr_t>(row) * sizeof(T)) % sizeof(vec<T>) == 0) {}
  FASTBP_INLINE ~Streaming() {
    if (on) stream_fence();
  }
};

// Asks for the lines of x[0 … n−1]. For kernels that work on blocks in the cache: else memory would rest meanwhile.
template <class T>
FASTBP_INLINE void prefetch(const T* x, int64_t n) {
  for (int64_t i = 0; i < n; i += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(x + i);
}

// Writes n values from y on, `kAtOnce` vectors in one step of the loop, which keeps the units busy while each one waits
// for its own results: f(v, i, k) fills the array v for y + i, all of it, but at the very end its first k lanes.
template <class T, int kAtOnce = 4, class F>
FASTBP_INLINE void map_groups(T* y, int64_t n, bool streamed, F f) {
  constexpr int64_t step = kAtOnce * lanes<T>;
  const auto put = [=](T* to, vec<T> v) __attribute__((always_inline)) {
    if (streamed) stream(to, v);
    else store(to, v);
  };
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    vec<T> v[kAtOnce];
    f(v, i, static_cast<int64_t>(lanes<T>));
    for (int j = 0; j < kAtOnce; ++j) put(y + i + j * lanes<T>, v[j]);
  }
  vec<T> v[1];
  if constexpr (kAtOnce > 1) {
    for (; i + lanes<T> <= n; i += lanes<T>) {
      f(v, i, static_cast<int64_t>(lanes<T>));
      put(y + i, v[0]);
    }
  }
  if (i < n) {
    f(v, i, n - i);
    store_n(y + i, v[0], n - i);
  }
}

// The same of one vector at a time: y[i] = f(i, k).
template <class T, int kAtOnce = 4, class F>
FASTBP_INLINE void map_values(T* y, int64_t n, bool streamed, F f) {
  const auto each = [=]<int N>(vec<T>(&v)[N], int64_t i, int64_t k) __attribute__((always_inline)) {
    for (int j = 0; j < N; ++j) v[j] = f(i + j * lanes<T>, k);
  };
  map_groups<T, kAtOnce>(y, n, streamed, each);
}

}  // namespace

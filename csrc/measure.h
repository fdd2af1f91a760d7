// The limits of this machine, for benchmarks:
//
//   fma_loop   p = {sink}; n = {loops, iterations}. A range of `loops` is cut among the threads; each loop runs
//              `iterations` rounds of independent fused multiply-adds on registers, and leaves their sum.
//   copy_loop  p = {from, to}; n = {count, streaming}. Copies by vector loads and either plain stores or streaming
//              ones, which need `to` aligned to a cache line.
#pragma once

#include "kernel.h"
#include "simd.h"

namespace {
using namespace fastbp;

// 2 ports × 4 cycles of latency need 8 chains in flight; 12 leave some slack and fit into 16 registers.
constexpr int kChains = 12;

template <class T> void fma_loop(const Args& a, int64_t begin, int64_t end, Scratch) {
  T* sink = static_cast<T*>(a.p[0]);
  for (int64_t loop = begin; loop < end; ++loop) {
    vec<T> chain[kChains];
    const vec<T> factor = set1<T>(T(0.5)), term = set1<T>(sink[loop]);
    for (int i = 0; i < kChains; ++i) chain[i] = set1<T>(static_cast<T>(i));
    for (int64_t n = 0; n < a.n[1]; ++n)
      for (int i = 0; i < kChains; ++i) chain[i] = fma(chain[i], factor, term);
    for (int i = 1; i < kChains; ++i) chain[0] = chain[0] + chain[i];
    T lanes_of[lanes<T>];
    store(lanes_of, chain[0]);
    sink[loop] = lanes_of[0];
  }
}

inline int64_t fma_loops(const Args& a) { return a.n[0]; }
template <class T> int64_t fma_operations(const Args& a) { return a.n[0] * a.n[1] * kChains * lanes<T> * 2; }

template <class T> constexpr Kernel fma_kernel() { return {{{fma_loop<T>, fma_loops, 1}}, fma_operations<T>}; }

template <class T> void copy_loop(const Args& a, int64_t begin, int64_t end, Scratch) {
  const T* from = static_cast<const T*>(a.p[0]);
  T* to = static_cast<T*>(a.p[1]);
  int64_t i = begin;
  if (a.n[1]) {
    for (; i + lanes<T> <= end; i += lanes<T>) stream(to + i, load(from + i));
    stream_fence();
  } else {
    for (; i + lanes<T> <= end; i += lanes<T>) store(to + i, load(from + i));
  }
  for (; i < end; ++i) to[i] = from[i];
}

inline int64_t copy_elements(const Args& a) { return a.n[0]; }
template <class T> int64_t copied_bytes(const Args& a) { return a.n[0] * 2 * static_cast<int64_t>(sizeof(T)); }

// Cut at cache lines, so that every range starts aligned where `to` does.
template <class T> constexpr Kernel copy_kernel() {
  return {{{copy_loop<T>, copy_elements, 64 / sizeof(T)}}, copied_bytes<T>};
}

constexpr Entry kMeasureEntries[] = {
    {"fma_loop", Family::kSingle, 0, {fma_kernel<float>(), fma_kernel<double>()}},
    {"copy_loop", Family::kSingle, 0, {copy_kernel<float>(), copy_kernel<double>()}},
};

}  // namespace

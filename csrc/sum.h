// Sums in the one order that every instruction set, thread count and batch split must share.
//
// Last axis and flat: inside each run of 512 terms, 16 virtual lanes from +0 (lane j takes the terms j mod 16 in
// order), then lane j += lane j+8, +4, +2, +1. The results of the runs are added in ascending order when there are at
// most 512 of them, otherwise they are themselves summed by this same rule.
// Leading axis: inside each run of 512 rows one ascending chain from +0 for each column; the runs are added in
// ascending order, beyond 512 of them as super totals of 512 runs each, which are then added in ascending order.
//
// What is summed is a `step` on vectors that returns the accumulator after one more term, so that a sum of products is
// fused and a step may store what it computes on the way. In a tail only the first n lanes of its result are kept.
#pragma once

#include "map.h"

namespace {
using namespace fastbp;

constexpr int kSumLanes = 16;
constexpr int64_t kColumns = 512;  // columns summed at once: their accumulators stay in the first-level cache

FASTBP_INLINE int64_t chunks_of(int64_t n) { return (n + kChunk - 1) / kChunk; }

template <class T>
FASTBP_INLINE T first_lane(vec<T> x) {
  if constexpr (lanes<T> == 1) return x;
  else return x[0];
}

alignas(64) constexpr int32_t kLaneIndex32[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
alignas(64) constexpr int64_t kLaneIndex64[8] = {0, 1, 2, 3, 4, 5, 6, 7};

template <class T>
FASTBP_INLINE ivec<T> lane_index() {
  ivec<T> index;
  if constexpr (sizeof(T) == 4) __builtin_memcpy(&index, kLaneIndex32, sizeof index);
  else __builtin_memcpy(&index, kLaneIndex64, sizeof index);
  return index;
}

// True in the lanes 0 … n−1.
template <class T>
FASTBP_INLINE mask<T> first_lanes(int64_t n) {
  return ilt<T>(lane_index<T>(), iset1<T>(n));
}

// Lane j of the result is lane j ^ kStep of x: what lies kStep away, without crossing more of the register than needed.
template <class T, int kStep>
FASTBP_INLINE vec<T> swap_lanes(vec<T> x) {
  constexpr int s = kStep;
  if constexpr (lanes<T> == 2) {
    return __builtin_shufflevector(x, x, 0 ^ s, 1 ^ s);
  } else if constexpr (lanes<T> == 4) {
    return __builtin_shufflevector(x, x, 0 ^ s, 1 ^ s, 2 ^ s, 3 ^ s);
  } else if constexpr (lanes<T> == 8) {
    return __builtin_shufflevector(x, x, 0 ^ s, 1 ^ s, 2 ^ s, 3 ^ s, 4 ^ s, 5 ^ s, 6 ^ s, 7 ^ s);
  } else {
    return __builtin_shufflevector(x, x, 0 ^ s, 1 ^ s, 2 ^ s, 3 ^ s, 4 ^ s, 5 ^ s, 6 ^ s, 7 ^ s, 8 ^ s, 9 ^ s, 10 ^ s,
                                   11 ^ s, 12 ^ s, 13 ^ s, 14 ^ s, 15 ^ s);
  }
}

// Combines the lanes of x by the tree 8-4-2-1.
template <class T, class Combine>
FASTBP_INLINE T fold_lanes(vec<T> x, Combine combine) {
  if constexpr (lanes<T> >= 16) x = combine(x, swap_lanes<T, 8>(x));
  if constexpr (lanes<T> >= 8) x = combine(x, swap_lanes<T, 4>(x));
  if constexpr (lanes<T> >= 4) x = combine(x, swap_lanes<T, 2>(x));
  if constexpr (lanes<T> >= 2) x = combine(x, swap_lanes<T, 1>(x));
  return first_lane<T>(x);
}

// The 16 virtual lanes of one run.
template <class T>
struct LaneSum {
  static constexpr int kVectors = kSumLanes / lanes<T>;
  vec<T> lane[kVectors] = {};

  FASTBP_INLINE T total() const {
    vec<T> x[kVectors];
    for (int v = 0; v < kVectors; ++v) x[v] = lane[v];
    for (int half = kVectors / 2; half > 0; half /= 2)
      for (int v = 0; v < half; ++v) x[v] = x[v] + x[v + half];
    return fold_lanes<T>(x[0], [](vec<T> a, vec<T> b) { return a + b; });
  }
};

// kSums sums taken in one pass: step(acc, i, n) advances acc[0 … kSums−1] by the terms i … i+n−1, n ≤ lanes.
template <class T, int kSums>
struct Sums {
  T total[kSums];
};

template <class T, int kSums, class Step>
FASTBP_INLINE Sums<T, kSums> sum_run(int64_t begin, int64_t end, Step& step) {
  constexpr int kVectors = LaneSum<T>::kVectors;
  LaneSum<T> sum[kSums];
  int64_t i = begin;
  for (; i + kSumLanes <= end; i += kSumLanes) {
    for (int v = 0; v < kVectors; ++v) {
      vec<T> acc[kSums];
      for (int k = 0; k < kSums; ++k) acc[k] = sum[k].lane[v];
      step(acc, i + v * lanes<T>, static_cast<int64_t>(lanes<T>));
      for (int k = 0; k < kSums; ++k) sum[k].lane[v] = acc[k];
    }
  }
  if (i < end) {
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = i + v * lanes<T>, n = smaller(end - at, lanes<T>);
      if (n <= 0) break;
      vec<T> acc[kSums];
      for (int k = 0; k < kSums; ++k) acc[k] = sum[k].lane[v];
      step(acc, at, n);
      const mask<T> keep = first_lanes<T>(n);
      for (int k = 0; k < kSums; ++k) sum[k].lane[v] = select(keep, acc[k], sum[k].lane[v]);
    }
  }
  Sums<T, kSums> result;
  for (int k = 0; k < kSums; ++k) result.total[k] = sum[k].total();
  return result;
}

// Result number `index` of `level`: of level 0 the sum of 512 terms, of each further level that of 512 results below.
template <class T, int kSums, class Step>
__attribute__((noinline)) Sums<T, kSums> sum_level(int level, int64_t index, int64_t n, Step& step) {
  if (level == 0) return sum_run<T, kSums>(index * kChunk, smaller(n, (index + 1) * kChunk), step);
  int64_t below = n;
  for (int i = 0; i < level; ++i) below = chunks_of(below);
  T lane[kSumLanes][kSums] = {};
  const int64_t end = smaller(below, (index + 1) * kChunk);
  for (int64_t i = index * kChunk; i < end; ++i) {
    const Sums<T, kSums> term = sum_level<T, kSums>(level - 1, i, n, step);
    for (int k = 0; k < kSums; ++k) lane[i % kSumLanes][k] += term.total[k];
  }
  for (int half = kSumLanes / 2; half > 0; half /= 2)
    for (int j = 0; j < half; ++j)
      for (int k = 0; k < kSums; ++k) lane[j][k] += lane[j + half][k];
  Sums<T, kSums> result;
  for (int k = 0; k < kSums; ++k) result.total[k] = lane[0][k];
  return result;
}

// The last-axis sums over n terms.
template <class T, int kSums, class Step>
FASTBP_INLINE Sums<T, kSums> row_sums(int64_t n, Step step) {
  if (n <= kChunk) return sum_run<T, kSums>(0, n, step);
  int level = 0;
  int64_t count = chunks_of(n);
  for (; count > kChunk; ++level) count = chunks_of(count);
  Sums<T, kSums> sum = sum_level<T, kSums>(level, 0, n, step);
  for (int64_t i = 1; i < count; ++i) {
    const Sums<T, kSums> term = sum_level<T, kSums>(level, i, n, step);
    for (int k = 0; k < kSums; ++k) sum.total[k] += term.total[k];
  }
  return sum;
}

// One sum: step(acc, i, n) returns the accumulator.
template <class T, class Step>
FASTBP_INLINE T row_sum(int64_t n, Step step) {
  const auto advance = [&](vec<T>(&acc)[1], int64_t i, int64_t k)
                           __attribute__((always_inline)) { acc[0] = step(acc[0], i, k); };
  return row_sums<T, 1>(n, advance).total[0];
}

template <class T>
FASTBP_INLINE T row_sum(const T* x, int64_t n) {
  return row_sum<T>(
      n, [=](vec<T> acc, int64_t i, int64_t k) __attribute__((always_inline)) { return acc + load_some(x + i, k); });
}

// The total of n run results of a last-axis sum, stored in order.
template <class T>
FASTBP_INLINE T merge_runs(const T* run, int64_t n) {
  if (n > kChunk) return row_sum(run, n);
  T sum = run[0];
  for (int64_t i = 1; i < n; ++i) sum += run[i];
  return sum;
}

// y[k][j] = accumulator k of the column j < w after its chain of steps over the rows begin … end−1, all kSums taken in
// one pass: step(acc, i, j, n) advances acc[0 … kSums−1] by the columns j … j+n−1 of row i. Many rows go eight at a
// time, with the accumulators in cache: long streams of reads.
template <class T, int kSums, class Step>
FASTBP_INLINE void fold_columns(T init, int64_t begin, int64_t end, int64_t w, T* const (&y)[kSums], Step step) {
  constexpr int64_t kRows = 8, kFewRows = 2 * kRows;
  if (end - begin <= kFewRows) {
    for (int64_t j = 0; j < w; j += lanes<T>) {
      vec<T> acc[kSums];
      for (int k = 0; k < kSums; ++k) acc[k] = set1<T>(init);
      for (int64_t i = begin; i < end; ++i) step(acc, i, j, w - j);
      for (int k = 0; k < kSums; ++k) store_some(y[k] + j, acc[k], w - j);
    }
    return;
  }
  alignas(64) T acc[kSums][kColumns];
  for (int64_t first = 0; first < w; first += kColumns) {
    const int64_t n = smaller(w - first, kColumns);
    for (int k = 0; k < kSums; ++k)
      for (int64_t j = 0; j < n; j += lanes<T>) store(acc[k] + j, set1<T>(init));
    const auto advance = [&](int64_t i, int64_t rows) __attribute__((always_inline)) {
      const auto column = [&](int64_t j, int64_t some) __attribute__((always_inline)) {
        vec<T> a[kSums];
        for (int k = 0; k < kSums; ++k) a[k] = load(acc[k] + j);
        for (int64_t row = i; row < i + rows; ++row) step(a, row, first + j, some);
        for (int k = 0; k < kSums; ++k) store(acc[k] + j, a[k]);
      };
      int64_t j = 0;
      for (; j + lanes<T> <= n; j += lanes<T>) column(j, lanes<T>);
      if (j < n) column(j, n - j);
    };
    int64_t i = begin;
    for (; i + kRows <= end; i += kRows) advance(i, kRows);
    for (; i < end; ++i) advance(i, 1);
    for (int k = 0; k < kSums; ++k) __builtin_memcpy(y[k] + first, acc[k], n * sizeof(T));
  }
}

// One for each column: step(acc, i, j, n) returns the accumulator.
template <class T, class Step>
FASTBP_INLINE void fold_columns(T init, int64_t begin, int64_t end, int64_t w, T* y, Step step) {
  T* const one[1] = {y};
  fold_columns<T, 1>(init, begin, end, w, one,
                     [&](vec<T>(&acc)[1], int64_t i, int64_t j, int64_t n)
                         __attribute__((always_inline)) { acc[0] = step(acc[0], i, j, n); });
}

// Takes the totals of run number `run` into y[0 … w−1]; `super` holds the super total under way.
template <class T>
FASTBP_INLINE void add_run(const T* total, int64_t run, bool last, int64_t w, T* super, T* y) {
  const int64_t place = run % kChunk;
  for (int64_t j = 0; j < w; ++j) super[j] = place == 0 ? total[j] : super[j] + total[j];
  if (place != kChunk - 1 && !last) return;
  for (int64_t j = 0; j < w; ++j) y[j] = run < kChunk ? super[j] : y[j] + super[j];
}

// kSums leading-axis sums of w columns over r rows into y[0 … kSums−1], with a step as above.
template <class T, int kSums, class Step>
FASTBP_INLINE void column_sums(int64_t r, int64_t w, T* const (&y)[kSums], Step step) {
  if (r <= kChunk) return fold_columns<T, kSums>(0, 0, r, w, y, step);
  T total[kSums][kColumns], super[kSums][kColumns];
  T* totals[kSums];
  for (int k = 0; k < kSums; ++k) totals[k] = total[k];
  for (int64_t first = 0; first < w; first += kColumns) {
    const int64_t n = smaller(w - first, kColumns);
    const auto shifted = [&](vec<T>(&acc)[kSums], int64_t i, int64_t j, int64_t some)
                             __attribute__((always_inline)) { step(acc, i, first + j, some); };
    for (int64_t run = 0; run * kChunk < r; ++run) {
      const int64_t begin = run * kChunk, end = smaller(r, begin + kChunk);
      fold_columns<T, kSums>(0, begin, end, n, totals, shifted);
      for (int k = 0; k < kSums; ++k) add_run(total[k], run, end == r, n, super[k], y[k] + first);
    }
  }
}

// One sum of each column.
template <class T, class Step>
FASTBP_INLINE void column_sums(int64_t r, int64_t w, T* y, Step step) {
  T* const one[1] = {y};
  column_sums<T, 1>(r, w, one, [&](vec<T>(&acc)[1], int64_t i, int64_t j, int64_t n) __attribute__((always_inline)) {
    acc[0] = step(acc[0], i, j, n);
  });
}

// The same from the totals of the runs: run i of column j at run[i * stride + j].
template <class T>
void merge_column_runs(const T* run, int64_t runs, int64_t stride, int64_t w, T* y) {
  T super[kColumns];
  for (int64_t first = 0; first < w; first += kColumns)
    for (int64_t i = 0; i < runs; ++i)
      add_run(run + i * stride + first, i, i == runs - 1, smaller(w - first, kColumns), super, y + first);
}

}  // namespace

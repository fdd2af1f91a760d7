// Cross-entropy of logits (rows, cols): per-row losses, and the gradient of their weighted mean in the same pass.
//
// With log p = log_softmax(logits), class weights c (1 where absent), sample weights s, smoothing ε and target t:
//   labels         l = s [ (1 − ε) c_t (−log p_t) + ε/cols Σ_j c_j (−log p_j) ]; an ignored row gives 0
//   probabilities  l = s Σ_j c_j t'_j (−log p_j), t' = (1 − ε) t + ε/cols
// Both are l = s Σ_j u_j (−log p_j) = s (U log Σ e^d − Σ u d) with U = Σ u and d = logits − max, so that
// ∂l/∂logits_j = s (U p_j − u_j). losses are not divided; dlogits is divided by *denominator, once a row.
//
// Args: p = {logits, target, class_weight, sample_weight, denominator, losses, dlogits}, where both weights and dlogits
// may be null; n = {rows, cols, ignore_index}; c = {ε}. A label out of range gives NaN; nothing is read out of bounds.
//
// cross_entropy_denominator: Σ s c_t over the rows that are not ignored, by the flat-sum rule.
// Args: p = {target, class_weight, sample_weight, y}; n = {rows, cols, ignore_index}.
#pragma once

#include "softmax.h"

namespace {
using namespace fastbp;

template <class T>
struct CrossEntropy {
  const T* logits;
  const void* target;
  const T *class_weight, *sample_weight;
  T denominator;
  T *losses, *dlogits;
  int64_t rows, cols, ignore_index;
  T keep, spread;  // 1 − ε and ε / cols

  FASTBP_INLINE explicit CrossEntropy(const Args& a)
      : logits(static_cast<const T*>(a.p[0])),
        target(a.p[1]),
        class_weight(static_cast<const T*>(a.p[2])),
        sample_weight(static_cast<const T*>(a.p[3])),
        losses(static_cast<T*>(a.p[5])),
        dlogits(static_cast<T*>(a.p[6])),
        rows(a.n[0]),
        cols(a.n[1]),
        ignore_index(a.n[2]),
        keep(static_cast<T>(1 - a.c[0])),
        spread(static_cast<T>(a.c[0] / static_cast<double>(a.n[1]))) {
    denominator = dlogits ? *static_cast<const T*>(a.p[4]) : T(1);
  }
  FASTBP_INLINE vec<T> class_weights(int64_t j, int64_t n) const {
    return class_weight ? load_some(class_weight + j, n) : set1<T>(1);
  }
  FASTBP_INLINE bool known(int64_t label) const { return label >= 0 && label < cols; }
  FASTBP_INLINE T weight_of_class(int64_t label) const {
    if (!known(label)) return static_cast<T>(__builtin_nan(""));
    return class_weight ? class_weight[label] : T(1);
  }
  FASTBP_INLINE T weight_of_row(int64_t row) const { return sample_weight ? sample_weight[row] : T(1); }
  FASTBP_INLINE Streaming streaming(int64_t operands, bool only_written) const {
    return {dlogits, cols, operands, rows * cols, dlogits && dlogits != logits && only_written};
  }
};

// Writes a row of gradients made from its terms e: f(j, terms), and then what is taken off at the label, if there is
// one. A streamed row is finished in the cache first: no line of it may be touched again.
template <class T, class F>
FASTBP_INLINE void gradient_row(T* e, T* dx, int64_t cols, int64_t room, int64_t label, bool streamed, T off, F f) {
  T* y = streamed ? e : dx;
  map_values(y, cols, false,
             [&](int64_t j, int64_t n) __attribute__((always_inline)) { return f(load_terms(e, j, n, room), j, n); });
  if (label >= 0) y[label] -= off;
  if (streamed)
    map_values(dx, cols, true,
               [&](int64_t j, int64_t n) __attribute__((always_inline)) { return load_terms(e, j, n, room); });
}

// Labels. Without smoothing u is zero but at t; with it, Σ u d comes out of the pass over the exponentials.
template <class T, bool kSmooth, bool kGradient>
void cross_entropy_rows(const CrossEntropy<T>& ce, int64_t begin, int64_t end) {
  const int64_t cols = ce.cols;
  const int64_t* labels = static_cast<const int64_t*>(ce.target);
  T mass = 0;
  if constexpr (kSmooth) mass = ce.class_weight ? row_sum(ce.class_weight, cols) : static_cast<T>(cols);
  RowBlock<T> block(cols);
  const Streaming streaming = ce.streaming(2, block.held);
  T peak[kRowBlock], at_label[kRowBlock], sum[kRowBlock], tilt[kRowBlock], log_sum[kRowBlock] = {};
  for (int64_t first = begin; first < end; first += block.together) {
    const int64_t rows = smaller(block.together, end - first);
    for (int64_t i = 0; i < rows; ++i) peak[i] = row_peak(ce.logits + (first + i) * cols, cols);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t label = labels[first + i];
      sum[i] = 1;
      if (label == ce.ignore_index) continue;
      const T* x = ce.logits + (first + i) * cols;
      T* e = block.row(i, ce.dlogits + (first + i) * cols);  // the output may be the logits themselves
      at_label[i] = ce.known(label) ? x[label] - peak[i] : T(0);
      if constexpr (kSmooth) {
        const auto step = [&](vec<T>(&acc)[2], int64_t j, int64_t n) __attribute__((always_inline)) {
          const vec<T> d = load_some(x + j, n) - set1<T>(peak[i]), term = vexp(d);
          if constexpr (kGradient) store_some(e + j, term, n);
          acc[0] = acc[0] + term;
          acc[1] = fma(ce.class_weights(j, n), d, acc[1]);
        };
        const Sums<T, 2> sums = row_sums<T, 2>(cols, step);
        sum[i] = sums.total[0];
        tilt[i] = sums.total[1];
      } else if constexpr (kGradient) {
        if (streaming.on) prefetch(x + block.together * cols, cols);
        exp_terms(x, cols, peak[i], e, block.room);
      } else {
        sum[i] = exp_sum(x, cols, peak[i]);
      }
    }
    for (int64_t i = 0; i < rows; ++i) {
      if constexpr (kGradient && !kSmooth)
        if (labels[first + i] != ce.ignore_index) sum[i] = row_sum(block.row(i, ce.dlogits + (first + i) * cols), cols);
      log_sum[i] = sum[i];
    }
    map_block(log_sum, rows, [](vec<T> x) __attribute__((always_inline)) { return vlog(x); });
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t row = first + i, label = labels[row];
      T* dx = kGradient ? ce.dlogits + row * cols : nullptr;
      if (label == ce.ignore_index) {
        ce.losses[row] = 0;
        if constexpr (kGradient) __builtin_memset(dx, 0, cols * sizeof(T));
        continue;
      }
      T* e = block.row(i, dx);
      const int64_t hit = ce.known(label) ? label : -1;
      const T class_weight = ce.weight_of_class(label), sample_weight = ce.weight_of_row(row);
      const T nll = log_sum[i] - at_label[i];
      if constexpr (kSmooth) {
        const T share = ce.keep * class_weight;
        ce.losses[row] = sample_weight * (share * nll + ce.spread * (mass * log_sum[i] - tilt[i]));
        if constexpr (kGradient) {
          const T g = sample_weight / ce.denominator;
          const T scale = g * (share + ce.spread * mass) / sum[i], rest = g * ce.spread;
          const auto slope = [&](vec<T> term, int64_t j, int64_t n) __attribute__((always_inline)) {
            return fma(term, set1<T>(scale), -(set1<T>(rest) * ce.class_weights(j, n)));
          };
          gradient_row(e, dx, cols, block.room, hit, streaming.on, g * share, slope);
        }
      } else {
        const T weight = sample_weight * class_weight;
        ce.losses[row] = weight * nll;
        if constexpr (kGradient) {
          const T g = weight / ce.denominator, scale = g / sum[i];
          const auto slope = [=](vec<T> term, int64_t, int64_t)
                                 __attribute__((always_inline)) { return term * set1<T>(scale); };
          gradient_row(e, dx, cols, block.room, hit, streaming.on, g, slope);
        }
      }
    }
  }
}

template <class T>
void cross_entropy_forward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const CrossEntropy<T> ce(a);
  if (a.c[0] != 0) {
    if (ce.dlogits) cross_entropy_rows<T, true, true>(ce, begin, end);
    else cross_entropy_rows<T, true, false>(ce, begin, end);
  } else {
    if (ce.dlogits) cross_entropy_rows<T, false, true>(ce, begin, end);
    else cross_entropy_rows<T, false, false>(ce, begin, end);
  }
}

template <class T, bool kGradient>
void cross_entropy_probabilities_rows(const CrossEntropy<T>& ce, int64_t begin, int64_t end) {
  const int64_t cols = ce.cols;
  RowBlock<T> block(cols);
  const Streaming streaming = ce.streaming(3, block.held && ce.dlogits != ce.target);
  T sum[kRowBlock], mass[kRowBlock], tilt[kRowBlock], log_sum[kRowBlock] = {};
  for (int64_t first = begin; first < end; first += block.together) {
    const int64_t rows = smaller(block.together, end - first);
    const auto weights = [&](const T* t, int64_t j, int64_t n) __attribute__((always_inline)) {
      return ce.class_weights(j, n) * fma(load_some(t + j, n), set1<T>(ce.keep), set1<T>(ce.spread));
    };
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = (first + i) * cols;
      const T *x = ce.logits + at, *t = static_cast<const T*>(ce.target) + at;
      T* e = block.row(i, ce.dlogits + at);
      const T m = row_peak(x, cols);
      const auto step = [&](vec<T>(&acc)[3], int64_t j, int64_t n) __attribute__((always_inline)) {
        const vec<T> d = load_some(x + j, n) - set1<T>(m), term = vexp(d), u = weights(t, j, n);
        if constexpr (kGradient) store_some(e + j, term, n);
        acc[0] = acc[0] + term;
        acc[1] = acc[1] + u;
        acc[2] = fma(u, d, acc[2]);
      };
      const Sums<T, 3> sums = row_sums<T, 3>(cols, step);
      sum[i] = log_sum[i] = sums.total[0];
      mass[i] = sums.total[1];
      tilt[i] = sums.total[2];
    }
    map_block(log_sum, rows, [](vec<T> x) __attribute__((always_inline)) { return vlog(x); });
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t row = first + i;
      const T sample_weight = ce.weight_of_row(row);
      ce.losses[row] = sample_weight * (mass[i] * log_sum[i] - tilt[i]);
      if constexpr (kGradient) {
        const T* t = static_cast<const T*>(ce.target) + row * cols;
        T* dx = ce.dlogits + row * cols;
        const T *e = block.row(i, dx), g = sample_weight / ce.denominator, scale = g * mass[i] / sum[i];
        map_values(dx, cols, streaming.on, [&](int64_t j, int64_t n) __attribute__((always_inline)) {
          return fma(load_some(e + j, n), set1<T>(scale), -(set1<T>(g) * weights(t, j, n)));
        });
      }
    }
  }
}

template <class T>
void cross_entropy_probabilities_forward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const CrossEntropy<T> ce(a);
  if (ce.dlogits) cross_entropy_probabilities_rows<T, true>(ce, begin, end);
  else cross_entropy_probabilities_rows<T, false>(ce, begin, end);
}

// The weights of the runs [begin, end) of 512 rows; a single run is the result.
template <class T>
void cross_entropy_weight_runs(const Args& a, int64_t begin, int64_t end, Scratch scratch) {
  const int64_t* labels = static_cast<const int64_t*>(a.p[0]);
  const T *class_weight = static_cast<const T*>(a.p[1]), *sample_weight = static_cast<const T*>(a.p[2]);
  const int64_t rows = a.n[0], cols = a.n[1], ignore_index = a.n[2];
  T* to = static_cast<T*>(chunks_of(rows) > 1 ? scratch.shared : a.p[3]);
  for (int64_t run = begin; run < end; ++run) {
    T weight[kChunk];
    const int64_t first = run * kChunk, n = smaller(kChunk, rows - first);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t label = labels[first + i];
      T w = sample_weight ? sample_weight[first + i] : T(1);
      if (class_weight) w *= label >= 0 && label < cols ? class_weight[label] : static_cast<T>(__builtin_nan(""));
      weight[i] = label == ignore_index ? T(0) : w;
    }
    to[run] = row_sum(weight, n);
  }
}

template <class T>
void cross_entropy_weight_total(const Args& a, int64_t, int64_t, Scratch scratch) {
  *static_cast<T*>(a.p[3]) = merge_runs(static_cast<const T*>(scratch.shared), chunks_of(a.n[0]));
}

inline int64_t weight_run_count(const Args& a) { return a.n[0] > 0 ? chunks_of(a.n[0]) : 1; }
inline int64_t weight_total_count(const Args& a) { return chunks_of(a.n[0]) > 1; }
inline int64_t weight_work(const Args& a) { return a.n[0] * 4; }
template <class T>
int64_t weight_shared(const Args& a) {
  return chunks_of(a.n[0]) * static_cast<int64_t>(sizeof(T));
}
template <class T>
constexpr Kernel denominator_kernel() {
  return {{{cross_entropy_weight_runs<T>, weight_run_count}, {cross_entropy_weight_total<T>, weight_total_count}},
          weight_work,
          weight_shared<T>};
}

}  // namespace

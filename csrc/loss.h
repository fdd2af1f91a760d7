// Losses: per-row losses and, in the same pass, the gradient of their weighted mean. Cross-entropy is in its own file.
//
// losses[i] = s_i Σ_j l(x_ij, t_ij) by the last-axis rule, not divided; dx_ij = s_i / *denominator · ∂l/∂x_ij.
//   mse                    (x − t)²
//   l1                     |x − t|, gradient 0 at 0
//   binary_cross_entropy   −t log x − (1 − t) log(1 − x), logarithms not below −100;
//                          gradient (x − t) / max(x (1 − x), 1e-12)
//   sigmoid_cross_entropy  p t softplus(−x) + (1 − t) softplus(x), p = pos_weight_j; gradient (1 − t) σ(x) − p t σ(−x)
// Args: p = {x, target, pos_weight, sample_weight, denominator, losses, dx}, where both weights and dx may be null;
// n = {rows, cols}.
#pragma once

#include "cross_entropy.h"

namespace {
using namespace fastbp;

// Each gives the loss of x against t and its slope; p is the weight of the positive class.
struct SquaredError {
  static constexpr int cost = 8;
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, vec<T>& loss, vec<T>& slope) {
    const vec<T> d = x - t;
    loss = d * d;
    slope = d + d;
  }
};

struct AbsoluteError {
  static constexpr int cost = 8;
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, vec<T>& loss, vec<T>& slope) {
    const vec<T> d = x - t;
    loss = abs(d);
    slope = select(ne(d, d), d, select(eq(d, zero<T>()), zero<T>(), copysign(set1<T>(1), d)));
  }
};

struct BinaryCrossEntropy {
  static constexpr int cost = 64;
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, vec<T>& loss, vec<T>& slope) {
    const vec<T> one = set1<T>(1), lowest = set1<T>(-100), least = set1<T>(T(1e-12));
    const vec<T> log_x = vlog(x), log_not_x = vlog1p(-x), spread = x * (one - x);
    loss = (t - one) * at_least(log_not_x, lowest) - t * at_least(log_x, lowest);
    slope = (x - t) / at_least(spread, least);
  }
};

// e^−|x| serves both softplus(±x) = max(±x, 0) + log1p(e^−|x|) and σ(±x), neither of which cancels.
struct SigmoidCrossEntropy {
  static constexpr int cost = 64;
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T> p, vec<T>& loss, vec<T>& slope) {
    const vec<T> one = set1<T>(1), negative = one - t, positive = p * t;
    const vec<T> e = vexp(-abs(x)), rest = vlog1p(e), large = one / (one + e), small = e * large;
    const auto below = lt(x, zero<T>());
    loss = fma(positive, rest + select(below, -x, zero<T>()), negative * (rest + select(below, zero<T>(), x)));
    slope = negative * select(below, small, large) - positive * select(below, large, small);
  }
};

// One value a row: whole vectors of rows.
template <class F, class T, bool kGradient>
FASTBP_INLINE void element_loss_column(const Args& a, int64_t begin, int64_t end, T denominator) {
  const T *x = static_cast<const T*>(a.p[0]), *target = static_cast<const T*>(a.p[1]);
  const T *pos_weight = static_cast<const T*>(a.p[2]), *sample_weight = static_cast<const T*>(a.p[3]);
  T *losses = static_cast<T*>(a.p[5]), *dx = static_cast<T*>(a.p[6]);
  const vec<T> p = set1<T>(pos_weight ? *pos_weight : T(1));
  const auto advance = [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    const vec<T> weight = sample_weight ? load_some(sample_weight + i, n) : set1<T>(1);
    vec<T> loss, slope;
    F::template apply<T>(load_some(x + i, n), load_some(target + i, n), p, loss, slope);
    store_some(losses + i, weight * (loss + zero<T>()), n);
    if constexpr (kGradient) store_some(dx + i, weight / set1<T>(denominator) * slope, n);
  };
  int64_t i = begin;
  for (; i + lanes<T> <= end; i += lanes<T>) advance(i, static_cast<int64_t>(lanes<T>));
  if (i < end) advance(i, end - i);
}

template <class F, class T, bool kGradient>
FASTBP_INLINE void element_loss_rows(const Args& a, int64_t begin, int64_t end, T denominator) {
  const T *pos_weight = static_cast<const T*>(a.p[2]), *sample_weight = static_cast<const T*>(a.p[3]);
  const int64_t cols = a.n[1];
  for (int64_t row = begin; row < end; ++row) {
    const T *x = static_cast<const T*>(a.p[0]) + row * cols, *target = static_cast<const T*>(a.p[1]) + row * cols;
    T* dx = kGradient ? static_cast<T*>(a.p[6]) + row * cols : nullptr;
    const T weight = sample_weight ? sample_weight[row] : T(1), g = weight / denominator;
    const T sum = row_sum<T>(cols, [=](vec<T> acc, int64_t j, int64_t n) __attribute__((always_inline)) {
      const vec<T> p = pos_weight ? load_some(pos_weight + j, n) : set1<T>(1);
      vec<T> loss, slope;
      F::template apply<T>(load_some(x + j, n), load_some(target + j, n), p, loss, slope);
      if constexpr (kGradient) store_some(dx + j, set1<T>(g) * slope, n);
      return acc + loss;
    });
    static_cast<T*>(a.p[5])[row] = weight * sum;
  }
}

template <class F, class T>
void element_loss(const Args& a, int64_t begin, int64_t end, Scratch) {
  const bool column = a.n[1] == 1;
  if (a.p[6]) {
    const T denominator = *static_cast<const T*>(a.p[4]);
    if (column) element_loss_column<F, T, true>(a, begin, end, denominator);
    else element_loss_rows<F, T, true>(a, begin, end, denominator);
  } else {
    if (column) element_loss_column<F, T, false>(a, begin, end, T(1));
    else element_loss_rows<F, T, false>(a, begin, end, T(1));
  }
}

template <class F>
constexpr Entry element_loss_entry(const char* name) {
  return {name,
          Family::kElementLoss,
          0,
          {row_kernel<F::cost>(element_loss<F, float>), row_kernel<2 * F::cost>(element_loss<F, double>)}};
}

constexpr Entry kLossEntries[] = {
    {"cross_entropy_forward",
     Family::kSingle,
     2,
     {row_kernel<32>(cross_entropy_forward<float>), row_kernel<64>(cross_entropy_forward<double>)}},
    {"cross_entropy_probabilities_forward",
     Family::kSingle,
     1,
     {row_kernel<32>(cross_entropy_probabilities_forward<float>),
      row_kernel<64>(cross_entropy_probabilities_forward<double>)}},
    {"cross_entropy_denominator", Family::kSingle, 1, {denominator_kernel<float>(), denominator_kernel<double>()}},
    element_loss_entry<SquaredError>("mse_forward"),
    element_loss_entry<AbsoluteError>("l1_forward"),
    element_loss_entry<BinaryCrossEntropy>("binary_cross_entropy_forward"),
    element_loss_entry<SigmoidCrossEntropy>("sigmoid_cross_entropy_forward"),
};

}  // namespace

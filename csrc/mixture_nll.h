// Negative log-likelihood of a mixture of normal distributions with diagonal covariances, with its gradients
// (C. M. Bishop, Mixture Density Networks, 1994).
//
// For a row: λ = max(log_stds, kLeastLogStd), z_kd = (t_d − μ_kd) e^−λ_kd, and the scores
// a_k = logits_k − Σ_d (½ z_kd² + λ_kd). Then
//   losses[i] = s_i (log Σ_k e^logits_k − log Σ_k e^a_k + cols/2 · log 2π)
//   dlogits_k = g (π_k − γ_k),   dmeans_kd = −g γ_k z_kd e^−λ_kd,   dlog_stds_kd = g γ_k (1 − z_kd²)
// with π = softmax(logits), γ = softmax(a), g = s_i / *denominator; all 0 where γ_k is, and in a row whose loss is +∞.
// Sums follow the last-axis rule.
// Args: p = {logits, means, log_stds, target, sample_weight, denominator, losses, dlogits, dmeans, dlog_stds}, where
// sample_weight and the gradients may be null; n = {rows, components, cols}. Local scratch: the scores of a row.
#pragma once

#include "gaussian_nll.h"

namespace {
using namespace fastbp;

// −⌊ln of the largest number⌋: the least logarithm of a deviation whose inverse is a number.
template <class T>
constexpr T kLeastLogStd = sizeof(T) == 4 ? T(-88) : T(-709);

template <class T>
struct Mixture {
  const T *logits, *means, *log_stds, *target;  // of one row
  T *dlogits, *dmeans, *dlog_stds;
  int64_t components, cols;

  FASTBP_INLINE Mixture(const Args& a, int64_t row) : components(a.n[1]), cols(a.n[2]) {
    const auto at = [&](int i, int64_t width) { return a.p[i] ? static_cast<T*>(a.p[i]) + row * width : nullptr; };
    logits = at(0, components);
    means = at(1, components * cols);
    log_stds = at(2, components * cols);
    target = at(3, cols);
    dlogits = at(7, components);
    dmeans = at(8, components * cols);
    dlog_stds = at(9, components * cols);
  }

  // ½ z² + λ of n elements from place `at` on; leaves −z e^−λ and 1 − z² where their gradients will be.
  FASTBP_INLINE vec<T> term(int64_t at, int64_t n, vec<T> t) const {
    const vec<T> log_std = at_least(load_some(log_stds + at, n), set1<T>(kLeastLogStd<T>)), inverse = vexp(-log_std);
    const vec<T> z = (t - load_some(means + at, n)) * inverse;
    if (dmeans) store_some(dmeans + at, -(z * inverse), n);
    if (dlog_stds) store_some(dlog_stds + at, fma(-z, z, set1<T>(1)), n);
    return fma(set1<T>(0.5) * z, z, log_std);
  }

  FASTBP_INLINE void scores(T* score) const {
    if (cols == 1) {  // one term a component: whole vectors of components
      map_values(score, components, false, [=, this](int64_t k, int64_t n) __attribute__((always_inline)) {
        return load_some(logits + k, n) - (term(k, n, set1<T>(*target)) + zero<T>());
      });
      return;
    }
    for (int64_t k = 0; k < components; ++k)
      score[k] =
          logits[k] - row_sum<T>(cols, [=, this](vec<T> acc, int64_t d, int64_t n) __attribute__((always_inline)) {
            return acc + term(k * cols + d, n, load_some(target + d, n));
          });
  }

  // dx[k, d] *= weight[k]; 0 where the weight is, however far off the component.
  FASTBP_INLINE void weigh(T* dx, const T* weight) const {
    const auto product = [](vec<T> x, vec<T> w)
                             __attribute__((always_inline)) { return select(eq(w, zero<T>()), zero<T>(), x * w); };
    if (cols == 1) {
      map_values(dx, components, false, [=](int64_t k, int64_t n) __attribute__((always_inline)) {
        return product(load_some(dx + k, n), load_some(weight + k, n));
      });
      return;
    }
    for (int64_t k = 0; k < components; ++k, dx += cols)
      map_values(dx, cols, false, [=](int64_t d, int64_t n) __attribute__((always_inline)) {
        return product(load_some(dx + d, n), set1<T>(weight[k]));
      });
  }
};

// The largest score, or 0 where all are −∞.
template <class T>
FASTBP_INLINE T score_peak(const T* x, int64_t n) {
  const T peak = row_peak(x, n);
  return peak == static_cast<T>(-__builtin_inf()) ? T(0) : peak;
}

template <class T>
void mixture_nll_forward(const Args& a, int64_t begin, int64_t end, Scratch scratch) {
  const T *sample_weight = static_cast<const T*>(a.p[4]), denominator = *static_cast<const T*>(a.p[5]);
  T *losses = static_cast<T*>(a.p[6]), *score = static_cast<T*>(scratch.local);
  const int64_t components = a.n[1];
  const T constant = static_cast<T>(a.n[2]) * kHalfLog2Pi<T>;
  for (int64_t row = begin; row < end; ++row) {
    const Mixture<T> m(a, row);
    m.scores(score);
    const T prior_peak = score_peak(m.logits, components), peak = score_peak(score, components);
    const T prior_sum = exp_sum(m.logits, components, prior_peak);
    exp_terms(score, components, peak, score, components);
    const T sum = row_sum(score, components);
    const T prior = prior_peak + first_lane<T>(vlog(set1<T>(prior_sum))),
            joint = peak + first_lane<T>(vlog(set1<T>(sum)));
    const T weight = sample_weight ? sample_weight[row] : T(1), g = weight / denominator;
    const bool out_of_range = prior - joint == static_cast<T>(__builtin_inf());  // no component has a density there
    losses[row] = weight * ((prior - joint) + constant);
    const T share = out_of_range ? T(0) : g / sum, prior_share = out_of_range ? T(0) : g / prior_sum;
    map_values(score, components, false, [=](int64_t k, int64_t n) __attribute__((always_inline)) {
      return load_some(score + k, n) * set1<T>(share);
    });
    if (m.dlogits) {
      map_values(m.dlogits, components, false, [=, &m](int64_t k, int64_t n) __attribute__((always_inline)) {
        const vec<T> term = vexp(load_some(m.logits + k, n) - set1<T>(prior_peak));
        return fma(term, set1<T>(prior_share), -load_some(score + k, n));
      });
    }
    if (m.dmeans) m.weigh(m.dmeans, score);
    if (m.dlog_stds) m.weigh(m.dlog_stds, score);
  }
}

inline int64_t mixture_work(const Args& a) { return a.n[0] * a.n[1] * (a.n[2] * 48 + 100); }

template <class T>
constexpr Kernel mixture_kernel() {
  Kernel kernel{{{mixture_nll_forward<T>, row_count}}, mixture_work};
  kernel.local_bytes = [](const Args& a) { return a.n[1] * static_cast<int64_t>(sizeof(T)); };
  return kernel;
}

}  // namespace

// Losses that are sums over elements and, in the same pass, the gradient of their weighted mean.
//
// losses[i] = s_i Σ_j l(x_ij, t_ij) by the last-axis rule, not divided; dx_ij = s_i / *denominator · ∂l/∂x_ij.
//   mse                    (x − t)²
//   l1                     |x − t|, gradient 0 at 0
//   huber                  d²/2 where |d| < δ, else δ (|d| − δ/2), with d = x − t
//   smooth_l1              d²/(2β) where |d| < β, else |d| − β/2
//   quantile               max(p d, (p − 1) d) with d = t − x, gradient ½ − p at 0
//   binary_cross_entropy   −t log x − (1 − t) log(1 − x), logarithms not below −100;
//                          gradient (x − t) / max(x (1 − x), 1e-12)
//   sigmoid_cross_entropy  p t softplus(−x) + (1 − t) softplus(x); gradient (1 − t) σ(x) − p t σ(−x)
//   sigmoid_focal          a q^γ (t softplus(−x) + (1 − t) softplus(x)) with q = t σ(−x) + (1 − t) σ(x) and
//                          a = α t + (1 − α)(1 − t), or 1 where α < 0
//   hinge                  max(0, 1 − t x), gradient 0 at 0
//   hinge_embedding        x where t ≠ −1, plus max(0, m − x) where t ≠ 1
//   poisson_nll            x − t log(x + offset), and with `full` log t! by Stirling's formula where t > 1
//   poisson_log_nll        e^x − t x, the same
//   kl_div                 t log t − t x, t log t = 0 at 0
//   kl_log_div             e^t (t − x)
// Args: p = {x, target, coefficient, sample_weight, denominator, losses, dx}; n = {rows, cols, step}; c = the loss's
// constants. p_j is the coefficient of a column (step 0) or of an element (step cols), 1 where there is none; s_i the
// sample weight, 1 where there is none; dx may be null.
#pragma once

#include "softmax.h"

namespace {
using namespace fastbp;

// What losses need of e^−|x|: σ(|x|), σ(−|x|) and log(1 + e^−|x|), none of which cancels.
template <class T>
struct Logistic {
  vec<T> e, large, small, rest;
  mask<T> below;
  FASTBP_INLINE explicit Logistic(vec<T> x) {
    const vec<T> one = set1<T>(1);
    e = vexp(-abs(x));
    large = one / (one + e);
    small = e * large;
    rest = vlog1p(e);
    below = lt(x, zero<T>());
  }
  FASTBP_INLINE vec<T> sigmoid() const { return select(below, small, large); }
  FASTBP_INLINE vec<T> sigmoid_of_minus() const { return select(below, large, small); }
  FASTBP_INLINE vec<T> softplus(vec<T> x) const { return rest + select(below, zero<T>(), x); }
  FASTBP_INLINE vec<T> softplus_of_minus(vec<T> x) const { return rest + select(below, -x, zero<T>()); }
};

// −1, 0 or 1; NaN stays.
template <class T>
FASTBP_INLINE vec<T> sign_of(vec<T> x) {
  return select(lt(zero<T>(), x), set1<T>(1), select(lt(x, zero<T>()), set1<T>(-1), x));
}

template <class T>
constexpr T kHalfLog2Pi = static_cast<T>(0.91893853320467274178);

// (t + ½) log t − t + ½ log 2π where t > 1, else 0: log t! by Stirling's formula.
template <class T>
FASTBP_INLINE vec<T> stirling(vec<T> t) {
  const vec<T> y = fma(t + set1<T>(0.5), vlog(t), set1<T>(kHalfLog2Pi<T>) - t);
  return select(lt(set1<T>(1), t), y, zero<T>());
}

// Each gives the loss of x against t and its slope; p is the coefficient, 1 for those that take none, c the constants.
struct CheapLoss {
  static constexpr int constants = 0, cost = 8;
  static constexpr bool coefficient = false;
};
struct CostlyLoss {
  static constexpr int constants = 0, cost = 64;
  static constexpr bool coefficient = false;
};

struct SquaredError : CheapLoss {
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, const T*, vec<T>& loss, vec<T>& slope) {
    const vec<T> d = x - t;
    loss = d * d;
    slope = d + d;
  }
};

struct AbsoluteError : CheapLoss {
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, const T*, vec<T>& loss, vec<T>& slope) {
    const vec<T> d = x - t;
    loss = abs(d);
    slope = sign_of<T>(d);
  }
};

struct Huber : CheapLoss {
  static constexpr int constants = 1;
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, const T* c, vec<T>& loss, vec<T>& slope) {
    const vec<T> d = x - t, size = abs(d), half = set1<T>(0.5), delta = set1<T>(c[0]);
    loss = select(lt(size, delta), half * d * d, delta * (size - half * delta));
    slope = at_most(at_least(d, -delta), delta);
  }
};

struct SmoothL1 : CheapLoss {
  static constexpr int constants = 1;
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, const T* c, vec<T>& loss, vec<T>& slope) {
    const vec<T> d = x - t, size = abs(d), half = set1<T>(0.5), beta = set1<T>(c[0]);
    const auto near = lt(size, beta);  // nowhere for β = 0
    loss = select(near, half * d * d / beta, size - half * beta);
    slope = select(near, d / beta, sign_of<T>(d));
  }
};

struct Quantile : CheapLoss {
  static constexpr bool coefficient = true;
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T> p, const T*, vec<T>& loss, vec<T>& slope) {
    const vec<T> d = t - x, above = set1<T>(1) - p;
    loss = select(lt(d, zero<T>()), -(above * d), p * d);
    const vec<T> at_zero = select(eq(d, zero<T>()), set1<T>(0.5) - p, d);  // else NaN
    slope = select(lt(d, zero<T>()), above, select(lt(zero<T>(), d), -p, at_zero));
  }
};

struct BinaryCrossEntropy : CostlyLoss {
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, const T*, vec<T>& loss, vec<T>& slope) {
    const vec<T> one = set1<T>(1), lowest = set1<T>(-100), least = set1<T>(T(1e-12));
    const vec<T> log_x = vlog(x), log_not_x = vlog1p(-x), spread = x * (one - x);
    loss = (t - one) * at_least(log_not_x, lowest) - t * at_least(log_x, lowest);
    slope = (x - t) / at_least(spread, least);
  }
};

struct SigmoidCrossEntropy : CostlyLoss {
  static constexpr bool coefficient = true;
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T> p, const T*, vec<T>& loss, vec<T>& slope) {
    const vec<T> negative = set1<T>(1) - t, positive = p * t;
    const Logistic<T> l(x);
    loss = fma(positive, l.softplus_of_minus(x), negative * l.softplus(x));
    slope = negative * l.sigmoid() - positive * l.sigmoid_of_minus();
  }
};

// q^γ may be 0 while q' / q is not: so the slope is a q^γ (ce' + γ ce q'/q), in which
// q'/q = (1 − 2t) σ(x) σ(−x) / q stays between −1 and 1 for t in [0, 1].
struct SigmoidFocal : CostlyLoss {
  static constexpr int constants = 2, cost = 160;
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, const T* c, vec<T>& loss, vec<T>& slope) {
    const vec<T> one = set1<T>(1), negative = one - t, alpha = set1<T>(c[0]), gamma = set1<T>(c[1]);
    const Logistic<T> l(x);
    const vec<T> up = l.sigmoid(), down = l.sigmoid_of_minus();
    const vec<T> ce = fma(t, l.softplus_of_minus(x), negative * l.softplus(x)), dce = negative * up - t * down;
    const vec<T> q = fma(t, down, negative * up), ratio = (negative - t) * (up * down) / q;
    const vec<T> tilt = select(eq(q, zero<T>()), zero<T>(), ratio);
    vec<T> scale = vpow(q, gamma);
    if (c[0] >= 0) scale = scale * fma(alpha, t, (one - alpha) * negative);
    loss = scale * ce;
    slope = scale * fma(gamma * ce, tilt, dce);
  }
};

struct Hinge : CheapLoss {
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, const T*, vec<T>& loss, vec<T>& slope) {
    const vec<T> rest = fma(-t, x, set1<T>(1));
    const auto enough = le(rest, zero<T>());
    loss = select(enough, zero<T>(), rest);
    slope = select(enough, zero<T>(), -t);
  }
};

struct HingeEmbedding : CheapLoss {
  static constexpr int constants = 1;
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, const T* c, vec<T>& loss, vec<T>& slope) {
    const vec<T> one = set1<T>(1), none = zero<T>(), rest = set1<T>(c[0]) - x;
    const auto alike = ne(t, -one), unlike = ne(t, one);
    loss = select(alike, x, none) + select(unlike, at_least(rest, none), none);
    slope = select(alike, one, none) - select(m_and(unlike, le(none, rest)), one, none);
  }
};

struct PoissonNll : CostlyLoss {
  static constexpr int constants = 2;  // offset, full
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, const T* c, vec<T>& loss, vec<T>& slope) {
    const vec<T> rate = x + set1<T>(c[0]);
    loss = fma(-t, vlog(rate), x);
    slope = set1<T>(1) - t / rate;
    if (c[1] != 0) loss = loss + stirling<T>(t);
  }
};

struct PoissonLogNll : CostlyLoss {
  static constexpr int constants = 1;  // full
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, const T* c, vec<T>& loss, vec<T>& slope) {
    const vec<T> rate = vexp(x);
    loss = fma(-t, x, rate);
    slope = rate - t;
    if (c[0] != 0) loss = loss + stirling<T>(t);
  }
};

struct KlDivergence : CostlyLoss {
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, const T*, vec<T>& loss, vec<T>& slope) {
    loss = fma(-t, x, select(eq(t, zero<T>()), zero<T>(), t * vlog(t)));
    slope = -t;
  }
};

struct KlLogDivergence : CostlyLoss {
  template <class T>
  static FASTBP_INLINE void apply(vec<T> x, vec<T> t, vec<T>, const T*, vec<T>& loss, vec<T>& slope) {
    const vec<T> p = vexp(t);
    loss = p * (t - x);
    slope = -p;
  }
};

// The frame of such losses. element(at, j, n, g) returns the losses of n ≤ lanes elements from place `at`, column j on,
// and stores their gradients times g, which is weight / denominator of their rows.
template <class T, class Element>
FASTBP_INLINE void sum_elements(const T* sample_weight, const T* denominator, T* losses, int64_t cols, int64_t begin,
                                int64_t end, Element element) {
  if (cols == 1) {  // one value a row: whole vectors of rows
    const auto advance = [=](int64_t i, int64_t n) __attribute__((always_inline)) {
      const vec<T> weight = sample_weight ? load_some(sample_weight + i, n) : set1<T>(1);
      const vec<T> loss = element(i, 0, n, weight / set1<T>(*denominator));
      store_some(losses + i, weight * (loss + zero<T>()), n);
    };
    int64_t i = begin;
    for (; i + lanes<T> <= end; i += lanes<T>) advance(i, static_cast<int64_t>(lanes<T>));
    if (i < end) advance(i, end - i);
    return;
  }
  for (int64_t row = begin; row < end; ++row) {
    const T weight = sample_weight ? sample_weight[row] : T(1), g = weight / *denominator;
    const T sum = row_sum<T>(cols, [=](vec<T> acc, int64_t j, int64_t n) __attribute__((always_inline)) {
      return acc + element(row * cols + j, j, n, set1<T>(g));
    });
    losses[row] = weight * sum;
  }
}

enum class Gradient { kNone, kPerhaps, kWanted };

template <class F, class T, Gradient kGradient>
FASTBP_INLINE void element_loss_rows(const Args& a, int64_t begin, int64_t end) {
  const T *x = static_cast<const T*>(a.p[0]), *target = static_cast<const T*>(a.p[1]);
  const T* coefficient = static_cast<const T*>(a.p[2]);
  T* dx = static_cast<T*>(a.p[6]);
  const int64_t cols = a.n[1], step = a.n[2];
  const T c[2] = {static_cast<T>(a.c[0]), static_cast<T>(a.c[1])};
  const auto element = [=](int64_t at, int64_t j, int64_t n, vec<T> g) __attribute__((always_inline)) {
    vec<T> p = set1<T>(1), loss, slope;
    if (F::coefficient && coefficient)
      p = cols == 1 && !step ? set1<T>(*coefficient) : load_some(coefficient + (step ? at : j), n);
    F::template apply<T>(load_some(x + at, n), load_some(target + at, n), p, c, loss, slope);
    if (kGradient == Gradient::kWanted || (kGradient == Gradient::kPerhaps && dx)) store_some(dx + at, g * slope, n);
    return loss;
  };
  sum_elements(static_cast<const T*>(a.p[3]), static_cast<const T*>(a.p[4]), static_cast<T*>(a.p[5]), cols, begin, end,
               element);
}

// Cheap losses have a loop with the gradient and one without, since even a test takes its time there.
template <class F, class T>
void element_loss(const Args& a, int64_t begin, int64_t end, Scratch) {
  if constexpr (F::cost > CheapLoss::cost) element_loss_rows<F, T, Gradient::kPerhaps>(a, begin, end);
  else if (a.p[6]) element_loss_rows<F, T, Gradient::kWanted>(a, begin, end);
  else element_loss_rows<F, T, Gradient::kNone>(a, begin, end);
}

template <class F>
constexpr Entry element_loss_entry(const char* name) {
  return {name,
          Family::kElementLoss,
          F::constants,
          {row_kernel<F::cost>(element_loss<F, float>), row_kernel<2 * F::cost>(element_loss<F, double>)}};
}

constexpr Entry kElementLossEntries[] = {
    element_loss_entry<SquaredError>("mse_forward"),
    element_loss_entry<AbsoluteError>("l1_forward"),
    element_loss_entry<Huber>("huber_forward"),
    element_loss_entry<SmoothL1>("smooth_l1_forward"),
    element_loss_entry<Quantile>("quantile_forward"),
    element_loss_entry<BinaryCrossEntropy>("binary_cross_entropy_forward"),
    element_loss_entry<SigmoidCrossEntropy>("sigmoid_cross_entropy_forward"),
    element_loss_entry<SigmoidFocal>("sigmoid_focal_forward"),
    element_loss_entry<Hinge>("hinge_forward"),
    element_loss_entry<HingeEmbedding>("hinge_embedding_forward"),
    element_loss_entry<PoissonNll>("poisson_nll_forward"),
    element_loss_entry<PoissonLogNll>("poisson_log_nll_forward"),
    element_loss_entry<KlDivergence>("kl_div_forward"),
    element_loss_entry<KlLogDivergence>("kl_log_div_forward"),
};

}  // namespace

// Negative log-likelihood of a normal distribution of given variance, with the gradients of mean and variance.
//
// With v = max(var, floor) and d = x − t, losses[i] = s_i Σ_j ½ (log v + d²/v) by the last-axis rule, in each term
// ½ log 2π more if `full`; dx = g d/v and dvar = g ½ (1 − d²/v)/v with g = s_i / *denominator: the gradient of v is
// that of var. Args: p = {x, target, var, sample_weight, denominator, losses, dx, dvar}, where sample_weight, dx and
// dvar may be null; n = {rows, cols}; c = {floor, full}.
#pragma once

#include "element_loss.h"

namespace {
using namespace fastbp;

template <class T>
void gaussian_nll_forward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const T *x = static_cast<const T*>(a.p[0]), *target = static_cast<const T*>(a.p[1]);
  const T* var = static_cast<const T*>(a.p[2]);
  T *dx = static_cast<T*>(a.p[6]), *dvar = static_cast<T*>(a.p[7]);
  const T floor = static_cast<T>(a.c[0]), constant = a.c[1] != 0 ? kHalfLog2Pi<T> : T(0);
  const auto element = [=](int64_t at, int64_t, int64_t n, vec<T> g) __attribute__((always_inline)) {
    const vec<T> half = set1<T>(0.5), v = at_least(load_some(var + at, n), set1<T>(floor));
    const vec<T> d = load_some(x + at, n) - load_some(target + at, n), slope = d / v, square = d * slope;
    if (dx) store_some(dx + at, g * slope, n);
    if (dvar) store_some(dvar + at, g * (half * (set1<T>(1) - square) / v), n);
    return fma(half, vlog(v) + square, set1<T>(constant));
  };
  sum_elements(static_cast<const T*>(a.p[3]), static_cast<const T*>(a.p[4]), static_cast<T*>(a.p[5]), a.n[1], begin,
               end, element);
}

}  // namespace

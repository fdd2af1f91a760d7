// Vector functions on vec<T>, T float or double: one source for every instruction set, the same bits on all of them.
#pragma once

#include "simd.h"

namespace {

template <class V> struct ElementOf;
template <> struct ElementOf<vecf> { using type = float; };
template <> struct ElementOf<vecd> { using type = double; };

template <class V, class F> FASTBP_INLINE V each_lane(V x, F f) {
  using T = typename ElementOf<V>::type;
  T a[lanes<T>];
  __builtin_memcpy(a, &x, sizeof a);
  for (int i = 0; i < lanes<T>; ++i) a[i] = static_cast<T>(f(static_cast<double>(a[i])));
  __builtin_memcpy(&x, a, sizeof a);
  return x;
}

constexpr double kSqrtHalf = 0.70710678118654752440;

template <class V> inline V vexp(V x) { return each_lane(x, [](double t) { return __builtin_exp(t); }); }
template <class V> inline V vexpm1(V x) { return each_lane(x, [](double t) { return __builtin_expm1(t); }); }
template <class V> inline V vlog(V x) { return each_lane(x, [](double t) { return __builtin_log(t); }); }
template <class V> inline V vlog1p(V x) { return each_lane(x, [](double t) { return __builtin_log1p(t); }); }
template <class V> inline V vsin(V x) { return each_lane(x, [](double t) { return __builtin_sin(t); }); }
template <class V> inline V vcos(V x) { return each_lane(x, [](double t) { return __builtin_cos(t); }); }
template <class V> inline V vtanh(V x) { return each_lane(x, [](double t) { return __builtin_tanh(t); }); }
template <class V> inline V verf(V x) { return each_lane(x, [](double t) { return __builtin_erf(t); }); }

inline double lane_sigmoid(double t) { return 1 / (1 + __builtin_exp(-t)); }
inline double lane_softplus(double t) { return (t > 0 ? t : 0) + __builtin_log1p(__builtin_exp(-__builtin_fabs(t))); }
inline double lane_cdf(double t) { return 0.5 * __builtin_erfc(-t * kSqrtHalf); }
inline double lane_pdf(double t) { return 0.39894228040143267794 * __builtin_exp(-0.5 * t * t); }
inline double lane_gelu_tanh_u(double t) { return 0.79788456080286535588 * (t + 0.044715 * t * t * t); }

template <class V> inline V vsigmoid(V x) { return each_lane(x, lane_sigmoid); }
template <class V> inline V vsoftplus(V x) {
  return each_lane(x, [](double t) { return t != t ? t : lane_softplus(t); });
}
template <class V> inline V vnormal_cdf(V x) { return each_lane(x, lane_cdf); }
template <class V> inline V vnormal_pdf(V x) { return each_lane(x, lane_pdf); }
template <class V> inline V verf_grad(V x) {
  return each_lane(x, [](double t) { return 1.12837916709551257390 * __builtin_exp(-t * t); });
}
template <class V> inline V vgelu(V x) {
  return each_lane(x, [](double t) { return t < -100 ? -0.0 : t * lane_cdf(t); });
}
template <class V> inline V vgelu_grad(V x) {
  return each_lane(x, [](double t) { return lane_cdf(t) + (t * t < 1e4 ? t * lane_pdf(t) : 0); });
}
template <class V> inline V vgelu_tanh(V x) {
  return each_lane(x, [](double t) { return t < -100 ? -0.0 : t * lane_sigmoid(2 * lane_gelu_tanh_u(t)); });
}
template <class V> inline V vgelu_tanh_grad(V x) {
  return each_lane(x, [](double t) {
    if (t < -100) return -0.0;
    if (t > 100) return 1.0;
    double s = lane_sigmoid(2 * lane_gelu_tanh_u(t));
    return s + t * s * (1 - s) * 2 * 0.79788456080286535588 * (1 + 3 * 0.044715 * t * t);
  });
}
template <class V> inline V vsilu(V x) {
  return each_lane(x, [](double t) { return t < -2000 ? -0.0 : t * lane_sigmoid(t); });
}
template <class V> inline V vsilu_grad(V x) {
  return each_lane(x, [](double t) {
    double s = lane_sigmoid(t);
    return t * t < 1e7 ? s + t * s * (1 - s) : s;
  });
}
template <class V> inline V vmish(V x) {
  return each_lane(x, [](double t) { return t < -2000 ? -0.0 : t * __builtin_tanh(lane_softplus(t)); });
}
template <class V> inline V vmish_grad(V x) {
  return each_lane(x, [](double t) {
    double h = __builtin_tanh(lane_softplus(t)), s = lane_sigmoid(t);
    return t * t < 1e7 ? h + t * s * (1 - h * h) : h;
  });
}
template <class V> inline V vpow(V a, V b) {
  using T = typename ElementOf<V>::type;
  T u[lanes<T>], v[lanes<T>];
  __builtin_memcpy(u, &a, sizeof u);
  __builtin_memcpy(v, &b, sizeof v);
  for (int i = 0; i < lanes<T>; ++i) u[i] = static_cast<T>(__builtin_pow(u[i], v[i]));
  __builtin_memcpy(&a, u, sizeof u);
  return a;
}

}  // namespace

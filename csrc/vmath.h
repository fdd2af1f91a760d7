// Vector functions on vec<T>, T float or double, from one source for every instruction set: nothing but + − · /, fma,
// comparisons and bits, so that the results are the same to the bit on all of them. Branches only skip work: a lane's
// result never depends on its neighbours.
//
//   vexp vexpm1 vlog vlog1p                  vmath_exp.h
//   vsin vcos                                vmath_trig.h
//   vpow(x, y)                               vmath_pow.h
//   vtanh vsigmoid vsoftplus verf            here
//   vgelu vgelu_tanh vsilu vmish             here
//   verf_grad vgelu_grad vgelu_tanh_grad vsilu_grad vmish_grad, vnormal_cdf vnormal_pdf
//
// Largest errors in ULP, all 2^32 floats | 10^8 doubles: tests/nightly_vmath.py prints them.
// In float the gated functions keep 4 ULP in single steps; in double their last steps run on pairs for 2 ULP.
#pragma once

#include "vmath_exp.h"
#include "vmath_pow.h"
#include "vmath_trig.h"

namespace {

template <class T>
struct ActivationConstants;
template <>
struct ActivationConstants<float> {
  // (tanh(x)/x − 1)/x² in x², |x| ≤ 0.5625; relative error of tanh 2^-29.4
  static constexpr float kTanh[] = {-0x1.555548p-2f, 0x1.110c5ep-3f, -0x1.b905c4p-5f, 0x1.5811f6p-6f, -0x1.9454eap-8f};
  static constexpr float kTanhOne = 9.5;  // tanh is 1 from here on
  // (log(1 + e) − e)/e², 0 ≤ e ≤ 1; relative error of log(1 + e) 2^-27.5
  static constexpr float kLog1p[] = {-0x1.ffffd2p-2f, 0x1.554ddp-2f,   -0x1.ff23e6p-3f, 0x1.934b54p-3f, -0x1.3a435ep-3f,
                                     0x1.b4ae08p-4f,  -0x1.d6b08cp-5f, 0x1.4917cep-6f,  -0x1.af49cep-9f};
  // erf(x)/x − 1 in x², |x| ≤ 0.90625; relative error of erf 2^-30.1
  static constexpr float kErf[] = {0x1.06eba8p-3f, -0x1.81274p-2f,   0x1.ce2d62p-4f, -0x1.b800b8p-6f,
                                   0x1.54440ep-8f, -0x1.a5be16p-11f, 0x1.4e1cecp-14f};
  static constexpr float kErfOne = 4, kErfGradEnd = 11;
  // e^(t²/2)·Φ(−t) = D/(1 + t·(c·D + N)) on 0 ≤ t ≤ 14.5 with polynomials D, N in t, all coefficients positive. The
  // form forgives most roundings: for small t those of D·c and N, for large t that of D, which cancels. The rounding of
  // the coefficients was searched at random; relative error 2^-26.7.
  static constexpr float kTailSlope = 0x1.40d836p+1f;
  static constexpr float kTailD[] = {0.5f, 0x1.c0197p-2f, 0x1.7626fcp-3f, 0x1.4b4de8p-5f, 0x1.0bc206p-8f};
  static constexpr float kTailN[] = {0x1.addabep-2f, 0x1.a79f2cp-4f, 0x1.4ac5dap-7f, 0x1.057e5ep-17f};
  static constexpr float kTailEnd = 14.5;  // Φ(−t) is 0 from here on
  // √(8/π) and √(8/π)·0.044715
  static constexpr float kGeluTanh[2] = {0x1.988454p+0f, 0x1.2444f2p-4f};
  static constexpr float kGeluTanhLow[2] = {-0x1.857936p-25f, 0x1.49b16ap-29f};
  static constexpr float kMishOne = 20;         // tanh(softplus) is 1 from here on
  static constexpr float kGeluTanhEnd = 10.7f;  // where u, below, is just inside kSigmoidEnd's reach and σ(−u) is 0
};
template <>
struct ActivationConstants<double> {
  // the same; 2^-59.8
  static constexpr double kTanh[] = {-0x1.555555555554bp-2,  0x1.1111111110246p-3,  -0x1.ba1ba1b92fa3fp-5,
                                     0x1.664f4847f68b1p-6,   -0x1.226e2cd61e22bp-7, 0x1.d6d240b840e24p-9,
                                     -0x1.7d8b3f3bc34c8p-10, 0x1.345df1c7a1db8p-11, -0x1.e7ef5fd5c7a66p-13,
                                     0x1.592618c1f6a08p-14,  -0x1.3c6fbe37a6cf2p-16};
  static constexpr double kTanhOne = 20;
  // 2^-56.3
  static constexpr double kErf[] = {0x1.06eba8214db69p-3,   -0x1.812746b037a25p-2,  0x1.ce2f21a0458c5p-4,
                                    -0x1.b82ce31352c54p-6,  0x1.565bcd2b7b27fp-8,   -0x1.c02db8d7c6ddep-11,
                                    0x1.f9a3a5d7d053fp-14,  -0x1.f4da774d28206p-17, 0x1.ba36d8d31c766p-20,
                                    -0x1.6110270370fcdp-23, 0x1.ff4055549d316p-27,  -0x1.1b0e774e4490cp-30};
  static constexpr double kErfOne = 6, kErfGradEnd = 28;
  // (t + 4)·e^(t²/2)·Φ(−t) in u = (t − 4)/(t + 4), 0 ≤ t ≤ 38.6, the first coefficient in two parts so that sums with
  // it are exact; relative error 2^-56.5
  static constexpr double kTailFirst[2] = {0x1.82b4bb8c94dcep-1, -0x1.aa3ab95818883p-56};
  static constexpr double kTail[] = {
      -0x1.373e3a893c28ap-1,  0x1.8c6dbf2cfc2b4p-2,   -0x1.7dff2bff68397p-3, 0x1.eec4cc3e4d28bp-5,
      -0x1.ee2761047fdc3p-8,  -0x1.c81719d54a8f7p-9,  0x1.ab825fc123026p-10, 0x1.17a4ae32b299fp-13,
      -0x1.e4a425784254dp-13, -0x1.001e573eb551dp-19, 0x1.26d09a2aaba49p-15, 0x1.80b26642fab59p-21,
      -0x1.8d4b2d867c366p-18, -0x1.51e6dbb486d76p-21, 0x1.1236fef4604d1p-20, 0x1.2345d6cb22d88p-22,
      -0x1.4cebbda9d9084p-23, -0x1.6c4eece1c38dap-24, 0x1.cdf9f1f372a87p-27, 0x1.4acd8b32684d3p-26,
      0x1.e5c8cec0d0aabp-30,  -0x1.4d24dd07c7958p-29, -0x1.72e56cc4129fbp-31};
  static constexpr double kTailEnd = 38.6;
  static constexpr double kGeluTanh[2] = {0x1.9884533d43651p+0, 0x1.2444f2a4d8b4bp-4};
  static constexpr double kGeluTanhLow[2] = {-0x1.cbc0d30ebfd15p-54, -0x1.6c843a29d1c70p-61};
  static constexpr double kMishOne = 40;
  static constexpr double kGeluTanhEnd = 21.52;
};

template <class V>
constexpr bool kOnPairs = sizeof(element<V>) == 8;

// x·g(x) for a gate with g(x) + g(−x) = 1, from tail = g(−|x|): max(x, 0) − |x|·tail, rounded about once in double.
// `size` is |x| up to where the tail is 0, so that infinities meet no 0·∞.
template <class V>
FASTBP_INLINE V gated(V x, V size, Pair<V> tail) {
  using T = element<V>;
  const V rectified = clamp_low(x, 0);
  if constexpr (kOnPairs<V>) {
    const auto p = product(size, tail);
    const V y = rectified - p.hi, low = p.lo - ((rectified - y) - p.hi);
    return select(lt(x, set1<T>(Format<T>::kInf)), y - low, y);
  } else {
    return fma(-size, tail.hi, rectified);
  }
}

// ---- tanh, sigmoid, softplus ----

// y with the sign of x, for y ≥ 0.
template <class V>
FASTBP_INLINE V with_sign(V y, V x, V abs_x) {
  return as_float(as_unsigned(y) | (as_unsigned(x) ^ as_unsigned(abs_x)));
}

// x + x³·P(x²) near 0, 1 − 2/(e^2|x| + 1) beyond.
template <class V>
FASTBP_INLINE V vtanh(V x) {
  using T = element<V>;
  using C = ActivationConstants<T>;
  const V one = set1<T>(1), ax = abs(x), z = x * x;
  const V near = fma(ax * z, polynomial(z, C::kTanh), ax);
  const V bounded = clamp_high(ax, C::kTanhOne);
  const auto a = reduce_exp(bounded + bounded, kOnce<T>);
  const V scale = power_of_two(a.shifted), far = one - set1<T>(2) / fma(scale, expm1_reduced(a.r), scale + one);
  return with_sign(select(lt(ax, set1<T>(0.5625)), near, far), x, ax);
}

// σ(−t) = 1/(1 + e^t) for 0 ≤ t ≤ kSigmoidEnd, where it is 0. With e^t = 2^n·(1 + s) this is 2^-n/d, d = 1 + 2^-n + s,
// or scale·inverse·(1 + rest), where `rest` takes back the roundings of d and of its inverse.
template <class V>
struct SigmoidTail {
  V scale, inverse, rest;
  FASTBP_INLINE V rounded() const { return scale * fma(rest, inverse, inverse); }
  FASTBP_INLINE Pair<V> pair() const { return {scale * inverse, scale * (rest * inverse)}; }
};
template <class T>
constexpr T kSigmoidEnd = -ExpConstants<T>::kLow;
template <class V>
FASTBP_INLINE SigmoidTail<V> sigmoid_tail(V t, V low) {
  using T = element<V>;
  constexpr int kLift = Format<T>::kDigits + 7;  // 2^-n may be subnormal, which power_of_two cannot make
  const auto a = reduce_exp<-1>(t, kOnce<T> + kLift);
  const V s = kOnPairs<V> ? expm1_reduced(a.r, a.r_low + low) : expm1_reduced(a.r + low);
  const V one = set1<T>(1), scale = power_of_two(a.shifted) * set1<T>(1 / static_cast<T>(1ull << kLift));
  const V d = (one + scale) + s, d_low = ((one - d) + s) + scale, inverse = one / d;
  return {scale, inverse, fma(-inverse, d_low, fma(-inverse, d, one))};
}
template <class V>
FASTBP_INLINE SigmoidTail<V> sigmoid_tail(V t) {
  return sigmoid_tail(t, -zero<element<V>>());
}

template <class V>
FASTBP_INLINE V vsigmoid(V x) {
  using T = element<V>;
  const V tail = sigmoid_tail(clamp_high(abs(x), kSigmoidEnd<T>)).rounded();
  return select(lt(x, zero<T>()), tail, set1<T>(1) - tail);
}

// log(1 + e) for 0 ≤ e ≤ 1.
FASTBP_INLINE vecf log1p_unit(vecf e) { return fma(e * e, horner(e, ActivationConstants<float>::kLog1p), e); }
FASTBP_INLINE vecd log1p_unit(vecd e) {
  const vecd one = set1<double>(1);
  const auto halve = lt(set1<double>(0.41421356), e);  // 1 + e = 2·(1 + f) with f = e/2 − ½, else f = e
  const vecd f = select(halve, fma(e, set1<double>(0.5), set1<double>(-0.5)), e);
  return log_reduced(select(halve, one, zero<double>()), f);
}
// max(x, 0) + log(1 + e^-|x|)
template <class V>
FASTBP_INLINE V vsoftplus(V x) {
  const auto a = reduce_exp(clamp_low(-abs(x), ExpConstants<element<V>>::kLow), kTwice<element<V>>);
  return clamp_low(x, 0) + log1p_unit(scale_twice(exp_reduced(a.r), a.shifted));
}

// ---- the normal distribution, erf, gelu ----

// e^(t²/2)·Φ(−t) for 0 ≤ t ≤ kTailEnd.
FASTBP_INLINE Pair<vecf> scaled_tail(vecf t) {
  using C = ActivationConstants<float>;
  const vecf d = polynomial(t, C::kTailD);
  const vecf slope = fma(set1<float>(C::kTailSlope), d, polynomial(t, C::kTailN));
  return {d / fma(t, slope, set1<float>(1)), zero<float>()};
}
FASTBP_INLINE Pair<vecd> scaled_tail(vecd t) {
  using C = ActivationConstants<double>;
  const vecd one = set1<double>(1), minus8 = set1<double>(-8), c0 = set1<double>(C::kTailFirst[0]);
  const auto d = two_sum(t, set1<double>(4));
  const vecd v = one / d.hi, v_low = v * fma(-v, d.lo, fma(-v, d.hi, one));
  auto u = fast_two_sum(one, minus8 * v);
  u.lo = fma(minus8, v_low, u.lo);
  const vecd p2 = polynomial<1>(u.hi, C::kTail), p = fma(u.hi, p2, set1<double>(C::kTail[0]));
  const vecd g = fma(u.hi, p, c0), slope = fma(u.hi, p2, p);  // slope: the derivative for u.lo, nearly
  const vecd g_low = fma(u.hi, p, c0 - g) + fma(u.lo, slope, set1<double>(C::kTailFirst[1]));
  return product(Pair<vecd>{g, g_low}, Pair<vecd>{v, v_low});
}

// Φ(−t) and e^(−t²/2) for 0 ≤ t ≤ kTailEnd. Rounding t² would cost t²/4 ULP: `low` takes it back.
template <class V>
struct NormalTail {
  Pair<V> tail;
  V density;
};
template <class V>
FASTBP_INLINE NormalTail<V> normal_tail(V t) {
  using T = element<V>;
  const V half = set1<T>(-0.5) * t, h = half * t, low = fma(half, t, -h);
  const auto a = reduce_exp(h, kTwice<T>);
  const auto factor = scaled_tail(t);
  if constexpr (kOnPairs<V>) {
    const auto e = fast_two_sum(set1<T>(1), expm1_reduced(a.r, a.r_low + low)), tail = product(factor, e);
    return {{scale_twice(tail.hi, a.shifted), scale_twice(tail.lo, a.shifted)}, scale_twice(e.hi, a.shifted)};
  } else {
    const V e_minus_1 = expm1_reduced(a.r + low), tail = fma(factor.hi, e_minus_1, factor.hi);
    return {{scale_twice(tail, a.shifted), zero<T>()}, scale_twice(set1<T>(1) + e_minus_1, a.shifted)};
  }
}
template <class V>
FASTBP_INLINE V tail_argument(V x) {
  return clamp_high(abs(x), ActivationConstants<element<V>>::kTailEnd);
}

template <class T>
constexpr T kInvSqrt2Pi = static_cast<T>(0.39894228040143267794);

template <class V>
FASTBP_INLINE V vnormal_cdf(V x) {
  using T = element<V>;
  const auto tail = normal_tail(tail_argument(x)).tail;
  const V y = kOnPairs<V> ? tail.hi + tail.lo : tail.hi;
  return select(lt(x, zero<T>()), y, set1<T>(1) - y);
}
template <class V>
FASTBP_INLINE V vnormal_pdf(V x) {
  return normal_tail(tail_argument(x)).density * set1<element<V>>(kInvSqrt2Pi<element<V>>);
}

// x·Φ(x)
template <class V>
FASTBP_INLINE V vgelu(V x) {
  const V t = tail_argument(x);
  return gated(x, t, normal_tail(t).tail);
}
// Φ(x) + x·φ(x)
template <class V>
FASTBP_INLINE V vgelu_grad(V x) {
  using T = element<V>;
  const V t = tail_argument(x);
  const auto n = normal_tail(t);
  const V cdf = select(lt(x, zero<T>()), n.tail.hi, set1<T>(1) - n.tail.hi);
  return fma(copysign(t, x), n.density * set1<T>(kInvSqrt2Pi<T>), cdf);
}

// x + x·P(x²) near 0, 1 − 2·Φ(−√2·|x|) beyond.
template <class V>
FASTBP_INLINE V verf(V x) {
  using T = element<V>;
  using C = ActivationConstants<T>;
  const V ax = abs(x), z = x * x, bounded = clamp_high(ax, C::kErfOne);
  const V near = fma(x, polynomial(z, C::kErf), x);
  const V t = bounded * set1<T>(static_cast<T>(1.41421356237309504880));
  const V far = fma(exp_bounded(-bounded * bounded) * scaled_tail(t).hi, set1<T>(-2), set1<T>(1));
  return select(lt(ax, set1<T>(0.90625)), near, with_sign(far, x, ax));
}
// 2/√π·e^(−x²)
template <class V>
FASTBP_INLINE V verf_grad(V x) {
  using T = element<V>;
  const V bounded = clamp_high(abs(x), ActivationConstants<T>::kErfGradEnd), h = -bounded * bounded;
  const auto a = reduce_exp(h, kTwice<T>);
  const V e = exp_reduced(a.r + (a.r_low + fma(-bounded, bounded, -h)));
  return scale_twice(e * set1<T>(static_cast<T>(1.12837916709551257390)), a.shifted);
}

// ---- gated: x·σ(x) and its like ----

template <class V>
FASTBP_INLINE V vsilu(V x) {
  const V t = clamp_high(abs(x), kSigmoidEnd<element<V>>);
  return gated(x, t, sigmoid_tail(t).pair());
}

// σ(u) + x·u'·σ(u)·σ(−u) from t = |x|, tail = σ(−|u|) and u'
template <class V>
FASTBP_INLINE V gated_grad(V x, V t, V tail, V slope) {
  using T = element<V>;
  const auto negative = lt(x, zero<T>());
  const V rest = set1<T>(1) - tail, gate = select(negative, tail, rest), other = select(negative, rest, tail);
  return gate * fma(copysign(t, x) * slope, other, set1<T>(1));
}
template <class V>
FASTBP_INLINE V vsilu_grad(V x) {
  using T = element<V>;
  const V t = clamp_high(abs(x), kSigmoidEnd<T>);
  return gated_grad(x, t, sigmoid_tail(t).rounded(), set1<T>(1));
}

// The argument u = √(8/π)·(t + 0.044715·t³) of the sigmoid in gelu_tanh, σ(u) = (1 + tanh(u/2))/2, as a pair: an ulp of
// u at its largest would be 16 ulps of the result.
template <class V>
FASTBP_INLINE Pair<V> gelu_tanh_argument(V t) {
  using T = element<V>;
  using C = ActivationConstants<T>;
  const V z = t * t, z_low = fma(t, t, -z), c = set1<T>(C::kGeluTanh[1]);
  const V p = c * z, p_low = fma(c, z_low, fma(set1<T>(C::kGeluTanhLow[1]), z, fma(c, z, -p)));
  const auto sum = two_sum(set1<T>(C::kGeluTanh[0]), p);
  return product(t, Pair<V>{sum.hi, sum.lo + (p_low + set1<T>(C::kGeluTanhLow[0]))});
}
// x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2
template <class V>
FASTBP_INLINE V vgelu_tanh(V x) {
  const V t = clamp_high(abs(x), ActivationConstants<element<V>>::kGeluTanhEnd);
  const auto u = gelu_tanh_argument(t);
  return gated(x, t, sigmoid_tail(u.hi, u.lo).pair());
}
template <class V>
FASTBP_INLINE V vgelu_tanh_grad(V x) {
  using T = element<V>;
  using C = ActivationConstants<T>;
  const V t = clamp_high(abs(x), C::kGeluTanhEnd);
  const V slope = fma(t * t, set1<T>(3 * C::kGeluTanh[1]), set1<T>(C::kGeluTanh[0]));
  const auto u = gelu_tanh_argument(t);
  return gated_grad(x, t, sigmoid_tail(u.hi, u.lo).rounded(), slope);
}

// tanh(softplus(x)) = n/(n + 2) with n = e^x·(e^x + 2).
template <class V>
struct MishParts {
  V x;  // not below the bound under which e^x is 0
  Pair<V> e, bottom, gate;
};
template <class V>
FASTBP_INLINE MishParts<V> mish_parts(V x) {
  using T = element<V>;
  const V two = set1<T>(2), low_bounded = clamp_low(x, ExpConstants<T>::kLow);
  const auto a = reduce_exp(clamp_high(low_bounded, ActivationConstants<T>::kMishOne), kTwice<T>);
  if constexpr (kOnPairs<V>) {
    auto e = fast_two_sum(set1<T>(1), expm1_reduced(a.r, a.r_low));
    e = {scale_twice(e.hi, a.shifted), scale_twice(e.lo, a.shifted)};
    auto sum = two_sum(two, e.hi);
    sum.lo = sum.lo + e.lo;
    const auto n = product(e, sum);
    auto bottom = two_sum(two, n.hi);
    bottom.lo = bottom.lo + n.lo;
    return {low_bounded, e, bottom, quotient(n, bottom)};
  } else {
    const V e = scale_twice(exp_reduced(a.r), a.shifted), n = fma(e, e, e + e), bottom = n + two;
    return {low_bounded, {e, zero<T>()}, {bottom, zero<T>()}, {n / bottom, zero<T>()}};
  }
}
// x·tanh(softplus(x))
template <class V>
FASTBP_INLINE V vmish(V x) {
  using T = element<V>;
  const auto m = mish_parts(x);
  if constexpr (kOnPairs<V>) {
    const auto y = product(m.x, m.gate);
    return select(lt(x, set1<T>(Format<T>::kInf)), y.hi + y.lo, x);
  } else {
    return m.x * m.gate.hi;
  }
}
// tanh(softplus(x)) + x·4e·(1 + e)/(n + 2)², e = e^x
template <class V>
FASTBP_INLINE V vmish_grad(V x) {
  using T = element<V>;
  const auto m = mish_parts(x);
  const V bounded = clamp_high(m.x, ActivationConstants<T>::kMishOne);
  const V slope = set1<T>(4) * m.e.hi / m.bottom.hi * ((set1<T>(1) + m.e.hi) / m.bottom.hi);
  return fma(bounded, slope, m.gate.hi);
}

}  // namespace

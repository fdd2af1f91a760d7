// pow(x, y) = e^(y·log|x|) with its sign and the special cases of C99. log|x| is a pair of doubles, with about 65
// correct bits; for float everything runs in double and log|x| needs 44 bits only.
#pragma once

#include "vmath_exp.h"

namespace {

struct PowConstants {
  // (2·artanh(s)/s − 2)/s² in s², 0 ≤ s² ≤ 0.0295; relative error of log 2^-44.9
  static constexpr double kShortLog[] = {0x1.555555561e2bdp-1, 0x1.999996a990c28p-2, 0x1.249411cdf5e4dp-2,
                                         0x1.c62b1fed6d1e1p-3, 0x1.9114e39f68b10p-3};
  // the same less 2/3, divided once more by s²; 2^-73.5
  static constexpr double kTwoThirds[2] = {0x1.5555555555555p-1, 0x1.5555555555555p-55};
  static constexpr double kLongLog[] = {0x1.9999999999996p-2, 0x1.2492492492f51p-2, 0x1.c71c71c5968f4p-3,
                                        0x1.745d182956ab2p-3, 0x1.3b1364c9497b5p-3, 0x1.11206f2b57779p-3,
                                        0x1.de3d718d59170p-4, 0x1.eac5b133c0255p-4};
  // (e^r − 1 − r)/r², |r| ≤ 0.3467; relative error of e^r 2^-33.5
  static constexpr double kShortExp[] = {0x1.0000003a3fc76p-1, 0x1.55555184d55fap-3,  0x1.555488fd0e426p-5,
                                         0x1.1116c12a8cc63p-7, 0x1.6d92fdce6f69cp-10, 0x1.98c9b7cb80856p-13};
};

// log x + lift·ln 2 as a pair, for normal x > 0.
template <bool kShort>
FASTBP_INLINE Pair<vecd> pow_log(vecd x, vecd lift) {
  using C = PowConstants;
  using L = LogConstants<double>;
  const vecd one = set1<double>(1), two = set1<double>(2);
  const auto a = split_log(x);
  const vecd f = a.m - one, n = a.n + lift;
  if constexpr (kShort) {
    const vecd s = f / (a.m + one), z = s * s;
    const vecd log_m = fma(s * z, polynomial(z, C::kShortLog), s + s);
    return {fma(n, set1<double>(L::kLn2Hi), fma(n, set1<double>(L::kLn2Lo), log_m)), zero<double>()};
  } else {
    const auto s = quotient(Pair<vecd>{f, zero<double>()}, fast_two_sum(one, a.m));
    const auto z = product(s, s);
    auto c = fast_two_sum(set1<double>(C::kTwoThirds[0]), z.hi * polynomial(z.hi, C::kLongLog));
    c.lo = c.lo + set1<double>(C::kTwoThirds[1]);
    const auto p = product(z, c);
    auto g = fast_two_sum(two, p.hi);
    g.lo = g.lo + p.lo;
    const auto log_m = product(s, g);
    auto y = fast_two_sum(n * set1<double>(L::kLn2Hi), log_m.hi);
    y.lo = y.lo + fma(n, set1<double>(L::kLn2Lo), log_m.lo);
    return y;
  }
}

template <bool kShort>
FASTBP_INLINE vecd pow_in_double(vecd x, vecd y) {
  using T = double;
  using F = Format<double>;
  const vecd one = set1<T>(1), inf = set1<T>(F::kInf), none = zero<T>();
  const vecd ax = abs(x), ay = abs(y);

  // log|x|
  vecd scaled = ax, lift = none;
  if constexpr (!kShort) {  // subnormal floats are normal doubles
    const auto subnormal = lt(ax, set1<T>(F::kMinNormal));
    scaled = select(subnormal, ax * set1<T>(0x1p52), ax);
    lift = select(subnormal, set1<T>(-52), none);
  }
  auto log_x = pow_log<kShort>(scaled, lift);
  log_x.hi = select(lt(ax, inf), log_x.hi, ax);
  log_x.hi = select(eq(ax, none), -inf, log_x.hi);

  // e^(y·log|x|). Beyond the bound the result is 0 or infinity whatever the low part says.
  constexpr T kBound = kShort ? 200 : 800;
  const vecd raw = y * log_x.hi;
  const vecd hi = clamp_high(clamp_low(raw, -kBound), kBound);
  vecd size;
  if constexpr (kShort) {
    const auto a = reduce_exp(hi, kOnce<T>);
    size = fma(fma(polynomial(a.r, PowConstants::kShortExp), a.r, one), a.r, one) * power_of_two(a.shifted);
  } else {
    const vecd lo = select(lt(abs(raw), set1<T>(kBound)), fma(y, log_x.lo, fma(y, log_x.hi, -raw)), none);
    const auto a = reduce_exp(hi, kTwice<T>);
    size = scale_twice(one + expm1_reduced(a.r, a.r_low + lo), a.shifted);
  }

  // Is y an integer, is it odd? Adding 2^52 leaves the integer part in the low bits; from 2^52 on y is an integer, its
  // own last bit worth 1 or, from 2^53 on, more.
  const vecd two52 = set1<T>(0x1p52);
  const auto large = le(two52, ay);
  const vecd whole = select(large, ay, ay + two52);
  const auto integer = m_or(large, eq(whole - two52, ay));
  const auto last = ieq<T>(bits_as<ivec<T>>(as_unsigned(whole) & uset1<T>(1)), iset1<T>(1));
  const auto odd = m_and(m_and(integer, last), lt(ay, set1<T>(0x1p53)));
  vecd result = select(odd, copysign(size, x), size);
  result = select(m_and(m_and(lt(x, none), lt(ax, inf)), m_and(m_not(integer), eq(y, y))), set1<T>(F::kNan), result);

  // 1 for y = 0, for x = 1, and for x = −1 with infinite y.
  const auto base_one = m_and(eq(ax, one), m_or(eq(x, one), eq(ay, inf)));
  return select(m_or(eq(y, none), base_one), one, result);
}

FASTBP_INLINE vecd vpow(vecd x, vecd y) { return pow_in_double<false>(x, y); }
FASTBP_INLINE vecf vpow(vecf x, vecf y) {
  return narrow(pow_in_double<true>(widen_low(x), widen_low(y)), pow_in_double<true>(widen_high(x), widen_high(y)));
}

}  // namespace

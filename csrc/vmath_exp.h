// The ground that vmath.h stands on: polynomials, numbers as unevaluated sums, and exp, expm1, log, log1p.
//
// Coefficients here and in the other vmath files are minimax: fitted by the Remez algorithm in 200-bit arithmetic, with
// the weight that makes the stated error relative to the function; then rounded to T one after another from the lowest
// power up, the later ones fitted again each time. The error stated beside them is that of the rounded set.
#pragma once

#include "simd.h"

namespace {

template <class V>
struct ElementOf;
template <>
struct ElementOf<vecf> {
  using type = float;
};
template <>
struct ElementOf<vecd> {
  using type = double;
};
template <class V>
using element = typename ElementOf<V>::type;  // T of vec<T>

// The layout of T. `kRound` + n has n in its low bits.
template <class T>
struct Format;
template <>
struct Format<float> {
  static constexpr int kDigits = 23, kBias = 127;
  static constexpr float kRound = kRoundF;
  static constexpr float kMinNormal = 0x1p-126f, kInf = __builtin_inff(), kNan = __builtin_nanf("");
  static constexpr uint32_t kOne = 0x3F800000, kSqrtHalf = 0x3F3504F3, kMantissa = 0x007FFFFF;
  static constexpr uint32_t kTwoToDigits = 0x4B000000;  // the bits of 2^23
};
template <>
struct Format<double> {
  static constexpr int kDigits = 52, kBias = 1023;
  static constexpr double kRound = kRoundD;
  static constexpr double kMinNormal = 0x1p-1022, kInf = __builtin_inf(), kNan = __builtin_nan("");
  static constexpr uint64_t kOne = 0x3FF0000000000000, kSqrtHalf = 0x3FE6A09E667F3BCD, kMantissa = 0x000FFFFFFFFFFFFF;
  static constexpr uint64_t kTwoToDigits = 0x4330000000000000;  // the bits of 2^52
};

// c[First] + c[First + Step]·x + c[First + 2·Step]·x² + … by Horner's rule.
template <int First = 0, int Step = 1, class V, class T, int N>
FASTBP_INLINE V horner(V x, const T (&c)[N]) {
  if constexpr (First + Step >= N) return set1<T>(c[First]);
  else return fma(horner<First + Step, Step>(x, c), x, set1<T>(c[First]));
}
// c[First] + c[First + 1]·x + …; a long one with even and odd powers apart, which halves the chain of dependent steps.
template <int First = 0, class V, class T, int N>
FASTBP_INLINE V polynomial(V x, const T (&c)[N]) {
  if constexpr (N - First < 8) {
    return horner<First>(x, c);
  } else {
    const V square = x * x;
    return fma(horner<First + 1, 2>(square, c), x, horner<First, 2>(square, c));
  }
}

// Bounds that let NaN through.
template <class V>
FASTBP_INLINE V clamp_low(V x, element<V> low) {
  return at_least(x, set1<element<V>>(low));
}
template <class V>
FASTBP_INLINE V clamp_high(V x, element<V> high) {
  return at_most(x, set1<element<V>>(high));
}

// hi + lo, unevaluated, |lo| at most about an ulp of hi: carries twice the digits through the last steps of a function.
template <class V>
struct Pair {
  V hi, lo;
};
template <class V>
FASTBP_INLINE Pair<V> fast_two_sum(V a, V b) {  // exact where |a| ≥ |b| or a = 0
  const V sum = a + b;
  return {sum, b - (sum - a)};
}
template <class V>
FASTBP_INLINE Pair<V> two_sum(V a, V b) {  // exact
  const V sum = a + b, part = sum - a;
  return {sum, (a - (sum - part)) + (b - part)};
}
template <class V>
FASTBP_INLINE Pair<V> product(V a, Pair<V> b) {
  const V hi = a * b.hi;
  return {hi, fma(a, b.lo, fma(a, b.hi, -hi))};
}
template <class V>
FASTBP_INLINE Pair<V> product(Pair<V> a, Pair<V> b) {
  const V hi = a.hi * b.hi;
  return {hi, fma(a.hi, b.lo, fma(a.lo, b.hi, fma(a.hi, b.hi, -hi)))};
}
template <class V>
FASTBP_INLINE Pair<V> quotient(Pair<V> a, Pair<V> b) {
  const V hi = a.hi / b.hi;
  return {hi, fma(-hi, b.lo, fma(-hi, b.hi, a.hi) + a.lo) / b.hi};
}

// ---- exp ----

template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  static constexpr float kLow = -104, kHigh = 89;  // beyond: 0, infinity
  static constexpr float kLog2E = 0x1.715476p+0f, kLn2Hi = 0x1.62e43p-1f, kLn2Lo = -0x1.05c61p-29f;
  // (e^r − 1 − r)/r² on |r| ≤ 0.3467; relative error of e^r 2^-28.2
  static constexpr float kTail[] = {0x1.fffffcp-2f, 0x1.55548cp-3f, 0x1.555858p-5f, 0x1.123deep-7f, 0x1.6ac836p-10f};
};
template <>
struct ExpConstants<double> {
  static constexpr double kLow = -746, kHigh = 710;
  static constexpr double kLog2E = 0x1.71547652b82fep+0, kLn2Hi = 0x1.62e42fefa39efp-1, kLn2Lo = 0x1.abc9e3b39803fp-56;
  // the same; 2^-57.4
  static constexpr double kTail[] = {0x1.000000000000ap-1,  0x1.5555555555502p-3,  0x1.5555555550602p-5,
                                     0x1.11111111251b8p-7,  0x1.6c16c184b65dfp-10, 0x1.a01a013b7cf90p-13,
                                     0x1.a019988946964p-16, 0x1.71def9c194889p-19, 0x1.28aee154b41d4p-22,
                                     0x1.adcc77526c009p-26};
};

// x = ±n·ln 2 + r + r_low with |r| ≤ 0.3467; the low bits of `shifted` hold n + offset.
template <class V>
struct ExpArgument {
  V shifted, r, r_low;
};
template <int kSign = 1, class V>
FASTBP_INLINE ExpArgument<V> reduce_exp(V x, int offset) {
  using T = element<V>;
  using C = ExpConstants<T>;
  const V round = set1<T>(Format<T>::kRound + static_cast<T>(offset));
  const V shifted = fma(x, set1<T>(kSign * C::kLog2E), round);
  const V n = shifted - round, minus_ln2_low = set1<T>(-kSign * C::kLn2Lo);
  const V rest = fma(n, set1<T>(-kSign * C::kLn2Hi), x);  // exact
  const V r = fma(n, minus_ln2_low, rest);
  return {shifted, r, fma(n, minus_ln2_low, rest - r)};
}

// Offsets for the two ways to scale by 2^n: one factor, where the result stays normal, and two, rounded once, where it
// may be subnormal or overflow.
template <class T>
constexpr int kOnce = Format<T>::kBias;
template <class T>
constexpr int kTwice = 2 * Format<T>::kBias;
template <class V>
FASTBP_INLINE V power_of_two(V shifted) {
  return as_float(as_unsigned(shifted) << Format<element<V>>::kDigits);
}
template <class V>
FASTBP_INLINE V scale_twice(V y, V shifted) {
  constexpr int kDigits = Format<element<V>>::kDigits;
  const auto n = as_unsigned(shifted), half = n >> 1;
  return y * as_float(half << kDigits) * as_float((n - half) << kDigits);
}

// For a reduced argument: e^r, e^r − 1, and e^(r + low) − 1 with a small `low`.
template <class V>
FASTBP_INLINE V exp_reduced(V r) {
  using T = element<V>;
  return fma(fma(polynomial(r, ExpConstants<T>::kTail), r, set1<T>(1)), r, set1<T>(1));
}
template <class V>
FASTBP_INLINE V expm1_reduced(V r) {
  return fma(r * r, polynomial(r, ExpConstants<element<V>>::kTail), r);
}
template <class V>
FASTBP_INLINE V expm1_reduced(V r, V low) {
  const auto a = fast_two_sum(r, low);
  return fma(a.hi * a.hi, polynomial(a.hi, ExpConstants<element<V>>::kTail), a.lo) + a.hi;
}

template <class V>
FASTBP_INLINE V vexp(V x) {
  using T = element<V>;
  using C = ExpConstants<T>;
  const auto a = reduce_exp(clamp_high(clamp_low(x, C::kLow), C::kHigh), kTwice<T>);
  return scale_twice(exp_reduced(a.r), a.shifted);
}

// e^x for arguments known to be in [−kExpBound, kExpBound], 0.89·bias·ln 2: no clamp, and n goes into the exponent.
// The bits are those of vexp: its factors are exact, and no multiple of log2(e) in this range lies half way between
// integers.
template <class T>
constexpr T kExpBound = static_cast<T>(0.62 * Format<T>::kBias);
template <class V>
FASTBP_INLINE V exp_bounded(V x) {
  const auto a = reduce_exp(x, 0);
  return as_float(as_unsigned(exp_reduced(a.r)) + (as_unsigned(a.shifted) << Format<element<V>>::kDigits));
}

// e^x of several vectors at once, by exp_bounded where all allow it. Compared as integers, as the units for floats are
// what limits exp; a NaN counts as large.
template <class V, int N>
FASTBP_INLINE void vexp(V (&x)[N]) {
  using T = element<V>;
  const auto bound = as_int(set1<T>(kExpBound<T>));
  auto far = ilt<T>(bound, as_int(abs(x[0])));
  for (int j = 1; j < N; ++j) far = m_or(far, ilt<T>(bound, as_int(abs(x[j]))));
  if (any<T>(far)) {
    for (V& v : x) v = vexp(v);
  } else {
    for (V& v : x) v = exp_bounded(v);
  }
}

// 2·(2^(n−1)·(e^r − 1) + 2^(n−1) − ½), the large parts added first.
template <class V>
FASTBP_INLINE V vexpm1(V x) {
  using T = element<V>;
  using C = ExpConstants<T>;
  constexpr T kLow = sizeof(T) == 4 ? -18 : -38;  // e^kLow is less than half an ulp of 1
  constexpr T kTiny = sizeof(T) == 4 ? 0x1p-26 : 0x1p-55;
  const auto a = reduce_exp(clamp_high(clamp_low(x, kLow), C::kHigh), kOnce<T> - 1);
  const V s = power_of_two(a.shifted);
  const V tail = fma(a.r * a.r, polynomial(a.r, C::kTail), a.r_low);
  const V y = fma(s, tail, fma(s, a.r, s - set1<T>(0.5)));
  return select(lt(abs(x), set1<T>(kTiny)), x, y + y);  // keeps −0 and subnormals
}

// ---- log ----

template <class T>
struct LogConstants;
template <>
struct LogConstants<float> {
  static constexpr float kLn2Hi = 0x1.62e4p-1f, kLn2Lo = 0x1.7f7d1cp-20f;  // 16 bits: n·kLn2Hi is exact
  // (log(1+f) − f + f²/2)/f³ on √½ ≤ 1+f ≤ √2; relative error of log(1+f) 2^-27.3
  static constexpr float kTail[] = {0x1.555554p-2f, -0x1.000228p-2f, 0x1.99a034p-3f, -0x1.54722ep-3f,
                                    0x1.22d660p-3f, -0x1.0d81fap-3f, 0x1.0572a6p-3f, -0x1.38ffaep-4f};
};
template <>
struct LogConstants<double> {
  static constexpr double kLn2Hi = 0x1.62e42fee00000p-1, kLn2Lo = 0x1.a39ef35793c76p-33;  // 32 bits
  // (2·artanh(s)/s − 2)/s² in s², 0 ≤ s² ≤ 0.0295; relative error of log 2^-59.5
  static constexpr double kTail[] = {0x1.5555555555592p-1, 0x1.999999997ff64p-2, 0x1.24924941db3d5p-2,
                                     0x1.c71c521a1d6c1p-3, 0x1.74663ba35f361p-3, 0x1.39a20b949a63dp-3,
                                     0x1.2f025266b0461p-3};
};

// x = 2^n·m with √½ ≤ m < √2, for normal x > 0. `exponent` is n + bias as an integer.
template <class V>
struct LogArgument {
  V m, n;
  uvec<element<V>> exponent;
};
template <class V>
FASTBP_INLINE LogArgument<V> split_log(V x) {
  using T = element<V>;
  using F = Format<T>;
  const auto j = as_unsigned(x) + uset1<T>(F::kOne - F::kSqrtHalf);
  const auto exponent = j >> F::kDigits;
  const V n = as_float(exponent | uset1<T>(F::kTwoToDigits)) - set1<T>(static_cast<T>(1ull << F::kDigits) + F::kBias);
  return {as_float((j & uset1<T>(F::kMantissa)) + uset1<T>(F::kSqrtHalf)), n, exponent};
}

// n·ln 2 + log(1 + f).  log(1 + f) = f − (f²/2 − tail); float sums the tail's series, double takes it from
// s = f/(2 + f), log(1 + f) = 2·artanh(s), where tail = s·(f²/2 + s²·P(s²)).
template <class V>
FASTBP_INLINE V log_reduced(V n, V f) {
  using T = element<V>;
  using C = LogConstants<T>;
  const V square = f * f, half = set1<T>(0.5) * square;
  V tail;
  if constexpr (sizeof(T) == 4) {
    tail = square * f * polynomial(f, C::kTail);
  } else {
    const V s = f / (set1<T>(2) + f), z = s * s;
    tail = s * fma(z, polynomial(z, C::kTail), half);
  }
  const auto head = fast_two_sum(n * set1<T>(C::kLn2Hi), f);
  return head.hi - (half - (tail + fma(n, set1<T>(C::kLn2Lo), head.lo)));
}

template <class V>
FASTBP_INLINE V vlog(V x) {
  using T = element<V>;
  using F = Format<T>;
  constexpr T kLift = static_cast<T>(1ull << F::kDigits);
  const auto subnormal = lt(x, set1<T>(F::kMinNormal));
  const auto a = split_log(select(subnormal, x * set1<T>(kLift), x));
  V y = log_reduced(a.n - select(subnormal, set1<T>(F::kDigits), zero<T>()), a.m - set1<T>(1));
  y = select(lt(x, set1<T>(F::kInf)), y, x);
  return select(lt(zero<T>(), x), y, select(eq(x, zero<T>()), set1<T>(-F::kInf), set1<T>(F::kNan)));
}

// log(1 + x) with 2^n near 1 + x and f = 2^-n·x + (2^-n − 1), which loses nothing of a small x.
template <class V>
FASTBP_INLINE V vlog1p(V x) {
  using T = element<V>;
  using F = Format<T>;
  const V one = set1<T>(1);
  const auto a = split_log(one + x);
  const V scale = as_float((uset1<T>(2 * F::kBias) - a.exponent) << F::kDigits);  // 2^-n
  constexpr T kLarge = static_cast<T>(4ull << F::kDigits);                        // from here on 1 + x is x
  const V f = select(lt(x, set1<T>(kLarge)), fma(x, scale, scale - one), a.m - one);
  constexpr T kTiny = sizeof(T) == 4 ? 0x1p-26 : 0x1p-55;
  V y = select(lt(abs(x), set1<T>(kTiny)), x, log_reduced(a.n, f));  // keeps −0
  y = select(lt(x, set1<T>(F::kInf)), y, x);
  return select(le(x, -one), select(eq(x, -one), set1<T>(-F::kInf), set1<T>(F::kNan)), y);
}

}  // namespace

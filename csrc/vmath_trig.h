// sin and cos for every finite argument.
//
// x = k·π/2 + r. Up to a limit r comes from π/2 in three parts, each product exact or rounded far below r; beyond it a
// lane takes the product of its integer mantissa with the bits of 2/π that matter (Payne and Hanek).
#pragma once

#include "vmath_exp.h"

namespace {

template <class T>
struct TrigConstants;
template <>
struct TrigConstants<float> {
  static constexpr float kLimit = 0x1p17f;
  static constexpr float kTwoOverPi = 0x1.45f306p-1f;
  static constexpr float kHalfPi[3] = {0x1.921fb6p+0f, -0x1.777a5cp-25f, -0x1.ee59dap-50f};
  // (sin(r)/r − 1)/r² and (cos(r) − 1 + r²/2)/r⁴ in r², |r| ≤ π/4; relative errors of sin and cos 2^-27.9, 2^-33.0
  static constexpr float kSin[] = {-0x1.555546p-3f, 0x1.110778p-7f, -0x1.9953f2p-13f};
  static constexpr float kCos[] = {0x1.55554ap-5f, -0x1.6c0c28p-10f, 0x1.99e80cp-16f};
};
template <>
struct TrigConstants<double> {
  static constexpr double kLimit = 0x1p20;
  static constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
  static constexpr double kHalfPi[3] = {0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54, -0x1.f1976b7ed8fbcp-110};
  // the same; 2^-57.9, 2^-63.9
  static constexpr double kSin[] = {-0x1.5555555555548p-3, 0x1.111111110f730p-7,   -0x1.a01a019be9210p-13,
                                    0x1.71de35552cbb8p-19, -0x1.ae5e4b885160ep-26, 0x1.5d8b583788e32p-33};
  static constexpr double kCos[] = {0x1.555555555554bp-5,   -0x1.6c16c16c15011p-10, 0x1.a01a019c8e7b8p-16,
                                    -0x1.27e4f7f0f08fbp-22, 0x1.1ee9db4cfdbb0p-29,  -0x1.8fa6383dedd4fp-37};
};

// 64 zeros, then the first 1280 binary digits of 2/π after the point.
constexpr uint64_t kTwoOverPiBits[21] = {0x0000000000000000, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041,
                                         0xFE5163ABDEBBC561, 0xB7246E3A424DD2E0, 0x06492EEA09D1921C, 0xFE1DEB1CB129A73E,
                                         0xE88235F52EBB4484, 0xE99C7026B45F7E41, 0x3991D639835339F4, 0x9C845F8BBDF9283B,
                                         0x1FF897FFDE05980F, 0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7, 0x4F463F669E5FEA2D,
                                         0x7527BAC7EBE5F17B, 0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB,
                                         0xF0CFBC209AF4361D};

// x = quadrant·π/2 + r modulo 2π.
struct FarArgument {
  double r;
  uint64_t quadrant;
};
__extension__ typedef unsigned __int128 uint128;

// |x| = m·2^e with an integer m < 2^53. The digits of 2/π from the one worth 2·2^-e on decide |x|·2/π modulo 4; of
// them the first 192 leave an error below 2^-136, while r is never nearer to 0 than about 2^-62.
inline FarArgument reduce_far(double x) {
  const uint64_t bits = bits_as<uint64_t>(x), m = (bits & Format<double>::kMantissa) | (uint64_t{1} << 52);
  const int first = static_cast<int>(bits >> 52 & 2047) - 1075 - 2 + 64, word = first >> 6, shift = first & 63;
  uint64_t digits[3];
  for (int i = 0; i < 3; ++i) {
    digits[i] = kTwoOverPiBits[word + i] << shift;
    if (shift) digits[i] |= kTwoOverPiBits[word + i + 1] >> (64 - shift);
  }
  // The product modulo 2^192 without its last word: the top two bits are the quadrant, the rest its fraction.
  uint128 turn = (static_cast<uint128>(m) * digits[2] >> 64) + static_cast<uint128>(m) * digits[1];
  turn += static_cast<uint128>(m * digits[0]) << 64;
  const uint64_t quadrant = static_cast<uint64_t>((turn + (static_cast<uint128>(1) << 125)) >> 126);
  turn -= static_cast<uint128>(quadrant) << 126;  // now a signed fraction of a quadrant, unit 2^-126
  const bool negative = turn >> 127;
  if (negative) turn = -turn;
  const uint64_t top = static_cast<uint64_t>(turn >> 64);
  const int lead = top ? __builtin_clzll(top) : 64;  // never more than about 62 zeros
  const uint64_t fraction = static_cast<uint64_t>(turn << lead >> 64);
  const double hi = static_cast<double>(static_cast<int64_t>(fraction >> 11)) * 2048;
  const double lo = static_cast<double>(static_cast<int64_t>(fraction & 2047));
  const double unit = bits_as<double>(static_cast<uint64_t>(1023 - 62 - lead) << 52);
  const double* half_pi = TrigConstants<double>::kHalfPi;
  const double r = hi * half_pi[0];
  const double rest = __builtin_fma(hi, half_pi[0], -r) + (hi * half_pi[1] + lo * half_pi[0]);
  const bool flip = negative != static_cast<bool>(bits >> 63);
  return {flip ? -((r + rest) * unit) : (r + rest) * unit, bits >> 63 ? -quadrant : quadrant};
}

// r and, in the low two bits, the quadrant.
template <class V>
struct TrigArgument {
  V r;
  uvec<element<V>> quadrant;
};

// Replaces the lanes with |x| > limit; NaN for infinities and NaN.
template <class V>
inline __attribute__((noinline)) void reduce_far_lanes(V x, TrigArgument<V>& a) {
  using T = element<V>;
  constexpr int kLanes = lanes<T>;
  T xs[kLanes], rs[kLanes];
  uvec<T> quadrant = a.quadrant;
  decltype(Format<T>::kOne + 0) quadrants[kLanes];
  __builtin_memcpy(xs, &x, sizeof xs);
  __builtin_memcpy(rs, &a.r, sizeof rs);
  __builtin_memcpy(quadrants, &quadrant, sizeof quadrants);
  for (int i = 0; i < kLanes; ++i) {
    const T size = xs[i] < 0 ? -xs[i] : xs[i];
    if (size <= TrigConstants<T>::kLimit) continue;
    if (size < Format<T>::kInf) {
      const auto far = reduce_far(xs[i]);
      rs[i] = static_cast<T>(far.r);
      quadrants[i] = static_cast<decltype(Format<T>::kOne + 0)>(far.quadrant);
    } else {
      rs[i] = Format<T>::kNan;
    }
  }
  __builtin_memcpy(&a.r, rs, sizeof rs);
  __builtin_memcpy(&a.quadrant, quadrants, sizeof quadrants);
}

template <class V>
FASTBP_INLINE TrigArgument<V> reduce_trig(V x) {
  using T = element<V>;
  using C = TrigConstants<T>;
  const V round = set1<T>(Format<T>::kRound);
  const V shifted = fma(x, set1<T>(C::kTwoOverPi), round), n = shifted - round;
  V r = x;
  for (const T part : C::kHalfPi) r = fma(n, set1<T>(-part), r);
  TrigArgument<V> a = {r, as_unsigned(shifted)};
  if (any<T>(m_not(le(abs(x), set1<T>(C::kLimit))))) reduce_far_lanes(x, a);
  return a;
}

// sin(r + quadrant·π/2)
template <class V>
FASTBP_INLINE V sin_reduced(V r, uvec<element<V>> quadrant) {
  using T = element<V>;
  using C = TrigConstants<T>;
  const V z = r * r;
  const V s = fma(r * z, horner(z, C::kSin), r);
  const V c = fma(z * z, horner(z, C::kCos), fma(z, set1<T>(-0.5), set1<T>(1)));
  const auto odd = ieq<T>(bits_as<ivec<T>>(quadrant & uset1<T>(1)), iset1<T>(1));
  const auto sign = (quadrant & uset1<T>(2)) << (8 * static_cast<int>(sizeof(T)) - 2);
  return as_float(as_unsigned(select(odd, c, s)) ^ sign);
}

template <class V>
FASTBP_INLINE V vsin(V x) {
  using T = element<V>;
  const auto a = reduce_trig(x);
  return select(eq(x, zero<T>()), x, sin_reduced(a.r, a.quadrant));  // keeps −0
}

template <class V>
FASTBP_INLINE V vcos(V x) {
  const auto a = reduce_trig(x);
  return sin_reduced(a.r, a.quadrant + uset1<element<V>>(1));
}

}  // namespace

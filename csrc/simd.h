// One vector type and about thirty functions per instruction set: the only file with intrinsics.
//
// Included only by code that kernels.cpp compiles once per instruction set, inside its anonymous namespace, so that
// nothing here can be linked into code for another instruction set. Four sets: scalar (one lane, plain arithmetic, the
// oracle), avx2, avx512 and neon. Every function is exact: equal inputs give equal bits on every set.
//
//   vec<T>   lanes<T> values of T (float or double); + - * / work on it
//   ivec<T>  as many signed integers of the same width; + - * & | ^ << >> work on it
//   uvec<T>  the same bits unsigned, for arithmetic that may wrap and for logical shifts
//   mask<T>  one truth value per lane, combined by m_and, m_or, m_not and consumed by select
#pragma once

#if defined(FASTBP_SIMD_SCALAR)
// no intrinsics
#elif defined(FASTBP_SIMD_AVX2) || defined(FASTBP_SIMD_AVX512)
#include <immintrin.h>
#elif defined(FASTBP_SIMD_NEON)
#include <arm_neon.h>
#else
#error "choose an instruction set: FASTBP_SIMD_SCALAR, _AVX2, _AVX512 or _NEON"
#endif
#include <stdint.h>

#define FASTBP_INLINE inline __attribute__((always_inline))

namespace {

template <class T> struct Lanes;  // vec, ivec, mask and count for T

#if defined(FASTBP_SIMD_SCALAR)
template <> struct Lanes<float> {
  using vec = float;
  using ivec = int32_t;
  using uvec = uint32_t;
  using mask = bool;
  static constexpr int count = 1;
};
template <> struct Lanes<double> {
  using vec = double;
  using ivec = int64_t;
  using uvec = uint64_t;
  using mask = bool;
  static constexpr int count = 1;
};
#elif defined(FASTBP_SIMD_AVX2)
template <> struct Lanes<float> {
  typedef float vec __attribute__((vector_size(32)));
  typedef int32_t ivec __attribute__((vector_size(32)));
  typedef uint32_t uvec __attribute__((vector_size(32)));
  using mask = ivec;
  static constexpr int count = 8;
};
template <> struct Lanes<double> {
  typedef double vec __attribute__((vector_size(32)));
  typedef int64_t ivec __attribute__((vector_size(32)));
  typedef uint64_t uvec __attribute__((vector_size(32)));
  using mask = ivec;
  static constexpr int count = 4;
};
#elif defined(FASTBP_SIMD_AVX512)
template <> struct Lanes<float> {
  typedef float vec __attribute__((vector_size(64)));
  typedef int32_t ivec __attribute__((vector_size(64)));
  typedef uint32_t uvec __attribute__((vector_size(64)));
  using mask = __mmask16;
  static constexpr int count = 16;
};
template <> struct Lanes<double> {
  typedef double vec __attribute__((vector_size(64)));
  typedef int64_t ivec __attribute__((vector_size(64)));
  typedef uint64_t uvec __attribute__((vector_size(64)));
  using mask = __mmask8;
  static constexpr int count = 8;
};
#elif defined(FASTBP_SIMD_NEON)
template <> struct Lanes<float> {
  typedef float vec __attribute__((vector_size(16)));
  typedef int32_t ivec __attribute__((vector_size(16)));
  typedef uint32_t uvec __attribute__((vector_size(16)));
  using mask = ivec;
  static constexpr int count = 4;
};
template <> struct Lanes<double> {
  typedef double vec __attribute__((vector_size(16)));
  typedef int64_t ivec __attribute__((vector_size(16)));
  typedef uint64_t uvec __attribute__((vector_size(16)));
  using mask = ivec;
  static constexpr int count = 2;
};
#endif

template <class T> using vec = typename Lanes<T>::vec;
template <class T> using ivec = typename Lanes<T>::ivec;
template <class T> using uvec = typename Lanes<T>::uvec;
template <class T> using mask = typename Lanes<T>::mask;
template <class T> inline constexpr int lanes = Lanes<T>::count;

using vecf = vec<float>;
using vecd = vec<double>;
using ivecf = ivec<float>;
using ivecd = ivec<double>;

// Reinterpretation of the same bits.
template <class To, class From> FASTBP_INLINE To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}
FASTBP_INLINE ivecf as_int(vecf x) { return bits_as<ivecf>(x); }
FASTBP_INLINE ivecd as_int(vecd x) { return bits_as<ivecd>(x); }
FASTBP_INLINE vecf as_float(ivecf x) { return bits_as<vecf>(x); }
FASTBP_INLINE vecd as_float(ivecd x) { return bits_as<vecd>(x); }
FASTBP_INLINE uvec<float> as_unsigned(vecf x) { return bits_as<uvec<float>>(x); }
FASTBP_INLINE uvec<double> as_unsigned(vecd x) { return bits_as<uvec<double>>(x); }
FASTBP_INLINE vecf as_float(uvec<float> x) { return bits_as<vecf>(x); }
FASTBP_INLINE vecd as_float(uvec<double> x) { return bits_as<vecd>(x); }

// Broadcasts.
#if defined(FASTBP_SIMD_SCALAR)
template <class T> FASTBP_INLINE vec<T> set1(T x) { return x; }
template <class T, class I> FASTBP_INLINE ivec<T> iset1(I x) { return static_cast<ivec<T>>(x); }
template <class T, class I> FASTBP_INLINE uvec<T> uset1(I x) { return static_cast<uvec<T>>(x); }
#else
template <class T> FASTBP_INLINE vec<T> set1(T x) { return x - vec<T>{}; }  // x − 0 is x for every x, −0 included
template <class T, class I> FASTBP_INLINE ivec<T> iset1(I x) {
  using Int = decltype(ivec<T>{}[0] + 0);
  return static_cast<Int>(x) - ivec<T>{};
}
template <class T, class I> FASTBP_INLINE uvec<T> uset1(I x) {
  using Unsigned = decltype(uvec<T>{}[0] + 0u);
  return static_cast<Unsigned>(x) - uvec<T>{};
}
#endif
template <class T> FASTBP_INLINE vec<T> zero() { return vec<T>{}; }

// Unaligned loads and stores of whole vectors; stream bypasses the caches and needs an aligned address.
template <class T> FASTBP_INLINE vec<T> load(const T* p) {
  return bits_as<vec<T>>(*reinterpret_cast<const char (*)[sizeof(vec<T>)]>(p));
}
template <class T> FASTBP_INLINE void store(T* p, vec<T> x) { __builtin_memcpy(p, &x, sizeof x); }

#if defined(FASTBP_SIMD_SCALAR)

FASTBP_INLINE void stream(float* p, float x) { *p = x; }
FASTBP_INLINE void stream(double* p, double x) { *p = x; }
FASTBP_INLINE void stream_fence() {}
template <class T> FASTBP_INLINE T load_n(const T* p, int64_t n) { return n > 0 ? *p : T(0); }
template <class T> FASTBP_INLINE void store_n(T* p, T x, int64_t n) {
  if (n > 0) *p = x;
}
FASTBP_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
FASTBP_INLINE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
FASTBP_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
FASTBP_INLINE double sqrt(double x) { return __builtin_sqrt(x); }
FASTBP_INLINE bool lt(float a, float b) { return a < b; }
FASTBP_INLINE bool le(float a, float b) { return a <= b; }
FASTBP_INLINE bool eq(float a, float b) { return a == b; }
FASTBP_INLINE bool ne(float a, float b) { return a != b; }
FASTBP_INLINE bool lt(double a, double b) { return a < b; }
FASTBP_INLINE bool le(double a, double b) { return a <= b; }
FASTBP_INLINE bool eq(double a, double b) { return a == b; }
FASTBP_INLINE bool ne(double a, double b) { return a != b; }
template <class T> FASTBP_INLINE bool ilt(ivec<T> a, ivec<T> b) { return a < b; }
template <class T> FASTBP_INLINE bool ieq(ivec<T> a, ivec<T> b) { return a == b; }
FASTBP_INLINE float select(bool m, float a, float b) { return m ? a : b; }
FASTBP_INLINE double select(bool m, double a, double b) { return m ? a : b; }
FASTBP_INLINE int32_t select(bool m, int32_t a, int32_t b) { return m ? a : b; }
FASTBP_INLINE int64_t select(bool m, int64_t a, int64_t b) { return m ? a : b; }
FASTBP_INLINE bool m_and(bool a, bool b) { return a && b; }
FASTBP_INLINE bool m_or(bool a, bool b) { return a || b; }
FASTBP_INLINE bool m_not(bool a) { return !a; }
template <class T> FASTBP_INLINE bool any(bool m) { return m; }

#elif defined(FASTBP_SIMD_AVX2)

FASTBP_INLINE void stream(float* p, vecf x) { _mm256_stream_ps(p, x); }
FASTBP_INLINE void stream(double* p, vecd x) { _mm256_stream_pd(p, x); }
FASTBP_INLINE void stream_fence() { _mm_sfence(); }
// A window into ones followed by zeros gives the mask of the first n lanes.
alignas(64) constexpr int32_t kMaskWindow32[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
alignas(64) constexpr int64_t kMaskWindow64[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
FASTBP_INLINE __m256i first_n(const float*, int64_t n) {
  return _mm256_loadu_si256((const __m256i*)(kMaskWindow32 + 8 - n));
}
FASTBP_INLINE __m256i first_n(const double*, int64_t n) {
  return _mm256_loadu_si256((const __m256i*)(kMaskWindow64 + 4 - n));
}
FASTBP_INLINE vecf load_n(const float* p, int64_t n) { return _mm256_maskload_ps(p, first_n(p, n)); }
FASTBP_INLINE vecd load_n(const double* p, int64_t n) { return _mm256_maskload_pd(p, first_n(p, n)); }
// By halves: a masked store takes Zen 3 some 20 cycles.
FASTBP_INLINE void store_n(float* p, vecf x, int64_t n) {
  if (n >= 8) return store(p, x);
  __m128 part = _mm256_castps256_ps128(x);
  if (n & 4) {
    _mm_storeu_ps(p, part);
    part = _mm256_extractf128_ps(x, 1);
    p += 4;
  }
  if (n & 2) {
    _mm_storel_pi((__m64*)p, part);
    part = _mm_movehl_ps(part, part);
    p += 2;
  }
  if (n & 1) _mm_store_ss(p, part);
}
FASTBP_INLINE void store_n(double* p, vecd x, int64_t n) {
  if (n >= 4) return store(p, x);
  if (n & 2) _mm_storeu_pd(p, _mm256_castpd256_pd128(x));
  if (n & 1) p[n - 1] = n & 2 ? x[2] : x[0];
}
FASTBP_INLINE vecf fma(vecf a, vecf b, vecf c) { return _mm256_fmadd_ps(a, b, c); }
FASTBP_INLINE vecd fma(vecd a, vecd b, vecd c) { return _mm256_fmadd_pd(a, b, c); }
FASTBP_INLINE vecf sqrt(vecf x) { return _mm256_sqrt_ps(x); }
FASTBP_INLINE vecd sqrt(vecd x) { return _mm256_sqrt_pd(x); }
FASTBP_INLINE vecf at_least(vecf x, vecf low) { return _mm256_max_ps(low, x); }
FASTBP_INLINE vecd at_least(vecd x, vecd low) { return _mm256_max_pd(low, x); }
FASTBP_INLINE vecf at_most(vecf x, vecf high) { return _mm256_min_ps(high, x); }
FASTBP_INLINE vecd at_most(vecd x, vecd high) { return _mm256_min_pd(high, x); }
template <class T> FASTBP_INLINE bool any(ivec<T> m) { return _mm256_movemask_epi8((__m256i)m) != 0; }

#elif defined(FASTBP_SIMD_AVX512)

FASTBP_INLINE void stream(float* p, vecf x) { _mm512_stream_ps(p, x); }
FASTBP_INLINE void stream(double* p, vecd x) { _mm512_stream_pd(p, x); }
FASTBP_INLINE void stream_fence() { _mm_sfence(); }
FASTBP_INLINE __mmask16 first_n(const float*, int64_t n) { return (__mmask16)((1u << n) - 1); }
FASTBP_INLINE __mmask8 first_n(const double*, int64_t n) { return (__mmask8)((1u << n) - 1); }
FASTBP_INLINE vecf load_n(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first_n(p, n), p); }
FASTBP_INLINE vecd load_n(const double* p, int64_t n) { return _mm512_maskz_loadu_pd(first_n(p, n), p); }
FASTBP_INLINE void store_n(float* p, vecf x, int64_t n) { _mm512_mask_storeu_ps(p, first_n(p, n), x); }
FASTBP_INLINE void store_n(double* p, vecd x, int64_t n) { _mm512_mask_storeu_pd(p, first_n(p, n), x); }
FASTBP_INLINE vecf fma(vecf a, vecf b, vecf c) { return _mm512_fmadd_ps(a, b, c); }
FASTBP_INLINE vecd fma(vecd a, vecd b, vecd c) { return _mm512_fmadd_pd(a, b, c); }
FASTBP_INLINE vecf sqrt(vecf x) { return _mm512_sqrt_ps(x); }
FASTBP_INLINE vecd sqrt(vecd x) { return _mm512_sqrt_pd(x); }
FASTBP_INLINE vecf at_least(vecf x, vecf low) { return _mm512_max_ps(low, x); }
FASTBP_INLINE vecd at_least(vecd x, vecd low) { return _mm512_max_pd(low, x); }
FASTBP_INLINE vecf at_most(vecf x, vecf high) { return _mm512_min_ps(high, x); }
FASTBP_INLINE vecd at_most(vecd x, vecd high) { return _mm512_min_pd(high, x); }
FASTBP_INLINE __mmask16 lt(vecf a, vecf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
FASTBP_INLINE __mmask16 le(vecf a, vecf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
FASTBP_INLINE __mmask16 eq(vecf a, vecf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
FASTBP_INLINE __mmask16 ne(vecf a, vecf b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }
FASTBP_INLINE __mmask8 lt(vecd a, vecd b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
FASTBP_INLINE __mmask8 le(vecd a, vecd b) { return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ); }
FASTBP_INLINE __mmask8 eq(vecd a, vecd b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
FASTBP_INLINE __mmask8 ne(vecd a, vecd b) { return _mm512_cmp_pd_mask(a, b, _CMP_NEQ_UQ); }
template <class T> FASTBP_INLINE mask<T> ilt(ivec<T> a, ivec<T> b) {
  if constexpr (sizeof(T) == 4) return _mm512_cmplt_epi32_mask((__m512i)a, (__m512i)b);
  else return _mm512_cmplt_epi64_mask((__m512i)a, (__m512i)b);
}
template <class T> FASTBP_INLINE mask<T> ieq(ivec<T> a, ivec<T> b) {
  if constexpr (sizeof(T) == 4) return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b);
  else return _mm512_cmpeq_epi64_mask((__m512i)a, (__m512i)b);
}
FASTBP_INLINE vecf select(__mmask16 m, vecf a, vecf b) { return _mm512_mask_blend_ps(m, b, a); }
FASTBP_INLINE vecd select(__mmask8 m, vecd a, vecd b) { return _mm512_mask_blend_pd(m, b, a); }
FASTBP_INLINE ivecf select(__mmask16 m, ivecf a, ivecf b) {
  return (ivecf)_mm512_mask_blend_epi32(m, (__m512i)b, (__m512i)a);
}
FASTBP_INLINE ivecd select(__mmask8 m, ivecd a, ivecd b) {
  return (ivecd)_mm512_mask_blend_epi64(m, (__m512i)b, (__m512i)a);
}
FASTBP_INLINE __mmask16 m_and(__mmask16 a, __mmask16 b) { return (__mmask16)(a & b); }
FASTBP_INLINE __mmask16 m_or(__mmask16 a, __mmask16 b) { return (__mmask16)(a | b); }
FASTBP_INLINE __mmask16 m_not(__mmask16 a) { return (__mmask16)~a; }
FASTBP_INLINE __mmask8 m_and(__mmask8 a, __mmask8 b) { return (__mmask8)(a & b); }
FASTBP_INLINE __mmask8 m_or(__mmask8 a, __mmask8 b) { return (__mmask8)(a | b); }
FASTBP_INLINE __mmask8 m_not(__mmask8 a) { return (__mmask8)~a; }
template <class T> FASTBP_INLINE bool any(mask<T> m) { return m != 0; }

#elif defined(FASTBP_SIMD_NEON)

FASTBP_INLINE void stream(float* p, vecf x) { store(p, x); }
FASTBP_INLINE void stream(double* p, vecd x) { store(p, x); }
FASTBP_INLINE void stream_fence() {}
// By halves: a copy of unknown length is a call of memcpy.
FASTBP_INLINE vecf load_n(const float* p, int64_t n) {
  if (n >= 4) return load(p);
  if (n < 2) return n < 1 ? vecf{} : vecf{p[0]};
  const float32x2_t low = vld1_f32(p);
  return vcombine_f32(low, n < 3 ? vdup_n_f32(0) : vld1_lane_f32(p + 2, vdup_n_f32(0), 0));
}
FASTBP_INLINE vecd load_n(const double* p, int64_t n) { return n >= 2 ? load(p) : n < 1 ? vecd{} : vecd{p[0]}; }
FASTBP_INLINE void store_n(float* p, vecf x, int64_t n) {
  if (n >= 4) return store(p, x);
  if (n & 2) vst1_f32(p, vget_low_f32(x));
  if (n & 1) p[n - 1] = n & 2 ? x[2] : x[0];
}
FASTBP_INLINE void store_n(double* p, vecd x, int64_t n) {
  if (n >= 2) store(p, x);
  else if (n == 1) p[0] = x[0];
}
FASTBP_INLINE vecf fma(vecf a, vecf b, vecf c) { return vfmaq_f32(c, a, b); }
FASTBP_INLINE vecd fma(vecd a, vecd b, vecd c) { return vfmaq_f64(c, a, b); }
FASTBP_INLINE vecf sqrt(vecf x) { return vsqrtq_f32(x); }
FASTBP_INLINE vecd sqrt(vecd x) { return vsqrtq_f64(x); }
template <class T> FASTBP_INLINE bool any(ivec<T> m) { return vmaxvq_u32((uint32x4_t)m) != 0; }

#endif

#if defined(FASTBP_SIMD_AVX2) || defined(FASTBP_SIMD_NEON)
// Masks as all-ones lanes: the compiler's own vector comparisons and blends.
FASTBP_INLINE ivecf lt(vecf a, vecf b) { return a < b; }
FASTBP_INLINE ivecf le(vecf a, vecf b) { return a <= b; }
FASTBP_INLINE ivecf eq(vecf a, vecf b) { return a == b; }
FASTBP_INLINE ivecf ne(vecf a, vecf b) { return a != b; }
FASTBP_INLINE ivecd lt(vecd a, vecd b) { return (ivecd)(a < b); }
FASTBP_INLINE ivecd le(vecd a, vecd b) { return (ivecd)(a <= b); }
FASTBP_INLINE ivecd eq(vecd a, vecd b) { return (ivecd)(a == b); }
FASTBP_INLINE ivecd ne(vecd a, vecd b) { return (ivecd)(a != b); }
template <class T> FASTBP_INLINE ivec<T> ilt(ivec<T> a, ivec<T> b) { return (ivec<T>)(a < b); }
template <class T> FASTBP_INLINE ivec<T> ieq(ivec<T> a, ivec<T> b) { return (ivec<T>)(a == b); }
FASTBP_INLINE vecf select(ivecf m, vecf a, vecf b) { return m ? a : b; }
FASTBP_INLINE vecd select(ivecd m, vecd a, vecd b) { return m ? a : b; }
FASTBP_INLINE ivecf select(ivecf m, ivecf a, ivecf b) { return m ? a : b; }
FASTBP_INLINE ivecd select(ivecd m, ivecd a, ivecd b) { return m ? a : b; }
FASTBP_INLINE ivecf m_and(ivecf a, ivecf b) { return a & b; }
FASTBP_INLINE ivecf m_or(ivecf a, ivecf b) { return a | b; }
FASTBP_INLINE ivecf m_not(ivecf a) { return ~a; }
FASTBP_INLINE ivecd m_and(ivecd a, ivecd b) { return a & b; }
FASTBP_INLINE ivecd m_or(ivecd a, ivecd b) { return a | b; }
FASTBP_INLINE ivecd m_not(ivecd a) { return ~a; }
#endif

template <class V> FASTBP_INLINE auto gt(V a, V b) { return lt(b, a); }
template <class V> FASTBP_INLINE auto ge(V a, V b) { return le(b, a); }

// x < low ? low : x and high < x ? high : x, so that NaN stays NaN; what max and min do on x86.
#if defined(FASTBP_SIMD_SCALAR) || defined(FASTBP_SIMD_NEON)
template <class V> FASTBP_INLINE V at_least(V x, V low) { return select(lt(x, low), low, x); }
template <class V> FASTBP_INLINE V at_most(V x, V high) { return select(lt(high, x), high, x); }
#endif

// Sign handling by bits, exact for NaN, infinities and zeros.
template <class T> inline constexpr ivec<T> sign_bit() {
  if constexpr (sizeof(T) == 4) return iset1<T>(INT32_MIN);
  else return iset1<T>(INT64_MIN);
}
FASTBP_INLINE vecf abs(vecf x) { return as_float(as_int(x) & iset1<float>(INT32_MAX)); }
FASTBP_INLINE vecd abs(vecd x) { return as_float(as_int(x) & iset1<double>(INT64_MAX)); }
FASTBP_INLINE vecf copysign(vecf magnitude, vecf sign) {
  return as_float((as_int(magnitude) & iset1<float>(INT32_MAX)) | (as_int(sign) & iset1<float>(INT32_MIN)));
}
FASTBP_INLINE vecd copysign(vecd magnitude, vecd sign) {
  return as_float((as_int(magnitude) & iset1<double>(INT64_MAX)) | (as_int(sign) & iset1<double>(INT64_MIN)));
}

// Nearest integer, ties to even, by adding and taking away 1.5·2^23 (1.5·2^52), whose last place is 1.
// |x| < 2^22 for float, < 2^51 for double; the integers come out of the low bits of the sum.
constexpr float kRoundF = 12582912.0f;
constexpr double kRoundD = 6755399441055744.0;
FASTBP_INLINE vecf round_nearest(vecf x) { return (x + set1<float>(kRoundF)) - set1<float>(kRoundF); }
FASTBP_INLINE vecd round_nearest(vecd x) { return (x + set1<double>(kRoundD)) - set1<double>(kRoundD); }
FASTBP_INLINE ivecf to_int(vecf x) { return as_int(x + set1<float>(kRoundF)) - iset1<float>(0x4B400000); }
FASTBP_INLINE ivecd to_int(vecd x) { return as_int(x + set1<double>(kRoundD)) - iset1<double>(0x4338000000000000); }
FASTBP_INLINE vecf to_float(ivecf i) { return as_float(i + iset1<float>(0x4B400000)) - set1<float>(kRoundF); }
FASTBP_INLINE vecd to_float(ivecd i) { return as_float(i + iset1<double>(0x4338000000000000)) - set1<double>(kRoundD); }

// A vector of floats as two vectors of doubles, and back with one rounding. The scalar set has only a low half.
#if defined(FASTBP_SIMD_SCALAR)
FASTBP_INLINE double widen_low(float x) { return x; }
FASTBP_INLINE double widen_high(float) { return 0; }
FASTBP_INLINE float narrow(double low, double) { return static_cast<float>(low); }
#else
typedef float half_vecf __attribute__((vector_size(sizeof(vecf) / 2)));
FASTBP_INLINE vecd widen_low(vecf x) {
  half_vecf half;
  __builtin_memcpy(&half, &x, sizeof half);
  return __builtin_convertvector(half, vecd);
}
FASTBP_INLINE vecd widen_high(vecf x) {
  half_vecf half;
  __builtin_memcpy(&half, reinterpret_cast<const char*>(&x) + sizeof half, sizeof half);
  return __builtin_convertvector(half, vecd);
}
FASTBP_INLINE vecf narrow(vecd low, vecd high) {
  const half_vecf halves[2] = {__builtin_convertvector(low, half_vecf), __builtin_convertvector(high, half_vecf)};
  return bits_as<vecf>(halves);
}
#endif

// The unsigned product of the low 32 bits of each 64-bit lane, whatever the high halves hold.
#if defined(FASTBP_SIMD_SCALAR)
FASTBP_INLINE int64_t mul_low(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(static_cast<uint32_t>(a)) * static_cast<uint32_t>(b));
}
#elif defined(FASTBP_SIMD_AVX2)
FASTBP_INLINE ivecd mul_low(ivecd a, ivecd b) { return (ivecd)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
#elif defined(FASTBP_SIMD_AVX512)
FASTBP_INLINE ivecd mul_low(ivecd a, ivecd b) { return (ivecd)_mm512_mul_epu32((__m512i)a, (__m512i)b); }
#elif defined(FASTBP_SIMD_NEON)
FASTBP_INLINE ivecd mul_low(ivecd a, ivecd b) {
  return (ivecd)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
}
#endif

}  // namespace

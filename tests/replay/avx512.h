// The AVX-512 intrinsics that csrc uses, lane by lane: included ahead of everything (FASTBP_EMULATE_AVX512), so that
// the table for AVX-512 runs on a CPU that has AVX2 alone. Vectors of 64 bytes are GCC's own, which splits them.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace {
namespace emulated {

typedef int32_t Int32 __attribute__((vector_size(64)));
typedef int64_t Int64 __attribute__((vector_size(64)));
typedef uint64_t Unsigned64 __attribute__((vector_size(64)));
template <class V>
constexpr int lanes = sizeof(V) / sizeof(V{}[0]);

template <class V, class E>
V load(uint32_t mask, const E* p) {
  V x{};
  for (int i = 0; i < lanes<V>; ++i)
    if (mask >> i & 1) x[i] = p[i];
  return x;
}
template <class V, class E>
void store(E* p, uint32_t mask, V x) {
  for (int i = 0; i < lanes<V>; ++i)
    if (mask >> i & 1) p[i] = x[i];
}
template <class V>
void stream(void* p, V x) {
  if (reinterpret_cast<uintptr_t>(p) % sizeof x != 0) __builtin_trap();  // as the instruction
  memcpy(p, &x, sizeof x);
}

template <class V>
V fma(V a, V b, V c) {
  for (int i = 0; i < lanes<V>; ++i) {
    if constexpr (sizeof a[0] == 4) a[i] = __builtin_fmaf(a[i], b[i], c[i]);
    else a[i] = __builtin_fma(a[i], b[i], c[i]);
  }
  return a;
}
template <class V>
V sqrt(V x) {
  for (int i = 0; i < lanes<V>; ++i) {
    if constexpr (sizeof x[0] == 4) x[i] = __builtin_sqrtf(x[i]);
    else x[i] = __builtin_sqrt(x[i]);
  }
  return x;
}
// As the instructions: b where one is a NaN, and of two zeros.
template <class V>
V max(V a, V b) {
  for (int i = 0; i < lanes<V>; ++i) a[i] = a[i] > b[i] ? a[i] : b[i];
  return a;
}
template <class V>
V min(V a, V b) {
  for (int i = 0; i < lanes<V>; ++i) a[i] = a[i] < b[i] ? a[i] : b[i];
  return a;
}

template <class V, class Test>
uint32_t compare(V a, V b, Test test) {
  uint32_t mask = 0;
  for (int i = 0; i < lanes<V>; ++i) mask |= static_cast<uint32_t>(test(a[i], b[i])) << i;
  return mask;
}
constexpr auto less = [](auto x, auto y) { return x < y; };
constexpr auto equal = [](auto x, auto y) { return x == y; };
template <class V>
uint32_t compare_floats(V a, V b, int predicate) {
  switch (predicate) {
    case _CMP_LT_OQ:
      return compare(a, b, less);
    case _CMP_LE_OQ:
      return compare(a, b, [](auto x, auto y) { return x <= y; });
    case _CMP_EQ_OQ:
      return compare(a, b, equal);
    case _CMP_NEQ_UQ:
      return compare(a, b, [](auto x, auto y) { return !(x == y); });
    default:
      __builtin_trap();
  }
}
template <class V>
V blend(uint32_t mask, V a, V b) {
  for (int i = 0; i < lanes<V>; ++i) a[i] = mask >> i & 1 ? b[i] : a[i];
  return a;
}

}  // namespace emulated
}  // namespace

#undef _mm512_cmp_pd_mask  // macros where nothing is optimised
#undef _mm512_cmp_ps_mask
#define _mm512_cmp_pd_mask(a, b, predicate) static_cast<__mmask8>(emulated::compare_floats<__m512d>(a, b, predicate))
#define _mm512_cmp_ps_mask(a, b, predicate) static_cast<__mmask16>(emulated::compare_floats<__m512>(a, b, predicate))
#define _mm512_cmpeq_epi32_mask(a, b) \
  static_cast<__mmask16>(emulated::compare((emulated::Int32)(a), (emulated::Int32)(b), emulated::equal))
#define _mm512_cmpeq_epi64_mask(a, b) \
  static_cast<__mmask8>(emulated::compare((emulated::Int64)(a), (emulated::Int64)(b), emulated::equal))
#define _mm512_cmplt_epi32_mask(a, b) \
  static_cast<__mmask16>(emulated::compare((emulated::Int32)(a), (emulated::Int32)(b), emulated::less))
#define _mm512_cmplt_epi64_mask(a, b) \
  static_cast<__mmask8>(emulated::compare((emulated::Int64)(a), (emulated::Int64)(b), emulated::less))
#define _mm512_fmadd_pd(a, b, c) emulated::fma<__m512d>(a, b, c)
#define _mm512_fmadd_ps(a, b, c) emulated::fma<__m512>(a, b, c)
#define _mm512_mask_blend_epi32(m, a, b) (__m512i) emulated::blend(m, (emulated::Int32)(a), (emulated::Int32)(b))
#define _mm512_mask_blend_epi64(m, a, b) (__m512i) emulated::blend(m, (emulated::Int64)(a), (emulated::Int64)(b))
#define _mm512_mask_blend_pd(m, a, b) emulated::blend<__m512d>(m, a, b)
#define _mm512_mask_blend_ps(m, a, b) emulated::blend<__m512>(m, a, b)
#define _mm512_mask_storeu_pd(p, m, x) emulated::store<__m512d>(p, m, x)
#define _mm512_mask_storeu_ps(p, m, x) emulated::store<__m512>(p, m, x)
#define _mm512_maskz_loadu_pd(m, p) emulated::load<__m512d>(m, p)
#define _mm512_maskz_loadu_ps(m, p) emulated::load<__m512>(m, p)
#define _mm512_max_pd(a, b) emulated::max<__m512d>(a, b)
#define _mm512_max_ps(a, b) emulated::max<__m512>(a, b)
#define _mm512_min_pd(a, b) emulated::min<__m512d>(a, b)
#define _mm512_min_ps(a, b) emulated::min<__m512>(a, b)
#define _mm512_mul_epu32(a, b) \
  (__m512i)(((emulated::Unsigned64)(a) & 0xFFFFFFFF) * ((emulated::Unsigned64)(b) & 0xFFFFFFFF))
#define _mm512_sqrt_pd(x) emulated::sqrt<__m512d>(x)
#define _mm512_sqrt_ps(x) emulated::sqrt<__m512>(x)
#define _mm512_stream_pd(p, x) emulated::stream<__m512d>(p, x)
#define _mm512_stream_ps(p, x) emulated::stream<__m512>(p, x)

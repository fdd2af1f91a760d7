// Losses of pairs of rows by the cosine of the angle between them, with the gradients of both.
//
// c = a·b / √((a·a + 1e-12)(b·b + 1e-12)); losses[i] = s_i (1 − c) where t_i = 1, s_i max(0, c − margin) where t_i =
// −1, else 0. da = g (b/√(…) − c a/(a·a + 1e-12)) with g = s_i / *denominator times −1, 1 or 0, and db likewise. Args:
// p = {a, b, target, sample_weight, denominator, losses, da, db}, where sample_weight, da and db may be null; n =
// {rows, cols}; c = {margin}. Sums follow the last-axis rule.
#pragma once

#include "softmax.h"

namespace {
using namespace fastbp;

template <class T>
FASTBP_INLINE T root_of(T x) {
  return first_lane<T>(sqrt(set1<T>(x)));
}

template <class T>
void cosine_embedding_forward(const Args& args, int64_t begin, int64_t end, Scratch) {
  const int64_t cols = args.n[1];
  const T *target = static_cast<const T*>(args.p[2]), *sample_weight = static_cast<const T*>(args.p[3]);
  const T denominator = *static_cast<const T*>(args.p[4]), margin = static_cast<T>(args.c[0]), least = T(1e-12);
  for (int64_t row = begin; row < end; ++row) {
    const T *a = static_cast<const T*>(args.p[0]) + row * cols, *b = static_cast<const T*>(args.p[1]) + row * cols;
    const auto step = [=](vec<T>(&acc)[3], int64_t j, int64_t n) __attribute__((always_inline)) {
      const vec<T> x = load_some(a + j, n), y = load_some(b + j, n);
      acc[0] = fma(x, y, acc[0]);
      acc[1] = fma(x, x, acc[1]);
      acc[2] = fma(y, y, acc[2]);
    };
    const Sums<T, 3> sums = row_sums<T, 3>(cols, step);
    const T square_a = sums.total[1] + least, square_b = sums.total[2] + least;
    const T size = root_of(square_a) * root_of(square_b), cosine = sums.total[0] / size, excess = cosine - margin;
    const T weight = sample_weight ? sample_weight[row] : T(1);
    T loss = 0, slope = 0;
    if (target[row] == 1) {
      loss = 1 - cosine;
      slope = -1;
    } else if (target[row] == -1 && !(excess < 0)) {
      loss = excess;
      slope = 1;
    }
    static_cast<T*>(args.p[5])[row] = weight * loss;
    const T g = weight / denominator * slope, across = g / size;
    const auto gradient = [=](void* to, const T* own, const T* other, T square) __attribute__((always_inline)) {
      if (!to) return;
      const T along = g * cosine / square;
      map_values(static_cast<T*>(to) + row * cols, cols, false,
                 [=](int64_t j, int64_t n) __attribute__((always_inline)) {
                   return fma(set1<T>(across), load_some(other + j, n), -(set1<T>(along) * load_some(own + j, n)));
                 });
    };
    gradient(args.p[6], a, b, square_a);
    gradient(args.p[7], b, a, square_b);
  }
}

}  // namespace

// Negative log-likelihood of classes, from log-probabilities (rows, cols), with its gradient.
//
// With class weights c (1 where absent) and sample weights s, losses[i] = −s_i c_t x_it; the gradient is −s_i c_t /
// *denominator at the class t, 0 elsewhere. An ignored row gives 0; a label out of range NaN, and nothing is read.
// Args: p = {x, target, class_weight, sample_weight, denominator, losses, dx}, where both weights and dx may be null;
// n = {rows, cols, ignore_index}.
#pragma once

#include "softmax.h"

namespace {
using namespace fastbp;

template <class T>
void nll_forward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const int64_t cols = a.n[1], ignore_index = a.n[2], *labels = static_cast<const int64_t*>(a.p[1]);
  const T *class_weight = static_cast<const T*>(a.p[2]), *sample_weight = static_cast<const T*>(a.p[3]);
  const T denominator = *static_cast<const T*>(a.p[4]);
  T *losses = static_cast<T*>(a.p[5]), *dx = static_cast<T*>(a.p[6]);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t label = labels[row];
    const bool known = label >= 0 && label < cols;
    T weight = sample_weight ? sample_weight[row] : T(1), loss = 0;
    if (label != ignore_index) {
      if (class_weight && known) weight *= class_weight[label];
      loss = known ? -(weight * static_cast<const T*>(a.p[0])[row * cols + label]) : static_cast<T>(__builtin_nan(""));
    }
    losses[row] = loss;
    if (!dx) continue;
    T* slope = dx + row * cols;  // which may be the row of x itself
    __builtin_memset(slope, 0, cols * sizeof(T));
    if (label != ignore_index && known) slope[label] = -(weight / denominator);
  }
}

}  // namespace

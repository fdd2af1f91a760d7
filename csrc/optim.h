// Optimizer steps and gradient clipping: many tensors in one region, each read and written once.
//
// Args: operands in the catalogue's order, lists as copy.h describes them (null for an empty one);
// n = {elements of all tensors, tensors}.
//   <name>_step        p = {hyper, grads, states..., params}; sgd_step also n[2] = nesterov
//   <name>_advance     p = {hyper}
//   gradient_norm      p = {grads, y};  clip_coefficient p = {norm, y}, c = {max_norm}
//   scale_gradients    p = {coefficient, grads}
// hyper is double: {step count from 1, lr, weight_decay, ...}, see each step. Its values, and what is made of them in
// double, are rounded to T once; the equations are evaluated in T as they are written, without fused operations.
#pragma once

#include "copy.h"
#include "sum.h"

namespace {

// Calls segment(tensor, first element, length) for the parts of a list's tensors that [begin, end) covers.
template <class Segment>
FASTBP_INLINE void for_each_segment(const Args& a, int64_t begin, int64_t end, Segment segment) {
  const int64_t* offsets = list_offsets(a);
  for (int64_t t = tensor_at(offsets, a.n[1], begin); begin < end; ++t) {
    const int64_t past = smaller(offsets[t + 1], end);
    if (past > begin) segment(t, begin - offsets[t], past - begin);
    begin = past > begin ? past : begin;
  }
}

// Runs a step over the elements of `Step::operands` lists: the gradients, which it reads, and those that it updates.
template <class T, class Step>
FASTBP_INLINE void update(const Args& a, void* const (&lists)[Step::operands], int64_t begin, int64_t end, Step step) {
  constexpr int operands = Step::operands;
  for_each_segment(a, begin, end, [&](int64_t t, int64_t first, int64_t n) {
    T* p[operands];
    for (int k = 0; k < operands; ++k) p[k] = static_cast<T* const*>(lists[k])[t] + first;
    vec<T> v[operands];
    int64_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) {
      for (int k = 0; k < operands; ++k) v[k] = load(p[k] + i);
      step(v);
      for (int k = 1; k < operands; ++k) store(p[k] + i, v[k]);
    }
    if (i == n) return;
    for (int k = 0; k < operands; ++k) v[k] = load_n(p[k] + i, n - i);
    step(v);
    for (int k = 1; k < operands; ++k) store_n(p[k] + i, v[k], n - i);
  });
}

// A weight decay of 0 leaves the gradient alone, even where the parameter is infinite.
template <class T> struct Decay {
  bool used;
  T weight;
  explicit Decay(double weight_decay) : used(weight_decay != 0), weight(static_cast<T>(weight_decay)) {}
  FASTBP_INLINE vec<T> operator()(vec<T> g, vec<T> param) const { return used ? g + param * set1<T>(weight) : g; }
};

// Moves from a towards b by a share w: from the nearer end, so that w = 1 gives b.
template <class T> struct Lerp {
  bool near;
  T share;
  explicit Lerp(double w) : near(w < 0.5), share(near ? static_cast<T>(w) : -(T(1) - static_cast<T>(w))) {}
  FASTBP_INLINE vec<T> operator()(vec<T> a, vec<T> b) const { return (near ? a : b) + (b - a) * set1<T>(share); }
};

// hyper = {step, lr, weight_decay, momentum, dampening}
//   g += weight_decay · param;  velocity = momentum · velocity + (1 − dampening) g, on step 1 g
//   param −= lr · (nesterov ? g + momentum · velocity : velocity)
template <class T, bool has_momentum> struct Sgd {
  static constexpr int operands = has_momentum ? 3 : 2;
  Decay<T> decay;
  T minus_lr, momentum, share;
  bool first, nesterov;

  FASTBP_INLINE void operator()(vec<T>* v) const {
    vec<T>& param = v[operands - 1];
    vec<T> g = decay(v[0], param);
    if constexpr (has_momentum) {
      v[1] = first ? g : v[1] * set1<T>(momentum) + g * set1<T>(share);
      g = nesterov ? g + v[1] * set1<T>(momentum) : v[1];
    }
    param = param + g * set1<T>(minus_lr);
  }
};

template <class T> void sgd_step(const Args& a, int64_t begin, int64_t end, Scratch) {
  const double* h = static_cast<const double*>(a.p[0]);
  const Decay<T> decay(h[2]);
  const T minus_lr = static_cast<T>(-h[1]), momentum = static_cast<T>(h[3]), share = static_cast<T>(1 - h[4]);
  if (a.p[2] && h[3] != 0) {
    const Sgd<T, true> step{decay, minus_lr, momentum, share, h[0] <= 1, a.n[2] != 0};
    update<T>(a, {a.p[1], a.p[2], a.p[3]}, begin, end, step);
  } else {
    const Sgd<T, false> step{decay, minus_lr, momentum, share, false, false};
    update<T>(a, {a.p[1], a.p[3]}, begin, end, step);
  }
}

// hyper = {step, lr, weight_decay, alpha, eps, momentum}
//   g += weight_decay · param;  square = alpha · square + (1 − alpha) g²;  mean = lerp(mean, g, 1 − alpha) if centered
//   denom = √(square − mean²) + eps;  velocity = momentum · velocity + g / denom;  param −= lr · velocity
template <class T, bool centered, bool has_momentum> struct RmsProp {
  static constexpr int operands = 3 + centered + has_momentum;
  Decay<T> decay;
  Lerp<T> lerp;
  T minus_lr, alpha, share, eps, momentum;

  FASTBP_INLINE void operator()(vec<T>* v) const {
    vec<T>& param = v[operands - 1];
    const vec<T> g = decay(v[0], param);
    v[1] = v[1] * set1<T>(alpha) + (g * set1<T>(share)) * g;
    vec<T> variance = v[1];
    if constexpr (centered) {
      v[2] = lerp(v[2], g);
      variance = variance - v[2] * v[2];
    }
    const vec<T> denom = sqrt(variance) + set1<T>(eps);
    if constexpr (has_momentum) {
      vec<T>& velocity = v[operands - 2];
      velocity = velocity * set1<T>(momentum) + g / denom;
      param = param + velocity * set1<T>(minus_lr);
    } else {
      param = param + (g * set1<T>(minus_lr)) / denom;
    }
  }
};

template <class T, bool centered, bool has_momentum> RmsProp<T, centered, has_momentum> rmsprop(const double* h) {
  return {Decay<T>(h[2]),           Lerp<T>(1 - h[3]),    static_cast<T>(-h[1]), static_cast<T>(h[3]),
          static_cast<T>(1 - h[3]), static_cast<T>(h[4]), static_cast<T>(h[5])};
}

template <class T> void rmsprop_step(const Args& a, int64_t begin, int64_t end, Scratch) {
  const double* h = static_cast<const double*>(a.p[0]);
  void *grads = a.p[1], *squares = a.p[2], *means = a.p[3], *velocities = a.p[4], *params = a.p[5];
  if (!(h[5] > 0)) velocities = nullptr;
  if (means && velocities)
    update<T>(a, {grads, squares, means, velocities, params}, begin, end, rmsprop<T, true, true>(h));
  else if (means) update<T>(a, {grads, squares, means, params}, begin, end, rmsprop<T, true, false>(h));
  else if (velocities) update<T>(a, {grads, squares, velocities, params}, begin, end, rmsprop<T, false, true>(h));
  else update<T>(a, {grads, squares, params}, begin, end, rmsprop<T, false, false>(h));
}

// hyper = {step, lr, weight_decay, lr_decay, eps}
//   g += weight_decay · param;  sum += g²;  param −= lr / (1 + (step − 1) lr_decay) · g / (√sum + eps)
template <class T> struct Adagrad {
  static constexpr int operands = 3;
  Decay<T> decay;
  T minus_lr, eps;

  FASTBP_INLINE void operator()(vec<T>* v) const {
    const vec<T> g = decay(v[0], v[2]);
    v[1] = v[1] + g * g;
    v[2] = v[2] + (g * set1<T>(minus_lr)) / (sqrt(v[1]) + set1<T>(eps));
  }
};

template <class T> void adagrad_step(const Args& a, int64_t begin, int64_t end, Scratch) {
  const double* h = static_cast<const double*>(a.p[0]);
  const Adagrad<T> step{Decay<T>(h[2]), static_cast<T>(-(h[1] / (1 + (h[0] - 1) * h[3]))), static_cast<T>(h[4])};
  update<T>(a, {a.p[1], a.p[2], a.p[3]}, begin, end, step);
}

// hyper = {step, lr, weight_decay, beta1, beta2, eps, beta1^step, beta2^step}
//   adam g += weight_decay · param, adamw param *= 1 − lr · weight_decay
//   m = lerp(m, g, 1 − beta1);  v = beta2 · v + (1 − beta2) g²;  with amsgrad u = max(u, v), else u is v
//   param −= lr / (1 − beta1^step) · m / (√u · (1 / √(1 − beta2^step)) + eps)
template <class T, bool decoupled, bool amsgrad> struct Adam {
  static constexpr int operands = 4 + amsgrad;
  Decay<T> decay;
  Lerp<T> lerp;
  T shrink, beta2, share, inverse_root, eps, minus_step;

  FASTBP_INLINE void operator()(vec<T>* v) const {
    vec<T>& param = v[operands - 1];
    vec<T> g = v[0];
    if constexpr (decoupled) param = decay.used ? param * set1<T>(shrink) : param;
    else g = decay(g, param);
    v[1] = lerp(v[1], g);
    v[2] = v[2] * set1<T>(beta2) + (g * set1<T>(share)) * g;
    vec<T> bound = v[2];
    if constexpr (amsgrad) bound = v[3] = Maximum::apply<T>(v[3], v[2]);
    const vec<T> denom = sqrt(bound) * set1<T>(inverse_root) + set1<T>(eps);
    param = param + (v[1] * set1<T>(minus_step)) / denom;
  }
};

template <class T, bool decoupled, bool amsgrad> Adam<T, decoupled, amsgrad> adam(const double* h) {
  return {Decay<T>(h[2]),
          Lerp<T>(1 - h[3]),
          static_cast<T>(1 - h[1] * h[2]),
          static_cast<T>(h[4]),
          static_cast<T>(1 - h[4]),
          static_cast<T>(1 / __builtin_sqrt(1 - h[7])),
          static_cast<T>(h[5]),
          static_cast<T>(-(h[1] / (1 - h[6])))};
}

template <class T, bool decoupled> void adam_step(const Args& a, int64_t begin, int64_t end, Scratch) {
  const double* h = static_cast<const double*>(a.p[0]);
  if (a.p[4]) update<T>(a, {a.p[1], a.p[2], a.p[3], a.p[4], a.p[5]}, begin, end, adam<T, decoupled, true>(h));
  else update<T>(a, {a.p[1], a.p[2], a.p[3], a.p[5]}, begin, end, adam<T, decoupled, false>(h));
}

inline void optimizer_advance(const Args& a, int64_t, int64_t, Scratch) { static_cast<double*>(a.p[0])[0] += 1; }

inline void adam_advance(const Args& a, int64_t, int64_t, Scratch) {
  double* h = static_cast<double*>(a.p[0]);
  h[0] += 1;
  h[6] *= h[3];
  h[7] *= h[4];
}

// gradient_norm: the square root of the sum over tensors of each one's flat sum of squares. The first phase sums the
// runs of 512 that start in its range. The runs of tensor t lie from offsets[t] / 512 + t on: room for all of them.
inline int64_t first_run(const int64_t* offsets, int64_t t) { return offsets[t] / kChunk + t; }

template <class T> void square_runs(const Args& a, int64_t begin, int64_t end, Scratch s) {
  const int64_t* offsets = list_offsets(a);
  T* runs = static_cast<T*>(s.shared);
  for_each_segment(a, begin, end, [&](int64_t t, int64_t first, int64_t n) {
    const T* x = static_cast<const T* const*>(a.p[0])[t];
    const int64_t size = offsets[t + 1] - offsets[t];
    const auto step = [=](vec<T>(&acc)[1], int64_t i, int64_t k) __attribute__((always_inline)) {
      const vec<T> g = load_some(x + i, k);
      acc[0] = acc[0] + g * g;
    };
    for (int64_t run = chunks_of(first); run * kChunk < first + n; ++run)
      runs[first_run(offsets, t) + run] = sum_run<T, 1>(run * kChunk, smaller(size, (run + 1) * kChunk), step).total[0];
  });
}

template <class T> void norm_of_runs(const Args& a, int64_t, int64_t, Scratch s) {
  const int64_t* offsets = list_offsets(a);
  const T* runs = static_cast<const T*>(s.shared);
  T sum = 0;
  for (int64_t t = 0; t < a.n[1]; ++t)
    if (const int64_t size = offsets[t + 1] - offsets[t])
      sum += merge_runs(runs + first_run(offsets, t), chunks_of(size));
  *static_cast<T*>(a.p[1]) = static_cast<T>(__builtin_sqrt(static_cast<double>(sum)));  // exact to the last place
}

template <class T> int64_t run_bytes(const Args& a) {
  return (first_run(list_offsets(a), a.n[1]) + 1) * static_cast<int64_t>(sizeof(T));
}

// min(1, max_norm / (norm + 1e-6)); NaN stays NaN
template <class T> void clip_coefficient(const Args& a, int64_t, int64_t, Scratch) {
  const T coefficient = static_cast<T>(a.c[0]) / (*static_cast<const T*>(a.p[0]) + T(1e-6));
  *static_cast<T*>(a.p[1]) = coefficient > 1 ? T(1) : coefficient;
}

template <class T> void scale_gradients(const Args& a, int64_t begin, int64_t end, Scratch) {
  const T coefficient = *static_cast<const T*>(a.p[0]);
  if (coefficient == 1) return;  // clipping that does not clip costs no pass over memory
  for_each_segment(a, begin, end, [&](int64_t t, int64_t first, int64_t n) {
    T* g = static_cast<T* const*>(a.p[1])[t] + first;
    for (int64_t i = 0; i < n; ++i) g[i] = g[i] * coefficient;
  });
}

template <class T> constexpr Kernel scale_kernel() {
  return {{{scale_gradients<T>, flat_count, kFlatGrain}},
          [](const Args& a) { return *static_cast<const T*>(a.p[0]) == 1 ? 0 : unary_work<Cheap>(a); }};
}

template <class T> constexpr Kernel norm_kernel() {
  return {
      {{square_runs<T>, flat_count, kFlatGrain}, {norm_of_runs<T>, count_of_one, 1}}, unary_work<Cheap>, run_bytes<T>};
}

constexpr Entry step_entry(const char* name, int constants, Kernel float32, Kernel float64) {
  return {name, Family::kOptimizer, constants, {float32, float64}};
}

// Square roots and divisions count as a dozen operations each.
constexpr Entry kOptimEntries[] = {
    step_entry("sgd_step", 1, flat_kernel(sgd_step<float>), flat_kernel(sgd_step<double>)),
    step_entry("rmsprop_step", 0, costly_kernel<32>(rmsprop_step<float>), costly_kernel<32>(rmsprop_step<double>)),
    step_entry("adagrad_step", 0, costly_kernel<32>(adagrad_step<float>), costly_kernel<32>(adagrad_step<double>)),
    step_entry("adam_step", 0, costly_kernel<32>(adam_step<float, false>), costly_kernel<32>(adam_step<double, false>)),
    step_entry("adamw_step", 0, costly_kernel<32>(adam_step<float, true>), costly_kernel<32>(adam_step<double, true>)),
    single_entry("optimizer_advance", 0, {}, lone_kernel(optimizer_advance)),
    single_entry("adam_advance", 0, {}, lone_kernel(adam_advance)),
    single_entry("gradient_norm", 0, norm_kernel<float>(), norm_kernel<double>()),
    single_entry("clip_coefficient", 1, lone_kernel(clip_coefficient<float>), lone_kernel(clip_coefficient<double>)),
    single_entry("scale_gradients", 0, scale_kernel<float>(), scale_kernel<double>()),
};

}  // namespace

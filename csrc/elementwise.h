// Unary element-wise kernels: y = f(x) and dx = dy · f'(s).
//
// Args: p = {x, y} or {dy, s, dx}; n = {count}; c = the op's by-value constants. s is what the op saves for its
// derivative: y where y determines it, else x. A functor gives `forward` and `backward` on vectors; tails use the
// same functor. To add an op, write its functor and append it to `Unaries` at the end of this file.
#pragma once

#include "map.h"
#include "vmath.h"

namespace {
using namespace fastbp;

// Costs are operations per element, about, with memory traffic counted in: 8 where traffic dominates.
struct Cheap {
  static constexpr int constants = 0;
  static constexpr int cost = 8;
};
struct Costly {
  static constexpr int constants = 0;
  static constexpr int cost = 48;
};

struct Neg : Cheap {
  static constexpr const char* name = "neg";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return -x; }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T>, const double*) { return -dy; }
};

struct Exp : Costly {
  static constexpr const char* name = "exp";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return vexp(x); }
  template <class T, int N> static FASTBP_INLINE void forward_all(vec<T> (&x)[N], const double*) { vexp(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> y, const double*) { return dy * y; }
};

struct Log : Costly {
  static constexpr const char* name = "log";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return vlog(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double*) { return dy / x; }
};

struct Log1p : Costly {
  static constexpr const char* name = "log1p";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return vlog1p(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double*) {
    return dy / (x + set1<T>(1));
  }
};

struct Expm1 : Costly {
  static constexpr const char* name = "expm1";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return vexpm1(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> y, const double*) {
    return dy * (y + set1<T>(1));
  }
};

struct Sqrt : Cheap {
  static constexpr const char* name = "sqrt";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return sqrt(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> y, const double*) { return dy / (y + y); }
};

struct Square : Cheap {
  static constexpr const char* name = "square";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return x * x; }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double*) {
    const vec<T> product = dy * x;
    return product + product;
  }
};

struct Abs : Cheap {
  static constexpr const char* name = "abs";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return abs(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double*) {
    const vec<T> sign = select(eq(x, zero<T>()), zero<T>(), copysign(set1<T>(1), x));
    return dy * select(eq(x, x), sign, x);
  }
};

struct Sin : Costly {
  static constexpr const char* name = "sin";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return vsin(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double*) { return dy * vcos(x); }
};

struct Cos : Costly {
  static constexpr const char* name = "cos";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return vcos(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double*) {
    return -(dy * vsin(x));
  }
};

struct Sine : Costly {
  static constexpr const char* name = "sine";
  static constexpr int constants = 1;
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double* c) {
    return vsin(x * set1<T>(T(c[0])));
  }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double* c) {
    const vec<T> omega = set1<T>(T(c[0]));
    return dy * (omega * vcos(x * omega));
  }
};

struct Clamp : Cheap {
  static constexpr const char* name = "clamp";
  static constexpr int constants = 2;
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double* c) {
    vec<T> low = set1<T>(T(c[0])), high = set1<T>(T(c[1]));
    vec<T> above = select(lt(x, low), low, x);  // NaN compares false and stays
    return select(lt(high, above), high, above);
  }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double* c) {
    vec<T> low = set1<T>(T(c[0])), high = set1<T>(T(c[1]));
    return select(m_and(le(low, x), le(x, high)), dy, zero<T>());
  }
};

struct Reciprocal : Cheap {
  static constexpr const char* name = "reciprocal";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return set1<T>(1) / x; }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> y, const double*) { return -(dy * y) * y; }
};

struct Erf : Costly {
  static constexpr const char* name = "erf";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return verf(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double*) {
    return dy * verf_grad(x);
  }
};

struct Tanh : Costly {
  static constexpr const char* name = "tanh";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return vtanh(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> y, const double*) {
    return dy * fma(-y, y, set1<T>(1));
  }
};

struct Sigmoid : Costly {
  static constexpr const char* name = "sigmoid";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return vsigmoid(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> y, const double*) {
    return dy * (y * (set1<T>(1) - y));
  }
};

struct Relu : Cheap {
  static constexpr const char* name = "relu";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) {
    return select(le(x, zero<T>()), zero<T>(), x);
  }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> y, const double*) {
    return select(le(y, zero<T>()), zero<T>(), dy);
  }
};

struct LeakyRelu : Cheap {
  static constexpr const char* name = "leaky_relu";
  static constexpr int constants = 1;
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double* c) {
    return select(lt(zero<T>(), x), x, x * set1<T>(T(c[0])));
  }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double* c) {
    return select(lt(zero<T>(), x), dy, dy * set1<T>(T(c[0])));
  }
};

struct Elu : Costly {
  static constexpr const char* name = "elu";
  static constexpr int constants = 1;
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double* c) {
    return select(lt(zero<T>(), x), x, set1<T>(T(c[0])) * vexpm1(x));
  }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> y, const double* c) {
    return select(lt(zero<T>(), y), dy, dy * (y + set1<T>(T(c[0]))));
  }
};

struct Gelu : Costly {
  static constexpr const char* name = "gelu";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return vgelu(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double*) {
    return dy * vgelu_grad(x);
  }
};

struct GeluTanh : Costly {
  static constexpr const char* name = "gelu_tanh";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return vgelu_tanh(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double*) {
    return dy * vgelu_tanh_grad(x);
  }
};

struct Silu : Costly {
  static constexpr const char* name = "silu";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return vsilu(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double*) {
    return dy * vsilu_grad(x);
  }
};

struct Softplus : Costly {
  static constexpr const char* name = "softplus";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return vsoftplus(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> y, const double*) {
    return dy * -vexpm1(-y);  // σ(x) = 1 − e^−y
  }
};

struct Mish : Costly {
  static constexpr const char* name = "mish";
  template <class T> static FASTBP_INLINE vec<T> forward(vec<T> x, const double*) { return vmish(x); }
  template <class T> static FASTBP_INLINE vec<T> backward(vec<T> dy, vec<T> x, const double*) {
    return dy * vmish_grad(x);
  }
};

// Inner loops over contiguous memory, shared with the epilogues of matrix products.
template <class T> using UnaryLoop = void (*)(const T* x, T* y, int64_t n, const double* c);
template <class T> using UnaryBackwardLoop = void (*)(const T* dy, const T* s, T* dx, int64_t n, const double* c);

// In double an expensive function is long enough to fill the loop alone.
template <class Op, class T> constexpr int kAtOnce = sizeof(T) == 8 && Op::cost > Cheap::cost ? 1 : 4;

// Past the caches, what takes long to compute asks for its input a good while ahead: the processor looks ahead by a
// number of instructions, not of bytes.
constexpr int64_t kAheadBytes = 1024;

template <class Op, class T>
FASTBP_MIXED void unary_values(const T* x, T* y, int64_t n, const double* c, bool streamed) {
  const auto values = [=]<int N>(vec<T>(&v)[N], int64_t i, int64_t k) __attribute__((always_inline)) {
    if (Op::cost > Cheap::cost && streamed) prefetch(x + i + kAheadBytes / sizeof(T), N * lanes<T>);
    for (int j = 0; j < N; ++j) v[j] = load_some(x + i + j * lanes<T>, k);
    if constexpr (requires { Op::template forward_all<T>(v, c); }) Op::template forward_all<T>(v, c);
    else
      for (vec<T>& each : v) each = Op::template forward<T>(each, c);
  };
  map_groups<T, kAtOnce<Op, T>>(y, n, streamed, values);
}

template <class Op, class T>
FASTBP_MIXED void unary_backward_values(const T* dy, const T* s, T* dx, int64_t n, const double* c, bool streamed) {
  map_values<T, kAtOnce<Op, T>>(dx, n, streamed, [=](int64_t i, int64_t k) __attribute__((always_inline)) {
    return Op::template backward<T>(load_some(dy + i, k), load_some(s + i, k), c);
  });
}

template <class Op, class T> void unary_loop(const T* x, T* y, int64_t n, const double* c) {
  unary_values<Op, T>(x, y, n, c, false);
}

template <class Op, class T> void unary_backward_loop(const T* dy, const T* s, T* dx, int64_t n, const double* c) {
  unary_backward_values<Op, T>(dy, s, dx, n, c, false);
}

template <class Op, class T> void unary_forward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const T* x = static_cast<const T*>(a.p[0]) + begin;
  T* y = static_cast<T*>(a.p[1]) + begin;
  const Streaming streaming(y, 0, 2, a.n[0], y != x);
  unary_values<Op, T>(x, y, end - begin, a.c, streaming.on);
}

template <class Op, class T> void unary_backward(const Args& a, int64_t begin, int64_t end, Scratch) {
  const T *dy = static_cast<const T*>(a.p[0]) + begin, *s = static_cast<const T*>(a.p[1]) + begin;
  T* dx = static_cast<T*>(a.p[2]) + begin;
  const Streaming streaming(dx, 0, 3, a.n[0], dx != dy && dx != s);
  unary_backward_values<Op, T>(dy, s, dx, end - begin, a.c, streaming.on);
}

constexpr int64_t kFlatGrain = 1024;  // whole cache lines for every type, and a share worth a thread

inline int64_t flat_count(const Args& a) { return a.n[0]; }
template <class Op> int64_t unary_work(const Args& a) { return a.n[0] * Op::cost; }

template <class Op> constexpr Entry unary_entry(Family family, RangeFn f32, RangeFn f64) {
  return {Op::name,
          family,
          Op::constants,
          {{{{f32, flat_count, kFlatGrain}}, unary_work<Op>}, {{{f64, flat_count, kFlatGrain}}, unary_work<Op>}}};
}

template <class... Ops> struct UnaryList {
  static constexpr int count = sizeof...(Ops);
  static constexpr Entry forward[] = {
      unary_entry<Ops>(Family::kUnary, unary_forward<Ops, float>, unary_forward<Ops, double>)...};
  static constexpr Entry backward[] = {
      unary_entry<Ops>(Family::kUnaryBackward, unary_backward<Ops, float>, unary_backward<Ops, double>)...};
  template <class T> static constexpr UnaryLoop<T> loops[] = {unary_loop<Ops, T>...};
  template <class T> static constexpr UnaryBackwardLoop<T> backward_loops[] = {unary_backward_loop<Ops, T>...};
};

using Unaries = UnaryList<Neg, Exp, Log, Log1p, Expm1, Sqrt, Square, Abs, Sin, Cos, Sine, Clamp, Reciprocal, Erf, Tanh,
                          Sigmoid, Relu, LeakyRelu, Elu, Gelu, GeluTanh, Silu, Softplus, Mish>;

// An activation in a matrix product's epilogue is its position in `Unaries`.
template <class T> UnaryLoop<T> unary_loop_at(int64_t index) { return Unaries::loops<T>[index]; }
template <class T> UnaryBackwardLoop<T> unary_backward_loop_at(int64_t index) {
  return Unaries::backward_loops<T>[index];
}

}  // namespace

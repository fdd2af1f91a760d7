// Bindings of reductions and softmax.
#include "bind.h"

namespace fastbp {
namespace {

// ---------------------------------------------------------------- reductions

void set_reduction(const std::string& op, Args& a, const Buffer& x, Buffer& y, DType result) {
  require_dims(op, "x", x, 3, "(outer, r, inner)");
  a.p[0] = input(op, "x", x, x.dtype);
  a.p[1] = output(op, "y", y, result, {x.shape[0], x.shape[2]});
  require_apart(op, y, x);
  for (int d = 0; d < 3; ++d) a.n[d] = x.shape[d];
}

void require_terms(const std::string& op, const Buffer& x) {
  if (x.ndim == 3 && x.shape[1] == 0 && x.shape[0] && x.shape[2])
    fail_value(op, "expected at least one element to reduce, got shape " + shape_text(x));
}

void bind_reduce(nb::module_& m, Place place) {
  const std::string op = place.entry().name;
  const bool needs_terms = op == "reduce_max" || op == "reduce_min";
  if (place.entry().constants) {
    m.def(op.c_str(), [op, place](const Buffer& x, int64_t correction, Buffer& y) {
      Args a{};
      set_reduction(op, a, x, y, x.dtype);
      a.n[3] = correction;
      call(kernel_for(op, place.entry(), x.dtype), a);
    });
  } else {
    m.def(op.c_str(), [op, place, needs_terms](const Buffer& x, Buffer& y) {
      if (needs_terms) require_terms(op, x);
      Args a{};
      set_reduction(op, a, x, y, x.dtype);
      call(kernel_for(op, place.entry(), x.dtype), a);
    });
  }
}

void bind_arg_reduce(nb::module_& m, Place place) {
  const std::string op = place.entry().name;
  m.def(op.c_str(), [op, place](const Buffer& x, Buffer& y) {
    require_terms(op, x);
    Args a{};
    set_reduction(op, a, x, y, kInt64);
    call(kernel_for(op, place.entry(), x.dtype), a);
  });
}

// ---------------------------------------------------------------- softmax

void bind_softmax(nb::module_& m, Place place) {
  const std::string op = place.entry().name;
  if (place.entry().family == Family::kRows) {
    m.def(op.c_str(), [op, place](const Buffer& x, Buffer& y) {
      require_dims(op, "x", x, 2, "(rows, cols)");
      require_same_shape(op, "y", y, "x", x);
      Args a{};
      a.p[0] = input(op, "x", x, x.dtype);
      a.p[1] = output(op, "y", y, x.dtype);
      require_apart(op, y, x, true);
      a.n[0] = x.shape[0];
      a.n[1] = x.shape[1];
      call(kernel_for(op, place.entry(), x.dtype), a);
    });
  } else {
    m.def(op.c_str(), [op, place](const Buffer& dy, const Buffer& y, Buffer& dx) {
      require_dims(op, "dy", dy, 2, "(rows, cols)");
      require_same_shape(op, "y", y, "dy", dy);
      require_same_shape(op, "dx", dx, "dy", dy);
      Args a{};
      a.p[0] = input(op, "dy", dy, dy.dtype);
      a.p[1] = input(op, "y", y, dy.dtype);
      a.p[2] = output(op, "dx", dx, dy.dtype);
      require_apart(op, dx, dy, true);
      require_apart(op, dx, y, true);
      a.n[0] = dy.shape[0];
      a.n[1] = dy.shape[1];
      call(kernel_for(op, place.entry(), dy.dtype), a);
    });
  }
}

}  // namespace

void bind_rows(nb::module_& m) {
  const KernelTable* table = active_table();
  for (int list = 0; list < table->count; ++list)
    for (int index = 0; index < table->lists[list].count; ++index) {
      const Place place{list, index};
      switch (place.entry().family) {
        case Family::kReduce:
          bind_reduce(m, place);
          break;
        case Family::kArgReduce:
          bind_arg_reduce(m, place);
          break;
        case Family::kRows:
        case Family::kRowsBackward:
          bind_softmax(m, place);
          break;
        default:
          break;
      }
    }
}

}  // namespace fastbp

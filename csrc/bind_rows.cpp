// Bindings of reductions, softmax and losses.
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

// ---------------------------------------------------------------- losses

// p[0..6] and n[0..1], which all losses share: x and its target, a weight for the columns, one for the rows,
// denominator, losses, dx. dx may take the place of x, whose elements are all read before theirs are written.
void set_loss(const std::string& op, Args& a, const Buffer& x, const Buffer& target, DType target_dtype,
              const char* column_name, const Buffer* column_weight, const Buffer* sample_weight,
              const Buffer& denominator, Buffer& losses, Buffer* dx) {
  const int64_t rows = x.shape[0], cols = x.shape[1];
  a.p[0] = input(op, "x", x, x.dtype);
  a.p[1] = input(op, "target", target, target_dtype);
  if (column_weight) a.p[2] = input(op, column_name, *column_weight, x.dtype, {cols});
  if (sample_weight) a.p[3] = input(op, "sample_weight", *sample_weight, x.dtype, {rows});
  if (denominator.size != 1) fail_value(op, "expected denominator of one element, got " + shape_text(denominator));
  a.p[4] = input(op, "denominator", denominator, x.dtype);
  a.p[5] = output(op, "losses", losses, x.dtype, {rows});
  require_apart(op, losses, x);
  if (dx) {
    a.p[6] = output(op, "dx", *dx, x.dtype, {rows, cols});
    require_apart(op, *dx, x, true);
    require_apart(op, *dx, losses);
  }
  for (const Buffer* in : {&target, column_weight, sample_weight, &denominator}) {
    if (!in) continue;
    require_apart(op, losses, *in);
    if (dx) require_apart(op, *dx, *in);
  }
  a.n[0] = rows;
  a.n[1] = cols;
}

void bind_element_loss(nb::module_& m, Place place) {
  const std::string op = place.entry().name;
  m.def(
      op.c_str(),
      [op, place](const Buffer& x, const Buffer& target, const Buffer* pos_weight, const Buffer* sample_weight,
                  const Buffer& denominator, Buffer& losses, Buffer* dx) {
        require_dims(op, "x", x, 2, "(rows, cols)");
        require_same_shape(op, "target", target, "x", x);
        Args a{};
        set_loss(op, a, x, target, x.dtype, "pos_weight", pos_weight, sample_weight, denominator, losses, dx);
        call(kernel_for(op, place.entry(), x.dtype), a);
      },
      nb::arg("x"), nb::arg("target"), nb::arg("pos_weight").none(), nb::arg("sample_weight").none(),
      nb::arg("denominator"), nb::arg("losses"), nb::arg("dx").none());
}

void require_labels(const std::string& op, const Buffer& target, int64_t classes, int64_t ignore_index) {
  require_in_range({target.data, target.size, 0, classes, ignore_index, op});
}

void cross_entropy_forward(const Buffer& logits, const Buffer& target, const Buffer* class_weight,
                           const Buffer* sample_weight, const Buffer& denominator, int64_t ignore_index,
                           double label_smoothing, Buffer& losses, Buffer* dlogits) {
  static const Place place = place_of("cross_entropy_forward");
  static const std::string op = "cross_entropy_forward";
  require_dims(op, "logits", logits, 2, "(rows, cols)");
  input(op, "target", target, kInt64, {logits.shape[0]});
  require_labels(op, target, logits.shape[1], ignore_index);
  Args a{};
  set_loss(op, a, logits, target, kInt64, "class_weight", class_weight, sample_weight, denominator, losses, dlogits);
  a.n[2] = ignore_index;
  a.c[0] = label_smoothing;
  call(kernel_for(op, place.entry(), logits.dtype), a);
}

void cross_entropy_probabilities_forward(const Buffer& logits, const Buffer& target, const Buffer* class_weight,
                                         const Buffer* sample_weight, const Buffer& denominator, double label_smoothing,
                                         Buffer& losses, Buffer* dlogits) {
  static const Place place = place_of("cross_entropy_probabilities_forward");
  static const std::string op = "cross_entropy_probabilities_forward";
  require_dims(op, "logits", logits, 2, "(rows, cols)");
  require_same_shape(op, "target", target, "logits", logits);
  Args a{};
  set_loss(op, a, logits, target, logits.dtype, "class_weight", class_weight, sample_weight, denominator, losses,
           dlogits);
  a.c[0] = label_smoothing;
  call(kernel_for(op, place.entry(), logits.dtype), a);
}

void cross_entropy_denominator(const Buffer& target, const Buffer* class_weight, const Buffer* sample_weight,
                               int64_t ignore_index, Buffer& y) {
  static const Place place = place_of("cross_entropy_denominator");
  static const std::string op = "cross_entropy_denominator";
  require_dims(op, "target", target, 1, "(rows,)");
  Args a{};
  a.p[0] = input(op, "target", target, kInt64);
  if (class_weight) {
    require_dims(op, "class_weight", *class_weight, 1, "(cols,)");
    a.p[1] = input(op, "class_weight", *class_weight, y.dtype);
    require_labels(op, target, class_weight->size, ignore_index);
    require_apart(op, y, *class_weight);
  }
  if (sample_weight) {
    a.p[2] = input(op, "sample_weight", *sample_weight, y.dtype, {target.size});
    require_apart(op, y, *sample_weight);
  }
  a.p[3] = output(op, "y", y, y.dtype, {1});
  a.n[0] = target.size;
  a.n[1] = class_weight ? class_weight->size : INT64_MAX;
  a.n[2] = ignore_index;
  call(kernel_for(op, place.entry(), y.dtype), a);
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
        case Family::kElementLoss:
          bind_element_loss(m, place);
          break;
        default:
          break;
      }
    }
  m.def("cross_entropy_forward", &cross_entropy_forward, nb::arg("logits"), nb::arg("target"),
        nb::arg("class_weight").none(), nb::arg("sample_weight").none(), nb::arg("denominator"),
        nb::arg("ignore_index"), nb::arg("label_smoothing"), nb::arg("losses"), nb::arg("dlogits").none());
  m.def("cross_entropy_probabilities_forward", &cross_entropy_probabilities_forward, nb::arg("logits"),
        nb::arg("target"), nb::arg("class_weight").none(), nb::arg("sample_weight").none(), nb::arg("denominator"),
        nb::arg("label_smoothing"), nb::arg("losses"), nb::arg("dlogits").none());
  m.def("cross_entropy_denominator", &cross_entropy_denominator, nb::arg("target"), nb::arg("class_weight").none(),
        nb::arg("sample_weight").none(), nb::arg("ignore_index"), nb::arg("y"));
}

}  // namespace fastbp

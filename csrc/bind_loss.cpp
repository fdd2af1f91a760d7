// Bindings of losses.
#include <utility>

#include "kernel_call.h"

namespace fastbp {
namespace {

// ---------------------------------------------------------------- losses of elements

constexpr const char* kConstantNames[] = {"c0", "c1"};

template <class... C, size_t... I>
void def_element_loss(nb::module_& m, Place place, std::index_sequence<I...>) {
  const std::string op = place.entry().name;
  m.def(
      op.c_str(),
      [op, place](const Buffer& x, const Buffer& target, const Buffer* coefficient, const Buffer* sample_weight,
                  const Buffer& denominator, C... constants, Buffer& losses, Buffer* dx) {
        const bool of_elements = coefficient && coefficient->ndim == 2;
        KernelCall loss(op, "x", x);
        const int64_t rows = loss.rows(), cols = loss.cols();
        loss.read("x", &x, {rows, cols});
        loss.read("target", &target, {rows, cols});
        if (of_elements) loss.read("coefficient", coefficient, {rows, cols});
        else loss.read("coefficient", coefficient, {cols});
        loss.read("sample_weight", sample_weight, {rows});
        loss.read_one("denominator", &denominator);
        loss.write("losses", &losses, {rows});
        loss.write("dx", dx, {rows, cols}, &x);
        loss.args.n[2] = of_elements ? cols : 0;
        ((loss.args.c[I] = constants), ...);
        loss.run(place);
      },
      nb::arg("x"), nb::arg("target"), nb::arg("coefficient").none(), nb::arg("sample_weight").none(),
      nb::arg("denominator"), nb::arg(kConstantNames[I])..., nb::arg("losses"), nb::arg("dx").none());
}

void bind_element_loss(nb::module_& m, Place place) {
  switch (place.entry().constants) {
    case 0:
      return def_element_loss<>(m, place, std::make_index_sequence<0>());
    case 1:
      return def_element_loss<double>(m, place, std::make_index_sequence<1>());
    case 2:
      return def_element_loss<double, double>(m, place, std::make_index_sequence<2>());
    default:
      throw std::runtime_error(std::string("too many constants: ") + place.entry().name);
  }
}

// ---------------------------------------------------------------- losses of classes

void require_labels(const std::string& op, const Buffer& target, int64_t classes, int64_t ignore_index) {
  require_in_range({target.data, target.size, 0, classes, ignore_index, op});
}

// What losses of classes share: x (rows, classes) and its target, weights of classes and rows.
KernelCall class_loss(const std::string& op, const char* x_name, const Buffer& x, const Buffer& target,
                      const Buffer* class_weight, const Buffer* sample_weight, const Buffer& denominator,
                      Buffer& losses, const char* dx_name, Buffer* dx) {
  KernelCall loss(op, x_name, x);
  const int64_t rows = loss.rows(), classes = loss.cols();
  loss.read(x_name, &x, {rows, classes});
  if (target.dtype == kInt64) loss.read("target", &target, {rows}, kInt64);
  else loss.read("target", &target, {rows, classes});
  loss.read("class_weight", class_weight, {classes});
  loss.read("sample_weight", sample_weight, {rows});
  loss.read_one("denominator", &denominator);
  loss.write("losses", &losses, {rows});
  loss.write(dx_name, dx, {rows, classes}, &x);
  return loss;
}

void cross_entropy_forward(const Buffer& logits, const Buffer& target, const Buffer* class_weight,
                           const Buffer* sample_weight, const Buffer& denominator, int64_t ignore_index,
                           double label_smoothing, Buffer& losses, Buffer* dlogits) {
  static const Place place = place_of("cross_entropy_forward");
  static const std::string op = "cross_entropy_forward";
  require_dims(op, "logits", logits, 2, "(rows, cols)");
  input(op, "target", target, kInt64, {logits.shape[0]});
  require_labels(op, target, logits.shape[1], ignore_index);
  KernelCall loss =
      class_loss(op, "logits", logits, target, class_weight, sample_weight, denominator, losses, "dlogits", dlogits);
  loss.args.n[2] = ignore_index;
  loss.args.c[0] = label_smoothing;
  loss.run(place);
}

void cross_entropy_probabilities_forward(const Buffer& logits, const Buffer& target, const Buffer* class_weight,
                                         const Buffer* sample_weight, const Buffer& denominator, double label_smoothing,
                                         Buffer& losses, Buffer* dlogits) {
  static const Place place = place_of("cross_entropy_probabilities_forward");
  static const std::string op = "cross_entropy_probabilities_forward";
  require_dims(op, "logits", logits, 2, "(rows, cols)");
  input(op, "target", target, logits.dtype, {logits.shape[0], logits.shape[1]});
  KernelCall loss =
      class_loss(op, "logits", logits, target, class_weight, sample_weight, denominator, losses, "dlogits", dlogits);
  loss.args.c[0] = label_smoothing;
  loss.run(place);
}

void nll_forward(const Buffer& x, const Buffer& target, const Buffer* class_weight, const Buffer* sample_weight,
                 const Buffer& denominator, int64_t ignore_index, Buffer& losses, Buffer* dx) {
  static const Place place = place_of("nll_forward");
  static const std::string op = "nll_forward";
  require_dims(op, "x", x, 2, "(rows, cols)");
  input(op, "target", target, kInt64, {x.shape[0]});
  require_labels(op, target, x.shape[1], ignore_index);
  KernelCall loss = class_loss(op, "x", x, target, class_weight, sample_weight, denominator, losses, "dx", dx);
  loss.args.n[2] = ignore_index;
  loss.run(place);
}

void cross_entropy_denominator(const Buffer& target, const Buffer* class_weight, const Buffer* sample_weight,
                               int64_t ignore_index, Buffer& y) {
  static const Place place = place_of("cross_entropy_denominator");
  static const std::string op = "cross_entropy_denominator";
  require_dims(op, "target", target, 1, "(rows,)");
  if (class_weight) require_dims(op, "class_weight", *class_weight, 1, "(cols,)");
  const int64_t classes = class_weight ? class_weight->size : INT64_MAX;
  KernelCall loss(op, y.dtype);
  loss.read("target", &target, {target.size}, kInt64);
  loss.read("class_weight", class_weight, {classes});
  if (class_weight) require_labels(op, target, classes, ignore_index);
  loss.read("sample_weight", sample_weight, {target.size});
  loss.write("y", &y, {1});
  loss.args.n[0] = target.size;
  loss.args.n[1] = classes;
  loss.args.n[2] = ignore_index;
  loss.run(place);
}

// ---------------------------------------------------------------- losses with several gradients

void gaussian_nll_forward(const Buffer& x, const Buffer& target, const Buffer& var, const Buffer* sample_weight,
                          const Buffer& denominator, double floor, double full, Buffer& losses, Buffer* dx,
                          Buffer* dvar) {
  static const Place place = place_of("gaussian_nll_forward");
  static const std::string op = "gaussian_nll_forward";
  KernelCall loss(op, "x", x);
  const int64_t rows = loss.rows(), cols = loss.cols();
  loss.read("x", &x, {rows, cols});
  loss.read("target", &target, {rows, cols});
  loss.read("var", &var, {rows, cols});
  loss.read("sample_weight", sample_weight, {rows});
  loss.read_one("denominator", &denominator);
  loss.write("losses", &losses, {rows});
  loss.write("dx", dx, {rows, cols});
  loss.write("dvar", dvar, {rows, cols});
  loss.args.c[0] = floor;
  loss.args.c[1] = full;
  loss.run(place);
}

void mixture_nll_forward(const Buffer& logits, const Buffer& means, const Buffer& log_stds, const Buffer& target,
                         const Buffer* sample_weight, const Buffer& denominator, Buffer& losses, Buffer* dlogits,
                         Buffer* dmeans, Buffer* dlog_stds) {
  static const Place place = place_of("mixture_nll_forward");
  static const std::string op = "mixture_nll_forward";
  require_dims(op, "logits", logits, 2, "(rows, components)");
  require_dims(op, "target", target, 2, "(rows, cols)");
  const int64_t rows = logits.shape[0], components = logits.shape[1], cols = target.shape[1];
  KernelCall loss(op, logits.dtype);
  loss.read("logits", &logits, {rows, components});
  loss.read("means", &means, {rows, components, cols});
  loss.read("log_stds", &log_stds, {rows, components, cols});
  loss.read("target", &target, {rows, cols});
  loss.read("sample_weight", sample_weight, {rows});
  loss.read_one("denominator", &denominator);
  loss.write("losses", &losses, {rows});
  loss.write("dlogits", dlogits, {rows, components});
  loss.write("dmeans", dmeans, {rows, components, cols});
  loss.write("dlog_stds", dlog_stds, {rows, components, cols});
  loss.args.n[0] = rows;
  loss.args.n[1] = components;
  loss.args.n[2] = cols;
  loss.run(place);
}

void cosine_embedding_forward(const Buffer& a, const Buffer& b, const Buffer& target, const Buffer* sample_weight,
                              const Buffer& denominator, double margin, Buffer& losses, Buffer* da, Buffer* db) {
  static const Place place = place_of("cosine_embedding_forward");
  static const std::string op = "cosine_embedding_forward";
  KernelCall loss(op, "a", a);
  const int64_t rows = loss.rows(), cols = loss.cols();
  loss.read("a", &a, {rows, cols});
  loss.read("b", &b, {rows, cols});
  loss.read("target", &target, {rows});
  loss.read("sample_weight", sample_weight, {rows});
  loss.read_one("denominator", &denominator);
  loss.write("losses", &losses, {rows});
  loss.write("da", da, {rows, cols});
  loss.write("db", db, {rows, cols});
  loss.args.c[0] = margin;
  loss.run(place);
}

}  // namespace

void bind_loss(nb::module_& m) {
  const KernelTable* table = active_table();
  for (int list = 0; list < table->count; ++list)
    for (int index = 0; index < table->lists[list].count; ++index) {
      const Place place{list, index};
      if (place.entry().family == Family::kElementLoss) bind_element_loss(m, place);
    }
  m.def("cross_entropy_forward", &cross_entropy_forward, nb::arg("logits"), nb::arg("target"),
        nb::arg("class_weight").none(), nb::arg("sample_weight").none(), nb::arg("denominator"),
        nb::arg("ignore_index"), nb::arg("label_smoothing"), nb::arg("losses"), nb::arg("dlogits").none());
  m.def("cross_entropy_probabilities_forward", &cross_entropy_probabilities_forward, nb::arg("logits"),
        nb::arg("target"), nb::arg("class_weight").none(), nb::arg("sample_weight").none(), nb::arg("denominator"),
        nb::arg("label_smoothing"), nb::arg("losses"), nb::arg("dlogits").none());
  m.def("cross_entropy_denominator", &cross_entropy_denominator, nb::arg("target"), nb::arg("class_weight").none(),
        nb::arg("sample_weight").none(), nb::arg("ignore_index"), nb::arg("y"));
  m.def("nll_forward", &nll_forward, nb::arg("x"), nb::arg("target"), nb::arg("class_weight").none(),
        nb::arg("sample_weight").none(), nb::arg("denominator"), nb::arg("ignore_index"), nb::arg("losses"),
        nb::arg("dx").none());
  m.def("gaussian_nll_forward", &gaussian_nll_forward, nb::arg("x"), nb::arg("target"), nb::arg("var"),
        nb::arg("sample_weight").none(), nb::arg("denominator"), nb::arg("floor"), nb::arg("full"), nb::arg("losses"),
        nb::arg("dx").none(), nb::arg("dvar").none());
  m.def("mixture_nll_forward", &mixture_nll_forward, nb::arg("logits"), nb::arg("means"), nb::arg("log_stds"),
        nb::arg("target"), nb::arg("sample_weight").none(), nb::arg("denominator"), nb::arg("losses"),
        nb::arg("dlogits").none(), nb::arg("dmeans").none(), nb::arg("dlog_stds").none());
  m.def("cosine_embedding_forward", &cosine_embedding_forward, nb::arg("a"), nb::arg("b"), nb::arg("target"),
        nb::arg("sample_weight").none(), nb::arg("denominator"), nb::arg("margin"), nb::arg("losses"),
        nb::arg("da").none(), nb::arg("db").none());
}

}  // namespace fastbp

// Bindings of normalisation kernels.
#include "kernel_call.h"

namespace fastbp {
namespace {

void row_norm_forward(const Buffer& x, const Buffer* w, const Buffer* b, double epsilon, Buffer* mean, Buffer& rstd,
                      Buffer& y) {
  static const Place place = place_of("row_norm_forward");
  static const std::string op = "row_norm_forward";
  KernelCall norm(op, "x", x);
  norm.read("x", &x, {norm.rows(), norm.cols()});
  norm.read("w", w, {norm.cols()});
  norm.read("b", b, {norm.cols()});
  norm.write("mean", mean, {norm.rows()});
  norm.write("rstd", &rstd, {norm.rows()});
  norm.write("y", &y, {norm.rows(), norm.cols()});
  norm.args.c[0] = epsilon;
  norm.run(place);
}

void row_norm_backward_input(const Buffer& dy, const Buffer& x, const Buffer* w, const Buffer* mean, const Buffer& rstd,
                             Buffer& dx) {
  static const Place place = place_of("row_norm_backward_input");
  static const std::string op = "row_norm_backward_input";
  KernelCall norm(op, "dy", dy);
  norm.read("dy", &dy, {norm.rows(), norm.cols()});
  norm.read("x", &x, {norm.rows(), norm.cols()});
  norm.read("w", w, {norm.cols()});
  norm.read("mean", mean, {norm.rows()});
  norm.read("rstd", &rstd, {norm.rows()});
  norm.write("dx", &dx, {norm.rows(), norm.cols()});
  norm.run(place);
}

void row_norm_backward_weight(const Buffer& dy, const Buffer& x, const Buffer* mean, const Buffer& rstd,
                              bool accumulate, Buffer& dw, Buffer* db) {
  static const Place place = place_of("row_norm_backward_weight");
  static const std::string op = "row_norm_backward_weight";
  KernelCall norm(op, "dy", dy);
  norm.read("dy", &dy, {norm.rows(), norm.cols()});
  norm.read("x", &x, {norm.rows(), norm.cols()});
  norm.read("mean", mean, {norm.rows()});
  norm.read("rstd", &rstd, {norm.rows()});
  norm.write("dw", &dw, {norm.cols()});
  norm.write("db", db, {norm.cols()});
  norm.args.n[3] = accumulate;
  norm.run(place);
}

void batch_norm_forward(const Buffer& x, const Buffer* w, const Buffer* b, const Buffer* batches, double epsilon,
                        double momentum, Buffer* running_mean, Buffer* running_var, Buffer& y, Buffer& mean,
                        Buffer& rstd) {
  static const Place place = place_of("batch_norm_forward");
  static const std::string op = "batch_norm_forward";
  KernelCall norm(op, "x", x);
  norm.read("x", &x, {norm.rows(), norm.cols()});
  norm.read("w", w, {norm.cols()});
  norm.read("b", b, {norm.cols()});
  norm.read_one("batches", batches, kInt64);
  norm.write("running_mean", running_mean, {norm.cols()});
  norm.write("running_var", running_var, {norm.cols()});
  norm.write("y", &y, {norm.rows(), norm.cols()});
  norm.write("mean", &mean, {norm.cols()});
  norm.write("rstd", &rstd, {norm.cols()});
  norm.args.c[0] = epsilon;
  norm.args.c[1] = momentum;
  norm.run(place);
}

void batch_norm_apply(const Buffer& x, const Buffer* mean, const Buffer& variance, const Buffer* w, const Buffer* b,
                      double epsilon, Buffer& y) {
  static const Place place = place_of("batch_norm_apply");
  static const std::string op = "batch_norm_apply";
  KernelCall norm(op, "x", x);
  norm.read("x", &x, {norm.rows(), norm.cols()});
  norm.read("mean", mean, {norm.cols()});
  norm.read("variance", &variance, {norm.cols()});
  norm.read("w", w, {norm.cols()});
  norm.read("b", b, {norm.cols()});
  norm.write("y", &y, {norm.rows(), norm.cols()});
  norm.args.c[0] = epsilon;
  norm.run(place);
}

void batch_norm_backward(const Buffer& dy, const Buffer& x, const Buffer* w, const Buffer& mean, const Buffer& rstd,
                         Buffer* dx, Buffer& dw, Buffer& db) {
  static const Place place = place_of("batch_norm_backward");
  static const std::string op = "batch_norm_backward";
  KernelCall norm(op, "dy", dy);
  norm.read("dy", &dy, {norm.rows(), norm.cols()});
  norm.read("x", &x, {norm.rows(), norm.cols()});
  norm.read("w", w, {norm.cols()});
  norm.read("mean", &mean, {norm.cols()});
  norm.read("rstd", &rstd, {norm.cols()});
  norm.write("dx", dx, {norm.rows(), norm.cols()});
  norm.write("dw", &dw, {norm.cols()});
  norm.write("db", &db, {norm.cols()});
  norm.run(place);
}

}  // namespace

void bind_norm(nb::module_& m) {
  m.def("row_norm_forward", &row_norm_forward, nb::arg("x"), nb::arg("w").none(), nb::arg("b").none(),
        nb::arg("epsilon"), nb::arg("mean").none(), nb::arg("rstd"), nb::arg("y"));
  m.def("row_norm_backward_input", &row_norm_backward_input, nb::arg("dy"), nb::arg("x"), nb::arg("w").none(),
        nb::arg("mean").none(), nb::arg("rstd"), nb::arg("dx"));
  m.def("row_norm_backward_weight", &row_norm_backward_weight, nb::arg("dy"), nb::arg("x"), nb::arg("mean").none(),
        nb::arg("rstd"), nb::arg("accumulate"), nb::arg("dw"), nb::arg("db").none());
  m.def("batch_norm_forward", &batch_norm_forward, nb::arg("x"), nb::arg("w").none(), nb::arg("b").none(),
        nb::arg("batches").none(), nb::arg("epsilon"), nb::arg("momentum"), nb::arg("running_mean").none(),
        nb::arg("running_var").none(), nb::arg("y"), nb::arg("mean"), nb::arg("rstd"));
  m.def("batch_norm_apply", &batch_norm_apply, nb::arg("x"), nb::arg("mean").none(), nb::arg("variance"),
        nb::arg("w").none(), nb::arg("b").none(), nb::arg("epsilon"), nb::arg("y"));
  m.def("batch_norm_backward", &batch_norm_backward, nb::arg("dy"), nb::arg("x"), nb::arg("w").none(), nb::arg("mean"),
        nb::arg("rstd"), nb::arg("dx").none(), nb::arg("dw"), nb::arg("db"));
}

}  // namespace fastbp

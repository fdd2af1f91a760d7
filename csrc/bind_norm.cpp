// Bindings of normalisation kernels.
#include "bind.h"

namespace fastbp {
namespace {

// The operands of one call as they are checked, in the order of Args.
class Operands {
 public:
  Operands(const std::string& op, const char* leading, const Buffer& x) : op_(op), dtype_(x.dtype) {
    require_dims(op_, leading, x, 2, "(rows, cols)");
    args_.n[0] = rows_ = x.shape[0];
    args_.n[1] = cols_ = x.shape[1];
  }

  void matrix(const char* name, const Buffer& b) { read(b, input(op_, name, b, dtype_, {rows_, cols_})); }
  void of_rows(const char* name, const Buffer* b) { read_optional(name, b, rows_); }
  void of_columns(const char* name, const Buffer* b) { read_optional(name, b, cols_); }
  void count(const char* name, const Buffer* b) {
    if (!b) return absent();
    if (b->size != 1) fail_value(op_, std::string("expected ") + name + " of one element, got " + shape_text(*b));
    read(*b, input(op_, name, *b, kInt64));
  }
  void written_matrix(const char* name, Buffer* b) {
    if (!b) return absent();
    written(*b, output(op_, name, *b, dtype_, {rows_, cols_}));
  }
  void written_of_rows(const char* name, Buffer* b) { write_optional(name, b, rows_); }
  void written_of_columns(const char* name, Buffer* b) { write_optional(name, b, cols_); }

  void accumulate(bool value) { args_.n[3] = value; }

  // Runs the kernel, with its constants.
  void run(Place place, double first = 0, double second = 0) {
    for (int i = 0; i < at_; ++i)
      for (int j = 0; j < at_; ++j)
        if (given_[j] && i != j && is_written_[i]) require_apart(op_, *given_[i], *given_[j]);
    args_.c[0] = first;
    args_.c[1] = second;
    call(kernel_for(op_, place.entry(), dtype_), args_);
  }

 private:
  void absent() { ++at_; }
  void read(const Buffer& b, void* p) {
    given_[at_] = &b;
    args_.p[at_++] = p;
  }
  void written(const Buffer& b, void* p) {
    is_written_[at_] = true;
    read(b, p);
  }
  void read_optional(const char* name, const Buffer* b, int64_t size) {
    if (b) read(*b, input(op_, name, *b, dtype_, {size}));
    else absent();
  }
  void write_optional(const char* name, Buffer* b, int64_t size) {
    if (b) written(*b, output(op_, name, *b, dtype_, {size}));
    else absent();
  }

  const std::string& op_;
  DType dtype_;
  int64_t rows_, cols_;
  Args args_{};
  int at_ = 0;
  const Buffer* given_[9] = {};  // as many as the longest call has
  bool is_written_[9] = {};
};

void row_norm_forward(const Buffer& x, const Buffer* w, const Buffer* b, double epsilon, Buffer* mean, Buffer& rstd,
                      Buffer& y) {
  static const Place place = place_of("row_norm_forward");
  static const std::string op = "row_norm_forward";
  Operands operands(op, "x", x);
  operands.matrix("x", x);
  operands.of_columns("w", w);
  operands.of_columns("b", b);
  operands.written_of_rows("mean", mean);
  operands.written_of_rows("rstd", &rstd);
  operands.written_matrix("y", &y);
  operands.run(place, epsilon);
}

void row_norm_backward_input(const Buffer& dy, const Buffer& x, const Buffer* w, const Buffer* mean, const Buffer& rstd,
                             Buffer& dx) {
  static const Place place = place_of("row_norm_backward_input");
  static const std::string op = "row_norm_backward_input";
  Operands operands(op, "dy", dy);
  operands.matrix("dy", dy);
  operands.matrix("x", x);
  operands.of_columns("w", w);
  operands.of_rows("mean", mean);
  operands.of_rows("rstd", &rstd);
  operands.written_matrix("dx", &dx);
  operands.run(place);
}

void row_norm_backward_weight(const Buffer& dy, const Buffer& x, const Buffer* mean, const Buffer& rstd,
                              bool accumulate, Buffer& dw, Buffer* db) {
  static const Place place = place_of("row_norm_backward_weight");
  static const std::string op = "row_norm_backward_weight";
  Operands operands(op, "dy", dy);
  operands.matrix("dy", dy);
  operands.matrix("x", x);
  operands.of_rows("mean", mean);
  operands.of_rows("rstd", &rstd);
  operands.written_of_columns("dw", &dw);
  operands.written_of_columns("db", db);
  operands.accumulate(accumulate);
  operands.run(place);
}

void batch_norm_forward(const Buffer& x, const Buffer* w, const Buffer* b, const Buffer* batches, double epsilon,
                        double momentum, Buffer* running_mean, Buffer* running_var, Buffer& y, Buffer& mean,
                        Buffer& rstd) {
  static const Place place = place_of("batch_norm_forward");
  static const std::string op = "batch_norm_forward";
  Operands operands(op, "x", x);
  operands.matrix("x", x);
  operands.of_columns("w", w);
  operands.of_columns("b", b);
  operands.count("batches", batches);
  operands.written_of_columns("running_mean", running_mean);
  operands.written_of_columns("running_var", running_var);
  operands.written_matrix("y", &y);
  operands.written_of_columns("mean", &mean);
  operands.written_of_columns("rstd", &rstd);
  operands.run(place, epsilon, momentum);
}

void batch_norm_apply(const Buffer& x, const Buffer* mean, const Buffer& variance, const Buffer* w, const Buffer* b,
                      double epsilon, Buffer& y) {
  static const Place place = place_of("batch_norm_apply");
  static const std::string op = "batch_norm_apply";
  Operands operands(op, "x", x);
  operands.matrix("x", x);
  operands.of_columns("mean", mean);
  operands.of_columns("variance", &variance);
  operands.of_columns("w", w);
  operands.of_columns("b", b);
  operands.written_matrix("y", &y);
  operands.run(place, epsilon);
}

void batch_norm_backward(const Buffer& dy, const Buffer& x, const Buffer* w, const Buffer& mean, const Buffer& rstd,
                         Buffer* dx, Buffer& dw, Buffer& db) {
  static const Place place = place_of("batch_norm_backward");
  static const std::string op = "batch_norm_backward";
  Operands operands(op, "dy", dy);
  operands.matrix("dy", dy);
  operands.matrix("x", x);
  operands.of_columns("w", w);
  operands.of_columns("mean", &mean);
  operands.of_columns("rstd", &rstd);
  operands.written_matrix("dx", dx);
  operands.written_of_columns("dw", &dw);
  operands.written_of_columns("db", &db);
  operands.run(place);
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

// Bindings of optimizer steps and gradient clipping, which take lists of tensors.
#include <vector>

#include "bind.h"

namespace fastbp {
namespace {

// The tensors of one call: pointers list by list, and the sums of their sizes that the kernels search.
struct Tensors {
  std::vector<std::vector<void*>> lists;
  std::vector<int64_t> offsets{0};
  std::vector<Buffer*> first;
  DType dtype = kFloat32;

  // Appends a list; all lists have the same shapes and dtype. Returns its pointers, null for an empty optional one.
  void* add(const std::string& op, const char* name, nb::handle list, bool written, bool optional) {
    if (!nb::isinstance<nb::list>(list)) fail_type(op, std::string("expected ") + name + " as a list of buffers");
    nb::list items = nb::borrow<nb::list>(list);
    const size_t n = items.size();
    if (optional && n == 0) return nullptr;
    const bool leads = lists.empty();
    if (!leads && n != first.size())
      fail_value(op, std::string("expected ") + name + " of " + std::to_string(first.size()) + " tensors, got " +
                         std::to_string(n));
    std::vector<void*>& pointers = lists.emplace_back();
    pointers.reserve(n);
    for (size_t i = 0; i < n; ++i) {
      Buffer& b = nb::cast<Buffer&>(items[i]);
      if (leads) {
        if (i == 0) dtype = b.dtype;
        first.push_back(&b);
        offsets.push_back(offsets.back() + b.size);
      } else {
        require_same_shape(op, name, b, "the first list", *first[i]);
        if (b.storage == first[i]->storage) require_apart(op, b, *first[i]);
      }
      pointers.push_back(written ? output(op, name, b, dtype) : input(op, name, b, dtype));
    }
    return pointers.data();
  }

  void set(Args& a) {
    a.n[0] = offsets.back();
    a.n[1] = static_cast<int64_t>(first.size());
    a.p[11] = offsets.data();
  }
};

// A step's signature: (hyper, grads, states..., [flag,] params).
struct Step {
  const char* name;
  int64_t hyper;  // doubles that it reads
  int states;
  bool optional[3];  // which lists of states may be empty
  bool flag;
};

constexpr Step kSteps[] = {
    {"sgd_step", 5, 1, {true}, true},
    {"rmsprop_step", 6, 3, {false, true, true}, false},
    {"adagrad_step", 5, 1, {false}, false},
    {"adam_step", 8, 3, {false, false, true}, false},
    {"adamw_step", 8, 3, {false, false, true}, false},
};

void bind_step(nb::module_& m, const Step& step) {
  const Place place = place_of(step.name);
  const std::string op = step.name;
  m.def(step.name, [op, place, step](nb::args operands) {
    const size_t count = 3 + static_cast<size_t>(step.states) + step.flag;
    if (operands.size() != count)
      fail_type(op, "expected " + std::to_string(count) + " operands, got " + std::to_string(operands.size()));
    const Buffer& hyper = nb::cast<const Buffer&>(operands[0]);
    Args a{};
    Tensors tensors;
    tensors.lists.reserve(count);
    int p = 0;
    a.p[p++] = input(op, "hyper", hyper, kFloat64, {step.hyper});
    a.p[p++] = tensors.add(op, "grads", operands[1], false, false);
    for (int i = 0; i < step.states; ++i) a.p[p++] = tensors.add(op, "states", operands[2 + i], true, step.optional[i]);
    if (step.flag) a.n[2] = nb::cast<bool>(operands[count - 2]);
    a.p[p++] = tensors.add(op, "params", operands[count - 1], true, false);
    tensors.set(a);
    call(kernel_for(op, place.entry(), tensors.dtype), a, ((2u << (step.states + 1)) - 1) << 1);
  });
}

void advance(const std::string& op, Place place, Buffer& hyper, int64_t least) {
  if (hyper.ndim != 1 || hyper.size < least)
    fail_value(op, "expected hyper of at least " + std::to_string(least) + " numbers, got " + shape_text(hyper));
  Args a{};
  a.p[0] = output(op, "hyper", hyper, kFloat64);
  call(kernel_for(op, place.entry(), kFloat64), a);
}

void optimizer_advance(Buffer& hyper) {
  static const Place place = place_of("optimizer_advance");
  static const std::string op = "optimizer_advance";
  advance(op, place, hyper, 1);
}

void adam_advance(Buffer& hyper) {
  static const Place place = place_of("adam_advance");
  static const std::string op = "adam_advance";
  advance(op, place, hyper, 8);
}

void gradient_norm(nb::list grads, Buffer& y) {
  static const Place place = place_of("gradient_norm");
  static const std::string op = "gradient_norm";
  Args a{};
  Tensors tensors;
  tensors.dtype = y.dtype;
  a.p[0] = tensors.add(op, "grads", grads, false, false);
  a.p[1] = output(op, "y", y, tensors.dtype, {1});
  tensors.set(a);
  call(kernel_for(op, place.entry(), tensors.dtype), a, 1);
}

void clip_coefficient(const Buffer& norm, double max_norm, Buffer& y) {
  static const Place place = place_of("clip_coefficient");
  static const std::string op = "clip_coefficient";
  Args a{};
  a.p[0] = input(op, "norm", norm, y.dtype, {1});
  a.p[1] = output(op, "y", y, y.dtype, {1});
  a.c[0] = max_norm;
  call(kernel_for(op, place.entry(), y.dtype), a);
}

void scale_gradients(const Buffer& coefficient, nb::list grads) {
  static const Place place = place_of("scale_gradients");
  static const std::string op = "scale_gradients";
  Args a{};
  Tensors tensors;
  a.p[1] = tensors.add(op, "grads", grads, true, false);
  if (!grads.size()) return;
  a.p[0] = input(op, "coefficient", coefficient, tensors.dtype, {1});
  tensors.set(a);
  call(kernel_for(op, place.entry(), tensors.dtype), a, 2);
}

}  // namespace

void bind_optim(nb::module_& m) {
  for (const Step& step : kSteps) bind_step(m, step);
  m.def("optimizer_advance", &optimizer_advance, nb::arg("hyper"));
  m.def("adam_advance", &adam_advance, nb::arg("hyper"));
  m.def("gradient_norm", &gradient_norm, nb::arg("grads"), nb::arg("y"));
  m.def("clip_coefficient", &clip_coefficient, nb::arg("norm"), nb::arg("max_norm"), nb::arg("y"));
  m.def("scale_gradients", &scale_gradients, nb::arg("coefficient"), nb::arg("grads"));
}

}  // namespace fastbp

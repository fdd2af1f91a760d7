// Bindings of copies and indexing.
#include <algorithm>
#include <vector>

#include "bind.h"

namespace fastbp {
namespace {

// Dimensions of y in the order of its strides, largest first, so that a kernel walks memory forward.
void set_strided(const std::string& op, Args& args, const Buffer& x, const Buffer& y) {
  int order[kMaxDims];
  for (int d = 0; d < y.ndim; ++d) order[d] = d;
  std::stable_sort(order, order + y.ndim,
                   [&](int i, int j) { return std::abs(y.strides[i]) > std::abs(y.strides[j]); });
  int64_t shape[kMaxDims], strides[2][kMaxDims];
  for (int d = 0; d < y.ndim; ++d) {
    shape[d] = y.shape[order[d]];
    strides[0][d] = x.ndim ? x.strides[order[d]] : 0;
    strides[1][d] = y.strides[order[d]];
    if (y.size && shape[d] > 1 && strides[1][d] == 0)
      fail_value(op, "expected a y whose elements are apart, got an expanded one");
  }
  set_dimensions(args, {shape, static_cast<size_t>(y.ndim)}, strides, 2);
}

void copy(const Buffer& x, Buffer& y) {
  static const Place place = place_of("copy");
  static const std::string op = "copy";
  require_same_shape(op, "y", y, "x", x);
  if (x.dtype != y.dtype)
    fail_type(op, std::string("expected y of dtype ") + kDTypeName[x.dtype] + ", got " + kDTypeName[y.dtype]);
  count_write(op, "y", y);
  require_apart(op, y, x);
  Args a{};
  a.p[0] = x.data;
  a.p[1] = y.data;
  set_strided(op, a, x, y);
  call(kernel_for(op, place.entry(), x.dtype), a);
}

void fill(nb::handle value, Buffer& y) {
  static const Place place = place_of("fill");
  static const std::string op = "fill";
  count_write(op, "y", y);
  Args a{};
  a.p[1] = y.data;
  const Buffer nothing;
  set_strided(op, a, nothing, y);
  set_constant(op, "value", value, y.dtype, a, 0);
  call(kernel_for(op, place.entry(), y.dtype), a);
}

void cast(const Buffer& x, Buffer& y) {
  static const Place place = place_of("cast");
  static const std::string op = "cast";
  require_same_shape(op, "y", y, "x", x);
  Args a{};
  a.p[0] = input(op, "x", x, x.dtype);
  a.p[1] = output(op, "y", y, y.dtype);
  require_apart(op, y, x);
  a.n[0] = x.size;
  a.n[1] = y.dtype;
  call(kernel_for(op, place.entry(), x.dtype), a);
}

void concatenate(nb::list xs, int axis, Buffer& y) {
  static const Place place = place_of("concatenate");
  static const std::string op = "concatenate";
  if (axis < 0 || axis >= y.ndim)
    fail_value(op, "expected axis from 0 to " + std::to_string(y.ndim - 1) + ", got " + std::to_string(axis));
  std::vector<void*> pointers;
  std::vector<int64_t> offsets{0};
  int64_t inner = 1, length = 0;
  for (int d = axis + 1; d < y.ndim; ++d) inner *= y.shape[d];
  for (nb::handle item : xs) {
    const Buffer& x = nb::cast<const Buffer&>(item);
    bool fits = x.ndim == y.ndim;
    for (int d = 0; fits && d < y.ndim; ++d) fits = d == axis || x.shape[d] == y.shape[d];
    if (!fits)
      fail_value(op, "expected tensors of shape " + shape_text(y) + " outside of axis " + std::to_string(axis) +
                         ", got " + shape_text(x));
    pointers.push_back(input(op, "xs", x, y.dtype));
    require_apart(op, y, x);
    offsets.push_back(offsets.back() + x.shape[axis] * inner);
    length += x.shape[axis];
  }
  if (length != y.shape[axis])
    fail_value(op, "expected lengths that sum to " + std::to_string(y.shape[axis]) + ", got " + std::to_string(length));
  Args a{};
  a.p[0] = pointers.data();
  a.p[1] = output(op, "y", y, y.dtype);
  a.p[11] = offsets.data();
  a.n[0] = y.size;
  a.n[1] = static_cast<int64_t>(pointers.size());
  call(kernel_for(op, place.entry(), y.dtype), a, 1);
}

void require_index(const std::string& op, const Buffer& index, int64_t low, int64_t high) {
  require_in_range({input(op, "index", index, kInt64), index.size, low, high, std::nullopt, op});
}

void gather(const Buffer& x, const Buffer& index, Buffer& y) {
  static const Place place = place_of("gather");
  static const std::string op = "gather";
  require_dims(op, "x", x, 2, "(rows, inner)");
  require_index(op, index, 0, x.shape[0]);
  Args a{};
  a.p[0] = input(op, "x", x, x.dtype);
  a.p[1] = index.data;
  a.p[2] = output(op, "y", y, x.dtype, {index.size, x.shape[1]});
  require_apart(op, y, x);
  a.n[0] = y.size;
  a.n[1] = x.shape[1];
  call(kernel_for(op, place.entry(), x.dtype), a);
}

// scatter and scatter_add: rows of x go to rows of y.
void to_rows(const std::string& op, Place place, const Buffer& x, const Buffer& index, Buffer& y) {
  require_dims(op, "the output", y, 2, "(rows, inner)");
  require_index(op, index, 0, y.shape[0]);
  Args a{};
  a.p[0] = input(op, "the rows", x, y.dtype, {index.size, y.shape[1]});
  a.p[1] = index.data;
  a.p[2] = output(op, "the output", y, y.dtype);
  require_apart(op, y, x);
  a.n[0] = y.shape[1];
  a.n[1] = index.size;
  call(kernel_for(op, place.entry(), y.dtype), a);
}

void scatter_add(const Buffer& dy, const Buffer& index, Buffer& dx) {
  static const Place place = place_of("scatter_add");
  static const std::string op = "scatter_add";
  to_rows(op, place, dy, index, dx);
}

void scatter(const Buffer& x, const Buffer& index, Buffer& y) {
  static const Place place = place_of("scatter");
  static const std::string op = "scatter";
  to_rows(op, place, x, index, y);
}

void wrap_index(const Buffer& index, int64_t size, Buffer& y) {
  static const Place place = place_of("wrap_index");
  static const std::string op = "wrap_index";
  require_same_shape(op, "y", y, "index", index);
  require_index(op, index, -size, size);
  Args a{};
  a.p[0] = index.data;
  a.p[1] = output(op, "y", y, kInt64);
  a.n[0] = index.size;
  a.n[1] = size;
  call(kernel_for(op, place.entry(), kInt64), a);
}

void accumulate(const Buffer& x, Buffer& y) {
  static const Place place = place_of("accumulate");
  static const std::string op = "accumulate";
  require_same_shape(op, "y", y, "x", x);
  Args a{};
  a.p[0] = input(op, "x", x, y.dtype);
  a.p[1] = output(op, "y", y, y.dtype);
  require_apart(op, y, x, true);
  a.n[0] = x.size;
  call(kernel_for(op, place.entry(), y.dtype), a);
}

void arange(nb::handle start, nb::handle step, Buffer& y) {
  static const Place place = place_of("arange");
  static const std::string op = "arange";
  Args a{};
  a.p[0] = output(op, "y", y, y.dtype);
  a.n[0] = y.size;
  if (y.dtype == kInt64) {
    if (!nb::try_cast<int64_t>(start, a.n[1]) || !nb::try_cast<int64_t>(step, a.n[2]))
      fail_type(op, "expected start and step as integers");
  } else if (!nb::try_cast<double>(start, a.c[0]) || !nb::try_cast<double>(step, a.c[1])) {
    fail_type(op, "expected start and step as numbers");
  }
  call(kernel_for(op, place.entry(), y.dtype), a);
}

}  // namespace

void bind_copy(nb::module_& m) {
  m.def("copy", &copy, nb::arg("x"), nb::arg("y"));
  m.def("fill", &fill, nb::arg("value"), nb::arg("y"));
  m.def("cast", &cast, nb::arg("x"), nb::arg("y"));
  m.def("concatenate", &concatenate, nb::arg("xs"), nb::arg("axis"), nb::arg("y"));
  m.def("gather", &gather, nb::arg("x"), nb::arg("index"), nb::arg("y"));
  m.def("scatter_add", &scatter_add, nb::arg("dy"), nb::arg("index"), nb::arg("dx"));
  m.def("scatter", &scatter, nb::arg("x"), nb::arg("index"), nb::arg("y"));
  m.def("wrap_index", &wrap_index, nb::arg("index"), nb::arg("size"), nb::arg("y"));
  m.def("accumulate", &accumulate, nb::arg("x"), nb::arg("y"));
  m.def("arange", &arange, nb::arg("start"), nb::arg("step"), nb::arg("y"));
}

}  // namespace fastbp

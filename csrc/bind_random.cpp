// Bindings of random numbers.
#include "bind.h"

namespace fastbp {
namespace {

// p and n that all draws share: the state (seed, stream) is read by the kernel when it runs.
Args drawn(const std::string& op, const Buffer& state, Buffer& y) {
  Args a{};
  a.p[0] = input(op, "state", state, kInt64, {2});
  a.p[1] = output(op, "y", y, y.dtype);
  require_apart(op, y, state);
  a.n[0] = y.size;
  return a;
}

void uniform(const Buffer& state, double low, double high, Buffer& y) {
  static const Place place = place_of("uniform");
  static const std::string op = "uniform";
  Args a = drawn(op, state, y);
  a.c[0] = low;
  a.c[1] = high;
  call(kernel_for(op, place.entry(), y.dtype), a);
}

void normal(const Buffer& state, double mean, double std, Buffer& y) {
  static const Place place = place_of("normal");
  static const std::string op = "normal";
  Args a = drawn(op, state, y);
  a.c[0] = mean;
  a.c[1] = std;
  call(kernel_for(op, place.entry(), y.dtype), a);
}

void dropout_mask(const Buffer& state, double p, Buffer& mask) {
  static const Place place = place_of("dropout_mask");
  static const std::string op = "dropout_mask";
  if (!(p >= 0 && p <= 1)) fail_value(op, "expected p from 0 to 1, got " + std::to_string(p));
  Args a = drawn(op, state, mask);
  a.c[0] = p;
  call(kernel_for(op, place.entry(), mask.dtype), a);
}

void permutation(const Buffer& state, Buffer& y) {
  static const Place place = place_of("permutation");
  static const std::string op = "permutation";
  const Args a = drawn(op, state, y);
  call(kernel_for(op, place.entry(), y.dtype), a);
}

void randint(const Buffer& state, int64_t low, int64_t high, Buffer& y) {
  static const Place place = place_of("randint");
  static const std::string op = "randint";
  if (low >= high) fail_value(op, "expected low < high, got " + std::to_string(low) + " and " + std::to_string(high));
  Args a = drawn(op, state, y);
  a.n[1] = low;
  a.n[2] = high;
  call(kernel_for(op, place.entry(), y.dtype), a);
}

void rng_advance(Buffer& state) {
  static const Place place = place_of("rng_advance");
  static const std::string op = "rng_advance";
  Args a{};
  a.p[0] = output(op, "state", state, kInt64, {2});
  call(kernel_for(op, place.entry(), kInt64), a);
}

}  // namespace

void bind_random(nb::module_& m) {
  m.def("uniform", &uniform, nb::arg("state"), nb::arg("low"), nb::arg("high"), nb::arg("y"));
  m.def("normal", &normal, nb::arg("state"), nb::arg("mean"), nb::arg("std"), nb::arg("y"));
  m.def("dropout_mask", &dropout_mask, nb::arg("state"), nb::arg("p"), nb::arg("mask"));
  m.def("permutation", &permutation, nb::arg("state"), nb::arg("y"));
  m.def("randint", &randint, nb::arg("state"), nb::arg("low"), nb::arg("high"), nb::arg("y"));
  m.def("rng_advance", &rng_advance, nb::arg("state"));
}

}  // namespace fastbp

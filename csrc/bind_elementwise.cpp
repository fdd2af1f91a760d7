// Bindings of the element-wise families: one loop a family, no line per operation.
#include <cstring>

#include "bind.h"

namespace fastbp {
namespace {

// ---------------------------------------------------------------- unary

template <class... C> void def_unary(nb::module_& m, Place place, bool backward) {
  const std::string op = std::string(place.entry().name) + (backward ? "_backward" : "_forward");
  if (backward) {
    m.def(op.c_str(), [op, place](const Buffer& dy, const Buffer& s, C... constants, Buffer& dx) {
      const Kernel& kernel = kernel_for(op, place.entry(), dy.dtype);
      require_same_shape(op, "s", s, "dy", dy);
      require_same_shape(op, "dx", dx, "dy", dy);
      Args a{};
      a.p[0] = input(op, "dy", dy, dy.dtype);
      a.p[1] = input(op, "s", s, dy.dtype);
      a.p[2] = output(op, "dx", dx, dy.dtype);
      require_apart(op, dx, dy, true);
      require_apart(op, dx, s, true);
      a.n[0] = dy.size;
      int i = 0;
      ((a.c[i++] = constants), ...);
      call(kernel, a);
    });
  } else {
    m.def(op.c_str(), [op, place](const Buffer& x, C... constants, Buffer& y) {
      const Kernel& kernel = kernel_for(op, place.entry(), x.dtype);
      require_same_shape(op, "y", y, "x", x);
      Args a{};
      a.p[0] = input(op, "x", x, x.dtype);
      a.p[1] = output(op, "y", y, x.dtype);
      require_apart(op, y, x, true);
      a.n[0] = x.size;
      int i = 0;
      ((a.c[i++] = constants), ...);
      call(kernel, a);
    });
  }
}

void bind_unary(nb::module_& m, Place place, bool backward) {
  switch (place.entry().constants) {
    case 0:
      return def_unary<>(m, place, backward);
    case 1:
      return def_unary<double>(m, place, backward);
    case 2:
      return def_unary<double, double>(m, place, backward);
    default:
      throw std::runtime_error(std::string("too many constants: ") + place.entry().name);
  }
}

// ---------------------------------------------------------------- broadcasting

// Writes the collapsed dimensions of y and the strides of its operands (null: a by-value constant) into args.
void set_broadcast(const std::string& op, Args& args, const Buffer& y, std::initializer_list<const Buffer*> operands) {
  int64_t strides[3][kMaxDims] = {};
  int k = 0;
  for (const Buffer* b : operands) {
    if (b) {
      const int lead = y.ndim - b->ndim;
      for (int d = 0; d < b->ndim; ++d) {
        if (lead < 0 || (b->shape[d] != y.shape[lead + d] && b->shape[d] != 1))
          fail_value(op, "expected operands that broadcast to " + shape_text(y) + ", got " + shape_text(*b));
        strides[k][lead + d] = b->shape[d] == 1 ? 0 : b->strides[d];
      }
    }
    ++k;
  }
  set_dimensions(args, y.dims(), strides, k);
}

// An operand of a broadcasting kernel: a buffer, or a number that goes by value.
void* operand(const std::string& op, const char* name, nb::handle h, DType dtype, Args& args, int which,
              const Buffer** b) {
  if (nb::inst_check(h) && nb::try_cast<const Buffer*>(h, *b)) return input(op, name, **b, dtype);
  *b = nullptr;
  set_constant(op, name, h, dtype, args, which);
  return nullptr;
}

DType common_dtype(const std::string& op, nb::handle a, nb::handle b) {
  const Buffer* buffer = nullptr;
  if (nb::inst_check(a) && nb::try_cast<const Buffer*>(a, buffer)) return buffer->dtype;
  if (nb::inst_check(b) && nb::try_cast<const Buffer*>(b, buffer)) return buffer->dtype;
  fail_type(op, "expected at least one operand that is a buffer");
}

void bind_binary(nb::module_& m, Place place) {
  const std::string op = place.entry().name;
  const bool compares = place.entry().family == Family::kComparison;
  m.def(op.c_str(), [op, place, compares](nb::handle a, nb::handle b, Buffer& y) {
    const DType dtype = common_dtype(op, a, b);
    const Kernel& kernel = kernel_for(op, place.entry(), dtype);
    Args args{};
    const Buffer *ba = nullptr, *bb = nullptr;
    args.p[0] = operand(op, "a", a, dtype, args, 0, &ba);
    args.p[1] = operand(op, "b", b, dtype, args, 1, &bb);
    args.p[2] = output(op, "y", y, compares ? kBool : dtype);
    set_broadcast(op, args, y, {ba, bb});
    if (ba) require_apart(op, y, *ba, true);
    if (bb) require_apart(op, y, *bb, true);
    call(kernel, args);
  });
}

void bind_where(nb::module_& m) {
  const Place place = place_of("where");
  m.def("where", [place](const Buffer& condition, nb::handle a, nb::handle b, Buffer& y) {
    static const std::string op = "where";
    const Kernel& kernel = kernel_for(op, place.entry(), y.dtype);
    Args args{};
    const Buffer *ba = nullptr, *bb = nullptr;
    args.p[0] = input(op, "condition", condition, kBool);
    args.p[1] = operand(op, "a", a, y.dtype, args, 0, &ba);
    args.p[2] = operand(op, "b", b, y.dtype, args, 1, &bb);
    args.p[3] = output(op, "y", y, y.dtype);
    set_broadcast(op, args, y, {&condition, ba, bb});
    require_apart(op, y, condition);
    if (ba) require_apart(op, y, *ba, true);
    if (bb) require_apart(op, y, *bb, true);
    call(kernel, args);
  });
}

void bind_logical_not(nb::module_& m) {
  const Place place = place_of("logical_not");
  m.def("logical_not", [place](const Buffer& x, Buffer& y) {
    static const std::string op = "logical_not";
    require_same_shape(op, "y", y, "x", x);
    Args a{};
    a.p[0] = input(op, "x", x, kBool);
    a.p[1] = output(op, "y", y, kBool);
    require_apart(op, y, x, true);
    a.n[0] = x.size;
    call(place.entry().kernel[kBool], a);
  });
}

}  // namespace

void bind_elementwise(nb::module_& m) {
  const KernelTable* table = active_table();
  for (int list = 0; list < table->count; ++list)
    for (int index = 0; index < table->lists[list].count; ++index) {
      const Place place{list, index};
      switch (place.entry().family) {
        case Family::kUnary:
          bind_unary(m, place, false);
          break;
        case Family::kUnaryBackward:
          bind_unary(m, place, true);
          break;
        case Family::kBinary:
        case Family::kComparison:
          bind_binary(m, place);
          break;
        default:
          break;
      }
    }
  bind_where(m);
  bind_logical_not(m);
}

}  // namespace fastbp

// The Buffer class for Python: views, the buffer protocol, __array_interface__ and DLPack, both ways.
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstring>

#include "bind.h"

namespace fastbp {
namespace {

constexpr const char* kFormat[kDTypes] = {"f", "d", "l", "?"};
constexpr const char* kTypeString[kDTypes] = {"<f4", "<f8", "<i8", "|b1"};
static_assert(sizeof(long) == 8, "the buffer protocol's format l stands for int64 here");

struct Dims {
  int count;
  int64_t values[kMaxDims];
  operator std::span<const int64_t>() const { return {values, static_cast<size_t>(count)}; }
};

Dims dims_from(nb::handle h, const char* op, const char* name) {
  PyObject* fast = PySequence_Fast(h.ptr(), "");
  if (!fast) {
    PyErr_Clear();
    fail_type(op, std::string("expected ") + name + " as a sequence of integers");
  }
  nb::object keep = nb::steal(fast);
  const Py_ssize_t n = PySequence_Fast_GET_SIZE(fast);
  if (n > kMaxDims) fail_value(op, "expected at most 8 dimensions, got " + std::to_string(n));
  Dims dims{static_cast<int>(n), {}};
  for (Py_ssize_t i = 0; i < n; ++i) {
    const long long value = PyLong_AsLongLong(PySequence_Fast_GET_ITEM(fast, i));
    if (value == -1 && PyErr_Occurred()) {
      PyErr_Clear();
      fail_type(op, std::string("expected ") + name + " as a sequence of integers");
    }
    dims.values[i] = value;
  }
  return dims;
}

nb::tuple tuple_of(const int64_t* values, int n) {
  PyObject* t = PyTuple_New(n);
  for (int i = 0; i < n; ++i) PyTuple_SET_ITEM(t, i, PyLong_FromLongLong(values[i]));
  return nb::steal<nb::tuple>(t);
}

Buffer empty(nb::handle shape, int dtype) {
  const Dims dims = dims_from(shape, "empty", "shape");
  try {
    return Buffer::empty(dims, dtype_from(dtype));
  } catch (const std::invalid_argument& e) {
    fail_value("empty", std::string(e.what()) + ": " + shape_text(std::span<const int64_t>(dims)));
  }
}

Buffer view(const Buffer& b, nb::handle shape, nb::handle strides, int64_t offset) {
  const Dims s = dims_from(shape, "view", "shape"), t = dims_from(strides, "view", "strides");
  if (s.count != t.count) fail_value("view", "expected as many strides as dimensions");
  return b.view(s, t, offset);
}

// The same elements in another shape, of which one size may be -1: found from the others.
Buffer reshape(const Buffer& b, nb::handle shape) {
  const char* op = "reshape, view";
  const Dims given = dims_from(shape, op, "shape");
  if (!b.contiguous) fail_value(op, "expected a contiguous buffer");
  Dims found = given;
  int64_t known = 1, *open = nullptr;
  bool fits = true;
  for (int d = 0; d < found.count; ++d) {
    if (found.values[d] == -1 && !open) open = &found.values[d];
    else fits = fits && found.values[d] >= 0 && !__builtin_mul_overflow(known, found.values[d], &known);
  }
  if (open && known) {
    *open = b.size / known;
    known *= *open;
  }
  if (!fits || known != b.size || (open && *open < 0))
    fail_value(op, "expected a shape for " + std::to_string(b.size) + " elements, got " + shape_text(given));
  return b.reshaped(found);
}

// Dimensions of length 1 repeated and leading ones added, by strides of 0; a size of -1 keeps a length.
Buffer expand(const Buffer& b, nb::handle shape) {
  const Dims given = dims_from(shape, "expand", "sizes");
  Dims sizes = given, strides{given.count, {}};
  const int lead = sizes.count - b.ndim;
  bool fits = lead >= 0;
  for (int d = 0; fits && d < sizes.count; ++d) {
    int64_t& n = sizes.values[d];
    if (d >= lead) {
      if (n == -1) n = b.shape[d - lead];
      if (b.shape[d - lead] != 1) {
        fits = n == b.shape[d - lead];
        strides.values[d] = b.strides[d - lead];
      }
    }
    fits = fits && n >= 0;
  }
  if (!fits) fail_value("expand", "expected sizes that " + shape_text(b) + " expands to, got " + shape_text(given));
  return b.view(sizes, strides, 0);
}

// New memory of the shape that a and b, of which one may be a number, broadcast to by NumPy's rule; of their dtype, or
// bool.
Buffer empty_broadcast(const char* op, nb::handle a, nb::handle b, bool as_bool) {
  const Buffer *x = nullptr, *z = nullptr;
  nb::try_cast<const Buffer*>(a, x, false);
  nb::try_cast<const Buffer*>(b, z, false);
  if (!x) std::swap(x, z);
  if (!x) fail_type(op, "expected at least one operand that is a buffer");
  const DType dtype = as_bool ? kBool : x->dtype;
  if (!z || std::ranges::equal(x->dims(), z->dims())) return x->empty_like(dtype);
  Dims shape{std::max(x->ndim, z->ndim), {}};
  for (int d = 1; d <= shape.count; ++d) {  // from the last dimension on
    const int64_t n = d <= x->ndim ? x->shape[x->ndim - d] : 1, m = d <= z->ndim ? z->shape[z->ndim - d] : 1;
    if (n != m && n != 1 && m != 1)
      fail_value(op, "expected shapes that broadcast, got " + shape_text(*x) + " and " + shape_text(*z));
    shape.values[shape.count - d] = n == 1 ? m : n;
  }
  return Buffer::empty(shape, dtype);
}

// ---------------------------------------------------------------- from other libraries

Buffer foreign(void* data, DType dtype, std::span<const int64_t> shape, std::span<const int64_t> strides, bool readonly,
               std::shared_ptr<void> owner) {
  Buffer b;
  b.dtype = dtype;
  b.set_shape(shape);
  int64_t low = 0, high = 0;
  for (int d = 0; d < b.ndim; ++d) {
    b.strides[d] = strides[d];
    const int64_t reach = b.shape[d] ? (b.shape[d] - 1) * strides[d] : 0;
    (reach < 0 ? low : high) += reach;
  }
  b.data = static_cast<char*>(data);
  b.storage = StorageRef(Storage::foreign(
      b.data + low * kItemSize[dtype], b.size ? (high - low + 1) * kItemSize[dtype] : 0, readonly, std::move(owner)));
  b.find_contiguous();
  return b;
}

int dtype_of_format(const char* format, Py_ssize_t item) {
  if (!format) return -1;
  if (*format == '@' || *format == '=' || *format == '<') ++format;
  if (std::strlen(format) != 1) return -1;
  switch (*format) {
    case 'f':
      return kFloat32;
    case 'd':
      return kFloat64;
    case 'l':
    case 'q':
      return item == 8 ? kInt64 : -1;
    case '?':
      return kBool;
    default:
      return -1;
  }
}

Buffer from_array(nb::handle array) {
  const char* op = "from_array";
  require_no_recording("new data of the host");
  auto* py = new Py_buffer;
  bool readonly = false;
  if (PyObject_GetBuffer(array.ptr(), py, PyBUF_STRIDES | PyBUF_FORMAT | PyBUF_WRITABLE) != 0) {
    PyErr_Clear();
    readonly = true;
    if (PyObject_GetBuffer(array.ptr(), py, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
      PyErr_Clear();
      delete py;
      fail_type(op, "expected an array with the buffer protocol");
    }
  }
  std::shared_ptr<void> owner(py, [](void* p) {
    auto* view = static_cast<Py_buffer*>(p);
    if (nb::is_alive()) {
      nb::gil_scoped_acquire gil;
      PyBuffer_Release(view);
    }
    delete view;
  });
  const int dtype = dtype_of_format(py->format, py->itemsize);
  if (dtype < 0)
    fail_type(op, std::string("expected dtype float32, float64, int64 or bool, got format '") +
                      (py->format ? py->format : "") + "'");
  if (py->ndim > kMaxDims) fail_value(op, "expected at most 8 dimensions, got " + std::to_string(py->ndim));
  Dims shape{py->ndim, {}}, strides{py->ndim, {}};
  for (int d = 0; d < py->ndim; ++d) {
    shape.values[d] = py->shape[d];
    if (py->strides[d] % py->itemsize) fail_value(op, "expected strides that are whole elements");
    strides.values[d] = py->strides[d] / py->itemsize;
  }
  if (reinterpret_cast<uintptr_t>(py->buf) % kItemSize[dtype])
    fail_value(op, "expected memory aligned to its elements");
  return foreign(py->buf, static_cast<DType>(dtype), shape, strides, readonly, std::move(owner));
}

template <class Array> Buffer from_ndarray(const Array& array, bool readonly) {
  const char* op = "from_dlpack";
  const auto type = array.dtype();
  int dtype = -1;
  if (type == nb::dtype<float>()) dtype = kFloat32;
  else if (type == nb::dtype<double>()) dtype = kFloat64;
  else if (type == nb::dtype<int64_t>()) dtype = kInt64;
  else if (type == nb::dtype<bool>()) dtype = kBool;
  if (dtype < 0) fail_type(op, "expected dtype float32, float64, int64 or bool");
  if (array.ndim() > kMaxDims) fail_value(op, "expected at most 8 dimensions, got " + std::to_string(array.ndim()));
  Dims shape{static_cast<int>(array.ndim()), {}}, strides{static_cast<int>(array.ndim()), {}};
  for (size_t d = 0; d < array.ndim(); ++d) {
    shape.values[d] = static_cast<int64_t>(array.shape(d));
    strides.values[d] = array.stride(d);
  }
  return foreign(const_cast<void*>(static_cast<const void*>(array.data())), static_cast<DType>(dtype), shape, strides,
                 readonly, std::make_shared<Array>(array));
}

Buffer from_dlpack(nb::handle object) {
  require_no_recording("new data of the host");
  nb::ndarray<nb::device::cpu> writable;
  if (nb::try_cast(object, writable)) return from_ndarray(writable, false);
  nb::ndarray<nb::ro, nb::device::cpu> readonly;
  if (nb::try_cast(object, readonly)) return from_ndarray(readonly, true);
  fail_type("from_dlpack", "expected an object whose __dlpack__ gives memory on the host");
}

// ---------------------------------------------------------------- to other libraries

template <class... Flags> nb::object as_ndarray(nb::handle self, Buffer& b) {
  size_t shape[kMaxDims];
  for (int d = 0; d < b.ndim; ++d) shape[d] = static_cast<size_t>(b.shape[d]);
  const nb::dlpack::dtype types[kDTypes] = {nb::dtype<float>(), nb::dtype<double>(), nb::dtype<int64_t>(),
                                            nb::dtype<bool>()};
  return nb::cast(
      nb::ndarray<nb::array_api, nb::device::cpu, Flags...>(b.data, b.ndim, shape, self, b.strides, types[b.dtype]),
      nb::rv_policy::reference);
}

nb::object dlpack(nb::handle self, nb::kwargs options) {
  Buffer& b = nb::cast<Buffer&>(self);
  require_value(b);
  nb::object array;
  if (b.storage->readonly) {
    array = as_ndarray<nb::ro>(self, b);
  } else {
    b.storage->shared = true;
    array = as_ndarray<>(self, b);
  }
  return array.attr("__dlpack__")(**options);
}

nb::dict array_interface(Buffer& b) {
  require_value(b);
  b.storage->shared = b.storage->shared || !b.storage->readonly;
  int64_t byte_strides[kMaxDims];
  for (int d = 0; d < b.ndim; ++d) byte_strides[d] = b.strides[d] * kItemSize[b.dtype];
  nb::dict result;
  result["shape"] = tuple_of(b.shape, b.ndim);
  result["typestr"] = kTypeString[b.dtype];
  result["data"] = nb::make_tuple(reinterpret_cast<uintptr_t>(b.data), b.storage->readonly);
  result["strides"] = tuple_of(byte_strides, b.ndim);
  result["version"] = 3;
  return result;
}

// Whether a Buffer holds a value: Buffer.__new__ alone gives none.
bool made(PyObject* self) {
  if (nb::inst_ready(self)) return true;
  PyErr_SetString(PyExc_TypeError, "[Buffer] expected one made by empty, from_array or from_dlpack");
  return false;
}

int get_buffer(PyObject* self, Py_buffer* out, int flags) {
  if (!made(self)) return -1;
  Buffer* b = nb::inst_ptr<Buffer>(self);
  if (recorded_program() || b->storage->placeholder) {  // array_interface, which is asked next, says why
    PyErr_SetString(PyExc_BufferError, "the buffer holds nothing yet");
    return -1;
  }
  if ((flags & PyBUF_WRITABLE) && b->storage->readonly) {
    PyErr_SetString(PyExc_BufferError, "the buffer is read-only");
    return -1;
  }
  if (!(flags & PyBUF_STRIDES) && !b->contiguous) {
    PyErr_SetString(PyExc_BufferError, "the buffer is not contiguous");
    return -1;
  }
  if (!b->storage->readonly) b->storage->shared = true;
  auto* dims = new Py_ssize_t[2 * kMaxDims];
  for (int d = 0; d < b->ndim; ++d) {
    dims[d] = b->shape[d];
    dims[kMaxDims + d] = b->strides[d] * kItemSize[b->dtype];
  }
  out->obj = self;
  Py_INCREF(self);
  out->buf = b->data;
  out->itemsize = kItemSize[b->dtype];
  out->len = b->bytes();
  out->readonly = b->storage->readonly;
  out->ndim = b->ndim;
  out->format = (flags & PyBUF_FORMAT) ? const_cast<char*>(kFormat[b->dtype]) : nullptr;
  out->shape = (flags & PyBUF_ND) == PyBUF_ND ? dims : nullptr;
  out->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? dims + kMaxDims : nullptr;
  out->suboffsets = nullptr;
  out->internal = dims;
  return 0;
}

void release_buffer(PyObject*, Py_buffer* view) { delete[] static_cast<Py_ssize_t*>(view->internal); }

// What every operation reads, as plain descriptors: a bound property takes twice the instructions.
template <auto Get> PyObject* fact(PyObject* self, void*) {
  return made(self) ? Get(*nb::inst_ptr<Buffer>(self)) : nullptr;
}
PyObject* shape(const Buffer& b) { return tuple_of(b.shape, b.ndim).release().ptr(); }
PyObject* strides(const Buffer& b) { return tuple_of(b.strides, b.ndim).release().ptr(); }
PyObject* dtype(const Buffer& b) { return PyLong_FromLong(b.dtype); }
PyObject* ndim(const Buffer& b) { return PyLong_FromLong(b.ndim); }
PyObject* size(const Buffer& b) { return PyLong_FromLongLong(b.size); }
PyObject* contiguous(const Buffer& b) { return PyBool_FromLong(b.contiguous); }
PyObject* storage_range(const Buffer& b) {
  return Py_BuildValue("KL", reinterpret_cast<uintptr_t>(b.storage->data), static_cast<long long>(b.storage->bytes));
}
PyObject* extent(const Buffer& b) {
  const auto [low, high] = b.extent();
  return Py_BuildValue("KK", reinterpret_cast<uintptr_t>(low), reinterpret_cast<uintptr_t>(high));
}
PyObject* version(const Buffer& b) { return PyLong_FromLongLong(b.storage->version); }

PyGetSetDef facts[] = {{"shape", fact<shape>, nullptr, nullptr, nullptr},
                       {"strides", fact<strides>, nullptr, "In elements.", nullptr},
                       {"dtype", fact<dtype>, nullptr, "0 float32, 1 float64, 2 int64, 3 bool.", nullptr},
                       {"ndim", fact<ndim>, nullptr, nullptr, nullptr},
                       {"size", fact<size>, nullptr, nullptr, nullptr},
                       {"contiguous", fact<contiguous>, nullptr, nullptr, nullptr},
                       {"version", fact<version>, nullptr, "How often it was written to.", nullptr},
                       {"extent", fact<extent>, nullptr, "Addresses [low, high) that it spans.", nullptr},
                       {"storage", fact<storage_range>, nullptr, "Address and bytes of all memory behind it.", nullptr},
                       {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyType_Slot slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
                       {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
                       {Py_tp_getset, facts},
                       {0, nullptr}};

}  // namespace

void bind_buffer(nb::module_& m) {
  nb::class_<Buffer>(m, "Buffer", nb::type_slots(slots), nb::pooled(), "A typed, strided window onto host memory.")
      .def_prop_ro("nbytes", &Buffer::bytes)
      .def_prop_ro("readonly", [](const Buffer& b) { return b.storage->readonly; })
      .def_prop_ro(
          "shared", [](const Buffer& b) { return b.storage->shared; }, "Whether others may write to it unseen.")
      .def_prop_ro("data_ptr", [](const Buffer& b) { return reinterpret_cast<uintptr_t>(b.data); })
      .def(
          "same_kind",
          [](const Buffer& a, const Buffer& b) { return a.dtype == b.dtype && std::ranges::equal(a.dims(), b.dims()); },
          "Whether shape and dtype are equal.")
      .def(
          "placed",
          [](const Buffer& b, const Buffer& memory, int64_t offset) {
            if (offset < 0 || b.extent().second - b.storage->data + offset > memory.bytes())
              fail_value("placed", "expected memory that holds the buffer");
            Buffer result = b;
            result.storage = memory.storage;
            result.data = memory.data + offset + (b.data - b.storage->data);
            return result;
          },
          nb::arg("memory"), nb::arg("offset"),
          "The same window, its storage starting so many bytes into another buffer's memory.")
      .def("same_storage", [](const Buffer& a, const Buffer& b) { return a.storage == b.storage; })
      .def(
          "touch", [](Buffer& b) { ++b.storage->version; }, "Counts a write made by other means.")
      .def("view", &view, nb::arg("shape"), nb::arg("strides"), nb::arg("offset") = 0,
           "A window onto the same memory; strides and offset in elements.")
      .def("reshape", &reshape, "The same elements in another shape; for contiguous buffers.")
      .def("expand", &expand, "Dimensions of length 1 repeated and leading ones added, onto the same memory.")
      .def(
          "empty_like", [](const Buffer& b) { return b.empty_like(b.dtype); }, "New memory of this shape and dtype.")
      .def_prop_ro("__array_interface__", &array_interface)
      .def("__dlpack__", &dlpack)
      .def("__dlpack_device__", [](const Buffer&) { return nb::make_tuple(1, 0); });
  m.def("empty", &empty, "New contiguous memory of a shape and dtype, uninitialised.");
  m.def("empty_broadcast", &empty_broadcast, "New memory for the result of an operation on two operands.");
  m.def("from_array", &from_array, nb::arg("array"), "Shares an array's memory; read-only where the array is.");
  m.def("from_dlpack", &from_dlpack, nb::arg("array"), "Shares the memory of an object with __dlpack__.");
}

}  // namespace fastbp

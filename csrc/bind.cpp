#include "bind.h"

#include <chrono>
#include <cstring>
#include <thread>

namespace fastbp {

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "(";
  for (size_t d = 0; d < shape.size(); ++d) text += (d ? ", " : "") + std::to_string(shape[d]);
  return text + (shape.size() == 1 ? ",)" : ")");
}
std::string shape_text(const Buffer& b) { return shape_text(b.dims()); }

void fail_value(const std::string& op, const std::string& message) {
  throw nb::value_error(("[" + op + "] " + message).c_str());
}
void fail_type(const std::string& op, const std::string& message) {
  throw nb::type_error(("[" + op + "] " + message).c_str());
}

void* input(const std::string& op, const char* name, const Buffer& b, DType dtype) {
  if (b.dtype != dtype)
    fail_type(op, std::string("expected ") + name + " of dtype " + kDTypeName[dtype] + ", got " + kDTypeName[b.dtype]);
  if (!b.contiguous)
    fail_value(op, std::string("expected a contiguous ") + name + ", got strides " +
                       shape_text(std::span<const int64_t>(b.strides, b.ndim)));
  return b.data;
}

void* input(const std::string& op, const char* name, const Buffer& b, DType dtype,
            std::initializer_list<int64_t> shape) {
  if (b.ndim != static_cast<int>(shape.size()) || !std::equal(shape.begin(), shape.end(), b.shape))
    fail_value(op, std::string("expected ") + name + " of shape " + shape_text({shape.begin(), shape.size()}) +
                       ", got " + shape_text(b));
  return input(op, name, b, dtype);
}

void count_write(const std::string& op, const char* name, Buffer& b) {
  if (b.storage->readonly) fail_value(op, std::string("expected a writable ") + name + ", got a read-only one");
  ++b.storage->version;
  if (Program* program = recorded_program()) program->note_write(b.storage);
}

void* output(const std::string& op, const char* name, Buffer& b, DType dtype) {
  void* p = input(op, name, b, dtype);
  count_write(op, name, b);
  return p;
}

void* output(const std::string& op, const char* name, Buffer& b, DType dtype, std::initializer_list<int64_t> shape) {
  void* p = input(op, name, b, dtype, shape);
  count_write(op, name, b);
  return p;
}

void require_dims(const std::string& op, const char* name, const Buffer& b, int ndim, const char* meaning) {
  if (b.ndim != ndim)
    fail_value(op, std::string("expected ") + name + " of shape " + meaning + ", got " + shape_text(b));
}

void require_same_shape(const std::string& op, const char* name, const Buffer& b, const char* other_name,
                        const Buffer& other) {
  if (b.ndim != other.ndim || std::memcmp(b.shape, other.shape, sizeof(int64_t) * b.ndim) != 0)
    fail_value(op, std::string("expected ") + name + " of the shape of " + other_name + ", " + shape_text(other) +
                       ", got " + shape_text(b));
}

void require_apart(const std::string& op, const Buffer& out, const Buffer& in, bool in_place) {
  if (out.storage != in.storage || !out.size || !in.size) return;
  if (in_place && out.data == in.data && out.size == in.size && out.dtype == in.dtype) return;
  const auto [a0, a1] = out.extent();
  const auto [b0, b1] = in.extent();
  if (a0 < b1 && b0 < a1)
    fail_value(op, "expected an output that shares no memory with an input, got overlapping ones");
}

void set_dimensions(Args& args, std::span<const int64_t> shape, const int64_t (*strides)[kMaxDims], int operands) {
  int n = 0;
  int64_t count = 1;
  for (size_t d = 0; d < shape.size(); ++d) {
    count *= shape[d];
    if (shape[d] == 1) continue;
    bool merge = n > 0;
    for (int k = 0; k < operands && merge; ++k)
      merge = args.n[kStridesAt + k * kMaxDims + n - 1] == strides[k][d] * shape[d];
    if (!merge) args.n[kShapeAt + n++] = 1;
    args.n[kShapeAt + n - 1] *= shape[d];
    for (int k = 0; k < operands; ++k) args.n[kStridesAt + k * kMaxDims + n - 1] = strides[k][d];
  }
  if (n == 0) args.n[kShapeAt + n++] = 1;
  args.n[0] = n;
  args.n[1] = count;
}

void set_constant(const std::string& op, const char* name, nb::handle value, DType dtype, Args& args, int which) {
  double real = 0;
  int64_t integer = 0;
  if (dtype == kInt64 || dtype == kBool) {
    if (!nb::try_cast<int64_t>(value, integer))
      fail_type(op, std::string("expected ") + name + " as an integer for dtype " + kDTypeName[dtype]);
    if (dtype == kBool) integer = integer != 0;
    real = static_cast<double>(integer);
  } else if (!nb::try_cast<double>(value, real)) {
    fail_type(op, std::string("expected ") + name + " as a number");
  }
  args.c[which] = real;
  args.n[kIntConstantAt + which] = integer;
}

const Kernel& kernel_for(const std::string& op, const Entry& entry, DType dtype) {
  const Kernel& kernel = entry.kernel[dtype];
  if (!kernel.phases[0].run) fail_type(op, std::string("does not take dtype ") + kDTypeName[dtype]);
  return kernel;
}

Place place_of(const char* name) {
  const KernelTable* table = active_table();
  for (int list = 0; list < table->count; ++list)
    for (int index = 0; index < table->lists[list].count; ++index) {
      const Entry& entry = table->lists[list].entries[index];
      if (entry.family != Family::kUnary && entry.family != Family::kUnaryBackward && !std::strcmp(entry.name, name))
        return {list, index};
    }
  throw std::runtime_error(std::string("no kernel is named ") + name);
}

namespace {

// The GIL is given away while this lives. When Python ends, a thread that wants it back is ended by pthread_exit, whose
// unwinding must not reach nanobind's noexcept functions: the thread waits here for the end of the process, as all such
// threads do from Python 3.14 on.
class WithoutGil {
 public:
  WithoutGil() = default;
  WithoutGil(const WithoutGil&) = delete;
  ~WithoutGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }

 private:
  PyThreadState* state_ = PyEval_SaveThread();
};

thread_local Program* recorded = nullptr;

PyObject* observer = nullptr;  // owned; a plain pointer, since the interpreter is gone when statics are destroyed

void tell_observer(const Kernel& kernel, const Args& args) {
  const nb::handle callback(observer);
  const KernelTable* table = active_table();
  for (int list = 0; list < table->count; ++list)
    for (int index = 0; index < table->lists[list].count; ++index) {
      const Entry& entry = table->lists[list].entries[index];
      for (int dtype = 0; dtype < kDTypes; ++dtype)
        if (&entry.kernel[dtype] == &kernel) callback(list, index, dtype, entry.name, nb::bytes(&args, sizeof args));
    }
}

}  // namespace

Program* recorded_program() { return recorded; }

void record_into(Program* program) {
  recorded = program;
  new_memory_is_promised = program != nullptr;
}

void require_no_recording(const char* what) {
  if (recorded) throw RecordingError(what);
}

[[noreturn]] static void fail_left_behind() {
  throw std::runtime_error("[compile] expected a tensor with values, got one that only stood for a program's");
}

void require_value(const Buffer& b) {
  require_no_recording("a tensor's values on the host");
  if (b.storage->placeholder) fail_left_behind();
}

void fail_index(const IndexCheck& check, int64_t found) {
  const std::string range = std::to_string(check.low) + " to " + std::to_string(check.high - 1);
  throw nb::index_error(("[" + check.op + "] expected " + (check.ignored ? "target classes from " : "indices from ") +
                         range + (check.ignored ? " or ignore_index " + std::to_string(*check.ignored) : "") +
                         ", got " + std::to_string(found))
                            .c_str());
}

void require_in_range(const IndexCheck& check) {
  if (recorded) recorded->note_check(check);
  else if (const int64_t* found = check.first_out_of_range()) fail_index(check, *found);
}

void observe_calls(nb::handle callback) {
  PyObject* before = observer;
  observer = callback.is_none() ? nullptr : callback.inc_ref().ptr();
  Py_XDECREF(before);
}

void run_without_gil(const std::function<void()>& job) {
  WithoutGil released;
  job();
}

void call(const Kernel& kernel, const Args& args, unsigned lists) {
  if (Program* program = recorded_program()) [[unlikely]]
    return program->add(kernel, args, lists);
  bool promised = false;
  for (const void* p : args.p) promised |= is_placeholder(p);
  if (promised) [[unlikely]]
    fail_left_behind();
  if (observer) [[unlikely]]
    tell_observer(kernel, args);
  if (kernel.work && kernel.work(args) < kWorthTheGil) {
    run_kernel(kernel, args);
  } else {
    WithoutGil released;
    run_kernel(kernel, args);
  }
}

DType dtype_from(int code) {
  if (code < 0 || code >= kDTypes) throw nb::value_error("[dtype] expected a code from 0 to 3");
  return static_cast<DType>(code);
}

}  // namespace fastbp

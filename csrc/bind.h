// Checks that every binding makes before a kernel runs, and the call itself. Only module.cpp, bind_*.cpp and
// kernel_call.h include this: it is the border to Python.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <functional>
#include <string>

#include "buffer.h"
#include "dispatch.h"
#include "program.h"
#include "threads.h"

namespace fastbp {
namespace nb = nanobind;

std::string shape_text(const Buffer& b);
std::string shape_text(std::span<const int64_t> shape);

[[noreturn]] void fail_value(const std::string& op, const std::string& message);  // ValueError "[op] message"
[[noreturn]] void fail_type(const std::string& op, const std::string& message);   // TypeError

// An operand that is read: contiguous, of the type and shape asked for. Returns its memory.
void* input(const std::string& op, const char* name, const Buffer& b, DType dtype);
void* input(const std::string& op, const char* name, const Buffer& b, DType dtype,
            std::initializer_list<int64_t> shape);
// An operand that is written: as above and writable; the write is counted.
void* output(const std::string& op, const char* name, Buffer& b, DType dtype);
void* output(const std::string& op, const char* name, Buffer& b, DType dtype, std::initializer_list<int64_t> shape);

// Refuses read-only memory and counts a write to it.
void count_write(const std::string& op, const char* name, Buffer& b);

void require_dims(const std::string& op, const char* name, const Buffer& b, int ndim, const char* meaning);
void require_same_shape(const std::string& op, const char* name, const Buffer& b, const char* other_name,
                        const Buffer& other);

// Refuses an output that shares memory with an input; `in_place` allows the very same elements.
void require_apart(const std::string& op, const Buffer& out, const Buffer& in, bool in_place = false);

// Layout of Args.n for kernels that walk collapsed dimensions, as csrc/broadcast.h has it.
constexpr int kShapeAt = 2, kStridesAt = kShapeAt + kMaxDims, kIntConstantAt = kStridesAt + 3 * kMaxDims;

// Writes the dimensions and `operands` sets of strides into args, neighbours along which all operands move as one
// merged.
void set_dimensions(Args& args, std::span<const int64_t> shape, const int64_t (*strides)[kMaxDims], int operands);

// Puts a number into args as by-value constant `which`; TypeError when it is none that fits the type.
void set_constant(const std::string& op, const char* name, nb::handle value, DType dtype, Args& args, int which);

// The kernel for a type, or TypeError. The second form finds a single kernel's place by name, once, at import.
const Kernel& kernel_for(const std::string& op, const Entry& entry, DType dtype);
struct Place {
  int list, index;
  const Entry& entry() const { return active_entry(list, index); }
};
Place place_of(const char* name);

// Runs a checked call; gives the GIL away when the work is long enough to be worth it. While this thread records a
// program, notes it there instead. `lists` has a bit for each operand that is a list of tensors.
void call(const Kernel& kernel, const Args& args, unsigned lists = 0);

// The program that this thread records, or null. While there is one, operands hold nothing yet.
Program* recorded_program();
void record_into(Program* program);

// Refuses to show memory to others, or to take memory from them, while this thread records a program.
void require_no_recording(const char* what);
void require_value(const Buffer& b);

// Refuses indices out of range: now, or each time that the recorded program runs.
void require_in_range(const IndexCheck& check);
[[noreturn]] void fail_index(const IndexCheck& check, int64_t found);

// Handing over the GIL costs about 0.1 µs and wakes other threads; so many operations are about 1 µs of one core.
constexpr int64_t kWorthTheGil = 50'000;

// Runs a job without the GIL.
void run_without_gil(const std::function<void()>& job);

// From now on, before every call: callback(list, index, dtype, name, bytes of Args), its pointers valid until it
// returns. None ends it. tests/replay writes down what every kernel gets.
void observe_calls(nb::handle callback);

// Runs a program: `inputs` in the place of its inputs; `results` are the buffers that `outputs` stand for. False, and
// nothing was run, where an input shares memory that the program writes: then there is no fixed order.
bool run_program(Program& program, std::span<const Buffer* const> inputs, std::span<const Buffer* const> outputs,
                 std::vector<Buffer>& results);

// Of the calling thread: whether operations are recorded for differentiation, and whether programs may run here:
// kernels are those of this backend, and fused operations are asked for.
bool gradients_recorded();
bool runs_native();

DType dtype_from(int code);

void bind_buffer(nb::module_& m);
void bind_elementwise(nb::module_& m);
void bind_copy(nb::module_& m);
void bind_gemm(nb::module_& m);
void bind_rows(nb::module_& m);
void bind_norm(nb::module_& m);
void bind_loss(nb::module_& m);
void bind_random(nb::module_& m);
void bind_optim(nb::module_& m);
void bind_thread(nb::module_& m);
void bind_program(nb::module_& m);
void bind_step(nb::module_& m);
}  // namespace fastbp

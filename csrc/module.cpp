// fastbp._native: the extension module. Families are bound in the bind_*.cpp files; here is what runs them.
#include <nanobind/stl/vector.h>

#include "bind.h"

namespace fastbp {
namespace {

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const KernelTable* table : available_tables()) names.emplace_back(table->isa);
  return names;
}

std::string isa_list() {
  std::string text;
  for (const std::string& name : available_isas()) text += (text.empty() ? "" : ", ") + name;
  return text;
}

void set_isa(const std::string& name) {
  if (!set_active_table(name))
    fail_value("set_isa", "expected an instruction set of this CPU (" + isa_list() + "), got " + name);
}

void set_threads(int count) {
  if (count < 1 || count > max_threads())
    fail_value("set_num_threads", "expected a number of threads from 1 to " + std::to_string(max_threads()) + ", got " +
                                      std::to_string(count));
  set_thread_count(count);
}

void choose_threads_from_environment() {
  const char* text = std::getenv("FASTBP_NUM_THREADS");
  if (!text || !*text) return;
  char* end = nullptr;
  const long count = std::strtol(text, &end, 10);
  if (*end || count < 1 || count > max_threads())
    throw nb::import_error(
        ("FASTBP_NUM_THREADS: expected a number from 1 to " + std::to_string(max_threads()) + ", got " + text).c_str());
  set_thread_count(static_cast<int>(count), "FASTBP_NUM_THREADS");
}

void choose_isa_from_environment() {
  const char* name = std::getenv("FASTBP_ISA");
  if (name && *name && !set_active_table(name))
    throw nb::import_error(
        ("FASTBP_ISA: expected an instruction set of this CPU (" + isa_list() + "), got " + name).c_str());
}

int64_t fma_loop(int64_t iterations, Buffer& sink) {
  static const Place place = place_of("fma_loop");
  static const std::string op = "fma_loop";
  Args a{};
  a.p[0] = output(op, "sink", sink, sink.dtype);
  a.n[0] = sink.size;
  a.n[1] = iterations;
  const Kernel& kernel = kernel_for(op, place.entry(), sink.dtype);
  call(kernel, a);
  return kernel.work(a);
}

int64_t copy_loop(const Buffer& from, Buffer& to, bool streaming) {
  static const Place place = place_of("copy_loop");
  static const std::string op = "copy_loop";
  Args a{};
  a.p[0] = input(op, "from", from, from.dtype);
  a.p[1] = output(op, "to", to, from.dtype);
  require_same_shape(op, "to", to, "from", from);
  require_apart(op, to, from);
  if (streaming && reinterpret_cast<uintptr_t>(a.p[1]) % 64) fail_value(op, "expected to aligned to 64 bytes");
  a.n[0] = to.size;
  a.n[1] = streaming;
  const Kernel& kernel = kernel_for(op, place.entry(), from.dtype);
  call(kernel, a);
  return kernel.work(a);
}

}  // namespace

NB_MODULE(_native, m) {
  nb::set_leak_warnings(false);  // the default generator's state lives until the process ends
  m.doc() = "Compiled kernels of fastbp.";
  choose_isa_from_environment();
  choose_threads_from_environment();
  bind_buffer(m);
  bind_elementwise(m);
  bind_copy(m);
  bind_gemm(m);
  bind_rows(m);
  bind_norm(m);
  bind_loss(m);
  bind_random(m);
  bind_optim(m);
  bind_thread(m);
  bind_program(m);
  bind_step(m);
  m.def("available_isas", &available_isas, "Instruction sets that this CPU can run, slowest first.");
  m.def("isa", [] { return std::string(active_table()->isa); }, "The instruction set in use.");
  m.def("set_isa", &set_isa, nb::arg("name"));
  m.def("threads", &thread_count, "Threads that a large kernel is split over.");
  m.def("thread_reason", [] { return std::string(thread_reason()); }, "Why that many threads.");
  m.def("set_threads", &set_threads, nb::arg("count"));
  m.def("fma_loop", &fma_loop, nb::arg("iterations"), nb::arg("sink"),
        "Runs fused multiply-adds on registers, one loop for every element of sink; returns the operations done.");
  m.def("copy_loop", &copy_loop, nb::arg("from_"), nb::arg("to"), nb::arg("streaming"),
        "Copies by plain or streaming vector stores; returns the bytes read plus the bytes written.");
  m.def(
      "observe_calls", &observe_calls, nb::arg("callback").none(),
      "Calls callback(list, index, dtype, name, args) before every kernel, with its place in the table; None ends it.");
  m.def("work_gate", &work_gate, "Operations below which a call stays on the calling thread.");
  m.def("set_work_gate", &set_work_gate, nb::arg("operations"));
  m.def("stream_gate", &stream_gate, "Bytes from which a call's outputs go past the caches.");
  m.def("set_stream_gate", &set_stream_gate, nb::arg("bytes"));
}

}  // namespace fastbp

// Bindings of recorded programs.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>

#include "bind.h"
#include "epoch.h"

namespace fastbp {
namespace {

// (first address, bytes, kind, place, row bytes)
using HomeFacts = std::tuple<uintptr_t, int64_t, int, int64_t, int64_t>;
// (rows, block, grain, chunked, [(call, phase)])
using GroupFacts = std::tuple<int64_t, int64_t, int64_t, int, std::vector<std::tuple<int, int>>>;

void finish(Program& program, const std::vector<HomeFacts>& home_facts, int64_t arena_bytes, int64_t each_share_bytes,
            const std::vector<std::vector<GroupFacts>>& stage_facts, int most_shares, int64_t chunk_rows) {
  std::vector<Home> homes;
  for (const auto& [begin, bytes, kind, place, row_bytes] : home_facts)
    homes.push_back({begin, begin + static_cast<uintptr_t>(bytes), static_cast<Home::Kind>(kind), place, row_bytes});
  std::vector<Stage> stages;
  for (const std::vector<GroupFacts>& groups : stage_facts) {
    Stage& stage = stages.emplace_back();
    for (const auto& [rows, block, grain, chunked, members] : groups) {
      Group& group = stage.emplace_back(Group{rows, block, grain, static_cast<Group::Chunked>(chunked), {}, {}});
      for (const auto& [call, phase] : members) group.members.push_back({call, phase, nullptr, nullptr, 0, 1, 0, 0});
    }
  }
  program.finish(std::move(homes), arena_bytes, each_share_bytes, std::move(stages), most_shares, chunk_rows);
}

// Of each call, (count, grain) of its phases.
nb::list phases_of(const Program& program) {
  nb::list all;
  for (const RecordedCall& call : program.calls()) {
    nb::list phases;
    for (const Phase& phase : call.kernel().phases) {
      if (!phase.run) break;
      phases.append(nb::make_tuple(phase.count(call.args[0]), phase.grain));
    }
    all.append(phases);
  }
  return all;
}

std::optional<nb::list> run(Program& program, const std::vector<const Buffer*>& inputs,
                            const std::vector<const Buffer*>& outputs) {
  std::vector<Buffer> results;
  if (!run_program(program, inputs, outputs, results)) return std::nullopt;
  nb::list list;
  for (Buffer& result : results) list.append(nb::cast(std::move(result)));
  return list;
}

// (source, target) of rows to gather; (memory, table) of what each step reads or leaves.
using Pairs = std::vector<std::pair<const Buffer*, const Buffer*>>;

// Runs `steps` steps of `rows` rows each. `inputs` and `outputs` are the memory of the program's inputs and outputs.
// check: whether the arrays' indices have still to be checked. Returns the steps done: fewer where a guard ended one.
int64_t run_epoch(Program& program, const std::vector<const Buffer*>& inputs, const std::vector<const Buffer*>& outputs,
                  const std::vector<const Buffer*>& arrays, const Buffer* order, int64_t first, int64_t steps,
                  int64_t rows, const Pairs& settings, const Pairs& results, bool check) {
  auto lock = program.lock();
  if (!lock.try_lock()) {
    nb::gil_scoped_release released;
    lock.lock();
  }
  for (size_t i = 0; i < inputs.size(); ++i) program.place(Home::kInput, static_cast<int64_t>(i), inputs[i]->data);
  for (size_t i = 0; i < outputs.size(); ++i) program.place(Home::kOutput, static_cast<int64_t>(i), outputs[i]->data);
  if (check) {
    for (IndexCheck indices : program.checks()) {
      for (size_t i = 0; i < arrays.size(); ++i)
        if (indices.at >= inputs[i]->data && indices.at < inputs[i]->data + inputs[i]->bytes()) {
          indices.at = arrays[i]->data;  // all of the array, since a later step takes the rest
          indices.count = arrays[i]->size;
        }
      if (const int64_t* found = indices.first_out_of_range()) fail_index(indices, *found);
    }
  }
  Epoch epoch{program, steps, rows, nullptr, {}, {}, {}};
  if (order) epoch.order = reinterpret_cast<const int64_t*>(order->data) + first;
  for (size_t i = 0; i < arrays.size(); ++i) {
    const int64_t row_bytes = inputs[i]->bytes() / rows;
    epoch.feeds.push_back({arrays[i]->data + (order ? 0 : first * row_bytes), row_bytes, inputs[i]->data});
  }
  for (const auto& [memory, table] : settings) epoch.settings.push_back({memory->data, table->data, memory->bytes()});
  for (const auto& [memory, table] : results) epoch.results.push_back({memory->data, table->data, memory->bytes()});
  program.refresh_panels();
  program.count_writes();
  int64_t done = 0;
  run_without_gil([&] { done = epoch.run(); });
  return done;
}

// A tensor for panels (pack.h) of a matrix, or of its transpose.
Buffer empty_panels(const Buffer& matrix, bool transposed) {
  require_dims("pack", "matrix", matrix, 2, "(n, k)");
  const int64_t rows = matrix.shape[transposed ? 1 : 0], columns = matrix.shape[transposed ? 0 : 1];
  const int64_t width = panel_width(matrix.dtype), shape[] = {rows, (columns + width - 1) / width * width};
  return Buffer::empty(shape, matrix.dtype);
}

void add_pack(Program& program, const Buffer& matrix, bool transposed, Buffer& panels) {
  input("pack", "matrix", matrix, matrix.dtype);
  program.add_pack(matrix.dtype, matrix.data, matrix.shape[0], matrix.shape[1], transposed, panels.data);
}

}  // namespace

bool run_program(Program& program, std::span<const Buffer* const> inputs, std::span<const Buffer* const> outputs,
                 std::vector<Buffer>& results) {
  for (const Buffer* b : inputs) require_value(*b);
  if (!program.can_order(inputs)) return false;
  auto lock = program.lock();
  if (!lock.try_lock()) {
    nb::gil_scoped_release released;
    lock.lock();
  }
  for (size_t i = 0; i < inputs.size(); ++i) program.place(Home::kInput, static_cast<int64_t>(i), inputs[i]->data);
  results.reserve(outputs.size());
  for (const Buffer* b : outputs) {
    Buffer& result = results.emplace_back(*b);
    const Home* home = program.home_of(b->storage->data);
    if (!home) continue;
    const size_t number = static_cast<size_t>(home->place);
    char* begin;
    if (home->kind == Home::kInput) {
      result.storage = inputs[number]->storage;
      begin = inputs[number]->data;
    } else {
      // Outputs onto the same memory are views of each other.
      const auto same = std::find_if(outputs.begin(), outputs.begin() + (results.size() - 1),
                                     [&](const Buffer* other) { return other->storage == b->storage; });
      const size_t first = static_cast<size_t>(same - outputs.begin());
      const bool is_new = first + 1 == results.size();
      result.storage =
          is_new ? StorageRef(Storage::own(static_cast<int64_t>(home->end - home->begin))) : results[first].storage;
      begin = result.storage->data;
      if (is_new) program.place(Home::kOutput, home->place, begin);
    }
    result.data = begin + (b->data - b->storage->data);
  }
  for (const IndexCheck& check : program.checks())
    if (const int64_t* found = check.first_out_of_range()) fail_index(check, *found);
  program.refresh_panels();
  program.count_writes();
  for (int64_t i : program.changed_inputs()) ++inputs[static_cast<size_t>(i)]->storage->version;
  if (program.job().work < kWorthTheGil) {
    program.run();
  } else {
    run_without_gil([&] { program.run(); });
  }
  if (program.ended()) {
    const double value = program.guarded_value();
    const std::string got = std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
    PyErr_SetString(PyExc_FloatingPointError, ("[compile] expected a finite first result, got " + got).c_str());
    throw nb::python_error();
  }
  return true;
}

void bind_program(nb::module_& m) {
  nb::exception<RecordingError>(m, "RecordingError", PyExc_BaseException);  // which nobody catches in passing
  nb::class_<Program>(m, "Program", "Recorded kernel calls that run as one.")
      .def(nb::init<>())
      .def("finish", &finish)
      .def("run_once", &Program::run_once)
      .def("run_epoch", &run_epoch, nb::arg("inputs"), nb::arg("outputs"), nb::arg("arrays"), nb::arg("order").none(),
           nb::arg("first"), nb::arg("steps"), nb::arg("rows"), nb::arg("settings"), nb::arg("results"),
           nb::arg("check"), "Runs many steps, gathering rows of arrays and keeping results.")
      .def(
          "save_before_guard",
          [](Program& program, uintptr_t address, int64_t bytes) {
            program.save_before_guard(reinterpret_cast<char*>(address), bytes);
          },
          nb::arg("address"), nb::arg("bytes"), "Memory to be put back when a guard ends a run.")
      .def_prop_ro("checks_stand", &Program::checks_stand,
                   "Whether indices that were in range before a run are so before the next one with the same inputs.")
      .def(
          "can_order",
          [](const Program& program, const std::vector<const Buffer*>& inputs) { return program.can_order(inputs); },
          nb::arg("inputs"), "Whether memory that the program changes is known to it by one name only.")
      .def(
          "set_reach",
          [](Program& program, std::vector<Ranges::Range> reached, std::vector<Ranges::Range> overwritten,
             std::vector<int64_t> changed) {
            program.set_reach(Ranges(std::move(reached)), Ranges(std::move(overwritten)), std::move(changed));
          },
          nb::arg("reached"), nb::arg("overwritten"), nb::arg("changed_inputs"),
          "Ranges of outside memory that the program touches and writes, and the inputs that it changes.")
      .def("add_pack", &add_pack, nb::arg("matrix"), nb::arg("transposed"), nb::arg("panels"),
           "A call that copies a matrix, or its transpose, into panels.")
      .def(
          "use_panels", [](Program& program, int call, Buffer& panels) { program.use_panels(call, panels.data); },
          nb::arg("call"), nb::arg("panels"), "Gives panels to a product.")
      .def(
          "keep_panels",
          [](Program& program, int call, const Buffer& matrix) { program.keep_panels(call, matrix.storage); },
          nb::arg("call"), nb::arg("matrix"), "Packs them before a run whenever somebody else wrote to the matrix.")
      .def_prop_ro("call_count", [](const Program& program) { return program.calls().size(); })
      .def("phases", &phases_of, "[(units, grain) of each phase] of each call.")
      .def("run", &run, nb::arg("inputs"), nb::arg("outputs"),
           "Runs with these buffers; returns the outputs that placeholders stand for, or None for aliased inputs.")
      .def_prop_ro("guarded_value", &Program::guarded_value, "The first result, of a program with a guard.")
      .def_prop_ro("barriers", &Program::barriers);
  m.def("record_into", &record_into, nb::arg("program").none(),
        "Notes this thread's kernel calls in a program from now on, or runs them again (None).");
  m.def("panel_width", [](int dtype) { return panel_width(dtype_from(dtype)); }, "Columns of a strip of panels.");
  m.def("empty_panels", &empty_panels, nb::arg("matrix"), nb::arg("transposed"), "Memory for panels of a matrix.");
  m.attr("PLACEHOLDERS") = kPlaceholders;
}

}  // namespace fastbp

// The quick way into a program: a callable that finds out natively whether a program may stand for its function now,
// and runs it. Everything that it does not know goes to the method `_call` of its Python subclass.
//
// What a program relies on is checked by identity: a slot of a tensor (its buffer, its gradient), or an entry of a
// dictionary (an option of an optimizer, a module's mode) still holds the very object that it held.
#include "bind.h"

#include <nanobind/stl/vector.h>
#include <structmember.h>

#include <algorithm>

namespace fastbp {
namespace {

// The places of a Tensor's slots, and its type; found once.
struct TensorSlots {
  PyTypeObject* type = nullptr;
  Py_ssize_t buffer, grad, requires_grad, node, index, hooks;

  static Py_ssize_t offset_of(nb::handle type, const char* name) {
    nb::object member = type.attr("__dict__")[name];
    if (Py_TYPE(member.ptr()) != &PyMemberDescr_Type) throw nb::type_error("[Step] expected the slots of a Tensor");
    return reinterpret_cast<PyMemberDescrObject*>(member.ptr())->d_member->offset;
  }
  void find(nb::handle tensor_type) {
    buffer = offset_of(tensor_type, "buffer");
    grad = offset_of(tensor_type, "grad");
    requires_grad = offset_of(tensor_type, "_requires_grad");
    node = offset_of(tensor_type, "_node");
    index = offset_of(tensor_type, "_index");
    hooks = offset_of(tensor_type, "hooks");
    type = reinterpret_cast<PyTypeObject*>(tensor_type.inc_ref().ptr());
  }
  static PyObject*& at(PyObject* tensor, Py_ssize_t offset) {
    return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(tensor) + offset);
  }
  // A tensor without history around a buffer.
  nb::object make(Buffer&& b) const {
    nb::object result = nb::steal(type->tp_alloc(type, 0));
    if (!result) throw nb::python_error();
    at(result.ptr(), buffer) = nb::cast(std::move(b)).release().ptr();
    at(result.ptr(), grad) = Py_NewRef(Py_None);
    at(result.ptr(), requires_grad) = Py_NewRef(Py_False);
    at(result.ptr(), node) = Py_NewRef(Py_None);
    at(result.ptr(), index) = PyLong_FromLong(0);
    at(result.ptr(), hooks) = Py_NewRef(Py_None);
    return result;
  }
};
TensorSlots slots;

struct SlotGuard {
  nb::object tensor;
  Py_ssize_t offset;
  nb::object expected;
  bool holds() const { return TensorSlots::at(tensor.ptr(), offset) == expected.ptr(); }
};
struct EntryGuard {
  nb::object dict, key, expected;
  bool holds() const { return PyDict_GetItem(dict.ptr(), key.ptr()) == expected.ptr(); }
};

// A program with what it relies on.
struct Known {
  nb::object owner;  // keeps program and outputs alive
  Program* program;
  std::vector<Buffer> inputs;  // of these shapes and types
  std::vector<const Buffer*> outputs;
  bool gradients_enabled;
  const KernelTable* table;
  int threads;
  std::vector<SlotGuard> tensors;
  std::vector<EntryGuard> entries;
  std::vector<nb::object> without_gradient;  // tensors whose gradient is gone after a run
  int results;                               // how many outputs are returned: as a tuple, or the only one itself
  bool as_tuple;

  bool takes(PyObject* args, const Buffer** given) const {
    if (PyTuple_GET_SIZE(args) != static_cast<Py_ssize_t>(inputs.size())) return false;
    for (size_t i = 0; i < inputs.size(); ++i) {
      PyObject* x = PyTuple_GET_ITEM(args, static_cast<Py_ssize_t>(i));
      if (!PyObject_TypeCheck(x, slots.type) || TensorSlots::at(x, slots.requires_grad) != Py_False) return false;
      const Buffer& b = *nb::inst_ptr<Buffer>(TensorSlots::at(x, slots.buffer));
      if (b.dtype != inputs[i].dtype || !b.contiguous || !std::ranges::equal(b.dims(), inputs[i].dims())) return false;
      given[i] = &b;
    }
    return true;
  }
  bool holds() const {
    return gradients_enabled == gradients_recorded() && table == active_table() && threads == thread_count() &&
           std::ranges::all_of(tensors, &SlotGuard::holds) && std::ranges::all_of(entries, &EntryGuard::holds);
  }
};

constexpr size_t kMostInputs = 16, kMostKnown = 8;

struct Step {
  nb::object last;                            // whose program ran last, or None
  std::vector<std::shared_ptr<Known>> known;  // the last used first
};

// What a call returns, or null where nothing known holds.
nb::object call_known(Step& step, PyObject* args) {
  if (!runs_native()) return {};
  const Buffer* given[kMostInputs];
  const auto found =
      std::ranges::find_if(step.known, [&](const auto& k) { return k->takes(args, given) && k->holds(); });
  if (found == step.known.end()) return {};
  std::rotate(step.known.begin(), found, found + 1);
  const std::shared_ptr<Known> known = step.known.front();  // another thread may forget it meanwhile
  nb::object held[kMostInputs];  // while the GIL is given away, others may give the tensors other memory
  for (size_t i = 0; i < known->inputs.size(); ++i)
    held[i] = nb::borrow(TensorSlots::at(PyTuple_GET_ITEM(args, static_cast<Py_ssize_t>(i)), slots.buffer));
  std::vector<Buffer> results;
  if (!run_program(*known->program, {given, known->inputs.size()}, known->outputs, results)) return {};
  if (!step.last.is(known->owner)) step.last = known->owner;
  for (const nb::object& t : known->without_gradient) {
    PyObject*& grad = TensorSlots::at(t.ptr(), slots.grad);
    if (grad != Py_None) Py_SETREF(grad, Py_NewRef(Py_None));
  }
  if (!known->as_tuple) return known->results ? slots.make(std::move(results[0])) : nb::none();
  nb::object tuple = nb::steal(PyTuple_New(known->results));
  for (int i = 0; i < known->results; ++i)
    PyTuple_SET_ITEM(tuple.ptr(), i, slots.make(std::move(results[static_cast<size_t>(i)])).release().ptr());
  return tuple;
}

PyObject* call_step(PyObject* self, PyObject* args, PyObject* kwargs) {
  try {
    if (!kwargs || PyDict_GET_SIZE(kwargs) == 0) {
      nb::object result = call_known(*nb::inst_ptr<Step>(self), args);
      if (result) return result.release().ptr();
    }
  } catch (nb::python_error& e) {
    e.restore();
    return nullptr;
  } catch (nb::builtin_exception& e) {
    PyErr_SetString(e.type() == nb::exception_type::index_error ? PyExc_IndexError : PyExc_RuntimeError, e.what());
    return nullptr;
  } catch (const std::bad_alloc& e) {
    PyErr_SetString(PyExc_MemoryError, e.what());
    return nullptr;
  }
  static PyObject* const name = PyUnicode_InternFromString("_call");
  PyObject* method = PyObject_GetAttr(self, name);
  if (!method) return nullptr;
  PyObject* result = PyObject_Call(method, args, kwargs);
  Py_DECREF(method);
  return result;
}

// Buffers like the inputs; outputs, of which the first are results; (tensor, buffer, requires_grad, hooks);
// (dict, key, value) or (tensor, None, None) for a gradient that must be None; tensors that lose theirs.
void remember(Step& step, nb::object owner, Program& program, const std::vector<const Buffer*>& inputs,
              const std::vector<const Buffer*>& outputs, nb::list tensors, nb::list entries, nb::list dropped,
              int results, bool as_tuple) {
  if (inputs.size() > kMostInputs) return;
  auto made = std::make_shared<Known>(Known{owner,
                                            &program,
                                            {},
                                            outputs,
                                            gradients_recorded(),
                                            active_table(),
                                            thread_count(),
                                            {},
                                            {},
                                            {},
                                            results,
                                            as_tuple});
  Known& known = *made;
  for (const Buffer* b : inputs) known.inputs.push_back(*b);
  for (nb::handle fact : tensors) {
    const nb::object tensor = fact[0];
    known.tensors.push_back({tensor, slots.buffer, fact[1]});
    known.tensors.push_back({tensor, slots.requires_grad, fact[2]});
    known.tensors.push_back({tensor, slots.hooks, fact[3]});
  }
  for (nb::handle fact : entries) {
    if (PyDict_Check(nb::object(fact[0]).ptr())) known.entries.push_back({fact[0], fact[1], fact[2]});
    else known.tensors.push_back({fact[0], slots.grad, nb::none()});
  }
  for (nb::handle t : dropped) known.without_gradient.push_back(nb::borrow(t));
  std::erase_if(step.known, [&](const auto& k) { return k->owner.is(owner); });
  if (step.known.size() == kMostKnown) step.known.pop_back();
  step.known.insert(step.known.begin(), std::move(made));
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (!nb::inst_ready(self)) return 0;
  Py_VISIT(nb::inst_ptr<Step>(self)->last.ptr());
  for (const auto& known : nb::inst_ptr<Step>(self)->known) {
    const Known& k = *known;
    Py_VISIT(k.owner.ptr());
    for (const SlotGuard& g : k.tensors) {
      Py_VISIT(g.tensor.ptr());
      Py_VISIT(g.expected.ptr());
    }
    for (const EntryGuard& g : k.entries) {
      Py_VISIT(g.dict.ptr());
      Py_VISIT(g.key.ptr());
      Py_VISIT(g.expected.ptr());
    }
    for (const nb::object& t : k.without_gradient) Py_VISIT(t.ptr());
  }
  return 0;
}
int clear(PyObject* self) {
  if (nb::inst_ready(self)) {
    std::vector<std::shared_ptr<Known>> gone;
    gone.swap(nb::inst_ptr<Step>(self)->known);
    nb::object last = std::move(nb::inst_ptr<Step>(self)->last);
  }
  return 0;
}

PyType_Slot step_slots[] = {{Py_tp_call, reinterpret_cast<void*>(call_step)},
                            {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
                            {Py_tp_clear, reinterpret_cast<void*>(clear)},
                            {0, nullptr}};

}  // namespace

void bind_step(nb::module_& m) {
  nb::class_<Step>(m, "Step", nb::type_slots(step_slots), "A callable that runs the program that its call stands for.")
      .def(nb::init<>())
      .def_prop_rw(
          "_last", [](const Step& step) { return step.last ? step.last : nb::none(); },
          [](Step& step, nb::object variant) { step.last = std::move(variant); }, nb::arg("variant").none())
      .def("_remember", &remember, "Lets calls go straight to a program while what it relies on stays as it is.")
      .def("_forget", [](Step& step) { step.known.clear(); });
  m.def("find_slots", [](nb::handle type) { slots.find(type); }, nb::arg("tensor_type"));
}

}  // namespace fastbp

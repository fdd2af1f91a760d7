// What every thread has for itself: whether it records operations, whether fused ones run as plain ones, and the
// backend that it selected. Every operation asks, and threading.local, which does the same, takes three times as long.
#include "bind.h"

namespace fastbp {
namespace {

struct Mode {};
struct Selected {};

thread_local bool enabled = true;
thread_local bool composed = false;
thread_local PyObject* host = nullptr;  // a module; kept when the thread ends, as modules are
PyObject* native_backend = nullptr;     // the module that stands for this one; null while another is the default

int set_flag(bool& flag, PyObject* value) {
  if (!value || !PyBool_Check(value)) {
    PyErr_SetString(PyExc_TypeError, "[mode] expected a bool");
    return -1;
  }
  flag = value == Py_True;
  return 0;
}

PyObject* get_enabled(PyObject*, void*) { return PyBool_FromLong(enabled); }
int set_enabled(PyObject*, PyObject* value, void*) { return set_flag(enabled, value); }
PyObject* get_composed(PyObject*, void*) { return PyBool_FromLong(composed); }
int set_composed(PyObject*, PyObject* value, void*) { return set_flag(composed, value); }

PyObject* get_host(PyObject*, void*) { return Py_NewRef(host ? host : Py_None); }

int set_host(PyObject*, PyObject* module, void*) {
  Py_XINCREF(module);
  Py_XSETREF(host, module);
  return 0;
}

PyGetSetDef mode_facts[] = {{"enabled", get_enabled, set_enabled, "Whether operations are recorded.", nullptr},
                            {"composed", get_composed, set_composed,
                             "Whether fused operations run as the plain ones that they stand for.", nullptr},
                            {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyGetSetDef selected_facts[] = {{"host", get_host, set_host, "The backend for host memory, or None.", nullptr},
                                {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot mode_slots[] = {{Py_tp_getset, mode_facts}, {0, nullptr}};
PyType_Slot selected_slots[] = {{Py_tp_getset, selected_facts}, {0, nullptr}};

}  // namespace

bool gradients_recorded() { return enabled; }
bool runs_native() { return native_backend && !composed && (!host || host == Py_None || host == native_backend); }

void bind_thread(nb::module_& m) {
  nb::class_<Mode>(m, "Mode", nb::type_slots(mode_slots), "The calling thread's mode.").def(nb::init<>());
  nb::class_<Selected>(m, "Selected", nb::type_slots(selected_slots), "What the calling thread selected.")
      .def(nb::init<>());
  m.def(
      "set_native_backend",
      [](nb::handle module) { native_backend = module.is_none() ? nullptr : module.inc_ref().ptr(); },
      nb::arg("module").none(), "Tells which backend is this one, where it is the default.");
}

}  // namespace fastbp

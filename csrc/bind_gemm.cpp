// Bindings of matrix products.
#include <cstring>

#include "bind.h"

namespace fastbp {
namespace {

// The position of an activation in the unary table, -1 for none.
int64_t activation_index(const std::string& op, nb::handle name) {
  if (name.is_none()) return -1;
  const KernelTable* table = active_table();
  const char* text = nb::cast<const char*>(name);
  for (int list = 0; list < table->count; ++list) {
    const EntryList& entries = table->lists[list];
    if (entries.entries[0].family != Family::kUnary) continue;
    for (int i = 0; i < entries.count; ++i)
      if (!std::strcmp(entries.entries[i].name, text)) {
        if (entries.entries[i].constants > 1) break;
        return i;
      }
  }
  fail_value(
      op, std::string("expected activation as None or the name of a unary operation with at most one constant, got ") +
              text);
}

// ---------------------------------------------------------------- panels of weights

// B of a product as panels hold it: wᵀ in the forward pass, w in the backward pass.
enum class PanelsOf : int { kTransposed = 0, kAsStored = 1 };

// What a storage keeps for each. Touched with the GIL held only.
struct Panels {
  const void* data = nullptr;  // the matrix and when it was seen: any difference makes the panels stale
  int64_t n = 0, k = 0, version = -1;
  const KernelTable* table = nullptr;  // each instruction set has a layout of its own
  std::shared_ptr<void> memory;        // empty after the first sight

  bool operator==(const Panels& other) const {
    return data == other.data && n == other.n && k == other.k && version == other.version && table == other.table;
  }
};
struct PanelCache {
  Panels of[2];
};

std::shared_ptr<void> pack(const Buffer& w, PanelsOf which) {
  static const Place place = place_of("linear_pack");
  Args args{};
  args.p[0] = w.data;
  args.n[0] = w.shape[0];
  args.n[1] = w.shape[1];
  args.n[2] = which == PanelsOf::kAsStored;
  // Strips are two vectors wide: at most 128 bytes.
  const int64_t rows = w.shape[args.n[2] ? 0 : 1], columns = w.shape[args.n[2] ? 1 : 0];
  const int64_t bytes = rows * ((columns * kItemSize[w.dtype] + 127) / 128 * 128);
  args.p[1] = allocate_aligned(kLine, bytes);
  if (!args.p[1]) return nullptr;  // the product goes without
  std::shared_ptr<void> memory(args.p[1], std::free);
  call(kernel_for("linear_pack", place.entry(), w.dtype), args);
  return memory;
}

// The panels of w (n, k), or null. A matrix gets panels when it is wanted a second time without having been written to
// in between, so that weights that change with every step cost nothing here. Memory that others can write to unseen
// never gets any. They live with the memory that they copy: with no table of their own, none has to be cleared.
std::shared_ptr<void> panels_of(const Buffer& w, PanelsOf which, int64_t rows) {
  constexpr int64_t kFewRows = 4;  // such products read w once, as it lies, or hardly more
  Storage& storage = *w.storage;
  if (recorded_program() || rows < kFewRows || w.size == 0 || storage.shared || storage.readonly) return nullptr;
  if (!storage.panels) storage.panels = std::make_shared<PanelCache>();
  Panels& kept = static_cast<PanelCache*>(storage.panels.get())->of[static_cast<int>(which)];
  const Panels wanted{w.data, w.shape[0], w.shape[1], storage.version, active_table(), nullptr};
  if (!(kept == wanted)) {
    kept = wanted;
  } else if (!kept.memory) {
    std::shared_ptr<void> memory = pack(w, which);  // others may run meanwhile
    if (kept == wanted) kept.memory = memory;
    return memory;
  }
  return kept.memory;
}

// ---------------------------------------------------------------- products

// How a range cuts a product (gemm.h): a recorded one by its rows, as what comes before and after it.
int64_t by_rows() { return recorded_program() ? 1 : 0; }

void matmul(const Buffer& a, const Buffer& b, bool transpose_a, bool transpose_b, bool accumulate, Buffer& y) {
  static const Place place = place_of("matmul");
  static const std::string op = "matmul";
  const int dims = y.ndim;
  if (dims != 2 && dims != 3) fail_value(op, "expected y of shape (batch, m, n) or (m, n), got " + shape_text(y));
  require_dims(op, "a", a, dims, "as many dimensions as y");
  require_dims(op, "b", b, dims, "as many dimensions as y");
  const int64_t batch = dims == 3 ? y.shape[0] : 1, batch_a = dims == 3 ? a.shape[0] : 1,
                batch_b = dims == 3 ? b.shape[0] : 1;
  const int64_t m = y.shape[dims - 2], n = y.shape[dims - 1];
  const int64_t am = a.shape[dims - (transpose_a ? 1 : 2)], ak = a.shape[dims - (transpose_a ? 2 : 1)];
  const int64_t bk = b.shape[dims - (transpose_b ? 1 : 2)], bn = b.shape[dims - (transpose_b ? 2 : 1)];
  if (am != m || bn != n || ak != bk || (batch_a != batch && batch_a != 1) || (batch_b != batch && batch_b != 1))
    fail_value(op, "expected a (batch, m, k), b (batch, k, n) for y " + shape_text(y) + ", got a " + shape_text(a) +
                       (transpose_a ? " transposed" : "") + ", b " + shape_text(b) +
                       (transpose_b ? " transposed" : ""));
  Args args{};
  args.p[0] = input(op, "a", a, y.dtype);
  args.p[1] = input(op, "b", b, y.dtype);
  args.p[2] = output(op, "y", y, y.dtype);
  require_apart(op, y, a);
  require_apart(op, y, b);
  const int64_t sizes[] = {batch, m, n, ak, transpose_a, transpose_b, accumulate, batch_a, batch_b, by_rows()};
  std::memcpy(args.n, sizes, sizeof sizes);
  call(kernel_for(op, place.entry(), y.dtype), args);
}

void linear_forward(const Buffer& x, const Buffer& w, const Buffer* b, nb::handle activation, double constant,
                    Buffer* z, Buffer& y) {
  static const Place place = place_of("linear_forward");
  static const std::string op = "linear_forward";
  require_dims(op, "x", x, 2, "(m, k)");
  require_dims(op, "w", w, 2, "(n, k)");
  const int64_t m = x.shape[0], k = x.shape[1], n = w.shape[0];
  if (w.shape[1] != k)
    fail_value(op, "expected w of shape (n, k) = (" + std::to_string(n) + ", " + std::to_string(k) + "), got " +
                       shape_text(w));
  Args a{};
  a.p[0] = input(op, "x", x, x.dtype);
  a.p[1] = input(op, "w", w, x.dtype);
  if (b) a.p[2] = input(op, "b", *b, x.dtype, {n});
  if (z) a.p[3] = output(op, "z", *z, x.dtype, {m, n});
  a.p[4] = output(op, "y", y, x.dtype, {m, n});
  require_apart(op, y, x);
  require_apart(op, y, w);
  if (z) require_apart(op, *z, x), require_apart(op, *z, w), require_apart(op, *z, y);
  const int64_t sizes[] = {m, n, k, activation_index(op, activation), by_rows()};
  std::memcpy(a.n, sizes, sizeof sizes);
  a.c[0] = constant;
  const std::shared_ptr<void> panels = panels_of(w, PanelsOf::kTransposed, m);
  a.p[5] = panels.get();
  call(kernel_for(op, place.entry(), x.dtype), a);
}

void linear_backward_input(const Buffer& dy, const Buffer& w, nb::handle activation, double constant, const Buffer* s,
                           Buffer& dx) {
  static const Place place = place_of("linear_backward_input");
  static const std::string op = "linear_backward_input";
  require_dims(op, "dy", dy, 2, "(m, n)");
  require_dims(op, "w", w, 2, "(n, k)");
  const int64_t m = dy.shape[0], n = dy.shape[1], k = w.shape[1];
  Args a{};
  a.p[0] = input(op, "dy", dy, dy.dtype);
  a.p[1] = input(op, "w", w, dy.dtype, {n, k});
  const int64_t index = activation_index(op, activation);
  if (index >= 0) {
    if (!s) fail_value(op, "expected s, which the activation's derivative needs, got None");
    a.p[2] = input(op, "s", *s, dy.dtype, {m, k});
  }
  a.p[3] = output(op, "dx", dx, dy.dtype, {m, k});
  require_apart(op, dx, dy);
  require_apart(op, dx, w);
  if (a.p[2]) require_apart(op, dx, *s);
  const int64_t sizes[] = {m, n, k, index, by_rows()};
  std::memcpy(a.n, sizes, sizeof sizes);
  a.c[0] = constant;
  const std::shared_ptr<void> panels = panels_of(w, PanelsOf::kAsStored, m);
  a.p[4] = panels.get();
  call(kernel_for(op, place.entry(), dy.dtype), a);
}

void linear_backward_weight(const Buffer& dy, const Buffer& x, bool accumulate, Buffer& dw, Buffer* db) {
  static const Place place = place_of("linear_backward_weight");
  static const std::string op = "linear_backward_weight";
  require_dims(op, "dy", dy, 2, "(m, n)");
  require_dims(op, "x", x, 2, "(m, k)");
  const int64_t m = dy.shape[0], n = dy.shape[1], k = x.shape[1];
  Args a{};
  a.p[0] = input(op, "dy", dy, dy.dtype);
  a.p[1] = input(op, "x", x, dy.dtype, {m, k});
  a.p[2] = output(op, "dw", dw, dy.dtype, {n, k});
  if (db) a.p[3] = output(op, "db", *db, dy.dtype, {n});
  require_apart(op, dw, dy);
  require_apart(op, dw, x);
  if (a.p[3]) require_apart(op, *db, dy), require_apart(op, *db, x), require_apart(op, *db, dw);
  const int64_t sizes[] = {m, n, k, accumulate, by_rows()};
  std::memcpy(a.n, sizes, sizeof sizes);
  call(kernel_for(op, place.entry(), dy.dtype), a);
}

}  // namespace

void bind_gemm(nb::module_& m) {
  m.def("matmul", &matmul, nb::arg("a"), nb::arg("b"), nb::arg("transpose_a"), nb::arg("transpose_b"),
        nb::arg("accumulate"), nb::arg("y"));
  m.def("linear_forward", &linear_forward, nb::arg("x"), nb::arg("w"), nb::arg("b").none(),
        nb::arg("activation").none(), nb::arg("constant"), nb::arg("z").none(), nb::arg("y"));
  m.def("linear_backward_input", &linear_backward_input, nb::arg("dy"), nb::arg("w"), nb::arg("activation").none(),
        nb::arg("constant"), nb::arg("s").none(), nb::arg("dx"));
  m.def("linear_backward_weight", &linear_backward_weight, nb::arg("dy"), nb::arg("x"), nb::arg("accumulate"),
        nb::arg("dw"), nb::arg("db").none());
}

}  // namespace fastbp

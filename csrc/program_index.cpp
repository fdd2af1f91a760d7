// Indices in a program: which memory must be looked at before a run, and which needs no look, because the calls that
// compute it cannot give anything out of range.
#include <algorithm>
#include <string_view>

#include "program.h"

namespace fastbp {
namespace {

constexpr int kIntConstantAt = 34;  // of Args.n: the constants of element-wise kernels (broadcast.h)

// What a call writes and how many values.
struct Output {
  int at;  // of Args.p
  int64_t count;
};

// Of the kernels that `values` knows.
std::optional<Output> output_of(const RecordedCall& call) {
  const int64_t* n = call.args[0].n;
  const std::string_view name = call.entry().name;
  if (call.dtype != kInt64 && call.entry().family != Family::kArgReduce) return std::nullopt;
  if (call.entry().family == Family::kArgReduce) return Output{1, n[0] * n[2]};
  if (name == "arange") return Output{0, n[0]};
  if (name == "wrap_index" || name == "permutation" || name == "randint") return Output{1, n[0]};
  if (name == "copy" || name == "fill") return Output{1, n[1]};
  if (name == "add" || name == "sub" || name == "mul") return Output{2, n[1]};
  return std::nullopt;
}

// Both ends included; nothing where a result would not fit.
std::optional<IndexRange> combine(std::string_view name, const IndexRange& a, const IndexRange& b) {
  IndexRange r;
  bool over;
  if (name == "add") {
    over = __builtin_add_overflow(a.low, b.low, &r.low) | __builtin_add_overflow(a.high, b.high, &r.high);
  } else if (name == "sub") {
    over = __builtin_sub_overflow(a.low, b.high, &r.low) | __builtin_sub_overflow(a.high, b.low, &r.high);
  } else {
    int64_t products[4];
    over = __builtin_mul_overflow(a.low, b.low, &products[0]) | __builtin_mul_overflow(a.low, b.high, &products[1]) |
           __builtin_mul_overflow(a.high, b.low, &products[2]) | __builtin_mul_overflow(a.high, b.high, &products[3]);
    const auto [low, high] = std::minmax_element(products, products + 4);
    r = {*low, *high};
  }
  return over ? std::nullopt : std::optional(r);
}

}  // namespace

void Program::note_write(const StorageRef& storage) {
  const auto found =
      std::find_if(written_.begin(), written_.end(), [&](const Written& w) { return w.storage == storage; });
  if (found == written_.end()) written_.push_back({storage, 1});
  else ++found->times;
}

const Program::Written* Program::written_at(const void* p) const {
  const char* at = static_cast<const char*>(p);
  for (const Written& w : written_)
    if (at >= w.storage->data && at < w.storage->data + w.storage->bytes) return &w;
  return nullptr;
}

// The range of the int64 values behind a pointer, as calls before the given one leave them, where all of that memory is
// the result of a single call that bounds them.
std::optional<IndexRange> Program::range_of(const void* p, int64_t before) const {
  const Written* written = written_at(p);
  if (!written || written->times != 1) return std::nullopt;
  for (int64_t i = 0; i < before; ++i) {
    const RecordedCall& call = calls_[static_cast<size_t>(i)];
    const auto output = output_of(call);
    if (!output || call.args[0].p[output->at] != written->storage->data) continue;
    if (output->count * kItemSize[kInt64] != written->storage->bytes) return std::nullopt;
    return range_of_results(call, i);
  }
  return std::nullopt;
}

std::optional<IndexRange> Program::range_of_results(const RecordedCall& call, int64_t i) const {
  const Args& a = call.args[0];
  const std::string_view name = call.entry().name;
  const auto operand = [&](int k) {
    const int64_t constant = a.n[kIntConstantAt + k];
    return a.p[k] ? range_of(a.p[k], i) : std::optional(IndexRange{constant, constant});
  };
  if (call.entry().family == Family::kArgReduce || name == "wrap_index") return IndexRange{0, a.n[1] - 1};
  if (name == "permutation") return IndexRange{0, a.n[0] - 1};
  if (name == "randint") return IndexRange{a.n[1], a.n[2] - 1};
  if (name == "copy" || name == "fill") return operand(0);
  if (name == "arange") {
    const IndexRange steps{0, a.n[0] - 1}, step{a.n[2], a.n[2]}, start{a.n[1], a.n[1]};
    const auto way = combine("mul", steps, step);
    return way ? combine("add", *way, start) : std::nullopt;
  }
  const auto left = operand(0), right = operand(1);
  return left && right ? combine(name, *left, *right) : std::nullopt;
}

bool Program::checks_stand() const {
  return std::none_of(checks_.begin(), checks_.end(), [&](const IndexCheck& check) {
    const char* at = static_cast<const char*>(check.at);
    return overwritten_.overlap(at, at + check.count * kItemSize[kInt64]);
  });
}

void Program::note_check(const IndexCheck& check) {
  if (!written_at(check.at)) return checks_.push_back(check);
  const auto range = range_of(check.at, static_cast<int64_t>(calls_.size()));
  if (!range || range->low < check.low || range->high >= check.high)
    throw RecordingError("the values of indices for " + check.op);
}

}  // namespace fastbp

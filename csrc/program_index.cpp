// Indices in a program: which memory must be looked at before a run, and which needs no look, because the calls that
// compute it cannot give anything out of range.
#include <algorithm>
#include <string_view>

#include "program.h"

namespace fastbp {
namespace {

constexpr size_t kMostKnown = 1000;  // calls that are followed back from a check, so that the way is not too deep
constexpr int kShapeAt = 2;         // of Args.n: the shape of a copy, and behind its kMaxDims the strides of x (copy.h)
constexpr int kIntConstantAt = 34;  // of Args.n: the constants of element-wise kernels (broadcast.h)

// What a call writes and how many values.
struct Output {
  int at;  // of Args.p
  int64_t count;
};

// Of the kernels whose results have bounds.
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

const Program::Written* Program::written_in(const char* begin, const char* end) const {
  for (const Written& w : written_)
    if (w.storage->data < end && begin < w.storage->data + w.storage->bytes) return &w;
  return nullptr;
}

// The call, among those before the given one, whose results alone are the memory that a pointer is in; -1 where there
// are others, or it is not one of those that `output_of` knows.
int64_t Program::only_writer(const void* p, int64_t before) const {
  const char* at = static_cast<const char*>(p);
  const Written* written = written_in(at, at + 1);
  if (!written) return -1;
  int times = 0;  // also through other tensors of the same memory
  const char *begin = written->storage->data, *end = begin + written->storage->bytes;
  for (const Written& w : written_)
    if (w.storage->data < end && begin < w.storage->data + w.storage->bytes) times += w.times;
  if (times != 1) return -1;
  for (int64_t i = 0; i < before; ++i) {
    const RecordedCall& call = calls_[static_cast<size_t>(i)];
    const auto output = output_of(call);
    if (!output || call.args[0].p[output->at] != written->storage->data) continue;
    return output->count * kItemSize[kInt64] == written->storage->bytes ? i : -1;
  }
  return -1;
}

// The range of the int64 values behind a pointer, as calls before the given one leave them.
std::optional<IndexRange> Program::range_of(const void* p, int64_t before, KnownRanges& known) const {
  const int64_t i = only_writer(p, before);
  if (i < 0) return std::nullopt;
  const auto [found, is_new] = known.try_emplace(i);
  if (is_new && known.size() <= kMostKnown) found->second = range_of_results(calls_[static_cast<size_t>(i)], i, known);
  return found->second;
}

std::optional<IndexRange> Program::range_of_results(const RecordedCall& call, int64_t i, KnownRanges& known) const {
  const Args& a = call.args[0];
  const std::string_view name = call.entry().name;
  const auto operand = [&](int k) {
    const int64_t constant = a.n[kIntConstantAt + k];
    return a.p[k] ? range_of(a.p[k], i, known) : std::optional(IndexRange{constant, constant});
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
    const auto [begin, end] = check.extent();
    // Of indices that lie apart, an epoch could not tell the whole array's from the rest of it.
    return !check.apart.empty() || overwritten_.overlap(begin, end);
  });
}

// Indices from outside are looked at before each run, where they lie: also those of which the program makes a copy
// first, because they lie apart.
void Program::note_check(const IndexCheck& check) {
  const auto is_given = [&](const IndexCheck& indices) {
    const auto [begin, end] = indices.extent();
    return !written_in(begin, end);
  };
  if (is_given(check)) return checks_.push_back(check);
  const int64_t now = static_cast<int64_t>(calls_.size()), i = only_writer(check.at, now);
  KnownRanges known;
  const auto range = range_of(check.at, now, known);
  if (range && range->low >= check.low && range->high < check.high) return;
  if (i >= 0 && calls_[static_cast<size_t>(i)].entry().name == std::string_view("copy")) {
    const Args& copy = calls_[static_cast<size_t>(i)].args[0];
    IndexCheck original = check;
    original.at = copy.p[0];
    original.count = copy.n[1];
    for (int64_t d = 0; d < copy.n[0]; ++d)
      original.apart.emplace_back(copy.n[kShapeAt + d], copy.n[kShapeAt + kMaxDims + d]);
    if (is_given(original)) return checks_.push_back(original);
  }
  throw RecordingError("the values of indices for " + check.op);
}

std::pair<const char*, const char*> IndexCheck::extent() const {
  const int64_t* index = static_cast<const int64_t*>(at);
  int64_t low = 0, high = apart.empty() ? count : 1;
  for (const auto& [size, stride] : apart) (stride < 0 ? low : high) += (size - 1) * stride;
  return {reinterpret_cast<const char*>(index + low), reinterpret_cast<const char*>(index + high)};
}

const int64_t* IndexCheck::first_out_of_range() const {
  const int64_t* index = static_cast<const int64_t*>(at);
  const auto is_bad = [&](int64_t i) { return (i < low || i >= high) && i != ignored; };
  if (apart.empty()) {
    const int64_t* found = std::find_if(index, index + count, is_bad);
    return found == index + count ? nullptr : found;
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t* at_i = index;
    int64_t rest = i;
    for (auto d = apart.rbegin(); d != apart.rend(); ++d) {
      at_i += rest % d->first * d->second;
      rest /= d->first;
    }
    if (is_bad(*at_i)) return at_i;
  }
  return nullptr;
}

}  // namespace fastbp

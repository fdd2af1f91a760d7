// Replays the kernel calls of a file that write.py made, without Python, so that sanitizers and emulators can watch.
//
//   replay FILE [threads [instruction sets]]      replay calls.bin 1,3 scalar,avx2
//
// Every call runs on every instruction set and number of threads asked for (without: all that this machine has, and 1,
// 2, 3 and 8 threads), each operand misaligned by one element and inside a margin. Its operands must then have the
// expected bits, all NaNs counting as one value, and its inputs and all margins those of before. Exit status: 0 when
// all calls did, 1 when one did not, 2 when nothing could be replayed.
//
// The file holds numbers of this machine's kind: int64 but for the bytes of operands and Args, text after its length.
//   "fastbp replay 1\n", sizeof(Args), then calls to the end:
//   label, kernel name, list, index, dtype, Args without its pointers,
//   number of operands, each {role, dtype, bytes, content before unless overwritten, content after unless read},
//   for each pointer of Args {form, count, count times {operand, offset in bytes}}
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes)
#endif

#include "dispatch.h"
#include "threads.h"

namespace {
using namespace fastbp;

constexpr char kMagic[] = "fastbp replay 1\n";
constexpr int64_t kMargin = 64;  // bytes on either side; also the alignment that operands then miss by one element
constexpr int64_t kItemSize[kDTypes] = {4, 8, 8, 1};
constexpr unsigned char kPattern = 0xA5;  // in margins
constexpr unsigned char kPoison = 0xFF;   // in outputs: a NaN that no operation makes of others
constexpr int kPointers = sizeof(Args::p) / sizeof(void*);

enum Role : int64_t { kRead = 0, kUpdated = 1, kOverwritten = 2 };
enum Form : int64_t { kNull = 0, kOperand = 1, kList = 2 };

struct Free {
  void operator()(char* p) const { std::free(p); }
};
using Memory = std::unique_ptr<char, Free>;

// At least so many bytes, aligned to kMargin.
Memory allocate(int64_t bytes) {
  Memory memory(static_cast<char*>(std::aligned_alloc(kMargin, static_cast<size_t>(bytes / kMargin + 1) * kMargin)));
  if (!memory) throw std::bad_alloc();
  return memory;
}

// ---------------------------------------------------------------- reading

class File {
 public:
  explicit File(const char* path) : stream_(path, std::ios::binary) {
    if (!stream_) throw std::runtime_error(std::string("cannot open ") + path);
  }
  bool at_end() { return stream_.peek() == std::char_traits<char>::eof(); }
  void bytes(void* to, int64_t count) {
    if (!stream_.read(static_cast<char*>(to), count)) throw std::runtime_error("the file ends inside a call");
  }
  int64_t number() {
    int64_t value;
    bytes(&value, sizeof value);
    return value;
  }
  int64_t number(int64_t low, int64_t high) {
    const int64_t value = number();
    if (value < low || value > high) throw std::runtime_error("the file is damaged");
    return value;
  }
  std::vector<char> block(int64_t count) {
    std::vector<char> data(static_cast<size_t>(count));
    bytes(data.data(), count);
    return data;
  }
  std::string text() {
    const std::vector<char> data = block(number(0, 1 << 20));
    return {data.begin(), data.end()};
  }

 private:
  std::ifstream stream_;
};

// An operand in its margins, with what it holds before a call and must hold after it.
class Operand {
 public:
  explicit Operand(File& file)
      : role_(static_cast<Role>(file.number(kRead, kOverwritten))),
        dtype_(static_cast<DType>(file.number(0, kDTypes - 1))),
        bytes_(file.number(0, int64_t{1} << 40)) {
    if (role_ != kOverwritten) before_ = file.block(bytes_);
    else before_.assign(static_cast<size_t>(bytes_), static_cast<char>(kPoison));
    if (role_ != kRead) after_ = file.block(bytes_);
    const int64_t item = kItemSize[dtype_];
    size_ = 2 * kMargin + item + bytes_;
    memory_ = allocate(size_);
    data_ = memory_.get() + kMargin + item;
    std::memset(memory_.get(), kPattern, static_cast<size_t>(size_));
    restore();
  }

  char* data() { return data_; }
  int64_t bytes() const { return bytes_; }

  void restore() {
    if (bytes_) std::memcpy(data_, before_.data(), before_.size());
  }

  void close_margins() {
    ASAN_POISON_MEMORY_REGION(memory_.get(), static_cast<size_t>(data_ - memory_.get()));
    ASAN_POISON_MEMORY_REGION(data_ + bytes_, static_cast<size_t>(margin_after()));
  }
  void open_margins() { ASAN_UNPOISON_MEMORY_REGION(memory_.get(), static_cast<size_t>(size_)); }

  // What is wrong after a call; empty if nothing is.
  std::string wrong() const {
    for (const char* p = memory_.get(); p < data_; ++p)
      if (*p != static_cast<char>(kPattern))
        return "memory was changed, " + std::to_string(data_ - p) + " bytes before it";
    for (const char* p = data_ + bytes_; p < memory_.get() + size_; ++p)
      if (*p != static_cast<char>(kPattern))
        return "memory was changed, " + std::to_string(p - data_ - bytes_) + " bytes behind its end";
    const std::vector<char>& expected = role_ == kRead ? before_ : after_;
    if (!bytes_ || !std::memcmp(data_, expected.data(), expected.size())) return "";
    if (role_ == kRead) return "an input was changed";
    const int64_t item = kItemSize[dtype_];
    for (int64_t at = 0; at + item <= bytes_; at += item)
      if (!same(data_ + at, expected.data() + at))
        return "element " + std::to_string(at / item) + " of " + std::to_string(bytes_ / item) + ": expected " +
               describe(expected.data() + at) + ", got " + describe(data_ + at);
    return "";
  }

 private:
  int64_t margin_after() const { return memory_.get() + size_ - data_ - bytes_; }

  // Equal bits, or two NaNs of which none is poison that was left.
  bool same(const char* actual, const char* expected) const {
    const size_t item = static_cast<size_t>(kItemSize[dtype_]);
    if (!std::memcmp(actual, expected, item)) return true;
    char poison[8];
    std::memset(poison, kPoison, sizeof poison);
    return is_nan(actual) && is_nan(expected) && std::memcmp(actual, poison, item);
  }
  bool is_nan(const char* p) const { return dtype_ <= kFloat64 && value(p) != value(p); }
  double value(const char* p) const {
    if (dtype_ == kFloat64) {
      double x;
      std::memcpy(&x, p, sizeof x);
      return x;
    }
    float x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  std::string describe(const char* p) const {
    uint64_t bits = 0;
    std::memcpy(&bits, p, static_cast<size_t>(kItemSize[dtype_]));
    char text[64];
    if (dtype_ <= kFloat64)
      std::snprintf(text, sizeof text, "%.17g (0x%llx)", value(p), static_cast<unsigned long long>(bits));
    else std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(bits));
    return text;
  }

  Role role_;
  DType dtype_;
  int64_t bytes_, size_ = 0;
  std::vector<char> before_, after_;
  Memory memory_;
  char* data_ = nullptr;
};

// ---------------------------------------------------------------- running

using Runner = void (*)(const Kernel&, const Args&, int threads);

void run_by_team(const Kernel& kernel, const Args& args, int threads) {
  set_thread_count(threads);
  run_kernel(kernel, args);
}

// Each share of a phase on a thread of its own: the team may leave several to one thread, where ThreadSanitizer can see
// no race.
[[maybe_unused]] void run_apart(const Kernel& kernel, const Args& args, int threads) {
  const auto scratch = [&](SizeFn bytes) { return allocate(bytes ? bytes(args) : 0); };
  const Memory shared = scratch(kernel.shared_bytes);
  for (const Phase& phase : kernel.phases) {
    if (!phase.run) break;
    const int64_t count = phase.count(args), grains = (count + phase.grain - 1) / phase.grain;
    std::vector<std::thread> team;
    for (int i = threads - 1; i >= 0; --i) {
      const int64_t begin = std::min(count, grains * i / threads * phase.grain);
      const int64_t end = std::min(count, grains * (i + 1) / threads * phase.grain);
      if (begin == end) continue;
      team.emplace_back([&, begin, end] {
        const Memory local = scratch(kernel.local_bytes);
        phase.run(args, begin, end, {shared.get(), local.get()});
      });
    }
    for (std::thread& thread : team) thread.join();
  }
}

#ifdef __SANITIZE_THREAD__
constexpr Runner kRunners[] = {run_by_team, run_apart};
#else
constexpr Runner kRunners[] = {run_by_team};
#endif

// ---------------------------------------------------------------- one call

class Call {
 public:
  explicit Call(File& file) : label_(file.text()), name_(file.text()) {
    list_ = file.number();
    index_ = file.number();
    dtype_ = static_cast<DType>(file.number(0, kDTypes - 1));
    file.bytes(&args_, sizeof args_);
    const int64_t count = file.number(0, 1 << 20);
    for (int64_t i = 0; i < count; ++i) operands_.emplace_back(file);
    for (int i = 0; i < kPointers; ++i) {
      const int64_t form = file.number(kNull, kList), references = file.number(0, 1 << 20);
      for (int64_t k = 0; k < references; ++k) {
        Operand& operand = operands_[static_cast<size_t>(file.number(0, count - 1))];
        lists_[i].push_back(operand.data() + file.number(0, operand.bytes()));
      }
      args_.p[i] = form == kList ? lists_[i].data() : lists_[i].empty() ? nullptr : lists_[i][0];
    }
  }

  // The call's kernel in the active table.
  const Kernel& kernel() const {
    const KernelTable* table = active_table();
    if (list_ < 0 || list_ >= table->count || index_ < 0 || index_ >= table->lists[list_].count ||
        name_ != table->lists[list_].entries[index_].name)
      throw std::runtime_error("the file was written by another version: " + name_ + " has another place");
    return table->lists[list_].entries[index_].kernel[dtype_];
  }

  // Whether the call gives the expected bits; otherwise says what is wrong.
  bool run(int threads, Runner runner) {
    for (Operand& operand : operands_) operand.restore(), operand.close_margins();
    runner(kernel(), args_, threads);
    for (Operand& operand : operands_) operand.open_margins();
    for (size_t i = 0; i < operands_.size(); ++i) {
      const std::string wrong = operands_[i].wrong();
      if (wrong.empty()) continue;
      std::printf("%s on %s, %d threads: operand %zu: %s\n", label_.c_str(), active_table()->isa, threads, i,
                  wrong.c_str());
      return false;
    }
    return true;
  }

 private:
  std::string label_, name_;
  int64_t list_, index_;
  DType dtype_;
  Args args_;
  std::vector<Operand> operands_;
  std::vector<void*> lists_[kPointers];
};

// ---------------------------------------------------------------- all calls

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

int replay(int count, char** arguments) {
  if (count < 2 || count > 4) throw std::runtime_error("usage: replay FILE [threads [instruction sets]]");
  std::vector<std::string> isas;
  std::vector<int> threads;
  for (const KernelTable* table : available_tables()) isas.push_back(table->isa);
  if (count > 3) isas = split(arguments[3]);
  if (isas.empty()) throw std::runtime_error("this machine can run no instruction set of this build");
  for (const std::string& isa : isas)
    if (!set_active_table(isa)) throw std::runtime_error("this machine or this build has no " + isa);
  for (const std::string& number : split(count > 2 ? arguments[2] : "1,2,3,8")) {
    threads.push_back(std::atoi(number.c_str()));
    if (threads.back() < 1 || threads.back() > max_threads())
      throw std::runtime_error("expected numbers of threads from 1, got " + number);
  }

  File file(arguments[1]);
  char magic[sizeof kMagic] = {};
  file.bytes(magic, sizeof kMagic - 1);
  if (std::strcmp(magic, kMagic) || file.number() != sizeof(Args))
    throw std::runtime_error("the file was not written for this version");
  set_work_gate(0);
  int64_t calls = 0, failed = 0;
  for (; !file.at_end(); ++calls) {
    Call call(file);
    bool good = true;
    for (const int n : threads) {
      set_stream_gate(n == threads.front() ? INT64_MAX : 0);
      for (const std::string& isa : isas)
        for (const Runner runner : kRunners) {
          if (!good) break;  // the first difference says enough
          set_active_table(isa);
          good = call.run(n, runner);
        }
    }
    failed += !good;
  }
  if (!calls) throw std::runtime_error("the file has no calls");
  std::string sets, numbers;
  for (const std::string& isa : isas) sets += (sets.empty() ? "" : ", ") + isa;
  for (const int n : threads) numbers += (numbers.empty() ? "" : ", ") + std::to_string(n);
  std::printf("%lld calls on %s, threads %s: ", static_cast<long long>(calls), sets.c_str(), numbers.c_str());
  if (failed) std::printf("%lld differ\n", static_cast<long long>(failed));
  else std::printf("all have the expected bits\n");
  return failed ? 1 : 0;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);  // what was found is seen even when a later call does not return
    return replay(count, arguments);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "replay: %s\n", e.what());
    return 2;
  }
}

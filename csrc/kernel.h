// What every file agrees on: how a kernel is called, cut into ranges and listed. Plain data, no functions, so that
// the same header serves code compiled for any instruction set.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fastbp {

enum DType : int { kFloat32 = 0, kFloat64 = 1, kInt64 = 2, kBool = 3, kDTypes = 4 };

constexpr int kMaxDims = 8;
constexpr int64_t kChunk = 512;  // terms summed as one chain (the numerical contract), and the K block of products

// One call: operands in their declared order (null where an optional one is absent), sizes, by-value constants.
// Each family states its layout at its head. A list operand (many tensors) is a pointer to an array of pointers.
struct Args {
  void* p[12];
  int64_t n[40];
  double c[6];
};

// Memory that a call may scribble on: `shared` is one block for the whole team, `local` one for each thread.
struct Scratch {
  void* shared;
  void* local;
};

// Computes the part [begin, end) of one phase. Never allocates, throws, prints or aborts.
using RangeFn = void (*)(const Args&, int64_t begin, int64_t end, Scratch);
using SizeFn = int64_t (*)(const Args&);

// A phase is split among threads at multiples of `grain`; all of a phase is done before the next one starts.
struct Phase {
  RangeFn run = nullptr;
  SizeFn count = nullptr;
  int64_t grain = 1;
};

constexpr int kMaxPhases = 3;

struct Kernel {
  Phase phases[kMaxPhases];       // the first without `run` ends the list
  SizeFn work = nullptr;          // operations, about: below a gate the calling thread works alone
  SizeFn shared_bytes = nullptr;  // null: none
  SizeFn local_bytes = nullptr;   // null: none
};

// Which binding a kernel gets; kernels of one family have one signature.
enum class Family : int {
  kUnary,          // (x, constants..., y)
  kUnaryBackward,  // (dy, s, constants..., dx)
  kBinary,         // (a, b, y), broadcasting
  kComparison,     // (a, b, y: bool), broadcasting
  kSingle,         // bound one by one in bind_*.cpp, found by name
  kReduce,         // (x: (outer, r, inner), y: (outer, inner))
  kArgReduce,      // (x: (outer, r, inner), y: int64 (outer, inner))
  kRows,           // (x: (rows, cols), y)
  kRowsBackward,   // (dy, y, dx), all (rows, cols)
  kElementLoss,    // (x, target, coefficient, sample_weight, denominator, constants..., losses, dx)
  kOptimizer,      // (hyper, grads, params, states..., )
};

struct Entry {
  const char* name;
  Family family;
  int constants;           // how many by-value constants the signature has
  Kernel kernel[kDTypes];  // by DType; no first phase where the kernel does not exist for that type
};

struct EntryList {
  const Entry* entries;
  int count;
};

// All kernels of one instruction set; every set lists the same names in the same order.
struct KernelTable {
  const char* isa;
  const EntryList* lists;
  int count;
  int64_t* stream_gate;  // bytes read and written from which a call's outputs go past the caches (map.h)
};

}  // namespace fastbp

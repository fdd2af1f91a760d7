// A kernel's call as a binding puts it together: each operand checked as it is added.
#pragma once

#include <string>

#include "bind.h"

namespace fastbp {

// The operands come in the order of the kernel's pointers, first those that it reads; a null one leaves its place
// empty.
class KernelCall {
 public:
  KernelCall(const std::string& op, DType dtype) : op_(op), dtype_(dtype) {}
  // Of kernels whose sizes begin with those of a matrix x.
  KernelCall(const std::string& op, const char* name, const Buffer& x) : KernelCall(op, x.dtype) {
    require_dims(op, name, x, 2, "(rows, cols)");
    args.n[0] = x.shape[0];
    args.n[1] = x.shape[1];
  }
  int64_t rows() const { return args.n[0]; }
  int64_t cols() const { return args.n[1]; }

  void read(const char* name, const Buffer* b, std::initializer_list<int64_t> shape) { read(name, b, shape, dtype_); }
  void read(const char* name, const Buffer* b, std::initializer_list<int64_t> shape, DType dtype) {
    add_read(b, b ? input(op_, name, *b, dtype, shape) : nullptr);
  }
  void read_one(const char* name, const Buffer* b) { read_one(name, b, dtype_); }
  void read_one(const char* name, const Buffer* b, DType dtype) {
    if (b && b->size != 1) fail_value(op_, std::string("expected ") + name + " of one element, got " + shape_text(*b));
    add_read(b, b ? input(op_, name, *b, dtype) : nullptr);
  }
  // An output shares no memory with what is read or written, but that it may take the place of `replaced`.
  void write(const char* name, Buffer* b, std::initializer_list<int64_t> shape, const Buffer* replaced = nullptr) {
    args.p[place_++] = b ? output(op_, name, *b, dtype_, shape) : nullptr;
    if (!b) return;
    for (int i = 0; i < reads_; ++i) require_apart(op_, *b, *read_[i], read_[i] == replaced);
    for (int i = 0; i < writes_; ++i) require_apart(op_, *b, *written_[i]);
    written_[writes_++] = b;
  }
  void run(Place place) { call(kernel_for(op_, place.entry(), dtype_), args); }

  Args args{};

 private:
  void add_read(const Buffer* b, void* p) {
    args.p[place_++] = p;
    if (b) read_[reads_++] = b;
  }

  static constexpr int kMost = sizeof(Args{}.p) / sizeof(void*);
  const std::string& op_;
  DType dtype_;
  int place_ = 0, reads_ = 0, writes_ = 0;
  const Buffer *read_[kMost], *written_[kMost];
};

}  // namespace fastbp

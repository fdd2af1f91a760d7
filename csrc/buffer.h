// Host storage: a typed, possibly strided window onto memory that it owns or shares. Knows nothing of Python.
#pragma once

#include <span>
#include <stdexcept>

#include "kernel.h"
#include "storage.h"

namespace fastbp {

constexpr int64_t kItemSize[kDTypes] = {4, 8, 8, 1};
constexpr const char* kDTypeName[kDTypes] = {"float32", "float64", "int64", "bool"};

class Buffer {
 public:
  StorageRef storage;
  char* data = nullptr;
  DType dtype = kFloat32;
  int ndim = 0;
  bool contiguous = true;
  int64_t size = 1;  // elements
  int64_t shape[kMaxDims] = {};
  int64_t strides[kMaxDims] = {};  // in elements; any sign, 0 where a dimension is expanded

  int64_t bytes() const { return size * kItemSize[dtype]; }
  // The first address of an element and the end of the last.
  std::pair<const char*, const char*> extent() const {
    const char *low = data, *high = data + (size ? kItemSize[dtype] : 0);
    for (int d = 0; size && d < ndim; ++d) {
      const int64_t reach = (shape[d] - 1) * strides[d] * kItemSize[dtype];
      (reach < 0 ? low : high) += reach;
    }
    return {low, high};
  }
  std::span<const int64_t> dims() const { return {shape, static_cast<size_t>(ndim)}; }

  // New contiguous memory, uninitialised, aligned to a cache line.
  static Buffer empty(std::span<const int64_t> shape, DType dtype) {
    Buffer b;
    b.dtype = dtype;
    b.set_shape(shape);
    b.allocate();
    return b;
  }

  // As `empty`, of this buffer's shape.
  Buffer empty_like(DType dtype) const {
    Buffer b;
    b.dtype = dtype;
    b.ndim = ndim;
    b.size = size;
    for (int d = 0; d < ndim; ++d) b.shape[d] = shape[d];
    b.allocate();
    return b;
  }

  // A window onto the same storage, `offset` elements from this one's start. Checked to stay inside the storage.
  Buffer view(std::span<const int64_t> new_shape, std::span<const int64_t> new_strides, int64_t offset) const {
    Buffer b;
    b.dtype = dtype;
    b.storage = storage;
    b.set_shape(new_shape);
    for (int d = 0; d < b.ndim; ++d) b.strides[d] = new_strides[d];
    const int64_t item = kItemSize[dtype];
    __int128 low = 0, high = 0;  // exact: a product of two int64 fits
    for (int d = 0; d < b.ndim; ++d) {
      if (b.shape[d] == 0) continue;
      const __int128 reach = static_cast<__int128>(b.shape[d] - 1) * b.strides[d];
      (reach < 0 ? low : high) += reach;
    }
    const __int128 start = (data - storage->data) + static_cast<__int128>(offset) * item;
    if (b.size && (start + low * item < 0 || start + (high + 1) * item > storage->bytes))
      throw std::out_of_range("[view] the window reaches outside of its storage");
    b.data = b.size ? data + offset * item : data;
    b.find_contiguous();
    return b;
  }

  // Same elements, another shape; only for contiguous buffers.
  Buffer reshaped(std::span<const int64_t> new_shape) const {
    Buffer b = *this;
    b.set_shape(new_shape);
    b.set_contiguous_strides();
    return b;
  }

  void set_shape(std::span<const int64_t> new_shape) {
    if (new_shape.size() > kMaxDims) throw std::invalid_argument("a tensor has at most 8 dimensions");
    ndim = static_cast<int>(new_shape.size());
    size = 1;
    int64_t limit = 1;  // product without zero sizes, so that strides cannot overflow either
    for (int d = 0; d < ndim; ++d) {
      shape[d] = new_shape[d];
      if (shape[d] < 0) throw std::invalid_argument("a dimension is negative");
      if (__builtin_mul_overflow(limit, shape[d] ? shape[d] : 1, &limit) || limit > INT64_MAX / 16)
        throw std::invalid_argument("the number of elements does not fit into 64 bits");
      size *= shape[d];
    }
  }

  void set_contiguous_strides() {
    int64_t stride = 1;
    for (int d = ndim - 1; d >= 0; --d) {
      strides[d] = stride;
      stride *= shape[d] ? shape[d] : 1;
    }
    contiguous = true;
  }

  void allocate() {
    set_contiguous_strides();
    storage = StorageRef(new_memory_is_promised ? Storage::promised(bytes()) : Storage::own(bytes()));
    data = storage->data;
  }

  void find_contiguous() {
    contiguous = true;
    int64_t stride = 1;
    for (int d = ndim - 1; d >= 0; --d) {
      if (shape[d] != 1 && strides[d] != stride) contiguous = false;
      stride *= shape[d];
    }
    if (size == 0) contiguous = true;
  }
};

}  // namespace fastbp

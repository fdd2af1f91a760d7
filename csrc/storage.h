// The memory under tensors: one block with its reference count, or foreign memory and its owner. Small blocks that are
// given back are kept for the next tensor of about that size.
//
// Nothing here is thread-safe: buffers are made, copied and given up under the interpreter's lock only.
#pragma once

#include <stdint.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "pages.h"

namespace fastbp {

class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(int64_t bytes) : text_("expected " + std::to_string(bytes) + " bytes of memory, got none") {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

constexpr int64_t kLine = 64;  // bytes of a cache line, to which our own memory is aligned

// Blocks so large that malloc returns them to the system each time, to be faulted in page by page the next: the last
// few that were given back, at most 128 MiB. A block serves the same number of bytes again.
class LargeBlocks {
 public:
  void* take(int64_t bytes) {
    for (size_t i = blocks_.size(); i-- > 0;) {
      if (blocks_[i].bytes == bytes) return remove(i);
    }
    return nullptr;
  }
  bool keep(void* memory, int64_t bytes) {
    if (bytes < kAlwaysMapped || bytes > kKept) return false;
    release(kKept - bytes);
    blocks_.push_back({memory, bytes});
    total_ += bytes;
    return true;
  }
  // Frees the oldest, until no more than `left` bytes are kept.
  void release(int64_t left) {
    while (total_ > left) std::free(remove(0));
  }

 private:
#ifdef __SANITIZE_ADDRESS__
  static constexpr int64_t kKept = 0;  // so that the sanitizer sees a use after free
#else
  static constexpr int64_t kKept = 128 << 20;
#endif
  struct Kept {
    void* memory;
    int64_t bytes;
  };
  void* remove(size_t i) {
    const Kept block = blocks_[i];
    blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(i));
    total_ -= block.bytes;
    return block.memory;
  }
  std::vector<Kept> blocks_;  // the oldest first
  int64_t total_ = 0;
};

// Blocks for 64 bytes to 64 KiB of data, by powers of two, at most 256 KiB of each size: malloc takes several times as
// long as this list where alignment is asked for. Beyond 64 KiB what is done with the memory outweighs it, until blocks
// are as large as LargeBlocks keeps.
class BlockCache {
 public:
  static constexpr int64_t kHead = 2 * kLine;  // in front of the data

  static void* take(int64_t bytes) {
    const int c = size_class(bytes);
    if (c < kClasses && free_[c].first) {
      Block* block = free_[c].first;
      free_[c].first = block->next;
      --free_[c].count;
      return block;
    }
    if (void* kept = large_.take(bytes)) return kept;
    const int64_t size = kHead + (c < kClasses ? kLine << c : bytes);
    void* block = allocate_aligned(kLine, size);
    if (!block) {
      large_.release(0);
      block = allocate_aligned(kLine, size);
    }
    if (!block) throw OutOfMemory(bytes);
    return block;
  }

  static void give_back(void* memory, int64_t bytes) {
    const int c = size_class(bytes);
    if (c < kClasses && free_[c].count < kKeptBytes / kLine >> c) {
      free_[c].first = new (memory) Block{free_[c].first};
      ++free_[c].count;
    } else if (!large_.keep(memory, bytes)) {
      std::free(memory);
    }
  }

 private:
#ifdef __SANITIZE_ADDRESS__
  static constexpr int kClasses = 0;  // so that the sanitizer sees a use after free
#else
  static constexpr int kClasses = 11;
#endif
  static constexpr int64_t kKeptBytes = 256 << 10;

  struct Block {
    Block* next;
  };
  struct List {
    Block* first;
    int64_t count;
  };
  static int size_class(int64_t bytes) {
    return bytes <= kLine ? 0 : 64 - __builtin_clzll(static_cast<uint64_t>(bytes - 1) / kLine);
  }

  inline static List free_[kClasses + 1] = {};
  inline static LargeBlocks& large_ = *new LargeBlocks;  // never destroyed: tensors may outlive every static object
};

// While true, this thread's new tensors get placeholders: it records a program, whose memory comes later.
inline thread_local bool new_memory_is_promised = false;

// Placeholders lie where no processor has memory, so that touching one faults.
constexpr uintptr_t kPlaceholders = uintptr_t{1} << 60;
inline bool is_placeholder(const void* p) { return reinterpret_cast<uintptr_t>(p) >= kPlaceholders; }

// What buffers onto the same memory have in common. Our own memory follows the Storage in its block.
struct alignas(kLine) Storage {
  char* data = nullptr;
  int64_t bytes = 0;
  int64_t references = 1;
  int64_t version = 0;           // counts writes, so that a saved value that changed is noticed
  std::shared_ptr<void> owner;   // keeps foreign memory alive; empty when the memory is our own
  std::shared_ptr<void> panels;  // copies in another layout, as csrc/bind_gemm.cpp keeps them
  bool readonly = false;
  bool shared = false;  // others can write to it unseen: no derived copies of it may be kept
  bool placeholder = false;

  static Storage* own(int64_t bytes) {
    auto* s = new (BlockCache::take(bytes)) Storage;
    s->data = reinterpret_cast<char*>(s) + BlockCache::kHead;
    s->bytes = bytes;
    return s;
  }
  static Storage* foreign(char* data, int64_t bytes, bool readonly, std::shared_ptr<void> owner) {
    auto* s = new (BlockCache::take(0)) Storage;
    s->data = data;
    s->bytes = bytes;
    s->readonly = readonly;
    s->shared = true;
    s->owner = std::move(owner);
    return s;
  }
  // Addresses alone, never given out twice, for what a program that is being recorded will compute.
  static Storage* promised(int64_t bytes) {
    static std::atomic<uintptr_t> next{kPlaceholders};
    auto* s = new (BlockCache::take(0)) Storage;
    s->data = reinterpret_cast<char*>(next.fetch_add(static_cast<uintptr_t>((bytes / kLine + 1) * kLine)));
    s->bytes = bytes;
    s->placeholder = true;
    return s;
  }
  static void give_up(Storage* s) {
    if (--s->references) return;
    const int64_t own_bytes = s->owner || s->placeholder ? 0 : s->bytes;
    s->~Storage();
    BlockCache::give_back(s, own_bytes);
  }
};
static_assert(sizeof(Storage) == BlockCache::kHead);

// A counted reference to a Storage.
class StorageRef {
 public:
  StorageRef() = default;
  explicit StorageRef(Storage* counted) : storage_(counted) {}
  StorageRef(const StorageRef& other) : storage_(other.storage_) {
    if (storage_) ++storage_->references;
  }
  StorageRef(StorageRef&& other) noexcept : storage_(std::exchange(other.storage_, nullptr)) {}
  StorageRef& operator=(StorageRef other) noexcept {
    std::swap(storage_, other.storage_);
    return *this;
  }
  ~StorageRef() {
    if (storage_) Storage::give_up(storage_);
  }
  explicit operator bool() const { return storage_; }
  Storage* operator->() const { return storage_; }
  Storage& operator*() const { return *storage_; }
  friend bool operator==(const StorageRef& a, const StorageRef& b) { return a.storage_ == b.storage_; }

 private:
  Storage* storage_ = nullptr;
};

}  // namespace fastbp

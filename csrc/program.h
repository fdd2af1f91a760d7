// A recorded program: kernel calls that run as one job, stage by stage. Knows kernels, pointers and sizes, not Python.
//
// Calls are noted with the addresses of placeholders for what the program computes, takes and gives. `finish` says
// where each placeholder lives and in which order the calls run; `run` gives inputs and outputs their memory.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "buffer.h"
#include "dispatch.h"
#include "ranges.h"
#include "storage.h"
#include "threads.h"

namespace fastbp {

// A call as its binding checked it. Lists of tensors and their offsets are copies, and args points to them.
struct RecordedCall {
  int list, index;
  DType dtype;
  std::vector<Args> args;  // one, or one for each share where an operand is each share's own
  std::deque<std::vector<void*>> lists;
  std::vector<int64_t> offsets;

  const Entry& entry() const { return active_entry(list, index); }
  const Kernel& kernel() const { return entry().kernel[dtype]; }
};

// Calls that go over the same rows together: a share takes its rows in blocks, and each block through all members
// while it is in the cache.
struct Group {
  // In the place of rows: one share, or each, runs it all; each runs its part.
  static constexpr int64_t kFirstShare = 0, kEveryShare = -1, kTeam = -2;
  // Each share looks at a number of its own, by a call whose output it is, and ends the run unless it is finite.
  static constexpr int64_t kGuard = -3;
  struct Member {
    int call, phase;
    // Found by `finish`:
    RangeFn run;
    RecordedCall* recorded;
    int64_t units;           // of the phase in a row; all of them where there are no rows
    int64_t rows_of_a_unit;  // 1, or more where a unit spans rows
    int64_t grain;
    int64_t shared_at;  // its part of the team's scratch
  };
  // A pointer that moves with the first row of a block, or of a chunk: it is at *origin + offset + row · step.
  struct Slide {
    const void** at;
    char* const* origin;
    int64_t offset, step;
    void move(int64_t row) const { *at = *origin + offset + row * step; }
  };
  struct Slides {
    std::vector<Slide> block, chunk;
  };
  // Of a program that goes over many rows in chunks: the groups that run once for each, over its rows, or, being sums
  // over rows (the gradients of weights), over its terms.
  enum Chunked : int { kNot, kRows, kTerms };

  int64_t rows, block, grain;  // shares are cut at multiples of grain
  Chunked chunked;
  std::vector<Member> members;
  std::vector<Slides> slides;  // of each share
};
// Groups that need no barrier between them.
using Stage = std::vector<Group>;

// Where the memory behind a range of addresses is.
struct Home {
  enum Kind : int { kArena, kEachShare, kBlock, kChunk, kInput, kOutput };
  uintptr_t begin, end;
  Kind kind;
  int64_t place;      // offset in the arena or in a share's part of it, or number of the input or output
  int64_t row_bytes;  // of what holds the rows of one block only, each share its own, or of one chunk
};

// Panels (pack.h) of a matrix that outlives the program: kept from run to run while nobody else writes to it.
struct KeptPanels {
  int call;  // that packs them
  StorageRef matrix;
  int64_t version;
};

// Indices that must be in [low, high), or equal `ignored`, before a call of `op` may use them.
struct IndexCheck {
  const void* at;
  int64_t count, low, high;
  std::optional<int64_t> ignored;
  std::string op;
  std::vector<std::pair<int64_t, int64_t>> apart = {};  // (size, stride) of each dimension, where they lie apart

  const int64_t* first_out_of_range() const;
  std::pair<const char*, const char*> extent() const;  // from the first to past the last
};

// Where computed indices lie, both ends included.
struct IndexRange {
  int64_t low, high;
};

// A recorded function needs what only a run could tell.
class RecordingError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Columns of a strip of panels (pack.h) on the instruction set in use.
int64_t panel_width(DType dtype);

class Program {
 public:
  // While a program is recorded: its calls in order, what they write, and the indices that they rely on.
  void add(const Kernel& kernel, const Args& args, unsigned lists);
  void note_write(const StorageRef& storage);
  void note_check(const IndexCheck& check);
  const std::deque<RecordedCall>& calls() const { return calls_; }

  // Ends the recording. Of a member, call and phase are asked for. `most_shares` bounds the threads that take part.
  // chunk_rows: the rows that the first two stages go over chunk by chunk, 0 for none.
  void finish(std::vector<Home> homes, int64_t arena_bytes, int64_t each_share_bytes, std::vector<Stage> stages,
              int most_shares, int64_t chunk_rows);
  // Panels of a matrix, in the place that a placeholder stands for: by a call of its own, and for a call that uses
  // them.
  void add_pack(DType dtype, const void* matrix, int64_t n, int64_t k, bool transposed, void* panels);
  void use_panels(int call, void* panels);
  void keep_panels(int call, const StorageRef& matrix) { kept_panels_.push_back({call, matrix, -1}); }
  void refresh_panels();

  // Small memory that is written before a guard has looked: a run that it ends puts it back.
  void save_before_guard(char* memory, int64_t bytes) { saved_.push_back({memory, std::vector<char>(size_t(bytes))}); }
  void save() const;
  // After a run: whether a guard ended it, and everything is as before.
  bool ended() const;
  double guarded_value() const;  // that the guard saw last
  bool is_ending() const { return ending_.load(std::memory_order_relaxed); }

  // Runs these calls alone, before the first run: what they write stays.
  void run_once(const std::vector<int>& calls);

  // The home of a placeholder; null for other addresses.
  const Home* home_of(const void* p) const;
  const std::vector<Home>& homes() const { return homes_; }

  // Whether the program is right for inputs in this memory: where memory that it changes is also known to it by another
  // name, it has no fixed order.
  void set_reach(Ranges reached, Ranges overwritten, std::vector<int64_t> changed_inputs);
  bool can_order(std::span<const Buffer* const> inputs) const;
  const std::vector<int64_t>& changed_inputs() const { return changed_inputs_; }
  // Checks of what was placed, to be passed before `run`.
  const std::vector<IndexCheck>& checks() const { return checks_; }
  // Whether a run leaves what was checked before it as it was.
  bool checks_stand() const;

  // Takes the program for one caller; `place` before `run`.
  std::unique_lock<std::mutex> lock() { return std::unique_lock(mutex_, std::defer_lock); }
  void place(Home::Kind kind, int64_t number, char* memory);
  void count_writes();
  void run() const {
    save();
    run_job(job_);
  }
  const Job& job() const { return job_; }
  int64_t barriers() const { return job_.phases - 1; }  // in a run, but for the one at its end

 private:
  struct Written {
    StorageRef storage;
    int times;
  };
  const Written* written_in(const char* begin, const char* end) const;
  using KnownRanges = std::map<int64_t, std::optional<IndexRange>>;  // by call
  int64_t only_writer(const void* p, int64_t before) const;
  std::optional<IndexRange> range_of(const void* p, int64_t before, KnownRanges& known) const;
  std::optional<IndexRange> range_of_results(const RecordedCall& call, int64_t i, KnownRanges& known) const;

  struct Patch {
    const void** at;
    int64_t offset;
  };
  struct Slot {
    char* memory = nullptr;
    std::vector<Patch> patches;
  };
  void relocate(const void** at, int share, Group::Chunked chunked, int64_t term_bytes, Group::Slides& slides);
  void find_places(RecordedCall& call, int most_shares, Group::Chunked chunked, std::vector<Group::Slides>& slides);
  void plan(Group& group, const std::vector<std::vector<Group::Slides>>& slides, std::vector<int64_t>& shared_at);
  void begin_chunk(const Group& group, int share, int64_t chunk) const;
  static void run_share(const Job& job, int64_t stage, int share, int shares, Scratch scratch);
  static void run_member(const Group::Member& member, int64_t begin, int64_t end, int share, Scratch scratch);
  static void run_group(const Group& group, int64_t begin, int64_t end, int share, Scratch scratch);

  std::mutex mutex_;
  std::deque<RecordedCall> calls_;  // a deque: their addresses stay
  std::vector<Written> written_;
  std::vector<IndexCheck> checks_;
  Ranges reached_, overwritten_;  // of memory from outside
  std::vector<int64_t> changed_inputs_;
  std::vector<Home> homes_;     // by address
  std::vector<Slot> slots_[2];  // inputs, outputs
  std::vector<KeptPanels> kept_panels_;
  mutable std::vector<std::pair<char*, std::vector<char>>> saved_;
  mutable std::atomic<bool> ending_{false};
  std::vector<Stage> stages_;
  std::shared_ptr<void> arena_;
  std::deque<char*> origins_;  // of pointers that move: the memory of each share, and what lies outside
  int64_t chunk_rows_ = 0, chunks_ = 1;
  int64_t guarded_stage_ = INT64_MAX;
  const Group::Member* guard_ = nullptr;
  Job job_{};
};

}  // namespace fastbp

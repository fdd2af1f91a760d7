#include "program.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string_view>

#include "pages.h"

namespace fastbp {
namespace {

constexpr int kOffsetsAt = 11;         // of Args.p, where calls with lists have the sums of their sizes
constexpr int64_t kChunkedStages = 2;  // that a chunk goes through before the next: its rows, then sums over them

int64_t size_of(SizeFn function, const Args& args) { return function ? function(args) : 0; }
int64_t lines(int64_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

// Kernels that sum over rows and can add to what they write: n = {rows, …}, n[3] = accumulate. Their first operands
// have a row for each term, of so many elements: n[each], or 1 for kOne.
constexpr int kAccumulateAt = 3, kOne = -1, kNoTerms = 0;
struct Sum {
  std::string_view kernel;
  int row[4];
};
constexpr Sum kSums[] = {
    {"linear_backward_weight", {1, 2}},                // dy (m, n), x (m, k)
    {"row_norm_backward_weight", {1, 1, kOne, kOne}},  // dy, x, mean, rstd
};

// Bytes of a row of the terms that operand i holds; 0 where it holds none.
int64_t term_bytes_of(const RecordedCall& call, int64_t i) {
  for (const Sum& sum : kSums)
    if (i < std::ssize(sum.row) && sum.kernel == call.entry().name && sum.row[i] != kNoTerms)
      return (sum.row[i] == kOne ? 1 : call.args[0].n[sum.row[i]]) * kItemSize[call.dtype];
  return 0;
}

const Entry& entry_named(const char* name, int& list, int& index) {
  const KernelTable* table = active_table();
  for (list = 0; list < table->count; ++list)
    for (index = 0; index < table->lists[list].count; ++index)
      if (table->lists[list].entries[index].name == std::string_view(name)) return table->lists[list].entries[index];
  throw std::logic_error("no kernel of this name");
}

// The output of a guard's call, for one share.
double value_of(const Group::Member& guard, int share) {
  const std::vector<Args>& args = guard.recorded->args;
  const void* number = args[args.size() > 1 ? static_cast<size_t>(share) : 0].p[1];  // y of a copy
  return guard.recorded->dtype == kFloat32 ? *static_cast<const float*>(number) : *static_cast<const double*>(number);
}

}  // namespace

// ---------------------------------------------------------------- recording

void Program::add(const Kernel& kernel, const Args& args, unsigned lists) {
  const KernelTable* table = active_table();
  for (int list = 0; list < table->count; ++list)
    for (int index = 0; index < table->lists[list].count; ++index)
      for (int dtype = 0; dtype < kDTypes; ++dtype) {
        if (&table->lists[list].entries[index].kernel[dtype] != &kernel) continue;
        RecordedCall& call = calls_.emplace_back(RecordedCall{list, index, static_cast<DType>(dtype), {args}, {}, {}});
        if (!lists) return;
        const int64_t tensors = args.n[1];
        for (int p = 0; p < kOffsetsAt; ++p) {
          if (!(lists >> p & 1) || !args.p[p]) continue;
          void* const* from = static_cast<void* const*>(args.p[p]);
          call.args[0].p[p] = call.lists.emplace_back(from, from + tensors).data();
        }
        const int64_t* offsets = static_cast<const int64_t*>(args.p[kOffsetsAt]);
        call.offsets.assign(offsets, offsets + tensors + 1);
        call.args[0].p[kOffsetsAt] = call.offsets.data();
        return;
      }
  throw std::logic_error("a call of a kernel that is in no table");
}

// ---------------------------------------------------------------- memory

const Home* Program::home_of(const void* p) const {
  if (!is_placeholder(p)) return nullptr;
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  auto after = std::upper_bound(homes_.begin(), homes_.end(), address,
                                [](uintptr_t a, const Home& home) { return a < home.begin; });
  if (after == homes_.begin() || address >= (after - 1)->end) throw std::logic_error("a placeholder without a home");
  return &*(after - 1);
}

// Turns the placeholder at `at` into an address: now for the arena, with each `place` for inputs and outputs, and with
// each block or chunk where it moves. term_bytes: of a row of an operand that is summed over rows, chunk by chunk.
void Program::relocate(const void** at, int share, Group::Chunked chunked, int64_t term_bytes, Group::Slides& slides) {
  const Home* home = home_of(*at);
  const int64_t offset = home ? reinterpret_cast<intptr_t>(*at) - static_cast<intptr_t>(home->begin) : 0;
  if (!home) {
    if (!term_bytes) return;
    origins_.push_back(static_cast<char*>(const_cast<void*>(*at)));
    slides.chunk.push_back({at, &origins_.back(), 0, term_bytes});
  } else if (home->kind == Home::kInput || home->kind == Home::kOutput) {
    Slot& slot = slots_[home->kind - Home::kInput][static_cast<size_t>(home->place)];
    if (term_bytes) slides.chunk.push_back({at, &slot.memory, offset, term_bytes});
    else slot.patches.push_back({at, offset});
  } else {
    const bool own = home->kind == Home::kEachShare || home->kind == Home::kBlock;
    char* const* origin = &origins_[own ? static_cast<size_t>(share) + 1 : 0];
    *at = *origin + home->place + offset;
    const Group::Slide slide{at, origin, home->place + offset, -home->row_bytes};
    if (home->kind == Home::kBlock) slides.block.push_back(slide);
    else if (home->kind == Home::kChunk && chunked == Group::kRows) slides.chunk.push_back(slide);
    else if (home->kind != Home::kChunk && term_bytes) slides.chunk.push_back({at, origin, slide.offset, term_bytes});
  }
}

// Relocates all pointers of a call, of which every share gets its own where it moves some.
void Program::find_places(RecordedCall& call, int most_shares, Group::Chunked chunked,
                          std::vector<Group::Slides>& slides) {
  const auto own = [&](const void* p) {
    const Home* home = home_of(p);
    return home && (home->kind == Home::kEachShare || home->kind == Home::kBlock);
  };
  bool each = chunked != Group::kNot || std::any_of(std::begin(call.args[0].p), std::end(call.args[0].p), own);
  for (const std::vector<void*>& list : call.lists) each |= std::any_of(list.begin(), list.end(), own);
  const size_t shares = each ? static_cast<size_t>(most_shares) : 1, lists = call.lists.size();
  call.args.resize(shares, Args(call.args[0]));
  for (size_t share = 1; share < shares; ++share)
    for (size_t i = 0; i < lists; ++i) {
      std::vector<void*>& list = call.lists.emplace_back(call.lists[i]);
      for (void*& p : call.args[share].p)
        if (p == call.lists[i].data()) p = list.data();
    }
  slides.resize(shares);
  for (size_t share = 0; share < shares; ++share) {
    Args& args = call.args[share];
    for (void*& p : args.p) {
      const int64_t term_bytes = p && chunked == Group::kTerms ? term_bytes_of(call, &p - args.p) : 0;
      relocate(const_cast<const void**>(&p), static_cast<int>(share), chunked, term_bytes, slides[share]);
    }
    for (size_t i = 0; i < lists; ++i)
      for (void*& p : call.lists[share * lists + i])
        relocate(const_cast<const void**>(&p), static_cast<int>(share), chunked, 0, slides[share]);
  }
}

void Program::place(Home::Kind kind, int64_t number, char* memory) {
  std::vector<Slot>& slots = slots_[kind - Home::kInput];
  if (static_cast<size_t>(number) >= slots.size()) return;  // no call uses it
  Slot& slot = slots[static_cast<size_t>(number)];
  if (slot.memory == memory) return;
  slot.memory = memory;
  for (const Patch& patch : slot.patches) *patch.at = memory + patch.offset;
}

void Program::finish(std::vector<Home> homes, int64_t arena_bytes, int64_t each_share_bytes, std::vector<Stage> stages,
                     int most_shares, int64_t chunk_rows) {
  homes_ = std::move(homes);
  stages_ = std::move(stages);
  chunk_rows_ = chunk_rows;
  chunks_ = std::max<int64_t>((chunk_rows + kChunk - 1) / kChunk, 1);
  std::sort(homes_.begin(), homes_.end(), [](const Home& a, const Home& b) { return a.begin < b.begin; });
  for (const Home& home : homes_)
    if (home.kind == Home::kInput || home.kind == Home::kOutput) {
      std::vector<Slot>& slots = slots_[home.kind - Home::kInput];
      slots.resize(std::max(slots.size(), static_cast<size_t>(home.place) + 1));
    }
  arena_bytes = lines(arena_bytes);
  each_share_bytes = lines(each_share_bytes);
  const int64_t bytes = arena_bytes + most_shares * each_share_bytes;
  arena_ = std::shared_ptr<void>(allocate_aligned(kLine, std::max(bytes, kLine)), std::free);
  if (!arena_) throw OutOfMemory(bytes);
  origins_.push_back(static_cast<char*>(arena_.get()));
  for (int share = 0; share < most_shares; ++share)
    origins_.push_back(origins_[0] + arena_bytes + share * each_share_bytes);

  std::vector<Group::Chunked> chunked(calls_.size(), Group::kNot);
  for (const Stage& stage : stages_)
    for (const Group& group : stage)
      for (const Group::Member& member : group.members) chunked.at(static_cast<size_t>(member.call)) = group.chunked;
  std::vector<std::vector<Group::Slides>> slides(calls_.size());  // of each call, by share
  for (size_t i = 0; i < calls_.size(); ++i) find_places(calls_[i], most_shares, chunked[i], slides[i]);
  Group::Slides none;
  for (IndexCheck& check : checks_) relocate(&check.at, 0, Group::kNot, 0, none);
  std::erase_if(written_, [](const Written& w) { return w.storage->placeholder; });

  const int64_t stage_count = static_cast<int64_t>(stages_.size());
  job_ = {chunks_ > 1 ? chunks_ * kChunkedStages + stage_count - kChunkedStages : stage_count,
          0,
          1,
          1,
          0,
          0,
          run_share,
          this};
  std::vector<int64_t> shared_at(calls_.size(), -1);  // the same for all phases of a call
  for (size_t stage = 0; stage < stages_.size(); ++stage)
    for (Group& group : stages_[stage]) {
      group.slides.resize(static_cast<size_t>(most_shares));
      plan(group, slides, shared_at);
      if (group.rows == Group::kGuard) {
        guarded_stage_ = static_cast<int64_t>(stage);
        guard_ = &group.members[0];
      }
      if (group.rows == Group::kTeam) job_.most_shares = most_shares;
      if (group.rows > 0) job_.most_shares = std::max(job_.most_shares, (group.rows + group.grain - 1) / group.grain);
    }
  job_.most_shares = std::min<int64_t>(job_.most_shares, most_shares);
}

// Finds what running a group's members takes.
void Program::plan(Group& group, const std::vector<std::vector<Group::Slides>>& slides,
                   std::vector<int64_t>& shared_at) {
  for (Group::Member& member : group.members) {
    const size_t i = static_cast<size_t>(member.call);
    RecordedCall& call = calls_[i];
    const Kernel& kernel = call.kernel();
    const Phase& phase = kernel.phases[member.phase];
    const Args& args = call.args[0];
    if (shared_at[i] < 0) {
      shared_at[i] = job_.shared_bytes;
      job_.shared_bytes += lines(size_of(kernel.shared_bytes, args));
      job_.local_bytes = std::max(job_.local_bytes, size_of(kernel.local_bytes, args));
      job_.work += size_of(kernel.work, args);
    }
    const int64_t count = phase.count(args);
    member.recorded = &call;
    member.run = phase.run;
    member.grain = phase.grain;
    member.units = group.rows > 0 ? std::max<int64_t>(count / group.rows, 1) : count;
    member.rows_of_a_unit = count < group.rows ? group.grain : 1;
    member.shared_at = shared_at[i];
    for (size_t share = 0; share < slides[i].size(); ++share) {
      Group::Slides& all = group.slides[share];
      const Group::Slides& own = slides[i][share];
      all.block.insert(all.block.end(), own.block.begin(), own.block.end());
      all.chunk.insert(all.chunk.end(), own.chunk.begin(), own.chunk.end());
    }
  }
}

// ---------------------------------------------------------------- panels

int64_t panel_width(DType dtype) {
  constexpr int64_t kMany = 1 << 20;
  Args args{};
  args.n[0] = kMany;
  int list, index;
  return kMany / entry_named("linear_pack", list, index).kernel[dtype].phases[0].count(args);
}

void Program::add_pack(DType dtype, const void* matrix, int64_t n, int64_t k, bool transposed, void* panels) {
  RecordedCall& call = calls_.emplace_back(RecordedCall{0, 0, dtype, {Args{}}, {}, {}});
  entry_named(transposed ? "linear_pack" : "linear_pack_rows", call.list, call.index);
  Args& args = call.args[0];
  args.p[0] = const_cast<void*>(matrix);
  args.p[1] = panels;
  args.n[0] = n;
  args.n[1] = k;
  args.n[2] = !transposed;
}

void Program::use_panels(int call, void* panels) {
  RecordedCall& user = calls_.at(static_cast<size_t>(call));
  const bool forward = user.entry().name == std::string_view("linear_forward");
  user.args[0].p[forward ? 5 : 4] = panels;
}

// Panels of a matrix that others wrote to, or might have unseen, are packed anew; those that a run packs itself are
// then of the version that `count_writes` leaves.
void Program::refresh_panels() {
  for (KeptPanels& panels : kept_panels_) {
    if (panels.version != panels.matrix->version || panels.matrix->shared) {
      const RecordedCall& call = calls_[static_cast<size_t>(panels.call)];
      run_kernel(call.kernel(), call.args[0]);
    }
  }
}

// ---------------------------------------------------------------- running

void Program::run_once(const std::vector<int>& calls) {
  for (int i : calls) run_kernel(calls_[static_cast<size_t>(i)].kernel(), calls_[static_cast<size_t>(i)].args[0]);
}

void Program::set_reach(Ranges reached, Ranges overwritten, std::vector<int64_t> changed_inputs) {
  reached_ = std::move(reached);
  overwritten_ = std::move(overwritten);
  changed_inputs_ = std::move(changed_inputs);
}

bool Program::can_order(std::span<const Buffer* const> inputs) const {
  for (const Buffer* b : inputs) {
    const auto [low, high] = b->extent();
    if (overwritten_.overlap(low, high)) return false;
  }
  for (int64_t i : changed_inputs_) {
    const auto [low, high] = inputs[static_cast<size_t>(i)]->extent();
    if (reached_.overlap(low, high)) return false;
    for (size_t other = 0; other < inputs.size(); ++other) {
      const auto [begin, end] = inputs[other]->extent();
      if (static_cast<int64_t>(other) != i && low < end && begin < high) return false;
    }
  }
  return true;
}

void Program::count_writes() {
  for (const Written& w : written_) ++w.storage->version;
  for (KeptPanels& panels : kept_panels_) panels.version = panels.matrix->version;
}

void Program::save() const {
  for (auto& [memory, bytes] : saved_) std::memcpy(bytes.data(), memory, bytes.size());
}

bool Program::ended() const {
  if (!ending_.exchange(false)) return false;
  for (const auto& [memory, bytes] : saved_) std::memcpy(memory, bytes.data(), bytes.size());
  return true;
}

double Program::guarded_value() const { return guard_ ? value_of(*guard_, 0) : 0; }

// Turns a share's operands of a group to a chunk.
void Program::begin_chunk(const Group& group, int share, int64_t chunk) const {
  for (const Group::Slide& slide : group.slides[static_cast<size_t>(share)].chunk) slide.move(chunk * kChunk);
  if (group.chunked != Group::kTerms) return;
  for (const Group::Member& member : group.members) {
    Args& args = member.recorded->args[static_cast<size_t>(share)];
    args.n[0] = std::min(chunk_rows_ - chunk * kChunk, kChunk);
    args.n[kAccumulateAt] = chunk > 0;
  }
}

void Program::run_share(const Job& job, int64_t phase, int share, int shares, Scratch scratch) {
  const Program& program = *static_cast<const Program*>(job.self);
  const int64_t last = program.chunks_ - 1, chunk = std::min(phase / kChunkedStages, last);
  const int64_t stage = last ? phase - chunk * kChunkedStages : phase;
  bool ends = program.is_ending() && stage > program.guarded_stage_;
  for (const Group& group : program.stages_[static_cast<size_t>(stage)]) {
    if (ends) return;
    // What does not go chunk by chunk comes before the first one or after the last.
    if (!group.chunked && last && chunk != (stage == 0 ? 0 : last)) continue;
    if (group.chunked) program.begin_chunk(group, share, chunk);
    if (group.rows == Group::kGuard) {
      run_member(group.members[0], 0, group.members[0].units, share, scratch);
      ends = !std::isfinite(value_of(group.members[0], share));  // every share finds the same
      if (ends) program.ending_.store(true, std::memory_order_relaxed);
    } else if (group.rows > 0) {
      const bool by_rows = group.chunked == Group::kRows;
      const int64_t first = by_rows ? chunk * kChunk : 0;
      const int64_t rows = by_rows ? std::min(group.rows - first, kChunk) : group.rows;
      const auto cut = [&](int64_t i) {
        return first + std::min((rows * i / shares + group.grain - 1) / group.grain * group.grain, rows);
      };
      run_group(group, cut(share), cut(share + 1), share, scratch);
    } else if (group.rows == Group::kTeam) {
      const Group::Member& member = group.members[0];
      const int64_t grains = (member.units + member.grain - 1) / member.grain;
      const auto cut = [&](int64_t i) { return std::min(grains * i / shares * member.grain, member.units); };
      if (cut(share) < cut(share + 1)) run_member(member, cut(share), cut(share + 1), share, scratch);
    } else if (share == 0 || group.rows == Group::kEveryShare) {
      run_group(group, 0, 1, share, scratch);
    }
  }
}

void Program::run_member(const Group::Member& member, int64_t begin, int64_t end, int share, Scratch scratch) {
  const std::vector<Args>& args = member.recorded->args;
  const Scratch own{static_cast<char*>(scratch.shared) + member.shared_at, scratch.local};
  member.run(args[args.size() > 1 ? static_cast<size_t>(share) : 0], begin, end, own);
}

void Program::run_group(const Group& group, int64_t begin, int64_t end, int share, Scratch scratch) {
  const int64_t block = group.block ? group.block : end - begin;
  for (int64_t row = begin; row < end; row += block) {
    const int64_t past = std::min(row + block, end);
    for (const Group::Slide& slide : group.slides[static_cast<size_t>(share)].block) slide.move(row);
    for (const Group::Member& member : group.members) {
      const int64_t rows = member.rows_of_a_unit;
      run_member(member, row / rows * member.units, (past + rows - 1) / rows * member.units, share, scratch);
    }
  }
}

}  // namespace fastbp

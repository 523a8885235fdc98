// Lanes that go different ways. They part at a branch into paths and meet again at the branch's post-dominator (flow.cpp); lanes that arrive there wait for the others.
// A path that can go nowhere without lanes that wait at a meeting gets them back: see release_joins.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "emulator/machine/calls.h"
#include "emulator/machine/machine.h"
#include "emulator/machine/products.h"

namespace flexemu {
namespace {

constexpr size_t kMostCalls = 4096;

}  // namespace

WarpState::WarpState(BlockState& block, int index, LaneMask lanes, int32_t kernel)
    : block_(block),
      launch_(block.launch),
      index_(index),
      all_lanes_(lanes),
      alive_(lanes),
      known_(block.cluster.serial),
      heard_(block.cluster.serial) {
    component_ = block.rank() * launch_.warps_per_block + static_cast<uint32_t>(index);
    serial_ = block.cluster.serial * launch_.warps_per_cluster + component_;
    grow_registers(launch_.program.codes[static_cast<size_t>(kernel)].registers);
    auto path = std::make_unique<Path>();
    path->lanes = lanes;
    path->at.code = kernel;
    paths_.push_back(std::move(path));
    clear_local(lanes, 0, static_cast<uint32_t>(launch_.program.codes[static_cast<size_t>(kernel)].frame_bytes));
}

WarpState::~WarpState() = default;

Block& WarpState::block() {
    return block_;
}

uint32_t WarpState::agent() const {
    return kAgents * launch_.warps_per_cluster + component_;
}

const Op& WarpState::op_of(const Path& path) const {
    const Code& code = launch_.program.codes[static_cast<size_t>(path.at.code)];
    return code.ops[std::min(static_cast<size_t>(path.at.pc), code.ops.size() - 1)];
}

size_t WarpState::index_of(const Path& path) const {
    size_t i = 0;
    while (paths_[i].get() != &path) ++i;
    return i;
}

void WarpState::remove_path(size_t index) {
    if (current_ == paths_[index].get()) current_ = nullptr;
    paths_.erase(paths_.begin() + static_cast<std::ptrdiff_t>(index));
}

/// Where the path has to stop: known only in the frame of the meeting.
void WarpState::set_meet(Path& path) {
    path.meet = -2;
    if (path.join < 0) return;
    const Join& join = joins_[static_cast<size_t>(path.join)];
    if (join.depth == path.callers.size()) path.meet = join.pc;
}

void WarpState::follow(Path& path) {
    if (path.at.pc == path.meet) arrive(index_of(path));
}

void WarpState::arrive(size_t index) {
    const int32_t join = paths_[index]->join;
    joins_[static_cast<size_t>(join)].arrived |= paths_[index]->lanes;
    remove_path(index);
    settle(join);
}

/// All that a meeting still expects have arrived: they go on as one path. If nobody is left, the outer meeting may be complete.
void WarpState::settle(int32_t number) {
    while (number >= 0) {
        Join& join = joins_[static_cast<size_t>(number)];
        if (join.arrived != join.expected) return;
        const int32_t parent = join.parent;
        join.in_use = false;
        if (join.arrived == 0) {
            number = parent;
            continue;
        }
        auto path = std::make_unique<Path>();
        path->lanes = join.arrived;
        path->at = join.at;
        path->callers = std::move(join.callers);
        path->join = parent;
        set_meet(*path);
        paths_.push_back(std::move(path));
        follow(*paths_.back());
        return;
    }
}

Path* WarpState::part(Path& path, LaneMask lanes, int32_t meet) {
    const bool same = path.join >= 0 && path.meet == meet;
    if (!same) {
        size_t free = 0;
        while (free < joins_.size() && joins_[free].in_use) ++free;
        if (free == joins_.size()) joins_.emplace_back();
        Join& join = joins_[free];
        join.in_use = true;
        join.parent = path.join;
        join.pc = meet;
        join.depth = path.callers.size();
        join.expected = path.lanes;
        join.arrived = 0;
        join.at = path.at;
        join.at.pc = meet;
        join.callers = path.callers;
        path.join = static_cast<int32_t>(free);
        set_meet(path);
    }
    auto other = std::make_unique<Path>();
    other->lanes = lanes;
    other->at = path.at;
    other->callers = path.callers;
    other->join = path.join;
    other->meet = path.meet;
    path.lanes &= ~lanes;
    paths_.push_back(std::move(other));
    return paths_.back().get();
}

void WarpState::jump(int32_t pc) {
    Path& path = *current_;
    const bool backward = pc <= path.at.pc;
    path.at.pc = pc;
    outcome_ = Outcome::Moved;
    if (backward) check_spin(path);
    follow(path);
}

void WarpState::branch(const Op&, LaneMask taken, int32_t target) {
    Path& path = *current_;
    if (taken == path.lanes) return jump(target);
    const Code& code = launch_.program.codes[static_cast<size_t>(path.at.code)];
    Path* other = part(path, taken, code.meet[static_cast<size_t>(path.at.pc)]);
    const bool backward = target <= path.at.pc;
    other->at.pc = target;
    path.at.pc += 1;
    outcome_ = Outcome::Moved;
    // Which side runs first is nobody's business; the seed decides.
    if (launch_.options.seed != 0 && (random() & 1) != 0) current_ = other;
    Path* const first = &path;
    if (backward) check_spin(*other);
    follow(*other);
    // `first` still exists: only its own arrival, or that of all lanes of its meeting, could remove it.
    follow(*first);
}

void WarpState::branch_many(const Op&, LaneMask active, const Lanes& targets) {
    Path& path = *current_;
    const Code& code = launch_.program.codes[static_cast<size_t>(path.at.code)];
    const int32_t meet = code.meet[static_cast<size_t>(path.at.pc)];
    const int32_t from = path.at.pc;
    outcome_ = Outcome::Moved;
    std::vector<Path*> moved;
    LaneMask left = active;
    while (left != 0) {
        const uint64_t target = targets[static_cast<size_t>(std::countr_zero(left))];
        LaneMask same = 0;
        for (int i = 0; i < kLanes; ++i) {
            if ((left >> i & 1) != 0 && targets[static_cast<size_t>(i)] == target) same |= LaneMask{1} << i;
        }
        left &= ~same;
        Path* mover = same == path.lanes ? &path : part(path, same, meet);
        mover->at.pc = static_cast<int32_t>(target);
        if (mover->at.pc <= from) check_spin(*mover);
        moved.push_back(mover);
    }
    if (path.at.pc == from && std::find(moved.begin(), moved.end(), &path) == moved.end()) {
        path.at.pc += 1;  // lanes whose guard is false
        moved.push_back(&path);
    }
    for (Path* each : moved) follow(*each);
}

void WarpState::enter(Path& path, const Op& op, int32_t function) {
    const Program& program = launch_.program;
    const Code& caller = program.codes[static_cast<size_t>(path.at.code)];
    const Code& callee = program.codes[static_cast<size_t>(function)];
    const auto& info = *static_cast<const CallInfo*>(op.extra.get());
    if (path.callers.size() >= kMostCalls) return fault(Fault::Kind::Resources, op, std::countr_zero(path.lanes), "calls nest too deeply");
    if (callee.parameters.size() != info.arguments.size() || callee.results.size() != info.results.size()) {
        return fault(Fault::Kind::BadInstruction, op, std::countr_zero(path.lanes),
                     fmt::format("`{}` takes {} parameters and gives {} results, the call has {} and {}", callee.text->name,
                                 callee.parameters.size(), callee.results.size(), info.arguments.size(), info.results.size()));
    }
    Frame next;
    next.code = function;
    next.registers = path.at.registers + caller.registers;
    next.local = static_cast<uint32_t>(path.at.local + caller.frame_bytes);
    grow_registers(next.registers + callee.registers);
    clear_local(path.lanes, next.local, static_cast<uint32_t>(callee.frame_bytes));
    if (launch_.fault) return;
    for (size_t i = 0; i < info.arguments.size(); ++i) pass(path.lanes, info.arguments[i], path.at, callee.parameters[i], next, true);
    path.callers.push_back(path.at);
    path.at = next;
    set_meet(path);
}

/// Copies one value between a caller's operand and a callee's parameter or result.
void WarpState::pass(LaneMask lanes, const CallValue& outer, const Frame& caller, const CodeParameter& inner, const Frame& callee,
                     bool inwards) {
    Path* const running = current_;
    Path reader;  // operands are read in the caller's frame
    reader.at = caller;
    current_ = &reader;
    Lanes scratch;
    const uint64_t* values = outer.in_memory || !inwards ? nullptr : read(outer.source, scratch);
    const size_t bytes = static_cast<size_t>(outer.in_memory ? std::min(inner.bytes, outer.bytes) : inner.bytes);
    for (int lane = 0; lane < kLanes; ++lane) {
        if ((lanes >> lane & 1) == 0) continue;
        uint8_t* const in_caller = outer.in_memory ? local_bytes(lane, static_cast<uint64_t>(caller.local + outer.offset), bytes) : nullptr;
        uint8_t* const in_callee =
            inner.in_register ? nullptr : local_bytes(lane, static_cast<uint64_t>(callee.local + inner.offset), bytes);
        uint64_t* const row = inner.in_register ? &registers_[callee.registers + inner.reg][static_cast<size_t>(lane)] : nullptr;
        const auto flags = [&](uint8_t* at) { return local_written_.data() + (at - local_.data()); };
        const size_t narrow = std::min<size_t>(bytes, 8);
        if (inwards) {
            const uint64_t value = values != nullptr ? values[lane] : 0;
            if (row != nullptr) {
                *row = 0;
                std::memcpy(row, in_caller != nullptr ? static_cast<const void*>(in_caller) : &value, narrow);
            } else if (in_caller != nullptr) {
                std::memcpy(in_callee, in_caller, bytes);
                std::memcpy(flags(in_callee), flags(in_caller), bytes);
            } else {
                std::memcpy(in_callee, &value, narrow);
                std::memset(flags(in_callee), 1, narrow);
            }
        } else if (in_caller != nullptr) {
            std::memcpy(in_caller, row != nullptr ? static_cast<const void*>(row) : in_callee, row != nullptr ? narrow : bytes);
            if (row != nullptr) {
                std::memset(flags(in_caller), 1, narrow);
            } else {
                std::memcpy(flags(in_caller), flags(in_callee), bytes);
            }
        } else if (outer.reg != kNoRegister) {
            uint64_t& to = registers_[caller.registers + outer.reg][static_cast<size_t>(lane)];
            to = 0;
            std::memcpy(&to, row != nullptr ? static_cast<const void*>(row) : in_callee, narrow);
        }
    }
    current_ = running;
}

void WarpState::call(const Op& op, LaneMask active, int32_t function) {
    Path& path = *current_;
    outcome_ = Outcome::Moved;
    const int32_t next = path.at.pc + 1;
    if (active == path.lanes) return enter(path, op, function);
    // The lanes that do not call wait behind the instruction.
    Path* caller = part(path, active, next);
    path.at.pc = next;
    enter(*caller, op, function);
    follow(path);
}

void WarpState::call_many(const Op& op, LaneMask active, const Lanes& functions) {
    Path& path = *current_;
    outcome_ = Outcome::Moved;
    const int32_t next = path.at.pc + 1;
    LaneMask left = active;
    while (left != 0 && !launch_.fault) {
        const uint64_t function = functions[static_cast<size_t>(std::countr_zero(left))];
        LaneMask same = 0;
        for (int i = 0; i < kLanes; ++i) {
            if ((left >> i & 1) != 0 && functions[static_cast<size_t>(i)] == function) same |= LaneMask{1} << i;
        }
        left &= ~same;
        if (same == path.lanes) {
            enter(path, op, static_cast<int32_t>(function));
            return;
        }
        enter(*part(path, same, next), op, static_cast<int32_t>(function));
    }
    path.at.pc = next;
    follow(path);
}

/// The path has come to the end of its function.
void WarpState::finish_function() {
    Path& path = *current_;
    if (path.callers.empty()) return exit_lanes(path.lanes);
    const Code& callee = launch_.program.codes[static_cast<size_t>(path.at.code)];
    const Frame inner = path.at;
    if (products_ && !may_leave(inner.registers)) return;
    path.at = path.callers.back();
    path.callers.pop_back();
    const Op& op = op_of(path);
    const auto& info = *static_cast<const CallInfo*>(op.extra.get());
    for (size_t i = 0; i < info.results.size(); ++i) pass(path.lanes, info.results[i], path.at, callee.results[i], inner, false);
    path.at.pc += 1;
    set_meet(path);
    follow(path);
}

void WarpState::exit_lanes(LaneMask lanes) {
    Path& path = *current_;
    if (!may_exit(lanes)) return;
    alive_ &= ~lanes;
    path.lanes &= ~lanes;
    for (int32_t join = path.join; join >= 0; join = joins_[static_cast<size_t>(join)].parent)
        joins_[static_cast<size_t>(join)].expected &= ~lanes;
    outcome_ = Outcome::Moved;
    block_.alive_ -= static_cast<uint32_t>(std::popcount(lanes));
    if (path.lanes == 0) {
        const int32_t join = path.join;
        remove_path(index_of(path));
        settle(join);
    } else {
        path.at.pc += 1;
        follow(path);
    }
    // Who waits for lanes of this warp may have lost some of them.
    for (const auto& each : paths_) {
        if (each->state == Path::State::Gathering) each->state = Path::State::Running;
    }
    wake_synced();
    ++launch_.progress;
    block_.lanes_exited();
    block_.cluster.settle();
    if (block_.alive_ == 0) bulk_block_ends(block_);
}

void WarpState::wait_in(Path::State state, bool after) {
    Path& path = *current_;
    path.state = state;
    path.seen_progress = launch_.progress;
    outcome_ = Outcome::Again;
    if (after) path.at.pc += 1;
}

void WarpState::wake(Path& path) {
    path.state = Path::State::Running;
    follow(path);
}

void WarpState::warp_sync(const Op& op, LaneMask active, const uint64_t* masks) {
    Path& path = *current_;
    for (int i = 0; i < kLanes; ++i) {
        if ((active >> i & 1) == 0) continue;
        path.masks[static_cast<size_t>(i)] = static_cast<LaneMask>(masks[i]);
        if ((masks[i] >> i & 1) == 0)
            return fault(Fault::Kind::Divergence, op, i, fmt::format("the membermask {:#x} does not name the thread itself", masks[i]));
    }
    path.present = active;
    wait_in(Path::State::WarpSync, false);
    wake_synced();
}

/// Lanes at bar.warp.sync whose masks are complete go on; the masks of the lanes of a group must be the same.
void WarpState::wake_synced() {
    LaneMask waiting = 0;
    Lanes masks{};
    for (const auto& path : paths_) {
        if (path->state != Path::State::WarpSync) continue;
        waiting |= path->present;
        for (int i = 0; i < kLanes; ++i) {
            if ((path->present >> i & 1) != 0) masks[static_cast<size_t>(i)] = path->masks[static_cast<size_t>(i)];
        }
    }
    if (waiting == 0) return;
    LaneMask complete = 0;
    for (int i = 0; i < kLanes; ++i) {
        if ((waiting >> i & 1) == 0 || (complete >> i & 1) != 0) continue;
        const LaneMask group = static_cast<LaneMask>(masks[static_cast<size_t>(i)]) & alive_;
        if ((group & ~waiting) != 0) continue;
        bool agree = true;
        for (int k = 0; k < kLanes; ++k) {
            agree &= (group >> k & 1) == 0 || (static_cast<LaneMask>(masks[static_cast<size_t>(k)]) & alive_) == group;
        }
        if (!agree) continue;
        order_lanes(group);
        complete |= group;
    }
    for (size_t i = paths_.size(); i-- > 0;) {
        Path& path = *paths_[i];
        if (path.state != Path::State::WarpSync) continue;
        path.present &= ~complete;
        if (path.present != 0) continue;
        path.state = Path::State::Running;
        path.at.pc += 1;
        if (path.at.pc == path.meet) {
            arrive(i);
            i = paths_.size();  // paths have changed
        }
    }
    if (complete != 0) ++launch_.progress;
}

bool WarpState::gather(const Op&, LaneMask active, LaneMask members) {
    const LaneMask needed = members & alive_;
    if ((needed & ~active) == 0) return true;
    Path& path = *current_;
    path.present = path.active = active;
    wait_in(Path::State::Gathering, false);
    return false;
}

bool WarpState::suspend(const Op&) {
    if (current_->is_overdue) {
        current_->is_overdue = false;
        return false;
    }
    wait_in(Path::State::Suspended, false);
    return true;
}

void WarpState::retry(const Op&) {
    wait_in(Path::State::Retrying, false);
}

bool WarpState::release_joins() {
    bool any = false;
    for (size_t i = 0; i < joins_.size(); ++i) {
        Join& join = joins_[i];
        if (!join.in_use || join.arrived == 0) continue;
        auto path = std::make_unique<Path>();
        path->lanes = join.arrived;
        path->at = join.at;
        path->callers = join.callers;
        path->join = join.parent;
        join.expected &= ~join.arrived;
        join.arrived = 0;
        set_meet(*path);
        paths_.push_back(std::move(path));
        follow(*paths_.back());
        any = true;
    }
    released_joins_ |= any;
    return any;
}

bool WarpState::time_out() {
    bool any = false;
    for (const auto& path : paths_) {
        if (path->state != Path::State::Suspended) continue;
        path->state = Path::State::Running;
        path->is_overdue = true;
        any = true;
    }
    return any;
}

}  // namespace flexemu

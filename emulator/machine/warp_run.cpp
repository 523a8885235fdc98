// The interpreter's loop.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>

#include "emulator/machine/machine.h"

namespace flexemu {
namespace {

constexpr uint64_t kFirstSpinInterval = 64, kLongestSpinInterval = uint64_t{1} << 20;

}  // namespace

void WarpState::grow_registers(size_t rows) {
    if (rows > registers_.size()) registers_.resize(rows, Lanes{});
}

void WarpState::set_slot(const Path& path, uint32_t reg, uint64_t value) {
    if (reg == kNoRegister) return;
    for (int i = 0; i < kLanes; ++i) {
        if ((path.lanes >> i & 1) != 0) registers_[path.at.registers + reg][static_cast<size_t>(i)] = value;
    }
}

uint64_t WarpState::random() {
    return launch_.random.next();
}

bool WarpState::can_run() const {
    for (const auto& path : paths_) {
        if (path->state == Path::State::Running) return true;
        if ((path->state == Path::State::Retrying || path->state == Path::State::Suspended) && path->seen_progress != launch_.progress)
            return true;
    }
    return false;
}

/// Chooses the path to run: another one than before, if there are several.
bool WarpState::pick() {
    const auto ready = [&](Path& path) {
        if ((path.state == Path::State::Retrying || path.state == Path::State::Suspended) && path.seen_progress != launch_.progress) {
            path.state = Path::State::Running;
        }
        return path.state == Path::State::Running;
    };
    const size_t count = paths_.size();
    size_t from = count;  // after which one to look
    for (size_t i = 0; i < count && current_ != nullptr; ++i) {
        if (paths_[i].get() == current_) from = i;
    }
    for (size_t k = 1; k <= count; ++k) {
        const size_t i = (from + count + count - k) % count;
        if (!ready(*paths_[i])) continue;
        current_ = paths_[i].get();
        return true;
    }
    current_ = nullptr;
    return false;
}

uint64_t WarpState::run(uint64_t budget) {
    uint64_t done = 0;
    yielded_ = false;
    if (paths_.size() > 1 || current_ == nullptr) pick();
    while (done < budget && !yielded_ && !launch_.fault) {
        if ((current_ == nullptr || current_->state != Path::State::Running) && !pick()) break;
        Path& path = *current_;
        if (path.at.pc == path.meet) {  // it went to sleep just before its meeting
            follow(path);
            continue;
        }
        const Code& code = launch_.program.codes[static_cast<size_t>(path.at.code)];
        const Op* const ops = code.ops.data();
        const auto end = static_cast<int32_t>(code.ops.size());
        converged_ = path.lanes;
        while (done < budget) {
            const int32_t pc = path.at.pc;
            if (pc >= end) {
                finish_function();
                outcome_ = Outcome::Next;
                break;
            }
            const Op& op = ops[pc];
            LaneMask active = path.lanes;
            if (op.guard != kNoRegister) active &= guard_of(op);
            ++done;
            if (active != 0) {
                if (op.aligned && active != alive_ && !may_run_aligned(op, active)) {
                    outcome_ = Outcome::Next;
                    break;
                }
                if (!op.product_registers.empty() && !may_touch(op)) {
                    outcome_ = Outcome::Next;
                    break;
                }
                op.run(*this, op, active);
                if (outcome_ != Outcome::Next) {
                    outcome_ = Outcome::Next;
                    if (current_ != nullptr && current_->state == Path::State::Gathering) run_gathered(*current_);
                    break;
                }
            }
            path.at.pc = pc + 1;
            if (pc + 1 == path.meet) {
                follow(path);
                break;
            }
            if (yielded_) break;
        }
    }
    launch_.instructions += done;
    return done;
}

LaneMask WarpState::guard_of(const Op& op) const {
    const Lanes& row = registers_[current_->at.registers + op.guard];
    LaneMask mask = 0;
    for (int i = 0; i < kLanes; ++i) mask |= static_cast<LaneMask>(row[static_cast<size_t>(i)] & 1) << i;
    return op.guard_negated ? ~mask : mask;
}

/// An .aligned instruction that not all lanes execute.
bool WarpState::may_run_aligned(const Op& op, LaneMask active) {
    Path& path = *current_;
    const LaneMask others = alive_ & ~active;
    if (released_joins_ && active == path.lanes) {
        // These lanes went ahead because others would not come; now they have to wait.
        path.present = path.active = active;
        wait_in(Path::State::Gathering, false);
        run_gathered(path);
        return false;
    }
    const int missing = std::countr_zero(others);
    std::string where;
    for (const auto& each : paths_) {
        if ((each->lanes >> missing & 1) == 0) continue;
        where = each.get() == &path ? "where its guard is false" : fmt::format("which is at line {}", op_of(*each).line);
    }
    for (const Join& join : joins_) {
        if (!where.empty() || !join.in_use || (join.arrived >> missing & 1) == 0) continue;
        const std::vector<Op>& ops = launch_.program.codes[static_cast<size_t>(join.at.code)].ops;
        const auto pc = static_cast<size_t>(join.pc);
        const bool leaves = join.callers.empty() && (pc >= ops.size() || ops[pc].text->opcode == "ret");
        where = leaves ? "which has gone to the end of the kernel"
                       : fmt::format("which waits where the paths meet again, at line {}", ops[std::min(pc, ops.size() - 1)].line);
    }
    fault(Fault::Kind::Divergence, op, std::countr_zero(active),
          fmt::format("all threads of the warp must execute it together, but {} {:#010x} of {:#010x} do not: {}, {}",
                      std::popcount(others) == 1 ? "lane" : "lanes", others, alive_, thread_text(missing), where));
    return false;
}

/// A path waits for others of its warp at one instruction. If all that are needed are there, they execute it as one and part again.
void WarpState::run_gathered(Path& path) {
    std::vector<Path*> together;
    LaneMask active = 0, lanes = 0;
    for (const auto& each : paths_) {
        if (each->state != Path::State::Gathering || each->at.code != path.at.code || each->at.pc != path.at.pc ||
            each->at.registers != path.at.registers)
            continue;
        together.push_back(each.get());
        active |= each->active;
        lanes |= each->lanes;
    }
    if (together.size() < 2) return;
    const Op& op = op_of(path);
    if (op.aligned && lanes != alive_) return;
    // The handler asks gather() again, now with all lanes; it may still find some missing.
    converged_ = lanes;
    current_ = &path;
    op.run(*this, op, active);
    if (launch_.fault) return;
    if (outcome_ == Outcome::Next) {
        for (Path* each : together) {
            each->state = Path::State::Running;
            each->at.pc += 1;
        }
        for (Path* each : together) follow(*each);
    } else if (path.state == Path::State::Gathering) {
        path.active = path.present = path.lanes & active;
    }
    outcome_ = Outcome::Next;
}

/// Lanes that jump back again and again while nothing changes, neither their registers nor any memory, wait for someone else: they need not run until then.
void WarpState::check_spin(Path& path) {
    if (path.spin_progress != launch_.progress) {
        path.spin_progress = launch_.progress;
        path.spin_since = 0;
        path.spin_interval = kFirstSpinInterval;
        path.spin_pc = -1;
        return;
    }
    ++path.spin_since;
    if (path.spin_pc >= 0) {
        if (path.at.pc == path.spin_pc && state_hash(path) == path.spin_hash) {
            path.state = Path::State::Suspended;
            path.is_overdue = false;
            path.seen_progress = launch_.progress;
            path.spin_pc = -1;
            path.spin_since = 0;
        } else if (path.spin_since > 8) {
            path.spin_pc = -1;
            path.spin_since = 0;
            path.spin_interval = std::min(path.spin_interval * 2, kLongestSpinInterval);
        }
    } else if (path.spin_since >= path.spin_interval) {
        path.spin_pc = path.at.pc;
        path.spin_hash = state_hash(path);
        path.spin_since = 0;
    }
}

uint64_t WarpState::state_hash(const Path& path) const {
    const Code& code = launch_.program.codes[static_cast<size_t>(path.at.code)];
    uint64_t hash = path.lanes;
    for (size_t r = 0; r < path.at.registers + code.registers; ++r) {
        for (int i = 0; i < kLanes; ++i) {
            if ((path.lanes >> i & 1) != 0) hash = (std::rotl(hash, 5) ^ registers_[r][static_cast<size_t>(i)]) * 0x9e3779b97f4a7c15;
        }
    }
    return hash;
}

const uint64_t* WarpState::read_slowly(const Source& source, Lanes& scratch) {
    switch (source.kind) {
        case Source::Kind::Absent: scratch.fill(0); break;
        case Source::Kind::Register: scratch = registers_[current_->at.registers + source.number]; break;
        case Source::Kind::Constant: scratch = *source.constant; break;
        case Source::Kind::Special:
            for (int i = 0; i < kLanes; ++i)
                scratch[static_cast<size_t>(i)] = special(static_cast<ptx::Special>(source.number), source.component, i);
            break;
        case Source::Kind::Frame: scratch.fill(uint64_t{current_->at.local} + source.number); break;
        case Source::Kind::DynamicShared: scratch.fill(uint64_t{block_.dynamic_base()} + source.number); break;
    }
    if (source.negated) {
        for (uint64_t& value : scratch) value = (value & 1) ^ 1;
    }
    return scratch.data();
}

uint64_t WarpState::special(ptx::Special which, int component, int lane) {
    const auto& block = launch_.block_size;
    const auto& grid = launch_.grid;
    const auto& cluster = launch_.cluster_size;
    const size_t c = static_cast<size_t>(std::max(component, 0));
    const bool is_fourth = c >= 3;
    const uint32_t thread = static_cast<uint32_t>(index_ * kLanes + lane);
    const auto in_cluster = [&](size_t i) { return block_.id[i] % cluster[i]; };
    switch (which) {
        case ptx::Special::Tid: {
            const std::array<uint32_t, 3> id = {thread % block[0], thread / block[0] % block[1], thread / block[0] / block[1]};
            return is_fourth ? 0 : id[c];
        }
        case ptx::Special::NTid: return is_fourth ? 0 : block[c];
        case ptx::Special::CtaId: return is_fourth ? 0 : block_.id[c];
        case ptx::Special::NCtaId: return is_fourth ? 0 : grid[c];
        case ptx::Special::LaneId: return static_cast<uint64_t>(lane);
        case ptx::Special::WarpId: return static_cast<uint64_t>(index_);
        case ptx::Special::NWarpId: return 64;
        case ptx::Special::SmId: return block_.linear % static_cast<uint32_t>(launch_.device.properties.multiprocessors);
        case ptx::Special::NSmId: return static_cast<uint64_t>(launch_.device.properties.multiprocessors);
        case ptx::Special::GridId: return 1;
        case ptx::Special::LaneMaskEq: return uint64_t{1} << lane;
        case ptx::Special::LaneMaskLe: return (uint64_t{2} << lane) - 1;
        case ptx::Special::LaneMaskLt: return (uint64_t{1} << lane) - 1;
        case ptx::Special::LaneMaskGe: return ~((uint64_t{1} << lane) - 1) & 0xffffffff;
        case ptx::Special::LaneMaskGt: return ~((uint64_t{2} << lane) - 1) & 0xffffffff;
        case ptx::Special::Clock: return (launch_.clock_ticks() * 8) & 0xffffffff;
        case ptx::Special::ClockHi: return (launch_.clock_ticks() * 8) >> 32;
        case ptx::Special::Clock64: return launch_.clock_ticks() * 8;
        case ptx::Special::GlobalTimer: return launch_.clock_ticks() * 4;
        case ptx::Special::GlobalTimerLo: return (launch_.clock_ticks() * 4) & 0xffffffff;
        case ptx::Special::GlobalTimerHi: return (launch_.clock_ticks() * 4) >> 32;
        case ptx::Special::DynamicSmemSize: return launch_.dynamic_shared;
        case ptx::Special::TotalSmemSize:
        case ptx::Special::AggrSmemSize: return launch_.shared_total;
        case ptx::Special::ClusterId: return is_fourth ? 0 : block_.id[c] / cluster[c];
        case ptx::Special::NClusterId: return is_fourth ? 0 : grid[c] / cluster[c];
        case ptx::Special::ClusterCtaId: return is_fourth ? 0 : in_cluster(c);
        case ptx::Special::ClusterNCtaId: return is_fourth ? 0 : cluster[c];
        case ptx::Special::ClusterCtaRank: return block_.rank();
        case ptx::Special::ClusterNCtaRank: return launch_.blocks_per_cluster;
        case ptx::Special::IsExplicitCluster: return launch_.is_explicit_cluster ? 1 : 0;
        case ptx::Special::WarpSize: return kLanes;
        case ptx::Special::EnvReg:
            if (component == 1) return launch_.options.grid_workspace >> 32;
            return component == 2 ? launch_.options.grid_workspace & 0xffffffff : 0;
        case ptx::Special::Pm: return 0;
    }
    return 0;
}

std::string WarpState::thread_text(int lane) const {
    return launch_.thread_text(serial_, lane);
}

void WarpState::fault(Fault::Kind kind, const Op& op, int lane, const std::string& text) {
    launch_.set_fault(
        kind, fmt::format("line {}: {} by {}: {}", op.line, op.text->spelling(), thread_text(std::clamp(lane, 0, kLanes - 1)), text));
    outcome_ = Outcome::Again;
}

}  // namespace flexemu

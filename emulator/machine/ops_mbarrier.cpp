// mbarrier.*: see mbarrier.h. Lanes act one after the other; those that arrive at the same barrier release together.
#include <bit>
#include <cstring>

#include "emulator/machine/machine.h"
#include "emulator/machine/ops_async.h"
#include "emulator/machine/semantics.h"

namespace flexemu {
namespace {

enum class Action : uint32_t { Arrive, ArriveAndDrop, ExpectBytes, CompleteBytes };
// Op::flags: the action, and what goes with it.
constexpr uint32_t kAction = 0xf, kNoComplete = 0x10, kExpectBytes = 0x20, kRelaxed = 0x40, kParity = 0x80, kMayWait = 0x100;

/// Barriers are read and written as if by atomic operations: no race with one another, but with ordinary accesses that nothing orders.
constexpr AccessKind kAtomic{.atomic = true, .scope = AccessKind::Scope::Sys};

void keep(const void* old, void* now, const void*) {
    std::memcpy(now, old, sizeof(uint64_t));
}

void wipe(const void*, void* now, const void*) {
    std::memset(now, 0, sizeof(uint64_t));
}

uint64_t address_of(const Op& op, const uint64_t* bases, int lane) {
    return bases[lane] + static_cast<uint64_t>(op.offset);
}

// init, inval

void run_init(Warp& warp, const Op& op, LaneMask active) {
    Lanes scratch, count_scratch;
    if (active == 0) return;
    const uint64_t* bases = warp.read(op.sources[0], scratch);
    const uint64_t* counts = warp.read(op.sources[1], count_scratch);
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        uint32_t offset = 0;
        const auto count = static_cast<uint32_t>(counts[lane]);
        const uint64_t address = address_of(op, bases, lane);
        Block* block = warp.shared_location(op, lane, op.space, address, 8, &offset);
        if (block == nullptr) return;
        if (count == 0 || count > Mbarrier::kMostArrivals)
            return warp.fault(Fault::Kind::BadBarrier, op, lane,
                              fmt::format("a count of {}: it must be from 1 to {}", count, Mbarrier::kMostArrivals));
        auto& barriers = block->attached<Mbarriers>();
        if (barriers.at.contains(offset))
            return warp.fault(Fault::Kind::BadBarrier, op, lane,
                              fmt::format("there is a barrier at shared byte {:#x} already, and no `mbarrier.inval` ended it", offset));
        Mbarrier barrier;
        barrier.word = (++barriers.made * 0x9e3779b97f4a7c15) ^ uint64_t { offset } << 32 ^ 0x6d62617272696572;
        barrier.expected = barrier.pending = count;
        barrier.component = block->new_component();
        // A clock of this cluster that knows nothing.
        warp.release(LaneMask{1} << lane, barrier.blank);
        barrier.blank.clear();
        barrier.arriving = barrier.completed = barrier.blank;
        const auto& state = static_cast<WarpState&>(warp);
        barrier.by_component = state.component();
        barrier.by_lane = static_cast<uint32_t>(lane);
        barrier.by_time = state.time();
        if (!warp.store(op, lane, op.space, address, 8, &barrier.word)) return;
        ++barriers.unfenced;
        barriers.at.emplace(offset, std::move(barrier));
        block->progressed();
    }
}

void run_inval(Warp& warp, const Op& op, LaneMask active) {
    Lanes scratch;
    if (active == 0) return;
    const uint64_t* bases = warp.read(op.sources[0], scratch);
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        const uint64_t address = address_of(op, bases, lane);
        Block* block = nullptr;
        if (find_mbarrier(warp, op, lane, address, &block) == nullptr) return;
        uint32_t offset = 0;
        if (warp.shared_location(op, lane, op.space, address, 8, &offset) == nullptr) return;
        // An operation of barriers like the others: libcu++ ends its barriers behind arrivals of the same warp that only a match.sync orders. Who
        // uses the barrier afterwards is found out, and who uses the bytes without having heard of the end, too.
        if (!warp.modify(op, lane, op.space, address, 8, nullptr, kAtomic, wipe, nullptr)) return;
        auto& barriers = block->attached<Mbarriers>();
        if (!barriers.at.at(offset).is_fenced) --barriers.unfenced;
        barriers.at.erase(offset);
    }
}

// arrive, arrive_drop, expect_tx, complete_tx

/// One lane's action; false after a fault.
bool act(Warp& warp, const Op& op, int lane, Mbarrier& barrier, uint32_t count) {
    std::string error;
    const bool may_complete = (op.flags & kNoComplete) == 0;
    const bool expects = (op.flags & kExpectBytes) != 0;
    if (expects) error = barrier.expect_bytes(count);
    const uint32_t arrivals = expects ? 1 : count;
    if (error.empty()) switch (static_cast<Action>(op.flags & kAction)) {
            case Action::Arrive: error = barrier.arrive(arrivals, may_complete); break;
            case Action::ArriveAndDrop: error = barrier.arrive_and_drop(arrivals, may_complete); break;
            case Action::ExpectBytes: error = barrier.expect_bytes(count); break;
            case Action::CompleteBytes: error = barrier.complete_bytes(count); break;
        }
    if (!error.empty()) warp.fault(Fault::Kind::BadBarrier, op, lane, error);
    return error.empty();
}

/// Sources: address, and a count of arrivals or bytes.
void run_action(Warp& warp, const Op& op, LaneMask active) {
    Lanes scratch, count_scratch, states{};
    if (active == 0) return;
    const uint64_t* bases = warp.read(op.sources[0], scratch);
    const uint64_t* counts = op.sources.size() > 1 ? warp.read(op.sources[1], count_scratch) : nullptr;
    const auto action = static_cast<Action>(op.flags & kAction);
    const bool arrives = action == Action::Arrive || action == Action::ArriveAndDrop;
    Block* block = nullptr;
    LaneMask left = active;
    while (left != 0) {
        // All lanes at one barrier.
        const uint64_t address = address_of(op, bases, std::countr_zero(left));
        LaneMask lanes = 0;
        Mbarrier* barrier = nullptr;
        for (LaneMask rest = left; rest != 0; rest &= rest - 1) {
            const int lane = std::countr_zero(rest);
            if (address_of(op, bases, lane) != address) continue;
            lanes |= LaneMask{1} << lane;
            barrier = find_mbarrier(warp, op, lane, address, &block);
            if (barrier == nullptr) return;
        }
        left &= ~lanes;
        while (lanes != 0) {
            // Those that arrive in the same phase hand on what they know before any of them completes it.
            LaneMask together = 0;
            uint64_t arrivals = 0;
            for (LaneMask rest = lanes; rest != 0 && arrivals < barrier->pending; rest &= rest - 1) {
                const int lane = std::countr_zero(rest);
                together |= LaneMask{1} << lane;
                arrivals += counts == nullptr || (op.flags & kExpectBytes) != 0 ? 1 : static_cast<uint32_t>(counts[lane]);
            }
            if (together == 0 || !arrives) together = lanes;
            if (arrives && (op.flags & kRelaxed) == 0) warp.release(together, barrier->arriving);
            for (LaneMask rest = together; rest != 0; rest &= rest - 1) {
                const int lane = std::countr_zero(rest);
                states[static_cast<size_t>(lane)] = barrier->state();
                if (!act(warp, op, lane, *barrier, counts == nullptr ? 1 : static_cast<uint32_t>(counts[lane]))) return;
            }
            lanes &= ~together;
        }
        block->progressed();
    }
    if (!op.destinations.empty()) warp.write(op.destinations[0], states, active);
}

// test_wait, try_wait, pending_count

void run_wait(Warp& warp, const Op& op, LaneMask active) {
    Lanes scratch, phase_scratch, over{};
    if (active == 0) return;
    const uint64_t* bases = warp.read(op.sources[0], scratch);
    const uint64_t* phases = warp.read(op.sources[1], phase_scratch);
    std::array<Mbarrier*, kLanes> barriers{};
    LaneMask done = 0;
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        Block* block = nullptr;
        Mbarrier* barrier = barriers[static_cast<size_t>(lane)] = find_mbarrier(warp, op, lane, address_of(op, bases, lane), &block);
        if (barrier == nullptr) return;
        if (block != &warp.block()) return warp.fault(Fault::Kind::BadBarrier, op, lane, "waits for a barrier of another block");
        bool is_over = false;
        if ((op.flags & kParity) != 0) {
            if (phases[lane] > 1)
                return warp.fault(Fault::Kind::BadBarrier, op, lane, fmt::format("a parity of {}: it must be 0 or 1", phases[lane]));
            is_over = barrier->is_over(phases[lane] != 0);
        } else if (std::string error; !barrier->is_over(phases[lane], &is_over, &error)) {
            return warp.fault(Fault::Kind::BadBarrier, op, lane, error);
        }
        if (is_over) done |= LaneMask{1} << lane;
    }
    // The time of a try_wait may be over at once.
    const bool is_impatient = static_cast<WarpState&>(warp).launch().options.seed != 0 && warp.random() % 8 == 0;
    if (done == 0 && (op.flags & kMayWait) != 0 && !is_impatient && warp.suspend(op)) return;
    if (done != active) warp.yield();
    for (LaneMask left = done; left != 0;) {
        Mbarrier* barrier = barriers[static_cast<size_t>(std::countr_zero(left))];
        LaneMask lanes = 0;
        for (LaneMask rest = left; rest != 0; rest &= rest - 1) {
            const int lane = std::countr_zero(rest);
            if (barriers[static_cast<size_t>(lane)] != barrier) continue;
            lanes |= LaneMask{1} << lane;
            over[static_cast<size_t>(lane)] = 1;
        }
        left &= ~lanes;
        if ((op.flags & kRelaxed) == 0) warp.acquire(lanes, barrier->completed);
    }
    warp.write(op.destinations[0], over, active);
}

void run_pending_count(Warp& warp, const Op& op, LaneMask active) {
    Lanes scratch, counts{};
    if (active == 0) return;
    const uint64_t* states = warp.read(op.sources[0], scratch);
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        if ((states[lane] & 1) == 0) return warp.fault(Fault::Kind::BadBarrier, op, lane, "this is no state that an arrival gave");
        counts[static_cast<size_t>(lane)] = Mbarrier::pending_of(states[lane]);
    }
    warp.write(op.destinations[0], counts, active);
}

/// .shared, .shared::cta or .shared::cluster; generic if none is named. Then .b64, and nothing else.
bool finish_barrier(Decoding& decoding, bool* in_cluster = nullptr) {
    const int space = decoding.take_one({"shared", "shared::cta", "shared::cluster"});
    if (in_cluster != nullptr)
        *in_cluster = space == 2;
    else if (space == 2)
        return decoding.fail("`.shared::cluster` is not known here");
    decoding.op.space = space < 0 ? ptx::Space::Generic : ptx::Space::Shared;
    if (!decoding.take("b64")) return decoding.fail("`.b64` is missing");
    return decoding.finish();
}

/// A semantics of `allowed` or .relaxed, and a scope. Both or neither, but old spellings have a scope of the block.
void take_order(Decoding& decoding, const char* allowed) {
    if (decoding.take("relaxed"))
        decoding.op.flags |= kRelaxed;
    else
        decoding.take(allowed);
    take_scope(decoding, AccessKind::Scope::Cta);
}

bool decode_arrival(Decoding& decoding, Action action) {
    Op& op = decoding.op;
    op.flags = static_cast<uint32_t>(action);
    op.run = run_action;
    if (decoding.take("expect_tx")) op.flags |= kExpectBytes;
    if (decoding.take("noComplete")) op.flags |= kNoComplete;
    take_order(decoding, "release");
    bool in_cluster = false;
    if (!finish_barrier(decoding, &in_cluster)) return false;
    const bool needs_count = (op.flags & (kExpectBytes | kNoComplete)) != 0;
    // The state may be left out with the remote form.
    const size_t first = decoding.text.operands.empty() || decoding.text.operands[0].kind == ptx::Operand::Kind::Memory ? 0 : 1;
    if (!decoding.operands(first + 1 + (needs_count ? 1 : 0), first + 2)) return false;
    if (first == 1) {
        if (in_cluster && decoding.text.operands[0].kind != ptx::Operand::Kind::Sink)
            return decoding.fail("an arrival in the cluster gives no state: expected `_`");
        if (!decoding.destination(0, ptx::Type::B64)) return false;
    }
    return take_address(decoding, first) && (decoding.text.operands.size() == first + 1 || decoding.source(first + 1, ptx::Type::U32));
}

bool decode_bytes(Decoding& decoding, Action action) {
    decoding.op.flags = static_cast<uint32_t>(action);
    decoding.op.run = run_action;
    decoding.take("relaxed");
    take_scope(decoding, AccessKind::Scope::Cta);
    bool in_cluster = false;
    return finish_barrier(decoding, &in_cluster) && decoding.operands(2) && take_address(decoding, 0) && decoding.source(1, ptx::Type::U32);
}

bool decode_wait(Decoding& decoding, bool may_wait) {
    Op& op = decoding.op;
    op.flags = may_wait ? kMayWait : 0;
    op.run = run_wait;
    const bool parity = decoding.take("parity");
    if (parity) op.flags |= kParity;
    take_order(decoding, "acquire");
    // try_wait may end with a hint of how long to wait.
    return finish_barrier(decoding) && decoding.operands(3, may_wait ? 4 : 3) && decoding.destination(0, ptx::Type::Pred) &&
           take_address(decoding, 1) && decoding.source(2, parity ? ptx::Type::U32 : ptx::Type::B64) &&
           (decoding.text.operands.size() == 3 || decoding.source(3, ptx::Type::U32));
}

bool decode_init(Decoding& decoding) {
    decoding.op.run = run_init;
    return finish_barrier(decoding) && decoding.operands(2) && take_address(decoding, 0) && decoding.source(1, ptx::Type::U32);
}

bool decode_inval(Decoding& decoding) {
    decoding.op.run = run_inval;
    return finish_barrier(decoding) && decoding.operands(1) && take_address(decoding, 0);
}

bool decode_pending_count(Decoding& decoding) {
    decoding.op.run = run_pending_count;
    if (!decoding.take("b64")) return decoding.fail("`.b64` is missing");
    return decoding.finish() && decoding.operands(2) && decoding.destination(0, ptx::Type::U32) && decoding.source(1, ptx::Type::B64);
}

}  // namespace

Mbarrier* find_mbarrier(Warp& warp, const Op& op, int lane, uint64_t address, Block** block) {
    uint32_t offset = 0;
    Block* owner = warp.shared_location(op, lane, op.space, address, 8, &offset);
    if (owner == nullptr) return nullptr;
    if (block != nullptr) *block = owner;
    auto& barriers = owner->attached<Mbarriers>();
    const auto at = barriers.at.find(offset);
    if (at == barriers.at.end()) {
        warp.fault(Fault::Kind::BadBarrier, op, lane, fmt::format("no barrier was initialised at shared byte {:#x}", offset));
        return nullptr;
    }
    uint64_t word = 0;
    if (!warp.modify(op, lane, op.space, address, 8, &word, kAtomic, keep, nullptr)) return nullptr;
    if (word != at->second.word) {
        warp.fault(Fault::Kind::BadBarrier, op, lane,
                   fmt::format("the barrier at shared byte {:#x} was overwritten by an ordinary store", offset));
        return nullptr;
    }
    return &at->second;
}

bool take_address(Decoding& decoding, size_t index) {
    Source base;
    std::string error;
    if (!decoding.context.address(decoding.text.operands[index], &base, &decoding.op.offset, &error)) return decoding.fail(error);
    decoding.op.sources.push_back(base);
    return true;
}

bool decode_mbarrier(Decoding& decoding) {
    // .arrive.expect_tx is an arrival, .expect_tx alone is none.
    switch (decoding.take_one(
        {"init", "inval", "arrive_drop", "arrive", "expect_tx", "complete_tx", "test_wait", "try_wait", "pending_count"})) {
        case 0: return decode_init(decoding);
        case 1: return decode_inval(decoding);
        case 2: return decode_arrival(decoding, Action::ArriveAndDrop);
        case 3: return decode_arrival(decoding, Action::Arrive);
        case 4: return decode_bytes(decoding, Action::ExpectBytes);
        case 5: return decode_bytes(decoding, Action::CompleteBytes);
        case 6: return decode_wait(decoding, false);
        case 7: return decode_wait(decoding, true);
        case 8: return decode_pending_count(decoding);
        default: return decoding.fail("the operation is missing");
    }
}

}  // namespace flexemu

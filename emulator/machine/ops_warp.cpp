// shfl.sync, vote.sync, match.sync, redux.sync, activemask, elect.sync.
//
// The .sync forms name their members in a mask, which each lane gives for itself: lanes with the same mask form one group. All of a group that have not
// exited must come (Warp::gather waits for them), with the same mask, and a lane that executes must be in its own mask.
#include <bit>
#include <optional>

#include "emulator/machine/decode.h"
#include "emulator/machine/machine.h"

namespace flexemu {
namespace {

/// What a lane gets that reads a lane without a value: f32, f16 and bf16 read it as NaN.
constexpr uint64_t kNoValue = 0x7fedfeed;

std::string hex(uint32_t mask) {
    return fmt::format("{:#010x}", mask);
}

/// Calls `each(lanes, mask)` for each group. False if there was a fault or the lanes wait for others.
template <typename F>
bool for_groups(Warp& warp, const Op& op, LaneMask active, const Source& membermask, F each) {
    Lanes scratch;
    const uint64_t* masks = warp.read(membermask, scratch);
    struct Group {
        LaneMask lanes, mask;
    };
    std::array<Group, kLanes> groups{};
    size_t count = 0;
    LaneMask rest = active;
    while (rest != 0) {
        const int first = std::countr_zero(rest);
        const auto mask = static_cast<LaneMask>(masks[first]);
        LaneMask lanes = 0;
        for (int lane = 0; lane < kLanes; ++lane)
            lanes |= (rest >> lane & 1) != 0 && static_cast<LaneMask>(masks[lane]) == mask ? LaneMask{1} << lane : 0;
        if ((lanes & ~mask) != 0) {
            warp.fault(Fault::Kind::Divergence, op, std::countr_zero(lanes & ~mask),
                       fmt::format("the lane is not in its membermask {}", hex(mask)));
            return false;
        }
        groups[count++] = {lanes, mask};
        rest &= ~lanes;
    }
    LaneMask members = 0;
    for (size_t i = 0; i < count; ++i) members |= groups[i].mask;
    if (!warp.gather(op, active, members)) return false;
    for (size_t i = 0; i < count; ++i) {
        const auto [lanes, mask] = groups[i];
        const LaneMask missing = mask & warp.alive() & ~lanes;
        if (missing == 0) continue;
        const int lane = std::countr_zero(missing);
        const char* why = (active >> lane & 1) != 0 ? "gives another mask" : "does not execute it";
        warp.fault(Fault::Kind::Divergence, op, std::countr_zero(lanes),
                   fmt::format("lane {} of the membermask {} {}", lane, hex(mask), why));
        return false;
    }
    for (size_t i = 0; i < count; ++i) each(groups[i].lanes, groups[i].mask);
    return true;
}

enum class Shuffle : uint32_t { Up, Down, Butterfly, Index };

/// d, p <- a, b, c, membermask. Out of the segment, a lane gets its own value and a false predicate.
void run_shfl(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Lanes a_scratch, b_scratch, c_scratch;
    const uint64_t* a = warp.read(op.sources[0], a_scratch);
    const uint64_t* b = warp.read(op.sources[1], b_scratch);
    const uint64_t* c = warp.read(op.sources[2], c_scratch);
    Lanes values{}, in_range{};
    const auto group = [&](LaneMask lanes, LaneMask) {
        for (int lane = 0; lane < kLanes; ++lane) {
            if ((lanes >> lane & 1) == 0) continue;
            const int by = static_cast<int>(b[lane] & 31), clamp = static_cast<int>(c[lane] & 31),
                      segment = static_cast<int>(c[lane] >> 8 & 31);
            const int most = (lane & segment) | (clamp & ~segment), least = lane & segment;
            int from = lane;
            bool inside = false;
            switch (static_cast<Shuffle>(op.flags)) {
                case Shuffle::Up:
                    from = lane - by;
                    inside = from >= most;
                    break;
                case Shuffle::Down:
                    from = lane + by;
                    inside = from <= most;
                    break;
                case Shuffle::Butterfly:
                    from = lane ^ by;
                    inside = from <= most;
                    break;
                case Shuffle::Index:
                    from = least | (by & ~segment);
                    inside = from <= most;
                    break;
            }
            if (!inside) from = lane;
            values[static_cast<size_t>(lane)] = (lanes >> from & 1) != 0 ? a[from] : kNoValue;
            in_range[static_cast<size_t>(lane)] = inside ? 1 : 0;
        }
    };
    if (!for_groups(warp, op, active, op.sources[3], group)) return;
    warp.write(op.destinations[0], values, active);
    warp.write(op.destinations[1], in_range, active);
}

bool decode_shfl(Decoding& decoding) {
    if (!decoding.take("sync")) return decoding.fail("`shfl` without `.sync` is not known for sm_70 and later");
    const int mode = decoding.take_one({"up", "down", "bfly", "idx"});
    if (mode < 0) return decoding.fail("expected `.up`, `.down`, `.bfly` or `.idx`");
    if (!decoding.take("b32")) return decoding.fail("expected `.b32`");
    decoding.op.flags = static_cast<uint32_t>(mode);
    decoding.op.run = run_shfl;
    if (!decoding.finish() || !decoding.operands(5)) return false;
    ptx::Operand value = decoding.text.operands[0];
    value.second.clear();
    return decoding.destination(value, ptx::Type::B32) && decoding.second_destination(0) && decoding.source(1, ptx::Type::B32) &&
           decoding.source(2, ptx::Type::U32) && decoding.source(3, ptx::Type::U32) && decoding.source(4, ptx::Type::B32);
}

enum class Vote : uint32_t { All, Any, Uniform, Ballot };

void run_vote(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Lanes scratch, values{};
    const uint64_t* a = warp.read(op.sources[0], scratch);
    LaneMask yes = 0;
    for (int lane = 0; lane < kLanes; ++lane) yes |= a[lane] != 0 ? LaneMask{1} << lane : 0;
    const auto group = [&](LaneMask lanes, LaneMask) {
        const LaneMask voted = yes & lanes;
        uint64_t result = 0;
        switch (static_cast<Vote>(op.flags)) {
            case Vote::All: result = voted == lanes; break;
            case Vote::Any: result = voted != 0; break;
            case Vote::Uniform: result = voted == lanes || voted == 0; break;
            case Vote::Ballot: result = voted; break;
        }
        for (int lane = 0; lane < kLanes; ++lane)
            if ((lanes >> lane & 1) != 0) values[static_cast<size_t>(lane)] = result;
    };
    if (for_groups(warp, op, active, op.sources[1], group)) warp.write(op.destinations[0], values, active);
}

bool decode_vote(Decoding& decoding) {
    if (!decoding.take("sync")) return decoding.fail("`vote` without `.sync` is not known for sm_70 and later");
    const int mode = decoding.take_one({"all", "any", "uni", "ballot"});
    if (mode < 0) return decoding.fail("expected `.all`, `.any`, `.uni` or `.ballot`");
    const ptx::Type type = mode == 3 ? ptx::Type::B32 : ptx::Type::Pred;
    if (!decoding.take(ptx::name(type))) return decoding.fail("the type is missing");
    decoding.op.flags = static_cast<uint32_t>(mode);
    decoding.op.run = run_vote;
    return decoding.finish() && decoding.operands(3) && decoding.destination(0, type) && decoding.source(1, ptx::Type::Pred) &&
           decoding.source(2, ptx::Type::B32);
}

/// .any: the lanes with the same value. .all: all lanes if they have the same value, else 0, and whether they have.
void run_match(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Lanes scratch, values{}, equal{};
    const uint64_t* a = warp.read(op.sources[0], scratch);
    const bool all = op.flags != 0;
    const auto group = [&](LaneMask lanes, LaneMask) {
        for (int lane = 0; lane < kLanes; ++lane) {
            if ((lanes >> lane & 1) == 0) continue;
            LaneMask same = 0;
            for (int other = 0; other < kLanes; ++other)
                same |= (lanes >> other & 1) != 0 && a[other] == a[lane] ? LaneMask{1} << other : 0;
            equal[static_cast<size_t>(lane)] = same == lanes ? 1 : 0;
            values[static_cast<size_t>(lane)] = all && same != lanes ? 0 : same;
        }
    };
    if (!for_groups(warp, op, active, op.sources[1], group)) return;
    warp.write(op.destinations[0], values, active);
    warp.write(op.destinations[1], equal, active);
}

bool decode_match(Decoding& decoding) {
    if (!decoding.take("sync")) return decoding.fail("`.sync` is missing");
    const int mode = decoding.take_one({"any", "all"});
    if (mode < 0) return decoding.fail("expected `.any` or `.all`");
    const int width = decoding.take_one({"b32", "b64"});
    if (width < 0) return decoding.fail("expected `.b32` or `.b64`");
    decoding.op.flags = static_cast<uint32_t>(mode);
    decoding.op.run = run_match;
    if (!decoding.finish() || !decoding.operands(3)) return false;
    ptx::Operand lanes = decoding.text.operands[0];
    if (mode == 0 && !lanes.second.empty()) return decoding.fail("`match.any` has no predicate");
    lanes.second.clear();
    return decoding.destination(lanes, ptx::Type::B32) && decoding.second_destination(0) &&
           decoding.source(1, width == 0 ? ptx::Type::B32 : ptx::Type::B64) && decoding.source(2, ptx::Type::B32);
}

enum class Reduction : uint32_t { Add, Min, Max, And, Or, Xor };

uint32_t reduce(Reduction reduction, bool is_signed, uint32_t a, uint32_t b) {
    const bool less = is_signed ? static_cast<int32_t>(a) < static_cast<int32_t>(b) : a < b;
    switch (reduction) {
        case Reduction::Add: return a + b;
        case Reduction::Min: return less ? a : b;
        case Reduction::Max: return less ? b : a;
        case Reduction::And: return a & b;
        case Reduction::Or: return a | b;
        case Reduction::Xor: return a ^ b;
    }
    return a;
}

void run_redux(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Lanes scratch, values{};
    const uint64_t* a = warp.read(op.sources[0], scratch);
    const auto group = [&](LaneMask lanes, LaneMask) {
        const int first = std::countr_zero(lanes);
        auto result = static_cast<uint32_t>(a[first]);
        for (int lane = first + 1; lane < kLanes; ++lane)
            if ((lanes >> lane & 1) != 0)
                result = reduce(static_cast<Reduction>(op.flags), op.type == ptx::Type::S32, result, static_cast<uint32_t>(a[lane]));
        for (int lane = 0; lane < kLanes; ++lane)
            if ((lanes >> lane & 1) != 0) values[static_cast<size_t>(lane)] = result;
    };
    if (for_groups(warp, op, active, op.sources[1], group)) warp.write(op.destinations[0], values, active);
}

bool decode_redux(Decoding& decoding) {
    if (!decoding.take("sync")) return decoding.fail("`.sync` is missing");
    const int reduction = decoding.take_one({"add", "min", "max", "and", "or", "xor"});
    if (reduction < 0) return decoding.fail("expected `.add`, `.min`, `.max`, `.and`, `.or` or `.xor`");
    ptx::Type type = ptx::Type::None;
    if (!decoding.type(&type)) return false;
    const bool fits = reduction < 3 ? decoding.type_is(type, {ptx::Type::U32, ptx::Type::S32}) : decoding.type_is(type, {ptx::Type::B32});
    decoding.op.type = type;
    decoding.op.flags = static_cast<uint32_t>(reduction);
    decoding.op.run = run_redux;
    return fits && decoding.finish() && decoding.operands(3) && decoding.destination(0, type) && decoding.source(1, type) &&
           decoding.source(2, ptx::Type::B32);
}

void run_activemask(Warp& warp, const Op& op, LaneMask active) {
    Lanes values;
    values.fill(active);
    warp.write(op.destinations[0], values, active);
}

bool decode_activemask(Decoding& decoding) {
    if (!decoding.take("b32")) return decoding.fail("expected `.b32`");
    decoding.op.run = run_activemask;
    return decoding.finish() && decoding.operands(1) && decoding.destination(0, ptx::Type::B32);
}

/// d|p <- membermask: the number of one lane of the mask, and whether this is it. The same lane for the same mask.
void run_elect(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Lanes leaders{}, is_leader{};
    // Which lane it is is for the machine to choose, the same each time for the same lanes: the first under seed 0.
    const uint64_t seed = static_cast<WarpState&>(warp).launch().options.seed;
    const auto group = [&](LaneMask lanes, LaneMask) {
        LaneMask left = lanes;
        for (uint64_t skip = Random(seed ^ lanes).next() % static_cast<uint64_t>(std::popcount(lanes)); seed != 0 && skip > 0; --skip)
            left &= left - 1;
        const int leader = std::countr_zero(left);
        for (int lane = 0; lane < kLanes; ++lane)
            if ((lanes >> lane & 1) != 0) leaders[static_cast<size_t>(lane)] = static_cast<uint64_t>(leader);
        is_leader[static_cast<size_t>(leader)] = 1;
    };
    if (!for_groups(warp, op, active, op.sources[0], group)) return;
    warp.write(op.destinations[0], leaders, active);
    warp.write(op.destinations[1], is_leader, active);
}

bool decode_elect(Decoding& decoding) {
    if (!decoding.take("sync")) return decoding.fail("`.sync` is missing");
    decoding.op.run = run_elect;
    if (!decoding.finish() || !decoding.operands(2)) return false;
    ptx::Operand leader = decoding.text.operands[0];
    if (leader.second.empty()) return decoding.fail("the predicate is missing");
    leader.second.clear();
    return decoding.destination(leader, ptx::Type::B32) && decoding.second_destination(0) && decoding.source(1, ptx::Type::B32);
}

constexpr DecoderEntry kDecoders[] = {
    {"shfl", decoder<decode_shfl>},
    {"vote", decoder<decode_vote>},
    {"match", decoder<decode_match>},
    {"redux", decoder<decode_redux>},
    {"activemask", decoder<decode_activemask>},
    {"elect", decoder<decode_elect>},
};

}  // namespace

std::span<const DecoderEntry> warp_decoders() {
    return kDecoders;
}

}  // namespace flexemu

// cp.async, its groups and its arrivals at mbarriers; griddepcontrol. Bulk copies are in ops_bulk.cpp.
#include "emulator/machine/ops_async.h"

#include <bit>

#include "emulator/machine/copies.h"
#include "emulator/machine/ops_bulk.h"
#include "emulator/machine/ops_tensormap.h"

namespace flexemu {
namespace {

constexpr uint32_t kIgnoresSource = 1, kHasSourceSize = 2, kNoIncrement = 4, kAll = 8;

/// Sources: destination, source, then the source's size or the predicate to ignore it. Op::flags2: the number of bytes. The source's offset: `extra`.
void run_copy(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Lanes to_scratch, from_scratch, third_scratch, to{}, from{};
    const uint64_t* to_base = warp.read(op.sources[0], to_scratch);
    const uint64_t* from_base = warp.read(op.sources[1], from_scratch);
    const uint64_t* third = op.sources.size() > 2 ? warp.read(op.sources[2], third_scratch) : nullptr;
    const auto from_offset = static_cast<uint64_t>(*static_cast<const int64_t*>(op.extra.get()));
    std::array<uint32_t, kLanes> sizes{};
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const auto lane = static_cast<size_t>(std::countr_zero(left));
        to[lane] = to_base[lane] + static_cast<uint64_t>(op.offset);
        from[lane] = from_base[lane] + from_offset;
        sizes[lane] = op.flags2;
        if ((op.flags & kHasSourceSize) != 0) {
            sizes[lane] = static_cast<uint32_t>(third[lane]);
            if (sizes[lane] > op.flags2)
                return warp.fault(Fault::Kind::BadInstruction, op, static_cast<int>(lane),
                                  fmt::format("a source size of {} bytes: at most the {} that are written", sizes[lane], op.flags2));
        } else if ((op.flags & kIgnoresSource) != 0 && third[lane] != 0) {
            sizes[lane] = 0;
        }
    }
    CopyRequest request;
    request.source = from.data();
    request.destination = to.data();
    request.bytes = op.flags2;
    request.from_source = sizes.data();
    copy_begin(warp, op, active, request);
}

bool decode_copy(Decoding& decoding) {
    Op& op = decoding.op;
    const int level = decoding.take_one({"ca", "cg"});
    if (level < 0) return decoding.fail("expected `.ca` or `.cg`");
    if (decoding.take_one({"shared", "shared::cta"}) < 0 || !decoding.take("global")) return decoding.fail("expected `.shared.global`");
    const bool has_policy = decoding.take("L2::cache_hint");
    decoding.take_one({"L2::64B", "L2::128B", "L2::256B"});
    int64_t bytes = 0;
    const size_t least = has_policy ? 4 : 3;
    if (!decoding.finish() || !decoding.operands(least, least + 1) || !decoding.constant(2, 4, 16, &bytes)) return false;
    if (bytes != 16 && (level == 1 || (bytes != 4 && bytes != 8))) return decoding.fail("copies 16 bytes, or with `.ca` 4 or 8");
    op.run = run_copy;
    op.flags2 = static_cast<uint32_t>(bytes);
    op.space = ptx::Space::Shared;
    if (!take_address(decoding, 0)) return false;
    const int64_t to_offset = op.offset;
    if (!take_address(decoding, 1)) return false;
    op.extra = std::make_shared<int64_t>(op.offset);
    op.offset = to_offset;
    if (decoding.text.operands.size() == least) return true;
    const bool ignores = decoding.text.operands[3].negated || decoding.register_bits(decoding.text.operands[3]) == 1;
    op.flags = ignores ? kIgnoresSource : kHasSourceSize;
    return decoding.source(3, ignores ? ptx::Type::Pred : ptx::Type::U32);
}

void run_commit(Warp& warp, const Op&, LaneMask active) {
    if (active != 0) copy_commit(warp, active);
}

void run_wait(Warp& warp, const Op& op, LaneMask active) {
    if (active != 0) copy_wait(warp, active, op.flags2, (op.flags & kAll) != 0);
}

/// The lanes' copies so far count as one arrival each, when they are complete. Without .noinc the phase expects that arrival in addition.
void run_arrive(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Lanes scratch;
    const uint64_t* bases = warp.read(op.sources[0], scratch);
    for (LaneMask left = active; left != 0;) {
        const int first = std::countr_zero(left);
        LaneMask lanes = 0;
        Block* block = nullptr;
        Mbarrier* barrier = nullptr;
        for (LaneMask rest = left; rest != 0; rest &= rest - 1) {
            const int lane = std::countr_zero(rest);
            if (bases[lane] != bases[first]) continue;
            lanes |= LaneMask{1} << lane;
            barrier = find_mbarrier(warp, op, lane, bases[lane] + static_cast<uint64_t>(op.offset), &block);
            if (barrier == nullptr) return;
        }
        left &= ~lanes;
        const auto count = static_cast<uint32_t>(std::popcount(lanes));
        if ((op.flags & kNoIncrement) == 0) {
            if (const std::string error = barrier->expect_arrivals(count); !error.empty())
                return warp.fault(Fault::Kind::BadBarrier, op, first, error);
        }
        uint32_t offset = 0;
        if (warp.shared_location(op, first, op.space, bases[first] + static_cast<uint64_t>(op.offset), 8, &offset) == nullptr) return;
        const uint64_t word = barrier->word;
        const auto arrive = [&warp, &op, block, offset, word, count, first] {
            auto& barriers = block->attached<Mbarriers>().at;
            const auto at = barriers.find(offset);
            std::string error = "the barrier was ended before the copies that should arrive at it were complete";
            if (at != barriers.end() && at->second.word == word) error = at->second.arrive(count);
            if (!error.empty()) return warp.fault(Fault::Kind::BadBarrier, op, first, error);
            block->progressed();
        };
        copy_attach(warp, op, lanes, barrier->component, static_cast<uint32_t>(barrier->phase) + 1, arrive);
    }
}

bool decode_cp(Decoding& decoding) {
    Op& op = decoding.op;
    const bool reduces = decoding.take("reduce");
    if (!decoding.take("async")) return decoding.fail("expected `cp.async`");
    if (reduces || decoding.sees("bulk")) return decode_bulk(decoding, reduces);
    if (decoding.take("commit_group")) {
        op.run = run_commit;
        return decoding.finish() && decoding.operands(0);
    }
    if (decoding.take("wait_all")) {
        op.run = run_wait;
        op.flags = kAll;
        return decoding.finish() && decoding.operands(0);
    }
    if (decoding.take("wait_group")) {
        int64_t pending = 0;
        op.run = run_wait;
        if (!decoding.finish() || !decoding.operands(1) || !decoding.constant(0, 0, INT32_MAX, &pending)) return false;
        op.flags2 = static_cast<uint32_t>(pending);
        return true;
    }
    if (!decoding.take("mbarrier")) return decode_copy(decoding);
    if (!decoding.take("arrive")) return decoding.fail("expected `.arrive`");
    op.run = run_arrive;
    op.flags = decoding.take("noinc") ? kNoIncrement : 0;
    op.space = decoding.take_one({"shared", "shared::cta"}) < 0 ? ptx::Space::Generic : ptx::Space::Shared;
    if (!decoding.take("b64")) return decoding.fail("`.b64` is missing");
    return decoding.finish() && decoding.operands(1) && take_address(decoding, 0);
}

/// Launches follow one another here: there is nothing to wait for, and who depends on this one starts when it has ended.
void run_griddepcontrol(Warp&, const Op&, LaneMask) {}

bool decode_griddepcontrol(Decoding& decoding) {
    decoding.op.run = run_griddepcontrol;
    if (decoding.take_one({"launch_dependents", "wait"}) < 0) return decoding.fail("expected `.launch_dependents` or `.wait`");
    return decoding.finish() && decoding.operands(0);
}

constexpr DecoderEntry kDecoders[] = {
    {"cp", decoder<decode_cp>},
    {"mbarrier", decoder<decode_mbarrier>},
    {"tensormap", decoder<decode_tensor_map>},
    {"griddepcontrol", decoder<decode_griddepcontrol>},
};

}  // namespace

std::span<const DecoderEntry> async_decoders() {
    return kDecoders;
}

}  // namespace flexemu

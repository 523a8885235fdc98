#include "emulator/machine/copies.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "emulator/machine/machine.h"

namespace flexemu {
namespace {

void land(Copy& copy) {
    if (copy.is_landed) return;
    copy.is_landed = true;
    for (const Copy::Piece& piece : copy.pieces) {
        if (piece.source != nullptr) std::memcpy(piece.to, piece.source, piece.from_source);
        std::memset(piece.to + piece.from_source, 0, copy.bytes - piece.from_source);
    }
}

/// The lanes need not wait for the copy any more. When the last lane has, it is complete.
bool finish(Launch& launch, Copy& copy, LaneMask lanes, uint32_t component, uint32_t time) {
    copy.waiting &= ~lanes;
    land(copy);
    if (copy.waiting != 0) return false;
    AsyncOperation& operation = launch.operations[copy.number];
    operation.component = component;
    operation.time = time;
    return true;
}

}  // namespace

bool copy_begin(Warp& given, const Op& op, LaneMask active, const CopyRequest& request) {
    auto& warp = static_cast<WarpState&>(given);
    Launch& launch = warp.launch();
    const auto number = static_cast<uint32_t>(launch.operations.size());
    AsyncOperation operation;
    operation.op = op.number;
    launch.operations.push_back(operation);
    Copy copy;
    copy.number = number;
    copy.waiting = active;
    copy.bytes = request.bytes;
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        Copy::Piece piece;
        piece.from_source = request.from_source != nullptr ? std::min(request.from_source[lane], request.bytes) : request.bytes;
        WarpState::Place from, to;
        if (piece.from_source > 0) {
            if (!warp.place(op, lane, request.source_space, request.source[lane], request.bytes, false, piece.from_source, &from))
                return false;
            if (from.segment == nullptr) {
                warp.fault(Fault::Kind::OutOfBounds, op, lane, "the source of a copy is no global memory");
                return false;
            }
            if (!warp.check_source(op, lane, from, request.source[lane], piece.from_source, number)) return false;
            piece.source = from.data;
        }
        if (!warp.place(op, lane, request.destination_space, request.destination[lane], request.bytes, true, request.bytes, &to))
            return false;
        if (to.segment == nullptr) {
            warp.fault(Fault::Kind::OutOfBounds, op, lane, "the destination of a copy is no shared memory");
            return false;
        }
        if (launch.options.check_races &&
            !warp.check(op, lane, to, request.destination[lane], request.bytes, true, false, {}, &launch.operations[number], number))
            return false;
        to.segment->initialised.set(to.offset, request.bytes);
        piece.to = to.data;
        copy.pieces.push_back(piece);
    }
    // The seed chooses when the bytes arrive: at once, some time later, or when they are waited for.
    const uint64_t choice = launch.options.seed == 0 ? 2 : launch.random.below(3);
    if (choice == 0) land(copy);
    copy.may_land = choice != 2;
    warp.copies().push_back(std::move(copy));
    return true;
}

void copy_commit(Warp& given, LaneMask active) {
    auto& warp = static_cast<WarpState&>(given);
    auto& committed = warp.groups_committed();
    for (Copy& copy : warp.copies()) {
        // Lanes of one instruction commit together unless they went different ways; the group is then that of the last.
        if ((copy.waiting & active) != 0 && copy.group == kNever)
            copy.group = committed[static_cast<size_t>(std::countr_zero(copy.waiting & active))];
    }
    for (LaneMask left = active; left != 0; left &= left - 1) ++committed[static_cast<size_t>(std::countr_zero(left))];
}

void copy_wait(Warp& given, LaneMask active, uint32_t pending, bool all) {
    auto& warp = static_cast<WarpState&>(given);
    const uint32_t time = warp.next_agent_time();
    const auto& committed = warp.groups_committed();
    bool any = false;
    for (Copy& copy : warp.copies()) {
        const LaneMask lanes = copy.waiting & active;
        if (lanes == 0) continue;
        if (!all) {
            const uint32_t groups = committed[static_cast<size_t>(std::countr_zero(lanes))];
            if (copy.group == kNever || groups - copy.group <= pending) continue;
        }
        any = true;
        if (copy.first_wait == 0) copy.first_wait = time;
        finish(warp.launch(), copy, lanes, warp.agent(), copy.first_wait);
    }
    if (!any) return;
    std::erase_if(warp.copies(), [](const Copy& copy) { return copy.waiting == 0; });
    warp.waited(active, time);
    ++warp.launch().progress;
}

void copy_attach(Warp& given, const Op&, LaneMask active, uint32_t component, uint32_t time, std::function<void()> done) {
    auto& warp = static_cast<WarpState&>(given);
    Launch& launch = warp.launch();
    Attached attached;
    attached.component = component;
    attached.time = time;
    attached.done = std::move(done);
    for (Copy& copy : warp.copies()) {
        const LaneMask lanes = copy.waiting & active;
        if (lanes == 0) continue;
        attached.copies.emplace_back(copy);
        attached.copies.back().waiting = lanes;
        copy.waiting &= ~lanes;
    }
    std::erase_if(warp.copies(), [](const Copy& copy) { return copy.waiting == 0; });
    attached.delay = launch.options.seed == 0 ? 0 : launch.random.below(64);
    warp.owner().cluster.attached.push_back(std::move(attached));
}

bool land_copies(Launch& launch, ClusterState& cluster, bool all) {
    bool any = false;
    for (size_t i = 0; i < cluster.attached.size();) {
        Attached& attached = cluster.attached[i];
        if (!all && attached.delay > 0) {
            --attached.delay;
            ++i;
            continue;
        }
        Attached now = std::move(attached);
        cluster.attached.erase(cluster.attached.begin() + static_cast<std::ptrdiff_t>(i));
        for (Copy& copy : now.copies) finish(launch, copy, copy.waiting, now.component, now.time);
        now.done();
        ++launch.progress;
        any = true;
    }
    if (launch.options.seed != 0) {
        for (WarpState* warp : cluster.warps) {
            for (Copy& copy : warp->copies()) {
                if (copy.may_land && !copy.is_landed && launch.random.below(8) == 0) land(copy);
            }
        }
    }
    return any;
}

}  // namespace flexemu

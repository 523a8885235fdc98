#include "emulator/machine/bulk.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "emulator/machine/machine.h"
#include "emulator/machine/mbarrier.h"

namespace flexemu {
namespace {

constexpr size_t kManyUses = 256;

void reduce(const BulkReduction& reduction, uint8_t* to, const uint8_t* from, uint32_t bytes) {
    const auto element = static_cast<uint32_t>(ptx::bits(reduction.type) / 8);
    for (uint32_t at = 0; at < bytes; at += element) {
        uint64_t old = 0, value = 0;
        std::memcpy(&old, to + at, element);
        std::memcpy(&value, from + at, element);
        old = combine(reduction.operation, reduction.type, old, value, reduction.flushes);
        std::memcpy(to + at, &old, element);
    }
}

void move(BulkCopy& copy, const BulkPiece& piece, const uint8_t* from) {
    if (copy.reduction.type != ptx::Type::None) return reduce(copy.reduction, piece.to, from, piece.bytes);
    if (from != nullptr) {
        std::memcpy(piece.to, from, piece.bytes);
        return;
    }
    for (uint32_t at = 0; at < piece.bytes; at += sizeof copy.fill)
        std::memcpy(piece.to + at, &copy.fill, std::min<size_t>(sizeof copy.fill, piece.bytes - at));
}

/// The next `count` pieces arrive.
void land(BulkCopy& copy, size_t count) {
    const size_t end = std::min(copy.pieces.size(), copy.landed + count);
    size_t held = 0;
    for (; copy.landed < end; ++copy.landed) {
        const BulkPiece& piece = copy.pieces[copy.landed];
        move(copy, piece, copy.is_read && piece.from != nullptr ? copy.held.data() + held : piece.from);
        if (piece.from != nullptr) held += piece.bytes;
    }
    if (copy.is_read && held != 0) copy.held.erase(copy.held.begin(), copy.held.begin() + static_cast<std::ptrdiff_t>(held));
    if (copy.landed == copy.pieces.size()) copy.is_read = copy.is_landed = true;
}

/// The source has been read and may be written again.
void hold(BulkCopy& copy) {
    if (copy.is_read) return;
    copy.is_read = true;
    for (size_t i = copy.landed; i < copy.pieces.size(); ++i) {
        const BulkPiece& piece = copy.pieces[i];
        if (piece.from != nullptr) copy.held.insert(copy.held.end(), piece.from, piece.from + piece.bytes);
    }
}

/// All bytes are there: the mbarrier counts them.
void complete(Launch& launch, BulkCopy& copy) {
    ++launch.progress;
    if (copy.block == nullptr) return;
    auto& barriers = copy.block->attached<Mbarriers>().at;
    const auto at = barriers.find(copy.barrier);
    if (at == barriers.end() || at->second.word != copy.word) {
        return copy.warp->fault(
            Fault::Kind::BadBarrier, *copy.op, copy.lane,
            fmt::format("the barrier at shared byte {:#x} was ended before the bytes that it should count had arrived", copy.barrier));
    }
    Mbarrier& barrier = at->second;
    for (const uint32_t number : {copy.reads, copy.writes}) {
        if (number == 0) continue;
        launch.operations[number].component = barrier.component;
        launch.operations[number].time = static_cast<uint32_t>(barrier.phase) + 1;
    }
    if (const std::string error = barrier.complete_bytes(copy.bytes); !error.empty())
        return copy.warp->fault(Fault::Kind::BadBarrier, *copy.op, copy.lane, error);
}

bool is_known(const BlockState& block, const AsyncOperation& operation) {
    if (operation.time == kNever) return false;
    const uint32_t warps = block.launch.warps_per_cluster;
    if (operation.component < kClockKinds * warps) return true;  // of a group: its lane has waited
    return std::any_of(block.warps.begin(), block.warps.end(), [&](const auto& warp) {
        for (int lane = 0; lane < kLanes; ++lane) {
            if (warp->knows(lane, block.cluster.serial, operation.component, 1, operation.time)) return true;
        }
        return false;
    });
}

}  // namespace

void bulk_begin(BulkCopy copy) {
    Launch& launch = copy.warp->launch();
    ClusterState& cluster = copy.warp->owner().cluster;
    // Seed 0: in order, after the turn of the warp. Others: at once, soon, late, or in parts.
    const uint64_t manner = launch.options.seed == 0 ? 1 : launch.random.below(4);
    if (launch.options.seed != 0) {
        copy.delay = static_cast<uint32_t>(launch.random.below(manner == 2 ? 2048 : 32));
        copy.is_piecewise = manner == 3;
        if (copy.is_piecewise && copy.pieces.size() > 1) {
            const auto first = static_cast<std::ptrdiff_t>(launch.random.below(copy.pieces.size()));
            std::rotate(copy.pieces.begin(), copy.pieces.begin() + first, copy.pieces.end());
        }
    }
    cluster.bulk.push_back(std::make_unique<BulkCopy>(std::move(copy)));
    if (manner != 0) return;
    BulkCopy& last = *cluster.bulk.back();
    land(last, last.pieces.size());
    complete(launch, last);
    if (last.block != nullptr) cluster.bulk.pop_back();
}

void bulk_commit(WarpState& warp, LaneMask active) {
    auto& committed = warp.bulk_groups_committed();
    for (const auto& copy : warp.owner().cluster.bulk) {
        if (copy->warp == &warp && copy->block == nullptr && (active >> copy->lane & 1) != 0 && copy->group == UINT32_MAX)
            copy->group = committed[static_cast<size_t>(copy->lane)];
    }
    for (LaneMask left = active; left != 0; left &= left - 1) ++committed[static_cast<size_t>(std::countr_zero(left))];
}

void bulk_wait(WarpState& warp, LaneMask active, uint32_t pending, bool read) {
    Launch& launch = warp.launch();
    const auto& committed = warp.bulk_groups_committed();
    auto& copies = warp.owner().cluster.bulk;
    const uint32_t time = warp.next_agent_time();
    bool any = false;
    for (const auto& copy : copies) {
        if (copy->warp != &warp || copy->block != nullptr || (active >> copy->lane & 1) == 0 || copy->group == UINT32_MAX) continue;
        if (committed[static_cast<size_t>(copy->lane)] - copy->group <= pending) continue;
        any = true;
        if (read) {
            hold(*copy);
        } else {
            land(*copy, copy->pieces.size());
        }
        for (const uint32_t number : {copy->reads, copy->writes}) {
            AsyncOperation& operation = launch.operations[number];
            if (operation.time != kNever || (read && number == copy->writes)) continue;
            operation.component = warp.agent();
            operation.time = time;
        }
    }
    if (!any) return;
    std::erase_if(copies, [&](const auto& copy) {
        return copy->block == nullptr && copy->is_landed && launch.operations[copy->writes].time != kNever;
    });
    warp.waited(active, time);
    ++launch.progress;
}

bool bulk_land(Launch& launch, ClusterState& cluster, Landing which) {
    if (cluster.bulk.empty()) return false;
    bool any = false;
    size_t chosen = SIZE_MAX;
    if (which == Landing::One) {
        // Whom somebody may be waiting for: copies that count at a barrier.
        std::vector<size_t> candidates;
        for (size_t i = 0; i < cluster.bulk.size(); ++i) {
            if (cluster.bulk[i]->block != nullptr) candidates.push_back(i);
        }
        if (candidates.empty()) return false;
        chosen = candidates[launch.options.seed == 0 ? 0 : launch.random.below(candidates.size())];
    }
    for (size_t i = 0; i < cluster.bulk.size(); ++i) {
        BulkCopy& copy = *cluster.bulk[i];
        if (copy.is_landed) continue;
        size_t count = copy.pieces.size();
        if (which == Landing::One && i != chosen) continue;
        if (which == Landing::Due) {
            if (copy.delay > 0) {
                --copy.delay;
                continue;
            }
            if (copy.is_piecewise) count = 1 + launch.random.below(std::max<size_t>(count / 4, 1));
        }
        land(copy, count);
        if (!copy.is_landed) continue;
        complete(launch, copy);
        any = true;
        if (launch.fault) return true;
    }
    std::erase_if(cluster.bulk, [](const auto& copy) { return copy->is_landed && copy->block != nullptr; });
    return any;
}

void remember_shared_use(const BlockState& block, uint32_t operation, bool writes) {
    auto& uses = block.cluster.uses;
    if (uses.size() >= kManyUses && uses.size() % kManyUses == 0)
        std::erase_if(uses, [&](const SharedUse& use) { return is_known(*use.block, block.launch.operations[use.operation]); });
    uses.push_back({&block, operation, writes});
}

void bulk_block_ends(BlockState& block) {
    Launch& launch = block.launch;
    for (const SharedUse& use : block.cluster.uses) {
        if (use.block != &block || launch.fault) continue;
        const AsyncOperation& operation = launch.operations[use.operation];
        if (is_known(block, operation)) continue;
        launch.set_fault(
            Fault::Kind::UnfinishedCopy,
            fmt::format("block ({},{},{}) has ended while {} may still {} its shared memory: none of its threads has waited for that",
                        block.id[0], block.id[1], block.id[2], launch.op_text(operation.op), use.writes ? "write" : "read"));
    }
    std::erase_if(block.cluster.uses, [&](const SharedUse& use) { return use.block == &block; });
}

}  // namespace flexemu

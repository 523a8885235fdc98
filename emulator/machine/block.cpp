// Barriers of blocks and clusters.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "emulator/machine/machine.h"
#include "emulator/machine/mbarrier.h"
#include "emulator/machine/products.h"

namespace flexemu {

BlockState::BlockState(Launch& given, ClusterState& in_cluster, uint32_t rank, std::array<uint32_t, 3> at)
    : launch(given),
      cluster(in_cluster),
      id(at),
      linear(at[0] + given.grid[0] * (at[1] + given.grid[1] * at[2])),
      rank_(rank),
      shared_(given.take_shared()) {
    const Code& code = launch.program.codes[static_cast<size_t>(launch.kernel)];
    dynamic_base_ = static_cast<uint32_t>((code.static_shared + code.dynamic_align - 1) / code.dynamic_align * code.dynamic_align);
    for (uint32_t first = 0; first < launch.threads; first += kLanes) {
        const uint32_t count = std::min<uint32_t>(kLanes, launch.threads - first);
        const LaneMask lanes = count == kLanes ? ~LaneMask{0} : (LaneMask{1} << count) - 1;
        warps.push_back(std::make_unique<WarpState>(*this, static_cast<int>(first / kLanes), lanes, launch.kernel));
    }
    alive_ = launch.threads;
}

BlockState::~BlockState() {
    launch.give_shared(std::move(shared_));
}

uint32_t BlockState::cluster_size() const {
    return launch.blocks_per_cluster;
}

Block& BlockState::peer(uint32_t rank) {
    return *cluster.blocks[rank];
}

void BlockState::progressed() {
    ++launch.progress;
}

uint32_t BlockState::new_component() {
    const uint32_t component = cluster.components;
    cluster.components += 2;  // and its twin, behind proxy fences
    return component;
}

void BlockState::arrive(WarpState& warp, const Op& op, LaneMask lanes, uint32_t id_, uint32_t count, bool waits, int reduction,
                        LaneMask predicate, uint32_t destination) {
    const int lane = std::countr_zero(lanes);
    if (id_ >= barriers_.size())
        return warp.fault(Fault::Kind::BadBarrier, op, lane, fmt::format("there is no barrier {}, only 0 to 15", id_));
    if (count % kLanes != 0)
        return warp.fault(Fault::Kind::BadBarrier, op, lane, fmt::format("a count of {} threads is no multiple of 32", count));
    const uint32_t all = (launch.threads + kLanes - 1) / kLanes * kLanes;
    if (count > all)
        return warp.fault(Fault::Kind::BarrierMismatch, op, lane,
                          fmt::format("waits for {} threads, the block has {}", count, launch.threads));
    Barrier& barrier = barriers_[id_];
    const bool is_default = count == 0;
    const uint32_t expected = is_default ? all : count;
    if (!barrier.parties.empty()) {
        const Barrier::Party& other = barrier.parties.front();
        const auto against = [&](const std::string& text) {
            warp.fault(Fault::Kind::BarrierMismatch, op, lane,
                       fmt::format("barrier {}: {}, {} by {} {}", id_, text, launch.op_text(other.op->number),
                                   other.warp->thread_text(std::countr_zero(other.lanes)), "was there before"));
        };
        if (barrier.expected != expected)
            return against(fmt::format("counts {} threads where {} were counted", expected, barrier.expected));
        if (barrier.reduction != reduction) return against("reductions and plain barriers meet");
        for (const Barrier::Party& party : barrier.parties) {
            if (party.warp == &warp && (party.lanes & lanes) != 0) return against("the same threads arrive twice before it is complete");
        }
    }
    barrier.expected = expected;
    barrier.is_default = barrier.parties.empty() ? is_default : barrier.is_default && is_default;
    barrier.reduction = reduction;
    barrier.ones += static_cast<uint32_t>(std::popcount(predicate & lanes));
    barrier.lanes += static_cast<uint32_t>(std::popcount(lanes));
    // An aligned arrival counts a whole warp, also where the block ends within it.
    const LaneMask counted = op.aligned || lanes == warp.alive() ? ~LaneMask{0} : lanes;
    barrier.arrived += static_cast<uint32_t>(std::popcount(counted));
    warp.release(lanes, barrier.known);
    warp.tell_heard(lanes, barrier.heard);
    Path* path = nullptr;
    if (waits) {
        path = &warp.current();
        warp.wait_in(Path::State::Barrier, true);
    }
    barrier.parties.push_back({&warp, path, lanes, &op, destination});
    ++launch.progress;
    lanes_exited();  // perhaps this was the last
}

/// Barriers that wait for the whole block do not wait for threads that have exited.
void BlockState::lanes_exited() {
    for (Barrier& barrier : barriers_) {
        if (barrier.parties.empty()) continue;
        bool is_complete = barrier.arrived >= barrier.expected;
        if (!is_complete && barrier.is_default && alive_ < launch.threads) {
            uint32_t here = 0;
            for (const Barrier::Party& party : barrier.parties)
                here += static_cast<uint32_t>(std::popcount(party.lanes & party.warp->alive()));
            is_complete = here >= alive_;
        }
        if (is_complete) complete(barrier);
    }
}

void BlockState::complete(Barrier& barrier) {
    Barrier done;
    std::swap(done, barrier);
    uint64_t result = done.ones;
    if (done.reduction == 2) result = done.ones == done.lanes ? 1 : 0;
    if (done.reduction == 3) result = done.ones != 0 ? 1 : 0;
    for (const Barrier::Party& party : done.parties) {
        if (party.path == nullptr) continue;
        party.warp->acquire(party.lanes, done.known);
        party.warp->hear(party.lanes, done.heard);
        party.warp->set_slot(*party.path, party.destination, result);
    }
    for (const Barrier::Party& party : done.parties) {
        if (party.path != nullptr) party.warp->wake(*party.path);
    }
    ++launch.progress;
}

std::string BlockState::waiting_text() {
    std::string text;
    size_t said = 0;
    bool is_at_mbarrier = false;
    for (size_t i = 0; i < barriers_.size(); ++i) {
        const Barrier& barrier = barriers_[i];
        if (barrier.parties.empty()) continue;
        text += fmt::format("; barrier {} of block ({},{},{}) has {} of {} threads:", i, id[0], id[1], id[2], barrier.arrived,
                            barrier.expected);
        for (const Barrier::Party& party : barrier.parties) {
            if (++said > 8) break;
            text += fmt::format(" warp {} at line {} ({})", party.warp->index(), party.op->line, party.op->text->spelling());
        }
    }
    for (const auto& warp : warps) {
        for (const auto& path : warp->paths()) {
            if (path->state == Path::State::Barrier || ++said > 16) continue;
            const Op& op = warp->op_of(*path);
            const bool is_at_cluster = path->state == Path::State::Cluster;
            is_at_mbarrier |= op.text->opcode == "mbarrier";
            text += fmt::format("; {} waits {} line {} ({})", warp->thread_text(std::countr_zero(path->lanes)),
                                is_at_cluster ? "for its cluster before" : "at", op.line, op.text->spelling());
        }
    }
    if (!is_at_mbarrier) return text;
    std::map<uint32_t, const Mbarrier*> by_place;
    for (const auto& [offset, barrier] : attached<Mbarriers>().at) by_place[offset] = &barrier;
    for (const auto& [offset, barrier] : by_place) text += fmt::format("; mbarrier at shared byte {:#x}: {}", offset, barrier->text());
    return text;
}

/// A barrier with a count that the threads that are left cannot reach, or that all of them have come to in vain.
bool BlockState::barrier_cannot_complete() const {
    uint32_t waiting = 0;
    bool any_counted = false;
    for (const Barrier& barrier : barriers_) {
        if (barrier.parties.empty()) continue;
        any_counted |= !barrier.is_default;
        for (const Barrier::Party& party : barrier.parties) {
            if (party.path != nullptr) waiting += static_cast<uint32_t>(std::popcount(party.lanes));
        }
    }
    return any_counted && waiting == alive_;
}

// ---- Clusters

bool ClusterState::is_done() const {
    return std::all_of(blocks.begin(), blocks.end(), [](const auto& block) { return block->is_done(); });
}

void ClusterState::arrive(WarpState& warp, const Op& op, LaneMask lanes, bool releases) {
    const uint32_t component = warp.component();
    if ((arrived_lanes[component] & lanes) != 0 || (may_wait[component] & lanes) != 0) {
        return warp.fault(Fault::Kind::BarrierMismatch, op, std::countr_zero(lanes),
                          "arrives a second time at the cluster's barrier without a wait between");
    }
    arrived_lanes[component] |= lanes;
    may_wait[component] |= lanes;
    if (releases)
        warp.release(lanes, known);
    else
        warp.tell_fenced(lanes, AccessKind::Scope::Cluster, known);
    ++warp.launch().progress;
    settle();
}

void ClusterState::wait(WarpState& warp, const Op& op, LaneMask lanes, bool acquires) {
    const uint32_t component = warp.component();
    if ((may_wait[component] & lanes) != lanes) {
        return warp.fault(Fault::Kind::BarrierMismatch, op, std::countr_zero(lanes & ~may_wait[component]),
                          "waits for the cluster's barrier without having arrived");
    }
    if ((arrived_lanes[component] & lanes) == 0) {  // its phase is complete already
        may_wait[component] &= ~lanes;
        if (acquires) warp.acquire(lanes, completed);
        return;
    }
    waiters.push_back({&warp, &warp.current(), lanes, acquires});
    warp.wait_in(Path::State::Cluster, true);
}

void ClusterState::settle() {
    bool any = false;
    for (const auto& block : blocks) {
        for (const auto& warp : block->warps) {
            const LaneMask arrived_now = arrived_lanes[warp->component()];
            any |= arrived_now != 0;
            if ((warp->alive() & ~arrived_now) != 0) return;
        }
    }
    if (!any) return;
    std::fill(arrived_lanes.begin(), arrived_lanes.end(), 0);
    completed = known;
    known.clear();
    ++phase;
    std::vector<Waiter> awake;
    awake.swap(waiters);
    for (const Waiter& waiter : awake) {
        may_wait[waiter.warp->component()] &= ~waiter.lanes;
        if (waiter.acquires) waiter.warp->acquire(waiter.lanes, completed);
        waiter.warp->wake(*waiter.path);
    }
    ++blocks.front()->launch.progress;
}

}  // namespace flexemu

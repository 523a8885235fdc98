// Launches: which clusters are resident, which warp runs next and for how long, and what happens when nobody can run.
//
// Seed 0 runs warps in turn and blocks in order. Other seeds choose blocks in another order, and for each stretch of time a manner of choosing warps: in turn, at
// random, one ahead of all others, or backwards; and stretches of random length. Blocks stay resident until they end; a few share the machine, and more
// are let in when those cannot go on, so that blocks may wait for each other in any order.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>

#include "emulator/machine/copies.h"
#include "emulator/machine/machine.h"
#include "emulator/machine/products.h"

namespace flexemu {
namespace {

constexpr uint64_t kBlockTurn = 50000;  // warp instructions before another resident block has its turn
constexpr uint64_t kMostShuffled = uint64_t{1} << 24;
constexpr uint64_t kNoProgress = 500000000;  // warp instructions without any change that others could see
constexpr int kStallRounds = 40;             // in which everyone that may stop waiting has stopped in vain, and time has doubled

}  // namespace

Launch::Launch(DeviceState& given, Program& of, int32_t kernel_, std::array<uint32_t, 3> grid_, std::array<uint32_t, 3> block,
               std::array<uint32_t, 3> cluster, uint32_t dynamic, const std::vector<uint8_t>& parameters_, const LaunchOptions& options_)
    : device(given),
      program(of),
      kernel(kernel_),
      grid(grid_),
      block_size(block),
      cluster_size(cluster),
      dynamic_shared(dynamic),
      parameters(parameters_),
      options(options_),
      threads(block[0] * block[1] * block[2]),
      warps_per_block((threads + kLanes - 1) / kLanes),
      blocks_per_cluster(cluster[0] * cluster[1] * cluster[2]),
      warps_per_cluster(warps_per_block * blocks_per_cluster),
      random(options_.seed * 0x9e3779b97f4a7c15 + 1),
      generation_(++given.generation) {
    const Code& code = program.codes[static_cast<size_t>(kernel)];
    shared_total = static_cast<uint32_t>((code.static_shared + code.dynamic_align - 1) / code.dynamic_align * code.dynamic_align) + dynamic;
    is_explicit_cluster = blocks_per_cluster > 1;
    operations.emplace_back();  // number 0 is nobody's
    most_resident_ = std::max<size_t>(1, static_cast<size_t>(2 * device.properties.multiprocessors) / blocks_per_cluster);
    clusters_ = uint64_t{grid[0]} * grid[1] * grid[2] / blocks_per_cluster;
    if (options.seed % 4 == 0 || clusters_ > kMostShuffled) return;
    order_.resize(clusters_);
    for (size_t i = 0; i < clusters_; ++i) order_[i] = static_cast<uint32_t>(i);
    if (options.seed % 4 == 1) {
        std::reverse(order_.begin(), order_.end());
        return;
    }
    for (size_t i = clusters_; i > 1; --i) std::swap(order_[i - 1], order_[random.below(i)]);
}

std::unique_ptr<Segment> Launch::take_shared() {
    std::unique_ptr<Segment> result;
    if (shared_pool_.empty()) {
        result = std::make_unique<Segment>(kSharedWindow, shared_total);
    } else {
        result = std::move(shared_pool_.back());
        shared_pool_.pop_back();
        result->initialised.set(0, result->bytes, false);
    }
    result->locations.clear();
    result->shadow.reset(result->bytes, ++device.generation);
    return result;
}

void Launch::forget(Segment& segment) {
    segment.shadow.reset(segment.bytes, device.generation);
    segment.locations.clear();
}

std::string Launch::op_text(uint32_t number) const {
    const Op& op = *program.ops_by_number[number];
    return fmt::format("{} at line {}", op.text->spelling(), op.line);
}

std::string Launch::thread_text(uint32_t warp, int lane) const {
    const uint32_t cluster = warp / warps_per_cluster, rank = warp % warps_per_cluster / warps_per_block;
    const uint32_t thread = warp % warps_per_block * kLanes + static_cast<uint32_t>(lane);
    const std::array<uint32_t, 3> at = block_id(cluster, rank);
    return fmt::format("thread ({},{},{}) of block ({},{},{})", thread % block_size[0], thread / block_size[0] % block_size[1],
                       thread / block_size[0] / block_size[1], at[0], at[1], at[2]);
}

std::array<uint32_t, 3> Launch::block_id(uint32_t cluster, uint32_t rank) const {
    const uint32_t across = grid[0] / cluster_size[0], down = grid[1] / cluster_size[1];
    return {cluster % across * cluster_size[0] + rank % cluster_size[0],
            cluster / across % down * cluster_size[1] + rank / cluster_size[0] % cluster_size[1],
            cluster / across / down * cluster_size[2] + rank / cluster_size[0] / cluster_size[1]};
}

void Launch::start_cluster() {
    auto cluster = std::make_unique<ClusterState>();
    cluster->serial = order_.empty() ? static_cast<uint32_t>(started_) : order_[started_];
    ++started_;
    cluster->components = kClockKinds * warps_per_cluster;
    cluster->arrived_lanes.assign(warps_per_cluster, 0);
    cluster->may_wait.assign(warps_per_cluster, 0);
    for (uint32_t rank = 0; rank < blocks_per_cluster; ++rank) {
        cluster->blocks.push_back(std::make_unique<BlockState>(*this, *cluster, rank, block_id(cluster->serial, rank)));
    }
    for (const auto& block : cluster->blocks) {
        for (const auto& warp : block->warps) cluster->warps.push_back(warp.get());
    }
    cluster->turn = cluster->warps.size() - 1;
    resident_.push_back(std::move(cluster));
}

/// Runs the cluster's warps, up to the budget or until none of them can go on. Returns the number of instructions executed.
uint64_t Launch::run_cluster(ClusterState& cluster, uint64_t budget) {
    uint64_t done = 0;
    const size_t count = cluster.warps.size();
    const bool is_plain = options.seed == 0;
    uint64_t manner = 0, stretch = 0;
    size_t ahead = 0;
    while (done < budget && !fault) {
        if (stretch == 0 && !is_plain) {
            manner = random.below(4);
            stretch = 1 + random.below(64);
            ahead = random.below(count);
        }
        if (stretch > 0) --stretch;
        size_t from = cluster.turn + 1;
        if (manner == 1) from = random.below(count);
        if (manner == 2) from = ahead;
        if (manner == 3) from = cluster.turn + count - 1;
        size_t chosen = count;
        for (size_t k = 0; k < count; ++k) {
            const size_t i = (manner == 3 ? from + count - k : from + k) % count;
            if (!cluster.warps[i]->is_done() && cluster.warps[i]->can_run()) {
                chosen = i;
                break;
            }
        }
        if (chosen == count) break;
        cluster.turn = chosen;
        const uint64_t quantum = is_plain ? 64 : 1 + random.below(manner == 2 ? 512 : 48);
        const uint64_t executed = cluster.warps[chosen]->run(quantum);
        done += executed;
        land_copies(*this, cluster, false);
        bulk_land(*this, cluster, Landing::Due);
        if (products_formed != 0) advance_products(*this, cluster);
        if (instructions > options.max_instructions) {
            set_fault(Fault::Kind::Timeout, fmt::format("the launch has executed {} instructions of warps", instructions));
        }
    }
    return done;
}

/// Nobody can go on. True if somebody can now.
bool Launch::unstick() {
    bool any = false;
    for (const auto& cluster : resident_) any |= land_copies(*this, *cluster, true);
    if (any) return true;
    for (const auto& cluster : resident_) any |= bulk_land(*this, *cluster, Landing::One);
    if (any) return true;
    if (started_ < clusters_ && resident_.size() < 4096) {
        start_cluster();
        return true;
    }
    for (const auto& cluster : resident_) {
        for (WarpState* warp : cluster->warps) any |= warp->release_joins();
    }
    if (any) return true;
    if (stall_progress_ != progress) {
        stall_progress_ = progress;
        stall_rounds_ = 0;
    }
    if (++stall_rounds_ > kStallRounds) return false;
    clock_jump_ += uint64_t{1} << stall_rounds_;
    for (const auto& cluster : resident_) {
        for (WarpState* warp : cluster->warps) any |= warp->time_out();
    }
    return any;
}

void Launch::set_deadlock() {
    std::string text;
    Fault::Kind kind = Fault::Kind::Deadlock;
    const WarpState* gathering = nullptr;
    const Path* at = nullptr;
    for (const auto& cluster : resident_) {
        for (const auto& block : cluster->blocks) {
            if (block->is_done()) continue;
            if (block->barrier_cannot_complete()) kind = Fault::Kind::BarrierMismatch;
            if (text.size() < 1500) text += block->waiting_text();
        }
        for (const WarpState* warp : cluster->warps) {
            for (const auto& path : warp->paths()) {
                const bool is_sync = path->state == Path::State::Gathering || path->state == Path::State::WarpSync;
                if (!is_sync || gathering != nullptr) continue;
                gathering = warp;
                at = path.get();
            }
        }
    }
    for (const auto& cluster : resident_) {
        if (const std::string missing = unformed_product(*this, *cluster); !missing.empty())
            return set_fault(Fault::Kind::Divergence, missing + text);
    }
    if (gathering != nullptr) {
        const Op& op = gathering->op_of(*at);
        return set_fault(Fault::Kind::Divergence,
                         fmt::format("line {}: {} by {}: lanes that its membermask names never come{}", op.line, op.text->spelling(),
                                     gathering->thread_text(std::countr_zero(at->lanes)), text));
    }
    std::string line;
    for (const auto& cluster : resident_) {
        for (const WarpState* warp : cluster->warps) {
            if (!line.empty() || warp->paths().empty()) continue;
            Path where = Path();
            where.at = warp->paths()[0]->at;
            if (warp->paths()[0]->state == Path::State::Barrier || warp->paths()[0]->state == Path::State::Cluster) --where.at.pc;
            const Op& op = warp->op_of(where);
            line = fmt::format("line {}: {} by {}: ", op.line, op.text->spelling(),
                               warp->thread_text(std::countr_zero(warp->paths()[0]->lanes)));
        }
    }
    set_fault(kind, fmt::format("{}{}{}", line,
                                kind == Fault::Kind::Deadlock ? "no thread can go on" : "the barrier's count of threads cannot be reached",
                                text));
}

Fault Launch::run(LaunchStats* stats) {
    const auto begun = std::chrono::steady_clock::now();
    size_t turn = 0;
    uint64_t last_progress = 0, progress_at = 0;
    while (!fault && (!resident_.empty() || started_ < clusters_)) {
        if (resident_.empty()) start_cluster();
        turn %= resident_.size();
        ClusterState& cluster = *resident_[turn];
        const uint64_t executed = run_cluster(cluster, options.seed == 0 ? kBlockTurn : 1 + random.below(kBlockTurn));
        if (fault) break;
        if (cluster.is_done()) {
            land_copies(*this, cluster, true);
            bulk_land(*this, cluster, Landing::All);
            blocks_done_ += blocks_per_cluster;
            if (options.blocks_done != nullptr) options.blocks_done->fetch_add(blocks_per_cluster, std::memory_order_relaxed);
            resident_.erase(resident_.begin() + static_cast<std::ptrdiff_t>(turn));
            idle_turns_ = 0;
            continue;
        }
        if (progress != last_progress) {
            last_progress = progress;
            progress_at = instructions;
            idle_turns_ = 0;
        } else if (instructions - progress_at > kNoProgress) {
            set_deadlock();
            break;
        }
        if (executed == 0) {
            if (++idle_turns_ >= resident_.size()) {
                if (!unstick()) set_deadlock();
                idle_turns_ = 0;
            }
        } else {
            idle_turns_ = 0;
            if (resident_.size() < most_resident_ && started_ < clusters_) start_cluster();
        }
        ++turn;
    }
    resident_.clear();
    if (stats != nullptr) {
        stats->warp_instructions = instructions;
        stats->blocks = blocks_done_;
        stats->seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    }
    return fault;
}

}  // namespace flexemu

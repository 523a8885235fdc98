// What the lanes of a warp know to have happened before, and how it is handed on.
#include <bit>

#include "emulator/machine/machine.h"
#include "emulator/machine/mbarrier.h"

namespace flexemu {

/// The clock of one lane, apart from the warp's from now on. It always knows what the warp's knows.
Clock& WarpState::own_clock(int lane) {
    auto& clock = lane_known_[static_cast<size_t>(lane)];
    if ((lanes_apart_ >> lane & 1) == 0) {
        if (!clock) clock = std::make_unique<Clock>();
        *clock = known_;
        lanes_apart_ |= LaneMask{1} << lane;
    }
    return *clock;
}

bool WarpState::knows(int lane, uint32_t cluster, uint32_t component, LaneMask lanes, uint32_t time) const {
    if (known_.knows(cluster, component, lanes, time)) return true;
    return (lanes_apart_ >> lane & 1) != 0 && lane_known_[static_cast<size_t>(lane)]->knows(cluster, component, lanes, time);
}

uint32_t WarpState::proxied(uint32_t component, bool is_shared) const {
    const uint32_t warps = launch_.warps_per_cluster;
    if (component < warps) return component + (is_shared ? kProxied : kProxiedGlobal) * warps;
    if (component < kProxied * warps) return component + (kProxiedAgents - kAgents) * warps;
    return component + 1;
}

void WarpState::release(LaneMask lanes, Clock& to) {
    Clock mine = known_;
    for (LaneMask apart = lanes & lanes_apart_; apart != 0; apart &= apart - 1)
        mine.join(*lane_known_[static_cast<size_t>(std::countr_zero(apart))]);
    tell_waited(lanes, mine);
    if (lanes == alive_) {
        mine.learn(component_, time_);
    } else {
        mine.learn(component_, lanes, time_);
    }
    ++time_;
    to.join(mine);
}

void WarpState::acquire(LaneMask lanes, const Clock& from) {
    if (from.empty()) return;
    if (lanes == alive_) {
        known_.join(from);
        for (LaneMask apart = lanes_apart_; apart != 0; apart &= apart - 1)
            lane_known_[static_cast<size_t>(std::countr_zero(apart))]->join(from);
        return;
    }
    for (; lanes != 0; lanes &= lanes - 1) own_clock(std::countr_zero(lanes)).join(from);
}

void WarpState::order_lanes(LaneMask lanes) {
    lanes &= alive_;
    if ((lanes & lanes_hearing_) != 0) {
        Clock heard;
        tell_heard(lanes, heard);
        hear(lanes, heard);
    }
    if (lanes == alive_) {
        for (LaneMask apart = lanes_apart_; apart != 0; apart &= apart - 1)
            known_.join(*lane_known_[static_cast<size_t>(std::countr_zero(apart))]);
        lanes_apart_ = 0;
        tell_waited(lanes, known_);
        known_.learn(component_, time_);
    } else {
        Clock together;
        release(lanes, together);
        for (LaneMask left = lanes; left != 0; left &= left - 1) own_clock(std::countr_zero(left)).join(together);
    }
    ++time_;
}

void WarpState::fence(LaneMask lanes, AccessKind::Scope scope) {
    launch_.has_fenced = true;
    const uint32_t warps = launch_.warps_per_cluster;
    const bool to_all = scope != AccessKind::Scope::Cta;
    const auto raise = [&](Clock& clock, LaneMask own) {
        for (const ClockKind kind : {kFencedCta, kFencedGpu}) {
            if (kind == kFencedGpu && !to_all) continue;
            clock.raise(warps, 0, kind * warps);
            if (own == alive_) {
                clock.learn(kind * warps + component_, time_);
            } else {
                clock.learn(kind * warps + component_, own, time_);
            }
        }
    };
    if (lanes == alive_) {
        known_.join(heard_);
        heard_.clear();
        for (LaneMask left = lanes_hearing_ & lanes; left != 0; left &= left - 1) {
            const int lane = std::countr_zero(left);
            own_clock(lane).join(*lane_heard_[static_cast<size_t>(lane)]);
            lane_heard_[static_cast<size_t>(lane)]->clear();
        }
        lanes_hearing_ = 0;
        raise(known_, lanes);
        for (LaneMask apart = lanes_apart_; apart != 0; apart &= apart - 1) {
            Clock& clock = *lane_known_[static_cast<size_t>(std::countr_zero(apart))];
            clock.join(known_);
            raise(clock, lanes);
        }
    } else {
        for (LaneMask left = lanes; left != 0; left &= left - 1) {
            const int lane = std::countr_zero(left);
            Clock& clock = own_clock(lane);
            clock.join(heard_);
            if ((lanes_hearing_ >> lane & 1) != 0) {
                clock.join(*lane_heard_[static_cast<size_t>(lane)]);
                lane_heard_[static_cast<size_t>(lane)]->clear();
            }
            raise(clock, LaneMask{1} << lane);
        }
        lanes_hearing_ &= ~lanes;
    }
    ++time_;
}

void WarpState::fence_proxy(LaneMask lanes, bool shared, bool global) {
    fence_barriers(lanes);
    const uint32_t warps = launch_.warps_per_cluster;
    const auto raise = [&](Clock& clock, LaneMask own) {
        for (const ClockKind kind : {kProxied, kProxiedGlobal}) {
            if (!(kind == kProxied ? shared : global)) continue;
            clock.raise(warps, 0, kind * warps);
            if (own == alive_) {
                clock.learn(kind * warps + component_, time_);
            } else {
                clock.learn(kind * warps + component_, own, time_);
            }
        }
        if (!shared) return;
        clock.raise(warps, kAgents * warps, kProxiedAgents * warps);
        clock.raise_twins(kClockKinds * warps);
        // Copies that lanes have waited for are known to each lane alone until it tells.
        for (LaneMask left = own; left != 0 && agent_time_ != 0; left &= left - 1) {
            const int lane = std::countr_zero(left);
            const bool is_apart = (lanes_waited_ >> lane & 1) != 0;
            const uint32_t time = is_apart ? lane_waited_[static_cast<size_t>(lane)] : waited_together_;
            if (time != 0) clock.learn(kProxiedAgents * warps + component_, LaneMask{1} << lane, time);
        }
    };
    if (lanes == alive_) {
        raise(known_, lanes);
        for (LaneMask apart = lanes_apart_; apart != 0; apart &= apart - 1)
            raise(*lane_known_[static_cast<size_t>(std::countr_zero(apart))], lanes);
    } else {
        for (LaneMask left = lanes; left != 0; left &= left - 1) {
            const int lane = std::countr_zero(left);
            raise(own_clock(lane), LaneMask{1} << lane);
        }
    }
    ++time_;
}

void WarpState::fence_barriers(LaneMask lanes) {
    auto& barriers = block_.attached<Mbarriers>();
    if (barriers.unfenced == 0) return;
    const int lane = std::countr_zero(lanes);
    for (auto& [offset, barrier] : barriers.at) {
        if (barrier.is_fenced) continue;
        const bool is_own = barrier.by_component == component_ && (lanes >> barrier.by_lane & 1) != 0;
        if (!is_own && !knows(lane, block_.cluster.serial, barrier.by_component, LaneMask{1} << barrier.by_lane, barrier.by_time)) continue;
        barrier.is_fenced = true;
        --barriers.unfenced;
    }
}

void WarpState::tell_fenced(LaneMask lanes, AccessKind::Scope scope, Clock& to) const {
    const uint32_t warps = launch_.warps_per_cluster;
    const uint32_t kind = scope == AccessKind::Scope::Cta ? kFencedCta : kFencedGpu;
    for (LaneMask left = lanes; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        const Clock& mine = (lanes_apart_ >> lane & 1) != 0 ? *lane_known_[static_cast<size_t>(lane)] : known_;
        to.join(mine.part(warps, kind * warps, {kProxied * warps, kProxiedGlobal * warps}));
        if (lanes_apart_ == 0) break;
    }
}

void WarpState::strong_write(LaneMask lanes, Segment& segment, uint64_t offset, const AccessKind& kind, bool replaces) {
    const bool to_all = kind.scope != AccessKind::Scope::Cta;
    if (kind.release) {
        LocationClock& location = segment.locations[offset];
        if (replaces) location = {};
        if (location.block != block_.linear) location.cta.clear();
        location.block = block_.linear;
        Clock mine;
        release(lanes, mine);
        location.cta.join(mine);
        if (to_all) location.gpu.join(mine);
        return;
    }
    if (!launch_.has_fenced) {
        if (replaces && !segment.locations.empty()) segment.locations.erase(offset);
        return;
    }
    // A fence before, by this thread or by one it has heard from, makes a relaxed write a release of what was fenced.
    Clock cta, gpu;
    tell_fenced(lanes, AccessKind::Scope::Cta, cta);
    if (to_all) tell_fenced(lanes, AccessKind::Scope::Gpu, gpu);
    if (cta.empty() && gpu.empty()) {
        if (replaces) segment.locations.erase(offset);
        return;
    }
    LocationClock& location = segment.locations[offset];
    if (replaces) location = {};
    if (location.block != block_.linear) location.cta.clear();
    location.block = block_.linear;
    location.cta.join(cta);
    location.gpu.join(gpu);
}

void WarpState::strong_read(LaneMask lanes, Segment& segment, uint64_t offset, const AccessKind& kind) {
    if (segment.locations.empty()) return;
    const auto at = segment.locations.find(offset);
    if (at == segment.locations.end()) return;
    const LocationClock& location = at->second;
    Clock found;
    if (kind.scope != AccessKind::Scope::Cta) found.join(location.gpu);
    if (location.block == block_.linear) found.join(location.cta);
    if (found.empty()) return;
    if (kind.acquire) return acquire(lanes, found);
    hear(lanes, found);
}

void WarpState::tell_heard(LaneMask lanes, Clock& to) const {
    to.join(heard_);
    for (LaneMask left = lanes & lanes_hearing_; left != 0; left &= left - 1)
        to.join(*lane_heard_[static_cast<size_t>(std::countr_zero(left))]);
}

void WarpState::hear(LaneMask lanes, const Clock& from) {
    if (from.empty()) return;
    if (lanes == alive_) {
        heard_.join(from);
        return;
    }
    lanes_hearing_ |= lanes;
    for (; lanes != 0; lanes &= lanes - 1) {
        auto& heard = lane_heard_[static_cast<size_t>(std::countr_zero(lanes))];
        if (!heard) heard = std::make_unique<Clock>(block_.cluster.serial);
        heard->join(from);
    }
}

void WarpState::waited(LaneMask lanes, uint32_t time) {
    if (lanes == alive_) {
        waited_together_ = time;
        lanes_waited_ = 0;
        return;
    }
    for (LaneMask left = lanes; left != 0; left &= left - 1) lane_waited_[static_cast<size_t>(std::countr_zero(left))] = time;
    lanes_waited_ |= lanes;
}

void WarpState::tell_waited(LaneMask lanes, Clock& to) const {
    if (waited_together_ != 0) {
        if (lanes == alive_) {
            to.learn(agent(), waited_together_);
        } else {
            to.learn(agent(), lanes, waited_together_);
        }
    }
    for (LaneMask left = lanes & lanes_waited_; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        to.learn(agent(), LaneMask{1} << lane, lane_waited_[static_cast<size_t>(lane)]);
    }
}

}  // namespace flexemu

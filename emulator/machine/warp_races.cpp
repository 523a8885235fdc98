// The race detector: may this access stand beside those that the shadow remembers?
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "emulator/machine/machine.h"

namespace flexemu {
namespace {

uint32_t scope_level(AccessKind::Scope scope) {
    switch (scope) {
        case AccessKind::Scope::None: return 0;
        case AccessKind::Scope::Cta: return 1;
        case AccessKind::Scope::Cluster: return 2;
        default: return 3;
    }
}

std::string where_text(const WarpState::Place& place, uint64_t address, unsigned bytes) {
    if (place.is_shared) return fmt::format("shared byte {:#x} ({} bytes)", place.offset, bytes);
    return fmt::format("address {:#x} ({} bytes)", address, bytes);
}

uint32_t word_bytes(uint64_t first, uint64_t end, uint64_t word) {
    const uint64_t from = std::max(first, word * 4) - word * 4, to = std::min(end, word * 4 + 4) - word * 4;
    return ((1U << to) - 1) & ~((1U << from) - 1);
}

}  // namespace

bool WarpState::is_before(const Record& old, int lane, bool* unfinished) const {
    const uint32_t cluster = old.warp / launch_.warps_per_cluster, component = old.warp % launch_.warps_per_cluster;
    if (old.is(Record::kAsync)) {
        const AsyncOperation& operation = launch_.operations[old.time];
        if (operation.time == kNever) {
            *unfinished = true;
            return false;
        }
        LaneMask others = old.lanes;
        // A lane that waited sees its own copies, and only these.
        if (old.warp == serial_ && operation.component == agent()) others &= ~(LaneMask{1} << lane);
        return others == 0 || knows(lane, cluster, operation.component, others, operation.time);
    }
    LaneMask others = old.lanes;
    if (old.warp == serial_) {
        others &= ~(LaneMask{1} << lane);
        if (others == 0) return true;
    }
    return knows(lane, cluster, component, others, old.time);
}

bool WarpState::is_proxied(const Record& old, int lane, bool is_shared) const {
    if (old.is(Record::kProxy) || !old.is(Record::kWrite)) return true;
    const uint32_t cluster = old.warp / launch_.warps_per_cluster;
    uint32_t component = old.warp % launch_.warps_per_cluster, time = old.time;
    if (old.is(Record::kAsync)) {
        component = launch_.operations[old.time].component;
        time = launch_.operations[old.time].time;
    }
    return knows(lane, cluster, proxied(component, is_shared), old.lanes, time);
}

std::string WarpState::record_text(const Record& record) const {
    return fmt::format("{} by {}", launch_.op_text(record.op()), launch_.thread_text(record.warp, std::countr_zero(record.lanes)));
}

/// An access that is not ordered behind an older one. True if that is a fault, which is then set.
bool WarpState::conflict(const Op& op, int lane, const Place& place, Record old, uint64_t address, unsigned bytes, bool writes, bool same,
                         const AccessKind& kind) {
    if (old.warp == serial_) old.lanes &= ~(old.is(Record::kAsync) ? 0U : LaneMask{1} << lane);
    const uint32_t linear = old.warp / launch_.warps_per_cluster;
    const bool same_cluster = linear == block_.cluster.serial;
    const bool same_block = same_cluster && old.warp / launch_.warps_per_block == serial_ / launch_.warps_per_block;
    if (old.is(Record::kAtomic) && kind.atomic) {
        const uint32_t needed = same_block ? 1 : same_cluster ? 2 : 3;
        if (((old.what & Record::kScope) >> Record::kScopeShift) >= needed && scope_level(kind.scope) >= needed) return false;
    }
    if (old.is(Record::kAsync) && launch_.operations[old.time].time == kNever) {
        if (old.is(Record::kWrite)) {
            fault(Fault::Kind::UnfinishedCopy, op, lane,
                  fmt::format("{} {} that {} is still writing: nobody has waited for it", writes ? "writes" : "reads",
                              where_text(place, address, bytes), record_text(old)));
        } else {
            fault(Fault::Kind::Race, op, lane,
                  fmt::format("writes {} that {} is still reading: nobody has waited for it", where_text(place, address, bytes),
                              record_text(old)));
        }
        return true;
    }
    // Writing what is there already is harmless to those who write it: threads that hold copies of a value all store it.
    if (same && writes && old.is(Record::kWrite) && same_block) return false;
    std::string reason = "no barrier between";
    if (old.is(Record::kAsync) && launch_.operations[old.time].component >= kClockKinds * launch_.warps_per_cluster) {
        reason = "it counts for a phase of an mbarrier that this thread does not know to be complete";
    } else if (old.is(Record::kAsync)) {
        reason = old.warp == serial_ ? "the copy was waited for, but lanes of a warp are not ordered without bar.warp.sync"
                                     : "the copy was waited for, but this thread has met no barrier with the one that waited";
    } else if (old.warp == serial_) {
        reason = "lanes of a warp are not ordered without bar.warp.sync";
    } else if (!same_block) {
        reason = "nothing orders the two blocks";
    }
    fault(Fault::Kind::Race, op, lane, fmt::format("races with {}: {}, {}", record_text(old), reason, where_text(place, address, bytes)));
    return true;
}

bool WarpState::check(const Op& op, int lane, const Place& place, uint64_t address, unsigned bytes, bool writes, bool same,
                      const AccessKind& kind, const AsyncOperation* async, uint32_t async_number) {
    Shadow& shadow = launch_.shadow_of(*place.segment);
    Record mine;
    mine.warp = serial_;
    mine.time = async != nullptr ? async_number : time_;
    mine.lanes = LaneMask{1} << lane;
    const uint32_t what = op.number << Record::kOpShift | (writes ? Record::kWrite : 0) | (kind.atomic ? Record::kAtomic : 0) |
                          scope_level(kind.scope) << Record::kScopeShift | (async != nullptr ? Record::kAsync : 0) |
                          (kind.async_proxy ? Record::kProxy : 0);
    const uint64_t end = place.offset + bytes;
    for (uint64_t word = place.offset / 4; word * 4 < end; ++word) {
        Cell& cell = shadow.cell(word);
        const uint32_t mask = bytes == 4 || bytes == 8 || bytes == 16 ? Record::kBytes : word_bytes(place.offset, end, word);
        mine.what = what | mask;
        if (!kind.atomic && !kind.async_proxy && passes_quickly(shadow, cell, mine, place.is_shared)) continue;
        bool unfinished = false;
        // True if the record may stay unsaid: this access comes after it (or is on other bytes).
        const auto passes = [&](const Record& old, bool* before) {
            *before = true;
            if (old.lanes == 0 || (old.bytes() & mask) == 0) {
                *before = old.lanes == 0;
                return true;
            }
            if (kind.async_proxy && old.is(Record::kAsync) && old.time == mine.time) return true;  // the operation itself
            *before = is_before(old, lane, &unfinished);
            if (*before && kind.async_proxy && !is_proxied(old, lane, place.is_shared)) {
                fault(Fault::Kind::MissingProxyFence, op, lane,
                      fmt::format("{} of {} by the asynchronous proxy, behind {}: no fence.proxy.async between",
                                  writes ? "a write" : "a read", where_text(place, address, bytes), record_text(old)));
                return false;
            }
            if (*before || (!writes && !old.is(Record::kWrite))) return true;
            return !conflict(op, lane, place, old, address, bytes, writes, same, kind);
        };
        bool write_before = false, read_before = false;
        if (!passes(cell.write, &write_before)) return false;
        if (writes && !passes(cell.read, &read_before)) return false;
        if (cell.more != 0) {
            for (uint32_t at = cell.more; at != 0; at = shadow.link(at).next) {
                bool before = false;
                const Record old = shadow.link(at).record;
                if (!writes && !old.is(Record::kWrite)) continue;
                if (!passes(old, &before)) return false;
            }
        }
        if (writes) {
            // An atomic access does not stand for an ordinary one: to another atomic access it is no race, the ordinary one may be.
            const auto covered = [&](const Record& old) {
                bool ignored = false;
                return (!kind.atomic || old.is(Record::kAtomic)) && (old.bytes() & ~mask) == 0 && is_before(old, lane, &ignored);
            };
            if (cell.more != 0) shadow.prune(cell, covered);
            if (cell.read.lanes != 0 && covered(cell.read)) cell.read = {};
            if (cell.write.lanes == 0 || covered(cell.write)) {
                cell.write = mine;
            } else if (!merge(cell.write, mine)) {
                add(shadow, cell, mine, kind.atomic);
            }
            continue;
        }
        const auto superseded = [&](const Record& old) {
            bool ignored = false;
            return (!kind.atomic || old.is(Record::kAtomic)) && !old.is(Record::kWrite) && (old.bytes() & ~mask) == 0 &&
                   is_before(old, lane, &ignored);
        };
        if (merge(cell.read, mine)) continue;
        if (cell.more != 0) shadow.prune(cell, superseded);
        if (cell.read.lanes == 0 || superseded(cell.read)) {
            cell.read = mine;
        } else {
            add(shadow, cell, mine, kind.atomic || !place.is_shared);
        }
    }
    return true;
}

/// The usual cases: the older records are known to be before this access, and it takes their place. False: look closer; nothing has changed.
bool WarpState::passes_quickly(Shadow& shadow, Cell& cell, const Record& mine, bool is_shared) {
    const uint32_t first_warp = serial_ - component_;
    const auto is_old = [&](const Record& old) {
        if (old.lanes == 0) return true;
        if ((old.bytes() & ~mine.bytes()) != 0 || old.warp - first_warp >= launch_.warps_per_cluster) return false;
        if (old.is(Record::kAsync)) {
            const AsyncOperation& operation = launch_.operations[old.time];
            return known_.all(operation.component) >= operation.time;
        }
        return known_.all(old.warp - first_warp) >= old.time || (old.warp == serial_ && old.lanes == mine.lanes);
    };
    if (!is_old(cell.write)) return false;
    if (mine.is(Record::kWrite)) {
        if (!is_old(cell.read)) return false;
        for (uint32_t at = cell.more; at != 0; at = shadow.link(at).next) {
            if (!is_old(shadow.link(at).record)) return false;
        }
        if (cell.more != 0) shadow.prune(cell, [](const Record&) { return true; });
        cell.write = mine;
        cell.read = {};
        return true;
    }
    size_t readers = 0;
    bool is_seen_elsewhere = false;  // by another cluster than that of cell.read
    for (uint32_t at = cell.more; at != 0; at = shadow.link(at).next) {
        const Record& old = shadow.link(at).record;
        if (old.is(Record::kWrite)) return false;
        is_seen_elsewhere |= old.bytes() == mine.bytes() && !old.is(Record::kAtomic) &&
                             old.warp / launch_.warps_per_cluster != cell.read.warp / launch_.warps_per_cluster;
        ++readers;
    }
    if (merge(cell.read, mine)) return true;
    // Of what many blocks read, two readers of different clusters are remembered: whoever writes it races with one of them.
    if (!is_shared && is_seen_elsewhere && cell.read.lanes != 0 && cell.read.bytes() == mine.bytes() && !cell.read.is(Record::kAtomic))
        return true;
    if (readers != 0) {
        for (uint32_t at = cell.more; at != 0; at = shadow.link(at).next) {
            if (merge(shadow.link(at).record, mine)) return true;
        }
        shadow.prune(cell, is_old);
    }
    if (is_old(cell.read)) {
        cell.read = mine;
    } else {
        add(shadow, cell, mine, !is_shared);
    }
    return true;
}

/// Lanes that do the same to the same bytes share a record; for reads by one warp it does not matter by which instruction.
bool WarpState::merge(Record& into, const Record& from) {
    if (into.lanes == 0 || into.warp != from.warp || into.time != from.time) return false;
    const uint32_t difference = into.what ^ from.what;
    if ((from.is(Record::kWrite) ? difference : difference & Record::kFlags) != 0) return false;
    into.lanes |= from.lanes;
    return true;
}

/// Where many may come that are no race among themselves (atomic accesses, readers of global memory), only a few are remembered.
void WarpState::add(Shadow& shadow, Cell& cell, const Record& record, bool few) {
    constexpr uint32_t kClass = Record::kWrite | Record::kAtomic | Record::kAsync;
    size_t count = 0;
    for (uint32_t at = cell.more; at != 0; at = shadow.link(at).next) {
        Record& old = shadow.link(at).record;
        if (merge(old, record)) return;
        if (few && (old.what & kClass) == (record.what & kClass) && ++count == 4) {
            old = record;
            return;
        }
    }
    shadow.push(cell, record);
}

}  // namespace flexemu

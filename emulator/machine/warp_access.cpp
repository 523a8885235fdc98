// Loads and stores, with every check: where the address lies, alignment, races and unfinished copies, bytes never written.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "emulator/machine/machine.h"

namespace flexemu {
namespace {

constexpr size_t kMostLocal = size_t{512} << 10;

uint32_t scope_level(AccessKind::Scope scope) {
    switch (scope) {
        case AccessKind::Scope::None: return 0;
        case AccessKind::Scope::Cta: return 1;
        case AccessKind::Scope::Cluster: return 2;
        default: return 3;
    }
}

uint32_t word_bytes(uint64_t first, uint64_t end, uint64_t word) {
    const uint64_t from = std::max(first, word * 4) - word * 4, to = std::min(end, word * 4 + 4) - word * 4;
    return ((1U << to) - 1) & ~((1U << from) - 1);
}

}  // namespace

void WarpState::clear_local(LaneMask lanes, uint32_t from, uint32_t bytes) {
    if (bytes == 0) return;
    const size_t needed = size_t{from} + bytes;
    if (needed > kMostLocal) {
        return fault(Fault::Kind::Resources, op_of(current_ != nullptr ? *current_ : *paths_[0]), std::countr_zero(lanes),
                     fmt::format("more than {} bytes of local memory", kMostLocal));
    }
    if (needed > local_capacity_) {
        const size_t capacity = std::max(needed, local_capacity_ * 2);
        std::vector<uint8_t> data(capacity * kLanes, 0), written(capacity * kLanes, 0);
        for (size_t lane = 0; lane < kLanes && local_capacity_ != 0; ++lane) {
            std::memcpy(data.data() + lane * capacity, local_.data() + lane * local_capacity_, local_capacity_);
            std::memcpy(written.data() + lane * capacity, local_written_.data() + lane * local_capacity_, local_capacity_);
        }
        local_ = std::move(data);
        local_written_ = std::move(written);
        local_capacity_ = capacity;
    }
    for (size_t lane = 0; lane < kLanes; ++lane) {
        if ((lanes >> lane & 1) != 0) std::memset(local_written_.data() + lane * local_capacity_ + from, 0, bytes);
    }
}

uint8_t* WarpState::local_bytes(int lane, uint64_t offset, size_t bytes) {
    if (offset > local_capacity_ || bytes > local_capacity_ - offset) return nullptr;
    return local_.data() + static_cast<size_t>(lane) * local_capacity_ + offset;
}

void WarpState::write_local(int lane, uint64_t offset, size_t bytes, const void* from) {
    uint8_t* const at = local_bytes(lane, offset, bytes);
    if (at == nullptr) return;
    std::memcpy(at, from, bytes);
    std::memset(local_written_.data() + (at - local_.data()), 1, bytes);
}

bool WarpState::place(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned align, bool writes, unsigned bytes, Place* out) {
    const auto bad = [&](const std::string& text) {
        fault(Fault::Kind::OutOfBounds, op, lane, text);
        return false;
    };
    if ((address & (align - 1)) != 0) {
        fault(Fault::Kind::Misaligned, op, lane, fmt::format("address {:#x} is no multiple of {}", address, align));
        return false;
    }
    if (space == ptx::Space::Generic) {
        switch (address >> 56) {
            case kSharedWindow >> 56: space = ptx::Space::Shared; break;
            case kLocalWindow >> 56:
                space = ptx::Space::Local;
                address -= kLocalWindow;
                break;
            case kParamWindow >> 56:
                space = ptx::Space::Param;
                address -= kParamWindow;
                break;
            default: space = ptx::Space::Global;
        }
    }
    switch (space) {
        case ptx::Space::Shared: {
            uint32_t offset = 0;
            BlockState* const owner = shared_owner(op, lane, address, bytes, &offset);
            if (owner == nullptr) return false;
            Segment& segment = owner->shared();
            *out = {&segment, segment.data + offset, nullptr, offset, true, owner};
            return true;
        }
        case ptx::Space::Param:
            if (address < kParamFrame) {
                if (address > launch_.parameters.size() || bytes > launch_.parameters.size() - address) {
                    return bad(fmt::format("offset {:#x} is outside of the {} bytes of parameters", address, launch_.parameters.size()));
                }
                if (writes) return bad("a kernel's parameters cannot be written");
                *out = {nullptr, const_cast<uint8_t*>(launch_.parameters.data()) + address, nullptr, address, false, nullptr};
                return true;
            }
            address -= kParamFrame;
            [[fallthrough]];
        case ptx::Space::Local: {
            uint8_t* const data = local_bytes(lane, address, bytes);
            if (data == nullptr)
                return bad(fmt::format("local address {:#x} is outside of the thread's {} bytes", address, local_capacity_));
            *out = {nullptr, data, local_written_.data() + (data - local_.data()), address, false, nullptr};
            return true;
        }
        default: {
            Segment* const segment = launch_.device.memory.find(address);
            if (segment == nullptr)
                return bad(fmt::format("{} bytes at {:#x}: {}", bytes, address, launch_.device.memory.nearest(address)));
            const uint64_t offset = address - segment->base;
            if (bytes > segment->bytes - offset) {
                return bad(
                    fmt::format("{} bytes at {:#x} reach beyond the {} bytes at {:#x}", bytes, address, segment->bytes, segment->base));
            }
            if (writes && segment->is_read_only) return bad(fmt::format("{:#x} is a constant and cannot be written", address));
            *out = {segment, segment->data + offset, nullptr, offset, false, nullptr};
            return true;
        }
    }
}

/// Shared addresses: of the own block from 0 on, of a block of the cluster by its rank + 1; both also behind the window's base, and in 32 bits.
BlockState* WarpState::shared_owner(const Op& op, int lane, uint64_t address, unsigned bytes, uint32_t* offset) {
    const uint64_t given = address;
    if (address >> 56 == kSharedWindow >> 56) {
        address -= kSharedWindow;
    } else if (address >> 32 == 1 || address >> 32 == 0xffffffff) {
        address &= 0xffffffff;  // a 32-bit sum
    }
    BlockState* owner = &block_;
    const uint64_t rank = address / kBlockStride;
    if (rank > block_.cluster_size()) {
        fault(Fault::Kind::OutOfBounds, op, lane,
              fmt::format("{:#x} is no address of shared memory: the block has {} bytes", given, block_.shared_bytes()));
        return nullptr;
    }
    if (rank > 0) {
        owner = block_.cluster.blocks[rank - 1].get();
        if (owner->is_done()) {
            fault(Fault::Kind::OutOfBounds, op, lane,
                  fmt::format("all threads of the block of rank {} have exited: its shared memory is gone", rank - 1));
            return nullptr;
        }
    }
    address %= kBlockStride;
    const Segment& segment = owner->shared();
    if (address > segment.bytes || bytes > segment.bytes - address) {
        fault(Fault::Kind::OutOfBounds, op, lane,
              fmt::format("{} bytes at {:#x} are outside of the block's {} bytes of shared memory", bytes, address, segment.bytes));
        return nullptr;
    }
    *offset = static_cast<uint32_t>(address);
    return owner;
}

Block* WarpState::shared_location(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned bytes, uint32_t* offset) {
    if (space == ptx::Space::Generic && address >> 56 != kSharedWindow >> 56) {
        fault(Fault::Kind::OutOfBounds, op, lane, fmt::format("{:#x} is no address of shared memory", address));
        return nullptr;
    }
    if ((address & (bytes - 1)) != 0) {
        fault(Fault::Kind::Misaligned, op, lane, fmt::format("address {:#x} is no multiple of {}", address, bytes));
        return nullptr;
    }
    return shared_owner(op, lane, address, bytes, offset);
}

bool WarpState::is_before(const Record& old, int lane, bool* unfinished) const {
    const uint32_t cluster = old.warp / launch_.warps_per_cluster, component = old.warp % launch_.warps_per_cluster;
    if (old.is(Record::kAsync)) {
        const AsyncOperation& operation = launch_.operations[old.time];
        if (operation.time == kNever) {
            *unfinished = true;
            return false;
        }
        return knows(lane, cluster, operation.component, ~LaneMask{0}, operation.time);
    }
    LaneMask others = old.lanes;
    if (old.warp == serial_) {
        others &= ~(LaneMask{1} << lane);
        if (others == 0) return true;
    }
    return knows(lane, cluster, component, others, old.time);
}

std::string WarpState::record_text(const Record& record) const {
    const LaneMask others = record.warp == serial_ && std::popcount(record.lanes) > 1 ? record.lanes : record.lanes;
    return fmt::format("{} by {}", launch_.op_text(record.op()), launch_.thread_text(record.warp, std::countr_zero(others)));
}

/// An access that is not ordered behind an older one. True if that is a fault, which is then set.
bool WarpState::conflict(const Op& op, int lane, const Place& place, Record old, uint64_t address, unsigned bytes, bool writes, bool same,
                         const AccessKind& kind) {
    if (old.warp == serial_) old.lanes &= ~(old.is(Record::kAsync) ? 0U : LaneMask{1} << lane);
    const uint32_t linear = old.warp / launch_.warps_per_cluster;
    const bool same_cluster = linear == block_.cluster.serial;
    const bool same_block = same_cluster && old.warp / launch_.warps_per_block == serial_ / launch_.warps_per_block;
    const std::string where = place.is_shared ? fmt::format("shared byte {:#x}", place.offset) : fmt::format("address {:#x}", address);
    const std::string what = fmt::format("{} ({} bytes)", where, bytes);
    if (old.is(Record::kAsync) && launch_.operations[old.time].time == kNever) {
        if (old.is(Record::kWrite)) {
            fault(Fault::Kind::UnfinishedCopy, op, lane,
                  fmt::format("{} {} that {} is still writing: nobody has waited for it", writes ? "writes" : "reads", what,
                              record_text(old)));
        } else {
            fault(Fault::Kind::Race, op, lane,
                  fmt::format("writes {} that {} is still reading: nobody has waited for it", what, record_text(old)));
        }
        return true;
    }
    if (old.is(Record::kAtomic) && kind.atomic) {
        const uint32_t needed = same_block ? 1 : same_cluster ? 2 : 3;
        if (((old.what & Record::kScope) >> Record::kScopeShift) >= needed && scope_level(kind.scope) >= needed) return false;
    }
    // Writing what is there already is harmless to those who write it: threads that hold copies of a value all store it.
    if (same && writes && old.is(Record::kWrite) && same_block) return false;
    std::string reason = "no barrier between";
    if (old.is(Record::kAsync)) {
        reason = "the copy was waited for, but this thread has met no barrier with the one that waited";
    } else if (old.warp == serial_) {
        reason = "lanes of a warp are not ordered without bar.warp.sync";
    } else if (!same_block) {
        reason = "nothing orders the two blocks";
    }
    const Record shown = old;
    fault(Fault::Kind::Race, op, lane, fmt::format("races with {}: {}, {}", record_text(shown), reason, what));
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
        bool unfinished = false;
        // True if the record may stay unsaid: this access comes after it (or is on other bytes).
        const auto passes = [&](const Record& old, bool* before) {
            *before = true;
            if (old.lanes == 0 || (old.bytes() & mask) == 0) {
                *before = old.lanes == 0;
                return true;
            }
            *before = is_before(old, lane, &unfinished);
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
                add(shadow, cell, mine);
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
            add(shadow, cell, mine, !place.is_shared);
        }
    }
    return true;
}

/// Lanes that do the same to the same bytes share a record.
bool WarpState::merge(Record& into, const Record& from) {
    if (into.lanes == 0 || into.warp != from.warp || into.time != from.time || into.what != from.what) return false;
    into.lanes |= from.lanes;
    return true;
}

/// Of data that all blocks read, a few readers are remembered: whoever writes it races with any of them.
void WarpState::add(Shadow& shadow, Cell& cell, const Record& record, bool few) {
    size_t count = 0;
    for (uint32_t at = cell.more; at != 0; at = shadow.link(at).next) {
        Record& old = shadow.link(at).record;
        if (merge(old, record)) return;
        if (few && ++count == 4) {
            old = record;
            return;
        }
    }
    shadow.push(cell, record);
}

bool WarpState::is_written(const Op& op, int lane, const Place& at, unsigned bytes) {
    if (!launch_.options.check_uninitialised) return true;
    const int64_t hole = at.segment->initialised.first_unset(at.offset, bytes);
    if (hole < 0) return true;
    fault(Fault::Kind::Uninitialised, op, lane,
          at.is_shared ? fmt::format("shared byte {:#x} has never been written", hole)
                       : fmt::format("the byte at {:#x} has never been written", at.segment->base + static_cast<uint64_t>(hole)));
    return false;
}

bool WarpState::check_source(const Op& op, int lane, const Place& at, uint64_t address, unsigned bytes, uint32_t number) {
    if (launch_.options.check_races && !at.segment->is_read_only &&
        !check(op, lane, at, address, bytes, false, false, {}, &launch_.operations[number], number)) {
        return false;
    }
    return is_written(op, lane, at, bytes);
}

bool WarpState::load(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned bytes, void* to, const AccessKind& kind) {
    Place at;
    if (!place(op, lane, space, address, bytes, false, &at)) return false;
    if (at.segment == nullptr) {
        if (at.written != nullptr && launch_.options.check_uninitialised) {
            const auto* hole = static_cast<const uint8_t*>(std::memchr(at.written, 0, bytes));
            if (hole != nullptr) {
                fault(Fault::Kind::Uninitialised, op, lane,
                      fmt::format("local byte {:#x} has never been written", at.offset + static_cast<uint64_t>(hole - at.written)));
                return false;
            }
        }
        std::memcpy(to, at.data, bytes);
        return true;
    }
    if (launch_.options.check_races && !at.segment->is_read_only && !check(op, lane, at, address, bytes, false, false, kind)) return false;
    if (!is_written(op, lane, at, bytes)) return false;
    std::memcpy(to, at.data, bytes);
    if (kind.atomic) strong_read(LaneMask{1} << lane, *at.segment, at.offset, kind);
    return true;
}

bool WarpState::store(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned bytes, const void* from,
                      const AccessKind& kind) {
    Place at;
    if (!place(op, lane, space, address, bytes, true, &at)) return false;
    if (at.segment == nullptr) {
        std::memcpy(at.data, from, bytes);
        std::memset(at.written, 1, bytes);
        ++launch_.progress;
        return true;
    }
    const bool was_written = at.segment->initialised.first_unset(at.offset, bytes) < 0;
    const bool same = was_written && std::memcmp(at.data, from, bytes) == 0;
    if (launch_.options.check_races && !check(op, lane, at, address, bytes, true, same, kind)) return false;
    if (!same) {
        std::memcpy(at.data, from, bytes);
        if (!was_written) at.segment->initialised.set(at.offset, bytes);
        ++launch_.progress;
    }
    if (kind.atomic) strong_write(LaneMask{1} << lane, *at.segment, at.offset, kind, true);
    return true;
}

bool WarpState::modify(const Op& op, int lane, ptx::Space space, uint64_t address, unsigned bytes, void* old, const AccessKind& kind,
                       void (*change)(const void* old, void* now, const void* context), const void* context) {
    Place at;
    if (!place(op, lane, space, address, bytes, true, &at)) return false;
    if (at.segment == nullptr) {
        fault(Fault::Kind::BadInstruction, op, lane, "atomic operations are for global and shared memory");
        return false;
    }
    if (launch_.options.check_races && !check(op, lane, at, address, bytes, true, false, kind)) return false;
    if (!is_written(op, lane, at, bytes)) return false;
    alignas(16) uint8_t before[16], after[16];
    std::memcpy(before, at.data, bytes);
    change(before, after, context);
    if (std::memcmp(before, after, bytes) != 0) {
        std::memcpy(at.data, after, bytes);
        ++launch_.progress;
    }
    at.segment->initialised.set(at.offset, bytes);
    if (old != nullptr) std::memcpy(old, before, bytes);
    if (kind.atomic) {
        strong_read(LaneMask{1} << lane, *at.segment, at.offset, kind);
        strong_write(LaneMask{1} << lane, *at.segment, at.offset, kind, false);
    }
    return true;
}

bool WarpState::load_lanes(const Op& op, LaneMask active, ptx::Space space, const uint64_t* addresses, unsigned bytes, void* values,
                           size_t stride, const AccessKind& kind) {
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        if (!WarpState::load(op, lane, space, addresses[lane], bytes, static_cast<uint8_t*>(values) + static_cast<size_t>(lane) * stride,
                             kind))
            return false;
    }
    return true;
}

bool WarpState::store_lanes(const Op& op, LaneMask active, ptx::Space space, const uint64_t* addresses, unsigned bytes, const void* values,
                            size_t stride, const AccessKind& kind) {
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        if (!WarpState::store(op, lane, space, addresses[lane], bytes,
                              static_cast<const uint8_t*>(values) + static_cast<size_t>(lane) * stride, kind))
            return false;
    }
    return true;
}

}  // namespace flexemu

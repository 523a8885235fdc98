// Loads and stores, with every check: where the address lies, alignment, races and unfinished copies, bytes never written.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "emulator/machine/machine.h"

namespace flexemu {
namespace {

constexpr size_t kMostLocal = size_t{512} << 10;

void copy_small(void* to, const void* from, unsigned bytes) {
    switch (bytes) {
        case 1: std::memcpy(to, from, 1); break;
        case 2: std::memcpy(to, from, 2); break;
        case 4: std::memcpy(to, from, 4); break;
        case 8: std::memcpy(to, from, 8); break;
        default: std::memcpy(to, from, 16);
    }
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

bool WarpState::is_written(const Op& op, int lane, const Place& at, size_t bytes) {
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
        if (std::memcmp(at.data, from, bytes) != 0) ++launch_.progress;
        std::memcpy(at.data, from, bytes);
        std::memset(at.written, 1, bytes);
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

/// The usual case of a whole warp's access: all addresses lie, aligned, in one allocation or in the block's own shared memory.
Segment* WarpState::common_segment(LaneMask active, ptx::Space space, const uint64_t* addresses, unsigned bytes, bool writes,
                                   uint64_t* base, bool* is_shared) {
    const uint64_t first = addresses[std::countr_zero(active)];
    if (space == ptx::Space::Generic) {
        const uint64_t window = first >> 56;
        if (window != 0 && window != kSharedWindow >> 56) return nullptr;
        space = window == 0 ? ptx::Space::Global : ptx::Space::Shared;
    }
    Segment* segment = nullptr;
    if (space == ptx::Space::Shared) {
        segment = &block_.shared();
        *base = first & kSharedWindow;
    } else if (space == ptx::Space::Global) {
        segment = launch_.device.memory.find(first);
        if (segment == nullptr) return nullptr;
        *base = segment->base;
    } else {
        return nullptr;
    }
    *is_shared = space == ptx::Space::Shared;
    if (bytes > segment->bytes || (writes && segment->is_read_only)) return nullptr;
    const uint64_t most = segment->bytes - bytes, low = bytes - 1;
    bool good = true;
    for (int i = 0; i < kLanes; ++i) {
        const uint64_t offset = addresses[i] - *base;
        good &= (active >> i & 1) == 0 || (offset <= most && (addresses[i] & low) == 0);
    }
    return good ? segment : nullptr;
}

bool WarpState::load_lanes(const Op& op, LaneMask active, ptx::Space space, const uint64_t* addresses, unsigned bytes, void* values,
                           size_t stride, const AccessKind& kind) {
    if (active == 0) return true;
    uint64_t base = 0;
    Place at;
    Segment* const segment = kind.atomic ? nullptr : common_segment(active, space, addresses, bytes, false, &base, &at.is_shared);
    auto* const to = static_cast<uint8_t*>(values);
    if (segment == nullptr) {
        for (LaneMask left = active; left != 0; left &= left - 1) {
            const int lane = std::countr_zero(left);
            if (!WarpState::load(op, lane, space, addresses[lane], bytes, to + static_cast<size_t>(lane) * stride, kind)) return false;
        }
        return true;
    }
    at.segment = segment;
    at.block = at.is_shared ? &block_ : nullptr;
    const bool races = launch_.options.check_races && !segment->is_read_only, holes = launch_.options.check_uninitialised;
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        at.offset = addresses[lane] - base;
        if (races && !check(op, lane, at, addresses[lane], bytes, false, false, kind)) return false;
        if (holes && !segment->initialised.all_set(at.offset, bytes) && !is_written(op, lane, at, bytes)) return false;
        copy_small(to + static_cast<size_t>(lane) * stride, segment->data + at.offset, bytes);
    }
    return true;
}

bool WarpState::store_lanes(const Op& op, LaneMask active, ptx::Space space, const uint64_t* addresses, unsigned bytes, const void* values,
                            size_t stride, const AccessKind& kind) {
    if (active == 0) return true;
    uint64_t base = 0;
    Place at;
    Segment* const segment = kind.atomic ? nullptr : common_segment(active, space, addresses, bytes, true, &base, &at.is_shared);
    const auto* const from = static_cast<const uint8_t*>(values);
    if (segment == nullptr) {
        for (LaneMask left = active; left != 0; left &= left - 1) {
            const int lane = std::countr_zero(left);
            if (!WarpState::store(op, lane, space, addresses[lane], bytes, from + static_cast<size_t>(lane) * stride, kind)) return false;
        }
        return true;
    }
    at.segment = segment;
    at.block = at.is_shared ? &block_ : nullptr;
    for (LaneMask left = active; left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        at.offset = addresses[lane] - base;
        const uint8_t* const value = from + static_cast<size_t>(lane) * stride;
        uint8_t* const to = segment->data + at.offset;
        const bool was_written = segment->initialised.all_set(at.offset, bytes);
        const bool same = was_written && std::memcmp(to, value, bytes) == 0;
        if (launch_.options.check_races && !check(op, lane, at, addresses[lane], bytes, true, same, kind)) return false;
        if (same) continue;
        copy_small(to, value, bytes);
        if (!was_written) segment->initialised.set(at.offset, bytes);
        ++launch_.progress;
    }
    return true;
}

}  // namespace flexemu

// Operands of products in shared memory: descriptors, layouts, and the checks of what is read. PTX ISA, "Shared Memory Matrix Layout" and "Matrix Descriptor Format".
//
// In pieces of 16 bytes, with T elements a piece and the strides in bytes, the canonical layouts are
//
//   K-major      none      ((8, m), 2) : ((16, stride), leading)            line 8 i + r, half h
//                swizzled  ((8, m), 2) : ((span, stride), 16)
//   MN-major     none      ((1, m), (8, k)) : ((., stride), (16, leading))  T lines of piece i, place 8 j + r of k
//                swizzled  ((s, m), (8, k)) : ((16, leading), (span, stride))   with s = span / 16
//
// and a swizzle of 128, 64 or 32 bytes changes bits 4 to 6, 5 or 4 of an address by exclusive or with the bits three above: the row of 128 bytes within a pattern of
// span * 8 bytes. The base offset is the row at which the pattern begins.
#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "emulator/machine/machine.h"
#include "emulator/machine/products.h"

namespace flexemu {

std::string MatrixLayout::decode(uint64_t descriptor, bool by_rows_of_k, uint32_t lines, MatrixLayout* out) {
    constexpr uint64_t kReserved = 0x3FF1'C000'C000'C000;
    if ((descriptor & kReserved) != 0) return fmt::format("the matrix descriptor {:#018x} has bits that must be zero", descriptor);
    const auto bytes = [&](int shift) { return static_cast<uint32_t>(descriptor >> shift & 0x3FFF) << 4; };
    out->start = bytes(0);
    out->leading = bytes(16);
    out->stride = bytes(32);
    out->base_offset = static_cast<uint32_t>(descriptor >> 49 & 7);
    out->by_rows_of_k = by_rows_of_k;
    constexpr uint32_t kSpans[] = {0, 128, 64, 32};
    out->span = kSpans[descriptor >> 62];
    if (out->span == 0) {
        if (out->base_offset != 0) return fmt::format("the matrix descriptor {:#018x} has a base offset but no swizzle", descriptor);
        return "";
    }
    // The pattern repeats every 8 lines of the span; it begins where the base offset says.
    const uint32_t rows = out->span / 16, row = (out->start >> 7) % rows;
    if (row != out->base_offset % rows || (out->start & 127) >= out->span) {
        return fmt::format(
            "the matrix begins at {:#x}: with a swizzle of {} bytes at a multiple of {}, plus less than {}, or the base offset, here {}, "
            "must say in which row of "
            "128 bytes the pattern begins",
            out->start, out->span, out->span * 8, out->span, out->base_offset);
    }
    // What lies along the swizzle must not leave it half way.
    const uint32_t inside = out->start & (out->span - 1), along = by_rows_of_k ? lines * 2 : kProductLineBytes;
    if (inside != 0 && inside + along > out->span) {
        return fmt::format("the matrix begins at {:#x}: {} bytes from there are not inside one swizzle of {} bytes", out->start, along,
                           out->span);
    }
    return "";
}

uint32_t MatrixLayout::piece(uint32_t outer, uint32_t inner) const {
    uint32_t at = start;
    if (!by_rows_of_k) {
        at += outer / 8 * stride + outer % 8 * (span == 0 ? 16 : span) + inner * (span == 0 ? leading : 16);
    } else if (span == 0) {
        at += outer * stride + inner % 8 * 16 + inner / 8 * leading;
    } else {
        const uint32_t across = span / 16;
        at += outer % across * 16 + outer / across * leading + inner % 8 * span + inner / 8 * stride;
    }
    if (span == 0) return at;
    const uint32_t row = (at >> 7) - base_offset;
    return at ^ (row & (span / 16 - 1)) << 4;
}

void matrix_pieces(const MatrixLayout& layout, uint32_t from, uint32_t to, std::vector<uint32_t>* out) {
    out->clear();
    const uint32_t step = layout.by_rows_of_k ? 8 : 1, inner = layout.by_rows_of_k ? 16 : 2;
    for (uint32_t outer = from / step; outer < to / step; ++outer)
        for (uint32_t i = 0; i < inner; ++i) out->push_back(layout.piece(outer, i));
}

void read_matrix(const MatrixLayout& layout, uint32_t lines, const uint8_t* shared, uint8_t* out) {
    if (!layout.by_rows_of_k) {
        for (uint32_t line = 0; line < lines; ++line) {
            for (uint32_t half = 0; half < 2; ++half)
                std::memcpy(out + line * kProductLineBytes + half * 16, shared + layout.piece(line, half), 16);
        }
        return;
    }
    for (uint32_t eight = 0; eight < lines / 8; ++eight) {
        for (uint32_t k = 0; k < 16; ++k) {
            const uint8_t* from = shared + layout.piece(eight, k);
            for (uint32_t i = 0; i < 8; ++i) std::memcpy(out + (eight * 8 + i) * kProductLineBytes + k * 2, from + i * 2, 2);
        }
    }
}

namespace {

/// The records met last of which it is known that they count for all lanes of their warp alike: neighbouring words mostly have the same history.
class FineRecords {
public:
    [[nodiscard]] bool has(const Record& record) const {
        for (const Record& each : records_) {
            if (record.time == each.time && record.warp == each.warp && record.what == each.what && each.lanes != 0) return true;
        }
        return false;
    }
    void add(const Record& record) { records_[next_++ % records_.size()] = record; }

private:
    std::array<Record, 4> records_;
    size_t next_ = 0;
};

}  // namespace

/// May an agent that this warp sends rely on what the record says? All lanes must know.
bool WarpState::is_known_to_agents(const Record& old) const {
    // One lane that knows what all know, and those that know of their own.
    const LaneMask together = alive_ & ~lanes_apart_;
    bool unfinished = false;
    for (LaneMask left = lanes_apart_ | (together & (~together + 1)); left != 0; left &= left - 1) {
        const int lane = std::countr_zero(left);
        if (!is_before(old, lane, &unfinished) || !is_proxied(old, lane, true)) return false;
    }
    return true;
}

/// A read that whoever waits for the operation need not ask about: it is known to be over, or a product of the same warpgroup, which are performed in order.
bool WarpState::is_superseded(const Record& old, uint32_t operation) const {
    if (old.is(Record::kAsync)) {
        const AsyncOperation &before = launch_.operations[old.time], &now = launch_.operations[operation];
        const bool same_cluster = old.warp / launch_.warps_per_cluster == block_.cluster.serial;
        if (before.products != 0 && before.products == now.products && same_cluster) return true;
    }
    return is_known_to_agents(old);
}

bool WarpState::check_product_pieces(const Op& op, std::span<const uint32_t> pieces, uint32_t operation, std::vector<Record>* relied) {
    Segment& segment = block_.shared();
    Shadow& shadow = launch_.shadow_of(segment);
    const bool races = launch_.options.check_races, holes = launch_.options.check_uninitialised;
    Place place;
    place.segment = &segment;
    place.is_shared = true;
    place.block = &block_;
    Record mine;
    mine.warp = serial_;
    mine.time = operation;
    mine.lanes = all_lanes_;
    mine.what = op.number << Record::kOpShift | Record::kAsync | Record::kProxy | Record::kBytes;
    FineRecords writes, reads;
    const auto is_write_behind = [&](const Record& old) {
        if (old.lanes == 0 || writes.has(old)) return true;
        Record whole = old;
        whole.lanes = ~LaneMask{0};
        if (is_known_to_agents(whole)) {
            writes.add(whole);
            if (relied != nullptr) relied->push_back(whole);
            return true;
        }
        if (!is_known_to_agents(old)) return false;
        if (relied != nullptr) relied->push_back(old);
        return true;
    };
    const auto is_read_over = [&](const Record& old) {
        if (old.lanes == 0 || reads.has(old)) return true;
        Record whole = old;
        whole.lanes = ~LaneMask{0};
        if (!is_superseded(whole, operation)) return is_superseded(old, operation);
        reads.add(whole);
        return true;
    };
    // What is not plain: says what is wrong, or remembers the access.
    const auto slowly = [&](uint32_t offset) {
        Place part = place;
        part.offset = offset;
        AccessKind kind;
        kind.async_proxy = true;
        for (LaneMask left = alive_; left != 0; left &= left - 1) {
            if (!check(op, std::countr_zero(left), part, offset, 4, false, false, kind, &launch_.operations[operation], operation))
                return false;
        }
        return true;
    };
    const auto remember_beside = [&](Cell& cell) {
        for (uint32_t at = cell.more; at != 0; at = shadow.link(at).next) {
            Record& old = shadow.link(at).record;
            if (old.is(Record::kWrite)) continue;
            const bool is_own = old.is(Record::kAsync) && old.time == operation;
            if (!is_own && !is_read_over(old)) continue;
            old = mine;
            return;
        }
        shadow.push(cell, mine);
    };
    for (const uint32_t piece : pieces) {
        place.offset = piece;
        if (piece + uint64_t{16} > segment.bytes) {
            fault(Fault::Kind::OutOfBounds, op, std::countr_zero(alive_),
                  fmt::format("the matrix descriptor leads to 16 bytes at {:#x}, outside of the block's {} bytes of shared memory", piece,
                              segment.bytes));
            return false;
        }
        size_t count = 0;
        Cell* const cells = races ? shadow.cells(piece / 4, &count) : nullptr;
        for (uint32_t i = 0; i < 4 && races; ++i) {
            Cell& cell = cells[i];
            bool is_plain = is_write_behind(cell.write);
            for (uint32_t at = cell.more; is_plain && at != 0; at = shadow.link(at).next) {
                const Record& old = shadow.link(at).record;
                is_plain = !old.is(Record::kWrite) || is_write_behind(old);
            }
            if (!is_plain) {
                if (!slowly(piece + i * 4)) return false;
            } else if (is_read_over(cell.read)) {
                cell.read = mine;
            } else {
                remember_beside(cell);
            }
        }
        if (holes && !segment.initialised.all_set(piece, 16) && !is_written(op, std::countr_zero(alive_), place, 16)) return false;
    }
    return true;
}

bool WarpState::may_rely_on(std::span<const Record> writes) const {
    for (const Record& each : writes) {
        if (!is_known_to_agents(each)) return false;
    }
    return true;
}

}  // namespace flexemu

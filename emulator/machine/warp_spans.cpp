// The race detector for the asynchronous proxy: whole rows at a time. Neighbouring words nearly always have the same history, so what became of one becomes of
// all that are equal to it, and the verdict on a record is kept while the same record comes again; what is not plain goes to WarpState::check, word by word.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "emulator/machine/machine.h"
#include "emulator/tensor_map.h"

namespace flexemu {
namespace {

/// The last few records that were looked at.
class Verdicts {
public:
    template <typename Judge>
    bool fine(const Record& record, Judge judge) {
        for (const Entry& entry : entries_) {
            if (entry.record.warp == record.warp && entry.record.time == record.time && entry.record.lanes == record.lanes &&
                entry.record.what == record.what) {
                return entry.fine;
            }
        }
        Entry& entry = entries_[next_++ % entries_.size()];
        entry = {record, judge(record)};
        return entry.fine;
    }

private:
    struct Entry {
        Record record;
        bool fine = true;  // no record at all
    };
    std::array<Entry, 4> entries_;
    size_t next_ = 0;
};

/// As bytes. A library's memcmp would be half of the time.
bool is_equal(const Cell& a, const Cell& b) {
    uint64_t difference = 0;
    for (size_t at = 0; at + 8 <= sizeof(Cell); at += 8) {
        uint64_t left = 0, right = 0;
        std::memcpy(&left, reinterpret_cast<const uint8_t*>(&a) + at, 8);
        std::memcpy(&right, reinterpret_cast<const uint8_t*>(&b) + at, 8);
        difference |= left ^ right;
    }
    static_assert(sizeof(Cell) % 8 == 4);
    return (difference | (a.more ^ b.more)) == 0;
}

}  // namespace

bool WarpState::check_span(const Op& op, int lane, const Place& place, uint64_t address, size_t bytes, bool writes, uint32_t operation,
                           bool atomic) {
    if (!launch_.options.check_races || place.segment->is_read_only) return true;
    AccessKind kind;
    kind.async_proxy = true;
    kind.atomic = atomic;
    if (atomic) kind.scope = AccessKind::Scope::Gpu;
    const auto slowly = [&](uint64_t from, uint64_t to) {
        Place part = place;
        part.offset = from;
        return check(op, lane, part, address + (from - place.offset), static_cast<unsigned>(to - from), writes, false, kind,
                     &launch_.operations[operation], operation);
    };
    const uint64_t end = place.offset + bytes;
    const uint64_t first = std::min((place.offset + 3) / 4 * 4, end), last = std::max(first, end / 4 * 4);
    if (first > place.offset && !slowly(place.offset, first)) return false;

    Shadow& shadow = launch_.shadow_of(*place.segment);
    Record mine;
    mine.warp = serial_;
    mine.time = operation;
    mine.lanes = LaneMask{1} << lane;
    mine.what = op.number << Record::kOpShift | (writes ? Record::kWrite : 0) | Record::kAsync | Record::kProxy | Record::kBytes;
    Verdicts verdicts;
    const auto is_behind = [&](const Record& old) {
        return verdicts.fine(old, [&](const Record& record) {
            bool unfinished = false;
            return is_before(record, lane, &unfinished) && is_proxied(record, lane, place.is_shared);
        });
    };
    const auto cluster_of = [&](const Record& record) { return record.warp / launch_.warps_per_cluster; };
    // True if the cell is done.
    const auto quickly = [&](Cell& cell) {
        if (!is_behind(cell.write)) return false;
        if (writes) {
            if (!is_behind(cell.read)) return false;
            if (cell.more != 0) {
                for (uint32_t at = cell.more; at != 0; at = shadow.link(at).next) {
                    if (!is_behind(shadow.link(at).record)) return false;
                }
                shadow.prune(cell, [](const Record&) { return true; });
            }
            cell.write = mine;
            cell.read = {};
            return true;
        }
        if (cell.more == 0 && is_behind(cell.read)) {
            cell.read = mine;
            return true;
        }
        // Readers beside readers. Of what many blocks read, two of different clusters are remembered (warp_races.cpp).
        if (cell.read.bytes() != Record::kBytes || cell.read.is(Record::kAtomic)) return false;
        bool is_seen_elsewhere = false;
        for (uint32_t at = cell.more; at != 0; at = shadow.link(at).next) {
            const Record& old = shadow.link(at).record;
            if (old.is(Record::kWrite)) return false;
            is_seen_elsewhere |= old.bytes() == Record::kBytes && !old.is(Record::kAtomic) && cluster_of(old) != cluster_of(cell.read);
        }
        if (!place.is_shared) return is_seen_elsewhere;
        if (cell.more != 0) shadow.prune(cell, is_behind);
        if (is_behind(cell.read)) {
            cell.read = mine;
        } else {
            shadow.push(cell, mine);
        }
        return true;
    };
    // What a cell becomes depends on the cell alone: equal ones become equal.
    Cell before, after;
    bool is_known = false;
    for (uint64_t word = first / 4; word < last / 4;) {
        size_t count = 0;
        Cell* const cells = shadow.cells(word, &count);
        count = std::min<size_t>(count, last / 4 - word);
        for (size_t i = 0; i < count; ++i) {
            if (is_known && is_equal(cells[i], before)) {
                cells[i] = after;
                continue;
            }
            const Cell old = cells[i];
            if ((atomic || !quickly(cells[i])) && !slowly((word + i) * 4, (word + i) * 4 + 4)) return false;
            if (old.more != 0 || cells[i].more != 0) continue;
            before = old;
            after = cells[i];
            is_known = true;
        }
        word += count;
    }
    return last == end || slowly(last, end);
}

/// The latest write of the map in this launch: that of the first of its words that has one.
static Record map_write(Shadow& shadow, uint64_t offset, size_t bytes) {
    Record write;
    for (uint64_t word = offset / 4; word < (offset + bytes) / 4; ++word) {
        const Record& here = shadow.cell(word).write;
        if (here.lanes != 0) write = here;
    }
    return write;
}

static bool is_same(const Record& a, const Record& b) {
    return a.warp == b.warp && a.time == b.time && a.lanes == b.lanes && a.what == b.what;
}

bool WarpState::check_tensor_map(const Op& op, int lane, const Place& place, uint64_t address, unsigned bytes) {
    if (launch_.options.check_races && !place.segment->is_read_only) {
        if (!check(op, lane, place, address, bytes, false, false, {})) return false;
        const Record write = map_write(launch_.shadow_of(*place.segment), place.offset, bytes);
        if (write.lanes != 0) {
            bool is_acquired = false;
            for (const TensorMapUse& use : launch_.tensor_map_uses[address]) {
                const bool is_own =
                    use.cluster == block_.cluster.serial && use.component == component_ && use.lane == static_cast<uint32_t>(lane);
                is_acquired |=
                    is_same(use.write, write) && (is_own || knows(lane, use.cluster, use.component, LaneMask{1} << use.lane, use.time));
            }
            if (!is_acquired) {
                fault(Fault::Kind::MissingProxyFence, op, lane,
                      fmt::format("the tensor map at {:#x} was written by {}: no fence.proxy.tensormap::generic.acquire of it between",
                                  address, record_text(write)));
                return false;
            }
        }
    }
    return is_written(op, lane, place, bytes);
}

void WarpState::acquire_tensor_map(int lane, const Place& place) {
    if (!launch_.options.check_races || place.segment->is_read_only) return;
    TensorMapUse use;
    use.cluster = block_.cluster.serial;
    use.component = component_;
    use.lane = static_cast<uint32_t>(lane);
    use.time = time_;
    use.write = map_write(launch_.shadow_of(*place.segment), place.offset, sizeof(TensorMap));
    // A fence that does not know of the write acquires nothing.
    bool unfinished = false;
    if (use.write.lanes == 0 || !is_before(use.write, lane, &unfinished)) return;
    auto& uses = launch_.tensor_map_uses[place.segment->base + place.offset];
    std::erase_if(uses, [&](const TensorMapUse& old) { return !is_same(old.write, use.write); });
    uses.push_back(use);
}

}  // namespace flexemu

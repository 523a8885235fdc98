// Which tiles of an axis a block visits: of the keys, or in a backward pass of the queries.
//
// A lane asks for the state of one tile, so a warp knows 32 tiles after one evaluation, as two masks of bits: which to visit, and which of these
// are full. Where more than 32 tiles are left the lanes first ask for groups of 32 each, so 65536 positions without work, in tiles of 64, cost one evaluation.
// The state of a group is that of one big tile, which is sound: a big tile is only skipped if all in it is masked.
//
// Every warp of a block finds the same answers for itself; that is cheaper than telling the others.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/hooks.h"

namespace flexgpu {

/// A tile to visit: its first position, with bit 0 set if no mask needs evaluating; negative if there is none. Tiles are multiples of 16 positions.
struct Visit {
    int32_t code = -1;
    [[nodiscard]] FLEX_DEVICE bool exists() const { return code >= 0; }
    [[nodiscard]] FLEX_DEVICE bool is_full() const { return (code & 1) != 0; }
    [[nodiscard]] FLEX_DEVICE int32_t first() const { return code & ~1; }
};

/// `Tile` positions a tile. An Axis says where it ends, how long it is (the same unless split), and the state of positions [lo, hi]:
///   here()        all of it, for this block; asked for rarely
///   anywhere()    end() and length() of it
template <int32_t Tile>
class Walk {
public:
    FLEX_DEVICE explicit Walk(int32_t first) : next_(first / Tile) {}

    template <class Axis>
    FLEX_DEVICE Visit next(const Axis& axis) {
        if (flex_hook_properties() & kNoMask) {
            const auto bounds = axis.anywhere();
            if (next_ * Tile >= bounds.end()) return {};
            const int32_t first = next_++ * Tile;
            return {first | int32_t(first + Tile <= bounds.length())};
        }
        if (visit_ == 0) ask(axis.here());
        if (visit_ == 0) return {};
        const int32_t bit = __builtin_ctz(visit_);
        visit_ &= visit_ - 1;
        return {(next_ - kGroup + bit) * Tile | int32_t(full_ >> bit & 1)};
    }

private:
    /// Finds the next group that has tiles to visit. Groups are first asked as big tiles, from the one that is next, and then the first that
    /// may have something tile by tile.
    template <class Here>
    FLEX_DEVICE void ask(const Here& here) {
        const int32_t end = ceil_div(here.end(), Tile), lane = thread_index() % 32;
        bool promising = false;
        while (visit_ == 0 && next_ < end) {
            const bool single = promising || end - next_ <= kGroup;
            const int32_t span = single ? 1 : kGroup;
            const int32_t tile = next_ + lane * span, inside = min(tile, end - 1);
            const int32_t lo = inside * Tile, hi = min(min(inside + span, end) * Tile, here.length()) - 1;
            const int32_t state = here.state(lo, hi);
            const uint32_t some = ballot(tile < end && state != FLEX_TILE_SKIP);
            if (single) {
                visit_ = some;
                full_ = ballot(state == FLEX_TILE_FULL && lo + Tile <= here.length());
                next_ += kGroup;
            } else {
                next_ += kGroup * (some ? __builtin_ctz(some) : 32);
            }
            promising = !single && some != 0;
        }
    }

    static constexpr int32_t kGroup = 32;
    int32_t next_;  // the tile, or the first of the group of tiles, that follows what is known
    uint32_t visit_ = 0, full_ = 0;
};

}  // namespace flexgpu

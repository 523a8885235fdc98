// Which tiles of keys a block visits.
//
// A lane asks for the state of one tile, so a warp knows 32 tiles after one evaluation, as two masks of bits: which to visit, and which of these
// are full. For more than 32 tiles the lanes first ask for groups of 32 each, so 32768 keys in tiles of 32 without work cost one evaluation.
// The state of a group is that of one big tile, which is sound: a big tile is only skipped if all in it is masked.
//
// Every warp of a block finds the same answers for itself; that is cheaper than telling the others.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/shape.h"

namespace flexgpu {

/// What the rows of a block have in common.
struct Block {
    const flex_gpu_launch* launch;
    uint32_t properties;
    int32_t b, h0, pack;  // heads h0 .. h0 + pack - 1
    int32_t q_lo, q_hi;   // inclusive
    int32_t row0;         // row r of the tile has head h0 + (row0 + r) % pack and query (row0 + r) / pack
    int32_t queries, keys;
    [[nodiscard]] FLEX_DEVICE bool has(uint32_t property) const { return (properties & property) != 0; }
};

FLEX_DEVICE int32_t tile_state(const Block& block, int32_t k_lo, int32_t k_hi) {
    if (!block.has(kMaskByHead)) return flex_hook_tile_state(block.launch, block.b, block.h0, block.q_lo, block.q_hi, k_lo, k_hi);
    bool none = true, all = true;
    FLEX_ROLLED
    for (int32_t h = block.h0; h < block.h0 + block.pack; h++) {
        const int32_t state = flex_hook_tile_state(block.launch, block.b, h, block.q_lo, block.q_hi, k_lo, k_hi);
        none &= state == FLEX_TILE_SKIP;
        all &= state == FLEX_TILE_FULL;
    }
    return none ? FLEX_TILE_SKIP : all ? FLEX_TILE_FULL : FLEX_TILE_PARTIAL;
}

/// A tile to visit: its first key, with bit 0 set if no mask needs evaluating; negative if there is none. Tiles are multiples of 16 keys.
struct Visit {
    int32_t code;
    [[nodiscard]] FLEX_DEVICE bool exists() const { return code >= 0; }
    [[nodiscard]] FLEX_DEVICE bool is_full() const { return (code & 1) != 0; }
    [[nodiscard]] FLEX_DEVICE int32_t key() const { return code & ~1; }
};

class TileWalk {
public:
    /// Over the tiles that begin in [first_key, end_key).
    FLEX_DEVICE TileWalk(const Block& block, int32_t first_key, int32_t end_key) {
        const int32_t first = first_key / kTileK;
        end_ = ceil_div(end_key, kTileK);
        group_ = first;
        region_ = first - kRegion;
        if (!block.has(kNoMask) && end_ > first && end_ - first <= kGroup) {
            region_ = first;
            groups_ = 1;
        }
    }

    FLEX_DEVICE Visit next(const Block& block, int32_t lane) {
        if (block.has(kNoMask)) {
            if (group_ >= end_) return {-1};
            const int32_t key = group_++ * kTileK;
            return {key | int32_t(key + kTileK <= block.keys)};
        }
        while (visit_ == 0) {
            const bool tiles = groups_ != 0;
            int32_t base, span;
            if (tiles) {
                base = group_ = region_ + kGroup * __builtin_ctz(groups_);
                groups_ &= groups_ - 1;
                span = 1;
            } else {
                region_ += kRegion;
                if (region_ >= end_) return {-1};
                base = region_;
                span = kGroup;
            }
            const int32_t tile = base + lane * span;
            const int32_t from = min(tile, end_ - 1), to = min(from + span, end_);
            const int32_t k_lo = from * kTileK, k_hi = min(to * kTileK, block.keys) - 1;
            const int32_t state = tile_state(block, k_lo, k_hi);
            const uint32_t some = ballot(tile < end_ && state != FLEX_TILE_SKIP);
            if (tiles) {
                visit_ = some;
                full_ = ballot(state == FLEX_TILE_FULL && k_lo + kTileK <= block.keys);
            } else {
                groups_ = some;
            }
        }
        const int32_t bit = __builtin_ctz(visit_);
        visit_ &= visit_ - 1;
        return {(group_ + bit) * kTileK | int32_t(full_ >> bit & 1)};
    }

private:
    static constexpr int32_t kGroup = 32, kRegion = 32 * kGroup;
    int32_t end_;          // tiles
    int32_t group_;        // first tile of the group whose masks these are
    int32_t region_;       // first tile of the region whose groups these are
    uint32_t groups_ = 0;  // not yet asked for their tiles
    uint32_t visit_ = 0, full_ = 0;
};

}  // namespace flexgpu

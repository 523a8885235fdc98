// Which tiles of keys a block visits.
//
// A lane asks for the state of one tile, so a warp knows 32 tiles after one evaluation, as two masks of bits: which to visit, and which of these
// are full. Where more than 32 tiles are left the lanes first ask for groups of 32 each, so 65536 keys without work, in tiles of 64, cost one evaluation.
// The state of a group is that of one big tile, which is sound: a big tile is only skipped if all in it is masked.
//
// Every warp of a block finds the same answers for itself; that is cheaper than telling the others.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/shape.h"

namespace flexgpu {

/// What the rows of a block have in common. It follows from the number of the block; where it is needed rarely it is found anew, since
/// registers are worth more than divisions.
struct Block {
    const flex_gpu_launch* launch;
    uint32_t properties;
    int32_t b, h0, pack;  // heads h0 .. h0 + pack - 1
    int32_t row0;         // row r of the tile has head h0 + (row0 + r) % pack and query (row0 + r) / pack
    int32_t q_lo, q_hi;   // inclusive
    int32_t queries, keys;

    FLEX_DEVICE Block(const flex_gpu_launch* l, int32_t x) : launch(l), properties(flex_hook_properties()), pack(opaque(l->pack)) {
        queries = flex_hook_extent(launch, kExtentQ);
        keys = flex_hook_extent(launch, kExtentK);
        const int32_t groups = flex_hook_extent(launch, kExtentH) / pack, tiles = ceil_div(queries * pack, kTileQ);
        // Tiles of one head are neighbours in time, so that its keys stay in the cache; the last, which have most work in causal masks, come first.
        row0 = (tiles - 1 - x % tiles) * kTileQ;
        h0 = x / tiles % groups * pack;
        b = x / tiles / groups;
        q_lo = row0 / pack;
        q_hi = min((row0 + kTileQ - 1) / pack, queries - 1);
    }
    [[nodiscard]] FLEX_DEVICE bool has(uint32_t property) const { return (properties & property) != 0; }
    [[nodiscard]] FLEX_DEVICE int32_t head(int32_t r) const { return h0 + (row0 + r) % pack; }
    [[nodiscard]] FLEX_DEVICE int32_t query(int32_t r) const { return (row0 + r) / pack; }
    [[nodiscard]] FLEX_DEVICE int32_t kv_head() const {
        return h0 / (flex_hook_extent(launch, kExtentH) / flex_hook_extent(launch, kExtentHkv));
    }
    /// Splits are whole tiles, so keys beyond the end of one split but the last exist.
    [[nodiscard]] FLEX_DEVICE int32_t first_key() const { return launch->splits > 1 ? block_y() * launch->split_keys : 0; }
    [[nodiscard]] FLEX_DEVICE int32_t end_key() const {
        return launch->splits > 1 ? min((block_y() + 1) * launch->split_keys, keys) : keys;
    }
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
    int32_t code = -1;
    [[nodiscard]] FLEX_DEVICE bool exists() const { return code >= 0; }
    [[nodiscard]] FLEX_DEVICE bool is_full() const { return (code & 1) != 0; }
    [[nodiscard]] FLEX_DEVICE int32_t key() const { return code & ~1; }
};

class TileWalk {
public:
    FLEX_DEVICE explicit TileWalk(const Block& block) : next_(block.first_key() / kTileK) {}

    FLEX_DEVICE Visit next(const flex_gpu_launch* launch) {
        if (flex_hook_properties() & kNoMask) {
            const Block block(launch, 0);
            if (next_ * kTileK >= block.end_key()) return {};
            const int32_t key = next_++ * kTileK;
            return {key | int32_t(key + kTileK <= block.keys)};
        }
        if (visit_ == 0) ask(Block(launch, opaque(block_x())));
        if (visit_ == 0) return {};
        const int32_t bit = __builtin_ctz(visit_);
        visit_ &= visit_ - 1;
        return {(next_ - kGroup + bit) * kTileK | int32_t(full_ >> bit & 1)};
    }

private:
    /// Finds the next group that has tiles to visit. Groups are first asked as big tiles, from the one that is next, and then the first that
    /// may have something tile by tile.
    FLEX_DEVICE void ask(const Block& block) {
        const int32_t end = ceil_div(block.end_key(), kTileK), lane = thread_index() % 32;
        bool promising = false;
        while (visit_ == 0 && next_ < end) {
            const bool single = promising || end - next_ <= kGroup;
            const int32_t span = single ? 1 : kGroup;
            const int32_t tile = next_ + lane * span, inside = min(tile, end - 1);
            const int32_t k_lo = inside * kTileK, k_hi = min(min(inside + span, end) * kTileK, block.keys) - 1;
            const int32_t state = tile_state(block, k_lo, k_hi);
            const uint32_t some = ballot(tile < end && state != FLEX_TILE_SKIP);
            if (single) {
                visit_ = some;
                full_ = ballot(state == FLEX_TILE_FULL && k_lo + kTileK <= block.keys);
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

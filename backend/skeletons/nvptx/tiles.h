// The rows of a block of the attention kernel, and its walk over the keys.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/walk.h"

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
        find_queries();
    }
    FLEX_DEVICE Block(const flex_gpu_launch* l, int32_t first_row, int32_t first_head, int32_t batch)
        : launch(l), properties(flex_hook_properties()), b(batch), h0(first_head), pack(opaque(l->pack)), row0(first_row) {
        queries = flex_hook_extent(launch, kExtentQ);
        keys = flex_hook_extent(launch, kExtentK);
        find_queries();
    }
    [[nodiscard]] FLEX_DEVICE bool has(uint32_t property) const { return (properties & property) != 0; }
    [[nodiscard]] FLEX_DEVICE int32_t head(int32_t r) const { return h0 + (row0 + r) % pack; }
    [[nodiscard]] FLEX_DEVICE int32_t query(int32_t r) const { return (row0 + r) / pack; }
    [[nodiscard]] FLEX_DEVICE int32_t kv_head() const {
        return h0 / (flex_hook_extent(launch, kExtentH) / flex_hook_extent(launch, kExtentHkv));
    }
    /// Splits are whole tiles, so keys beyond the end of one split but the last exist.
    [[nodiscard]] FLEX_DEVICE int32_t first_key(int32_t split) const { return launch->splits > 1 ? split * launch->split_keys : 0; }
    [[nodiscard]] FLEX_DEVICE int32_t end_key(int32_t split) const {
        return launch->splits > 1 ? min((split + 1) * launch->split_keys, keys) : keys;
    }

private:
    FLEX_DEVICE void find_queries() {
        q_lo = row0 / pack;
        q_hi = min((row0 + kTileQ - 1) / pack, queries - 1);
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

/// The keys that a block of rows walks over.
struct KeysOfBlock {
    const flex_gpu_launch* launch;

    struct Here {
        Block block;
        [[nodiscard]] FLEX_DEVICE int32_t end() const { return block.end_key(block_y()); }
        [[nodiscard]] FLEX_DEVICE int32_t length() const { return block.keys; }
        [[nodiscard]] FLEX_DEVICE int32_t state(int32_t lo, int32_t hi) const { return tile_state(block, lo, hi); }
    };
    [[nodiscard]] FLEX_DEVICE Here here() const { return {Block(launch, opaque(block_x()))}; }
    [[nodiscard]] FLEX_DEVICE Here anywhere() const { return {Block(launch, 0)}; }
};

class TileWalk : public Walk<kTileK> {
public:
    FLEX_DEVICE explicit TileWalk(const Block& block) : Walk(block.first_key(block_y())) {}
    FLEX_DEVICE Visit next(const flex_gpu_launch* launch) { return Walk::next(KeysOfBlock{launch}); }
};

}  // namespace flexgpu

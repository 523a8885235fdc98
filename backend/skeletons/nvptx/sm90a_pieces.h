// Pieces of work, and how the producer tells the consumers of them.
//
// A piece is a tile of rows of one batch and group of packed heads, and one split of its keys. Blocks stay until no piece is left and take them in order. The order
// is made for two things. Blocks that run at the same time should want the same K and V: heads come in sections whose K and V the second-level cache holds. And
// the last pieces should be short: in a section tiles go from the last, where causal work is longest, to the first, over all heads of the section.
//
// Records. The producer writes a record of each piece into a ring of four, in shared memory, and publishes it with the piece's Q:
//
//   row0, h0, b, split   what it is
//   kind                 kEnd: there is nothing more. kCareful: see below. kHasTiles: Q, K and V come; else the rows attend to no key
//   suspicious           set by consumers: some result is NaN where the sum of weights is not
//   note                 careful.h
//
// The codes of a piece's tiles come with its K, one a stage: Visit::code, and kLastTile.
//
// Before the producer writes record j it waits until all consumers are done with piece j - 2; so neither record j - 1 nor j - 2 is overwritten. If j - 2 was
// suspicious, j is the same piece once more, carefully: V is copied and cleaned by all threads of the producer, results are written by the consumers'
// own stores, and patched. The pipelines never stop for it.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/sm90a_async.h"
#include "backend/skeletons/nvptx/tiles.h"

namespace flexgpu {

constexpr int32_t kLastTile = 2;  // of a code
enum PieceKind { kEnd = 1, kCareful = 2, kHasTiles = 4 };

FLEX_DEVICE uint32_t record_address(uint32_t shared, int32_t number) {
    return shared + uint32_t(kRecordsAt + (number & 3) * 32);
}
/// Consumers may be done with two pieces before the producer asks, so neighbours have barriers of their own.
FLEX_DEVICE uint32_t done_barrier(uint32_t shared, int32_t number) {
    return shared + uint32_t(kDone + (number & 1) * 8);
}
constexpr uint32_t kKindAt = 16, kSuspiciousAt = 20, kNoteOfRecordAt = 24;

struct Piece {
    int32_t row0, h0, b, split;

    static FLEX_DEVICE Piece load(uint32_t record) {
        const Words4 w = load_shared4(record);
        return {int32_t(w.w[0]), int32_t(w.w[1]), int32_t(w.w[2]), int32_t(w.w[3])};
    }
    FLEX_DEVICE void store(uint32_t record) const { store_shared4(record, {{uint32_t(row0), uint32_t(h0), uint32_t(b), uint32_t(split)}}); }
    [[nodiscard]] FLEX_DEVICE Block block(const flex_gpu_launch* launch) const { return {launch, row0, h0, b}; }

    /// The piece of this number.
    static FLEX_DEVICE Piece numbered(const flex_gpu_launch* launch, int32_t number) {
        constexpr float kSectionBytes = 32e6f;
        const int32_t pack = launch->pack, kv_heads = flex_hook_extent(launch, kExtentHkv);
        const int32_t groups = flex_hook_extent(launch, kExtentH) / pack, all = groups * flex_hook_extent(launch, kExtentB);
        const int32_t tiles = ceil_div(flex_hook_extent(launch, kExtentQ) * pack, kTileQ);
        const float bytes = float(flex_hook_extent(launch, kExtentK)) *
                            float((flex_hook_extent(launch, kExtentD) + flex_hook_extent(launch, kExtentDv)) * kBytes);
        const int32_t fit = int32_t(kSectionBytes * reciprocal_approximately(max(bytes, 1.0f)));  // KV heads
        const int32_t section = min(max(1, min(fit, all)) * max(1, groups / kv_heads), all);

        const int32_t split = number % launch->splits, x = number / launch->splits;
        const int32_t begin = x / (section * tiles) * section, y = x - begin * tiles, heads = min(section, all - begin);
        const int32_t head = begin + y % heads;
        return {(tiles - 1 - y / heads) * kTileQ, head % groups * pack, head / groups, split};
    }
};

/// The keys that a piece walks over, for walk.h.
struct KeysOfPiece {
    const flex_gpu_launch* launch;
    uint32_t record;

    struct Here {
        Block block;
        int32_t split;
        [[nodiscard]] FLEX_DEVICE int32_t end() const { return block.end_key(split); }
        [[nodiscard]] FLEX_DEVICE int32_t length() const { return block.keys; }
        [[nodiscard]] FLEX_DEVICE int32_t state(int32_t lo, int32_t hi) const { return tile_state(block, lo, hi); }
    };
    [[nodiscard]] FLEX_DEVICE Here here() const {
        const Piece piece = Piece::load(record);
        return {piece.block(launch), piece.split};
    }
    [[nodiscard]] FLEX_DEVICE Here anywhere() const { return here(); }
};

}  // namespace flexgpu

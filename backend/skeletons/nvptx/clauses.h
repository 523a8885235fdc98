// From products to scores: where the hooks of a variant are called.
//
// A thread has kRows rows, of which the other lanes of its group of four hold other columns. What the hooks know of a row (its index, head, slots) would take
// kRows times as many registers as needed, so each lane keeps one row's and the four exchange them by shuffles when a tile needs them.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/place.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/tiles.h"

namespace flexgpu {

/// A row as the hooks see it.
struct Row {
    int32_t h, q;
    float scale;
    RowState state;
};

/// The row t % kRows of this thread. The lanes of a row would all hold the same, so each keeps one of its rows and asks its neighbours for the others.
FLEX_DEVICE Row own_row(const Block& block, const Place& place) {
    Row row;
    const int32_t r = place.row(place.t % kRows);
    row.h = block.head(r);
    row.q = min(block.query(r), block.queries - 1);
    flex_hook_row(block.launch, block.b, row.h, row.q, &row.state);
    // One value for all rows is asked for once.
    row.scale = block.has(kDefaultScale) ? flex_hook_scale(block.launch, block.b, block.h0, block.q_lo)
                                         : flex_hook_scale(block.launch, block.b, row.h, row.q);
    return row;
}

/// All rows of this thread. `now`: anything that is new (from_quad).
struct Rows {
    Row row[kRows];
    FLEX_DEVICE Rows(const Block& block, const Row& own, int32_t now) {
        FLEX_UNROLL
        for (int32_t i = 0; i < kRows; i++) {
            row[i].h = int32_t(from_quad(uint32_t(own.h), i, now));
            row[i].q = int32_t(from_quad(uint32_t(own.q), i, now));
            row[i].scale = block.has(kDefaultScale) ? own.scale : from_quad(own.scale, i, now);
            FLEX_UNROLL
            for (int32_t j = 0; j < kRowSlots; j++) row[i].state.slot[j] = from_quad(own.state.slot[j], i, now);
        }
    }
};

/// A thread's part of the scores: mma.h says which.
using Scores = float[kM][kN][4];

/// Calls f(element, i, offset) for each score of the thread: i is its row, offset its key relative to the thread's first. Rows change fastest, so that what
/// depends on k alone is computed once for them.
template <class F>
FLEX_DEVICE void each_score(Scores& s, F&& f) {
    FLEX_UNROLL
    for (int32_t n = 0; n < kN; n++) {
        FLEX_UNROLL
        for (int32_t c = 0; c < 2; c++) {
            FLEX_UNROLL
            for (int32_t i = 0; i < kRows; i++) f(s[i / 2][n][i % 2 * 2 + c], i, n * 8 + c);
        }
    }
}

/// A bit for each key of a thread in a tile.
using KeepBits = decltype([] {
    if constexpr (2 * kN <= 32)
        return uint32_t();
    else
        return uint64_t();
}());

/// The keys of a thread by number, and back: pairs, eight apart.
FLEX_DEVICE int32_t offset_of(int32_t column) {
    return column / 2 * 8 + column % 2;
}
FLEX_DEVICE int32_t column_of(int32_t offset) {
    return offset / 8 * 2 + offset % 2;
}

/// Products to scores: scale and score clause, then -inf for what the mask hides. Each pass begins with a key that the compiler takes for a new one,
/// or it would keep what it has computed of 16 keys for the next pass.
FLEX_DEVICE void apply_clauses(Scores& s, const Block& block, const Row& own, Visit tile) {
    const Place place;
    const int32_t first = tile.first() + place.slice() * kWarpKeys + place.t * 2, last = block.keys - 1;
    // A clause that is long (hooks.h) is written down once for the keys of a tile and not once for each; its scores then wait in local memory.
    if (!(block.has(kPlainScore) && block.has(kDefaultScale))) {
        const Rows rows(block, own, tile.code);
        const auto score = [&](float x, int32_t i, int32_t offset) {
            const Row& row = rows.row[i];
            return flex_hook_score(block.launch, &row.state, block.b, row.h, row.q, min(first + offset, last), x * row.scale);
        };
        if (block.has(kLongScore)) {
            float waiting[2 * kN][kRows];
            each_score(s, [&](float& x, int32_t i, int32_t offset) { waiting[column_of(offset)][i] = x; });
            FLEX_ROLLED
            for (int32_t j = 0; j < 2 * kN; j++) {
                FLEX_UNROLL
                for (int32_t i = 0; i < kRows; i++) waiting[j][i] = score(waiting[j][i], i, offset_of(j));
            }
            each_score(s, [&](float& x, int32_t i, int32_t offset) { x = waiting[column_of(offset)][i]; });
        } else {
            each_score(s, [&](float& x, int32_t i, int32_t offset) { x = score(x, i, offset); });
        }
    }
    if (tile.is_full()) return;
    if (!block.has(kNoMask)) {
        const int32_t key = opaque(first);
        const Rows rows(block, own, key);
        const auto mask = [&](int32_t i, int32_t offset) {
            const Row& row = rows.row[i];
            return flex_hook_mask(block.launch, &row.state, block.b, row.h, row.q, min(key + offset, last));
        };
        if (block.has(kLongMask)) {
            static_assert(2 * kN <= 64);
            KeepBits keep[kRows] = {};
            FLEX_ROLLED
            for (int32_t j = 0; j < 2 * kN; j++) {
                FLEX_UNROLL
                for (int32_t i = 0; i < kRows; i++) keep[i] |= KeepBits(mask(i, offset_of(j))) << j;
            }
            each_score(s, [&](float& x, int32_t i, int32_t offset) { x = keep[i] >> column_of(offset) & 1 ? x : -kInf; });
        } else {
            each_score(s, [&](float& x, int32_t i, int32_t offset) { x = mask(i, offset) ? x : -kInf; });
        }
    }
    if (tile.first() + kTileK > block.keys) {
        const int32_t key = opaque(first);
        each_score(s, [&](float& x, int32_t, int32_t offset) { x = key + offset <= last ? x : -kInf; });
    }
}

}  // namespace flexgpu

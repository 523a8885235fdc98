// A block of queries and its walk over the keys, as _rows and _queries have it: one head, queries [q0, q0 + kTileQ), a warp has 16 kMQ of them.
#pragma once

#include "backend/skeletons/nvptx/backward_shape.h"
#include "backend/skeletons/nvptx/backward_step.h"
#include "backend/skeletons/nvptx/copy.h"
#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/walk.h"

namespace flexgpu {

constexpr int32_t kRowsQ = 2 * kMQ;  // queries that one thread holds a part of

/// Found anew where it is needed rarely, as in the forward kernel.
struct QueryBlock {
    int32_t b, h, q0, queries, keys;
    FLEX_DEVICE explicit QueryBlock(const flex_gpu_launch* launch) {
        const int32_t x = opaque(block_x()), heads = flex_hook_extent(launch, kExtentH);
        queries = flex_hook_extent(launch, kExtentQ);
        keys = flex_hook_extent(launch, kExtentK);
        const int32_t tiles = ceil_div(queries, kTileQ);
        // The last tiles have most work in causal masks, and come first.
        q0 = (tiles - 1 - x % tiles) * kTileQ;
        h = x / tiles % heads;
        b = x / tiles / heads;
    }
};

struct KeysOfQueries {
    const flex_gpu_launch* launch;

    struct Here {
        const flex_gpu_launch* launch;
        QueryBlock block;
        [[nodiscard]] FLEX_DEVICE int32_t end() const { return block.keys; }
        [[nodiscard]] FLEX_DEVICE int32_t length() const { return block.keys; }
        [[nodiscard]] FLEX_DEVICE int32_t state(int32_t lo, int32_t hi) const {
            return flex_hook_tile_state(launch, block.b, block.h, block.q0, min(block.q0 + kTileQ, block.queries) - 1, lo, hi);
        }
    };
    struct Length {
        int32_t keys;
        [[nodiscard]] FLEX_DEVICE int32_t end() const { return keys; }
        [[nodiscard]] FLEX_DEVICE int32_t length() const { return keys; }
    };
    [[nodiscard]] FLEX_DEVICE Here here() const { return {launch, QueryBlock(launch)}; }
    [[nodiscard]] FLEX_DEVICE Length anywhere() const { return {flex_hook_extent(launch, kExtentK)}; }
};

/// A query as its rows of the tile see it.
struct QueryRow {
    int32_t q;
    float scale, m, weight, delta;
    RowState state;
};

/// The elements of a tile: rows are queries, columns are keys. The lanes of a row would all hold the same of it, so each keeps the row t % kRowsQ and asks
/// its neighbours, once a tile, for the others.
struct QueriesByKeys {
    int32_t b, h, first, length;  // first: key of the thread's first column; length: K
    QueryRow row[kRowsQ];

    FLEX_DEVICE QueriesByKeys(const QueryBlock& block, const QueryRow& own, int32_t tile, int32_t now)
        : b(block.b), h(block.h), first(tile + thread_index() % 4 * 2), length(block.keys) {
        FLEX_UNROLL
        for (int32_t i = 0; i < kRowsQ; i++) {
            row[i].q = int32_t(from_quad(uint32_t(own.q), i, now));
            row[i].scale = has(kDefaultScale) ? own.scale : from_quad(own.scale, i, now);
            row[i].m = from_quad(own.m, i, now);
            row[i].weight = from_quad(own.weight, i, now);
            row[i].delta = from_quad(own.delta, i, now);
            FLEX_UNROLL
            for (int32_t j = 0; j < kRowSlots; j++) row[i].state.slot[j] = from_quad(own.state.slot[j], i, now);
        }
    }
    struct Column {
        const QueriesByKeys* all;
        int32_t k;
        [[nodiscard]] FLEX_DEVICE Pair pair(int32_t i) const {
            const QueryRow& row = all->row[i];
            return {&row.state, row.q, k, row.scale, row.m, row.weight, row.delta};
        }
    };
    [[nodiscard]] FLEX_DEVICE Column column(int32_t j, int32_t) const { return {this, min(first + offset_of(j), length - 1)}; }
    [[nodiscard]] FLEX_DEVICE bool exists(int32_t, int32_t j) const { return first + offset_of(j) < length; }
};

/// Of this thread, number i: its query may be beyond the end.
FLEX_DEVICE int32_t query_of(const QueryBlock& block, int32_t i) {
    const int32_t thread = thread_index();
    return block.q0 + thread / 32 * 16 * kMQ + i * 8 + thread % 32 / 4;
}

/// The row t % kRowsQ of this thread, without what _rows has found out about it.
FLEX_DEVICE QueryRow own_query(const flex_gpu_launch* launch, const QueryBlock& block) {
    QueryRow row{};
    row.q = min(query_of(block, thread_index() % 4 % kRowsQ), block.queries - 1);
    flex_hook_row(launch, block.b, block.h, row.q, &row.state);
    row.scale = has(kDefaultScale) ? flex_hook_scale(launch, block.b, block.h, block.q0) : flex_hook_scale(launch, block.b, block.h, row.q);
    return row;
}

FLEX_DEVICE int32_t kv_head_of(const flex_gpu_launch* launch, int32_t h) {
    return h / (flex_hook_extent(launch, kExtentH) / flex_hook_extent(launch, kExtentHkv));
}

/// Rows [first, first + Rows) of one head of a view to shared memory; those from `end` on are zeros.
template <int32_t Rows, int32_t RowBytes, int32_t Threads>
FLEX_DEVICE void load_rows(uint32_t to, const flex_gpu_view& view, int32_t b, int32_t h, int32_t columns, int32_t first, int32_t end,
                           bool aligned) {
    const Source source{row_address(view, b, h, 0, kBytes), view.row_stride * kBytes, columns};
    const int32_t thread = thread_index();
    __builtin_assume(thread < Threads);
    copy_rows<Rows, RowBytes, Threads>(to, source, first, end, thread, aligned);
}

}  // namespace flexgpu

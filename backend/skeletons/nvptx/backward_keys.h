// _keys: dk and dv of a block of keys, which walks over the queries of all heads that share it. Rows of its products are keys:
//
//     S^T = K Q^T      dP^T = V dO^T      P^T and dX^T of backward_step.h      dV += P^T dO      dK += dX^T (scale Q)
//
// K and V of the block stay in shared memory; Q, dO and the facts of their rows come together in tiles, the next while this one is multiplied. P^T and
// dX^T are left operands without leaving their registers. Where dK and dV of 16 keys are more than a thread can hold (kSplit = 2), the two warps of a
// stripe compute one half of the queries each, exchange the fragments through shared memory as they are, and own one half of the columns each.
//
// Heads come one after the other, the last tile of one being multiplied while the first of the next travels. Batches that share K or V do too, but K and
// V are loaded again, so that either may be shared without the other.
#pragma once

#include "backend/skeletons/nvptx/backward_atomic.h"
#include "backend/skeletons/nvptx/backward_block.h"
#include "backend/skeletons/nvptx/backward_products.h"
#include "backend/skeletons/nvptx/backward_results.h"
#include "backend/skeletons/nvptx/backward_shape.h"
#include "backend/skeletons/nvptx/backward_step.h"
#include "backend/skeletons/nvptx/gradients.h"

namespace flexgpu {

constexpr int32_t kRowsK = 2 * kMK;                            // keys that one thread holds a part of
constexpr int32_t kPartQ = kWalkQ / kSplit;                    // queries of a tile whose weights one warp computes
constexpr int32_t kPieceQ = kMK == 2 || !kHalf ? 16 : kPartQ;  // and those whose weights it has at once
constexpr int32_t kPieceSteps = kPieceQ / kStepKeys;           // steps of the sums across them
constexpr int32_t kPartD = kD / kSplit, kPartDv = kDv / kSplit;

/// A block of keys; found anew where it is needed rarely.
struct KeyBlock {
    int32_t hkv, run, k0, queries, keys;
    FLEX_DEVICE explicit KeyBlock(const flex_gpu_launch* launch) {
        const int32_t x = opaque(block_x()), heads = flex_hook_extent(launch, kExtentHkv);
        queries = flex_hook_extent(launch, kExtentQ);
        keys = flex_hook_extent(launch, kExtentK);
        const int32_t tiles = ceil_div(keys, kTileK);
        // The first tiles have most work in causal masks.
        k0 = x % tiles * kTileK;
        hkv = x / tiles % heads;
        run = x / tiles / heads;
    }
};

/// The queries of one head that meet a block of keys.
struct QueriesOfKeys {
    const flex_gpu_launch* launch;
    int32_t b, h;

    struct Here {
        const flex_gpu_launch* launch;
        int32_t b, h;
        KeyBlock block;
        [[nodiscard]] FLEX_DEVICE bool is_whole() const { return block.k0 + kTileK <= block.keys; }
        [[nodiscard]] FLEX_DEVICE int32_t end() const { return block.queries; }
        [[nodiscard]] FLEX_DEVICE int32_t length() const { return block.queries; }
        [[nodiscard]] FLEX_DEVICE int32_t state(int32_t lo, int32_t hi) const {
            const int32_t state = flex_hook_tile_state(launch, b, h, lo, hi, block.k0, min(block.k0 + kTileK, block.keys) - 1);
            return state == FLEX_TILE_FULL && !is_whole() ? int32_t(FLEX_TILE_PARTIAL) : state;
        }
    };
    /// No tile is full where keys are missing.
    struct Length {
        int32_t queries, whole;
        [[nodiscard]] FLEX_DEVICE int32_t end() const { return queries; }
        [[nodiscard]] FLEX_DEVICE int32_t length() const { return whole; }
    };
    [[nodiscard]] FLEX_DEVICE Here here() const { return {launch, b, h, KeyBlock(launch)}; }
    [[nodiscard]] FLEX_DEVICE Length anywhere() const {
        const KeyBlock block(launch);
        return {block.queries, block.k0 + kTileK <= block.keys ? block.queries : 0};
    }
};

/// A tile of queries of head h.
struct HeadVisit {
    int32_t h;
    Visit tile;
};

struct HeadWalk {
    QueriesOfKeys axis;
    int32_t end;  // of the heads
    Walk<kWalkQ> walk{0};

    FLEX_DEVICE HeadVisit next() {
        for (;;) {
            const Visit tile = walk.next(axis);
            if (tile.exists()) return {axis.h, tile};
            if (axis.h + 1 >= end) return {axis.h, tile};
            axis.h++;
            walk = Walk<kWalkQ>(0);
        }
    }
};

/// x of lane `lane`. `now`: from_quad.
FLEX_DEVICE uint32_t from_lane(uint32_t x, int32_t lane, int32_t now) {
    uint32_t r;
    asm("{ // %3\n\tshfl.sync.idx.b32 %0, %1, %2, 31, 0xffffffff; }" : "=r"(r) : "r"(x), "r"(lane), "r"(now));
    return r;
}
/// Two neighbouring floats in shared memory, once a `now` and not once a use.
struct Floats2 {
    float x[2];
};
FLEX_DEVICE Floats2 load_facts(uint32_t address, int32_t now) {
    Floats2 v;
    asm("{ // %3\n\tld.shared.v2.f32 {%0, %1}, [%2]; }" : "=f"(v.x[0]), "=f"(v.x[1]) : "r"(address), "r"(now));
    return v;
}

/// What a lane knows of one query, that of its number.
struct ColumnQuery {
    float scale;
    RowState state;
};
FLEX_DEVICE ColumnQuery own_column(const flex_gpu_launch* launch, int32_t b, int32_t h, int32_t first, int32_t queries) {
    ColumnQuery column{};
    const int32_t q = min(first + thread_index() % kPartQ, queries - 1);
    flex_hook_row(launch, b, h, q, &column.state);
    column.scale = has(kDefaultScale) ? flex_hook_scale(launch, b, h, 0) : flex_hook_scale(launch, b, h, q);
    return column;
}

/// The elements of a tile: rows are keys, columns are queries. Lane l keeps what is known of query l, and tells the others; M, WEIGHT and DELTA are in shared memory.
struct KeysByQueries {
    int32_t b, h, first, queries, first_key, keys;  // first, first_key: of this thread
    uint32_t facts;                                 // of its first column
    int32_t lane;                                   // that knows the first column
    const ColumnQuery* own;

    struct Column {
        const KeysByQueries* all;
        int32_t q;
        float scale, m, weight, delta;
        RowState state;
        [[nodiscard]] FLEX_DEVICE Pair pair(int32_t i) const {
            return {&state, q, min(all->first_key + i * 8, all->keys - 1), scale, m, weight, delta};
        }
    };
    [[nodiscard]] FLEX_DEVICE Column column(int32_t j, int32_t now) const {
        Column c;
        const int32_t from = lane + offset_of(j);
        c.all = this;
        c.q = min(first + offset_of(j), queries - 1);
        c.scale = has(kDefaultScale) ? own->scale : float_of(from_lane(bits_of(own->scale), from, now));
        const uint32_t at = facts + uint32_t(j / 2 * 32);
        c.m = load_facts(at, now).x[j % 2];
        c.weight = load_facts(at + uint32_t(kWalkQ * 4), now).x[j % 2];
        c.delta = load_facts(at + uint32_t(kWalkQ * 8), now).x[j % 2];
        FLEX_UNROLL
        for (int32_t slot = 0; slot < kRowSlots; slot++) c.state.slot[slot] = from_lane(own->state.slot[slot], from, now);
        return c;
    }
    [[nodiscard]] FLEX_DEVICE bool exists(int32_t i, int32_t j) const { return first + offset_of(j) < queries && first_key + i * 8 < keys; }
};

/// Gradients of captured tensors on the way. Sums by key and by head live as long as a head; those by row as long as a column.
struct Captured {
    const flex_gpu_launch* launch;
    int32_t b, h;
    float sum[kSummedReads][kRowsK];

    FLEX_DEVICE explicit Captured(const flex_gpu_launch* l) : launch(l), b(0), h(0) { clear(); }
    FLEX_DEVICE void clear() {
        FLEX_UNROLL
        for (int32_t r = 0; r < kSummedReads; r++) {
            FLEX_UNROLL
            for (int32_t i = 0; i < kRowsK; i++) sum[r][i] = 0;
        }
    }
    FLEX_DEVICE void add(int32_t i, const Pair& pair, float x, float ds, bool attends) {
        FLEX_UNROLL
        for (int32_t r = 0; r < kSummedReads; r++) {
            if (r >= flex_hook_summed_count()) continue;
            const float term = ds * flex_hook_summed_adjoint(launch, pair.state, b, h, pair.q, pair.k, x, r);
            sum[r][i] += attends ? term : 0.0f;
        }
        if (flex_hook_has_scatter() && attends) flex_hook_scatter(launch, pair.state, b, h, pair.q, pair.k, x, ds);
    }
    /// One column has been added, by all keys of the warp.
    FLEX_DEVICE void column(const Pair& pair) {
        FLEX_UNROLL
        for (int32_t r = 0; r < kSummedReads; r++) {
            if (r >= flex_hook_summed_count() || flex_hook_summed_kind(r) != kSummedByRow) continue;
            float total = sum[r][0];
            FLEX_UNROLL
            for (int32_t i = 1; i < kRowsK; i++) total += sum[r][i];
            FLEX_UNROLL
            for (int32_t i = 0; i < kRowsK; i++) sum[r][i] = 0;
            total += from_lane_xor(total, 4);
            total += from_lane_xor(total, 8);
            total += from_lane_xor(total, 16);
            if (thread_index() % 32 / 4 == 0 && total != 0) flex_hook_add_summed(launch, b, h, pair.q, pair.k, r, total);
        }
    }
    /// The head is done. first_key: of this thread.
    FLEX_DEVICE void flush(int32_t first_key, int32_t keys) {
        FLEX_UNROLL
        for (int32_t r = 0; r < kSummedReads; r++) {
            if (r >= flex_hook_summed_count()) continue;
            const int32_t lane = thread_index() % 32;
            if (flex_hook_summed_kind(r) == kSummedByKey) {
                FLEX_UNROLL
                for (int32_t i = 0; i < kRowsK; i++) {
                    float total = sum[r][i];
                    total += from_lane_xor(total, 1);
                    total += from_lane_xor(total, 2);
                    const int32_t k = first_key + i * 8;
                    if (lane % 4 == 0 && k < keys && total != 0) flex_hook_add_summed(launch, b, h, 0, k, r, total);
                }
            } else if (flex_hook_summed_kind(r) == kSummedByHead) {
                float total = sum[r][0];
                FLEX_UNROLL
                for (int32_t i = 1; i < kRowsK; i++) total += sum[r][i];
                FLEX_UNROLL
                for (int32_t bits = 1; bits < 32; bits *= 2) total += from_lane_xor(total, bits);
                if (lane == 0 && total != 0) flex_hook_add_summed(launch, b, h, 0, min(first_key, keys - 1), r, total);
            }
        }
        clear();
    }
};

/// This warp: its stripe of keys, and its part of the queries and columns.
FLEX_DEVICE int32_t stripe_row() {
    return thread_index() / 32 / kSplit * 16 * kMK;
}
FLEX_DEVICE int32_t part() {
    return kSplit == 1 ? 0 : thread_index() / 32 % kSplit;
}

/// c += W^T B for one step of queries, of which row 0 of B is `row`.
template <int32_t RowBytes, bool Careful, int32_t N>
FLEX_DEVICE void multiply_step(float (&c)[kMK][N][4], const Words4 (&words)[kMK], uint32_t b, int32_t row) {
    const int32_t chunk = part() * (N * 8 * kBytes / 16);
    if constexpr (Careful)
        multiply_carefully<RowBytes>(c, words, b, row, chunk);
    else
        multiply_across<RowBytes>(c, words, b, row, chunk);
}

/// c += W^T B over a piece of the queries of a tile, of which row 0 of B is the first. With kSplit > 1 over all of them; of some this warp has the weights.
template <int32_t RowBytes, bool Careful, int32_t N>
FLEX_DEVICE void multiply_queries(float (&c)[kMK][N][4], const float (&w)[kMK][kPieceQ / 8][4], uint32_t b, uint32_t exchange) {
    const uint32_t lane = uint32_t(thread_index() % 32 * 16);
    const auto place = [&](int32_t m, int32_t step) {
        return exchange + uint32_t(((stripe_row() / 16 + m) * (kSplit * kPieceSteps) + step) * 512) + lane;
    };
    if constexpr (kSplit > 1) {
        block_barrier();
        FLEX_UNROLL
        for (int32_t step = 0; step < kPieceSteps; step++) {
            FLEX_UNROLL
            for (int32_t m = 0; m < kMK; m++) store_shared4(place(m, part() * kPieceSteps + step), operand_of(w, m, step));
        }
        block_barrier();
    }
    FLEX_UNROLL
    for (int32_t step = 0; step < kSplit * kPieceSteps; step++) {
        Words4 words[kMK];
        FLEX_UNROLL
        for (int32_t m = 0; m < kMK; m++) {
            if constexpr (kSplit > 1)
                words[m] = load_shared4(place(m, step));
            else
                words[m] = operand_of(w, m, step);
        }
        multiply_step<RowBytes, Careful>(c, words, b, step * kStepKeys);
    }
}

/// The choice is of the whole product, so that its steps can overlap.
template <int32_t RowBytes, int32_t N>
FLEX_DEVICE void multiply_queries(float (&c)[kMK][N][4], const float (&w)[kMK][kPieceQ / 8][4], uint32_t b, uint32_t exchange,
                                  bool careful) {
    if (careful)
        multiply_queries<RowBytes, true>(c, w, b, exchange);
    else
        multiply_queries<RowBytes, false>(c, w, b, exchange);
}

/// Derivatives times the scales of their queries, where these differ.
template <int32_t M, int32_t N>
FLEX_DEVICE void scale_columns(float (&dx)[M][N][4], const ColumnQuery& own, int32_t lane, int32_t now) {
    if (has(kDefaultScale)) return;
    FLEX_UNROLL
    for (int32_t j = 0; j < 2 * N; j++) {
        const float scale = float_of(from_lane(bits_of(own.scale), lane + offset_of(j), now));
        FLEX_UNROLL
        for (int32_t i = 0; i < 2 * M; i++) {
            float& x = dx[i / 2][j / 2][i % 2 * 2 + j % 2];
            x = bits_of(x) == 0x80000000u ? x : fma(x, scale, 0.0f);
        }
    }
}

FLEX_DEVICE void copy_async4(uint32_t to, uint64_t from, bool exists) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(exists ? 4 : 0) : "memory");
}

/// A tile of queries to a stage of the ring: Q, dO, and the facts of the rows. Rows that do not exist have weight 0.
FLEX_DEVICE void load_queries(uint32_t stage, const flex_gpu_backward* backward, int32_t b, HeadVisit visit) {
    const flex_gpu_launch* launch = &backward->launch;
    if (visit.tile.exists()) {
        const int32_t first = visit.tile.first(), queries = flex_hook_extent(launch, kExtentQ);
        const int32_t d = flex_hook_extent(launch, kExtentD), dv = flex_hook_extent(launch, kExtentDv);
        const bool aligned = launch->aligned != 0;
        load_rows<kWalkQ, kQRowBytes, kThreadsK>(stage, launch->q, b, visit.h, d, first, queries, aligned);
        load_rows<kWalkQ, kVRowBytes, kThreadsK>(stage + uint32_t(kWalkQ * kQRowBytes), backward->d_o, b, visit.h, dv, first, queries,
                                                 aligned);
        const RowPlanes planes(backward, b, visit.h);
        static_assert(FLEX_GPU_ROW_M == 0 && FLEX_GPU_ROW_WEIGHT == 1 && FLEX_GPU_ROW_DELTA == 2);
        FLEX_UNROLL
        for (int32_t i = 0; i < kRowFacts * kWalkQ; i += kThreadsK) {
            const int32_t fact = i + thread_index(), q = first + fact % kWalkQ;
            if (fact < kRowFacts * kWalkQ)
                copy_async4(stage + uint32_t(kFactsAt + fact * 4), planes.address(fact / kWalkQ, min(q, queries - 1)), q < queries);
        }
    }
    copies_commit();
}

/// Whether the facts of a query of this tile are not finite; lane l looks at query l.
FLEX_DEVICE bool is_row_bad(uint32_t facts) {
    bool bad = false;
    FLEX_UNROLL
    for (int32_t i = 0; i < kRowFacts; i++)
        bad |= !is_finite(float_of(uint32_t(load_shared(facts + uint32_t((i * kWalkQ + thread_index() % kWalkQ) * 4)))));
    return bad;
}

template <bool Atomic>
FLEX_DEVICE void keys(const flex_gpu_backward* backward) {
    const flex_gpu_launch* launch = &backward->launch;
    const uint32_t shared = shared_base(), v_tile = shared + uint32_t(kTileK * kQRowBytes), ring = shared + uint32_t(kResidentK);
    const int32_t group = flex_hook_extent(launch, kExtentH) / flex_hook_extent(launch, kExtentHkv);
    const bool is_shared = backward->k_shared != 0 || backward->v_shared != 0;
    int32_t b = is_shared ? 0 : KeyBlock(launch).run;
    const int32_t b_end = is_shared ? flex_hook_extent(launch, kExtentB) : b + 1;

    Fragments<kMK, kPartD / 8> dk;
    Fragments<kMK, kPartDv / 8> dv;
    clear(dk);
    clear(dv);
    Captured captured(launch);
    FLEX_ROLLED
    for (; b < b_end; b++) {
        HeadWalk walk{{launch, b, KeyBlock(launch).hkv * group}, (KeyBlock(launch).hkv + 1) * group};
        block_barrier();
        {
            const KeyBlock block(launch);
            const bool aligned = launch->aligned != 0;
            load_rows<kTileK, kQRowBytes, kThreadsK>(shared, launch->k, b, block.hkv, flex_hook_extent(launch, kExtentD), block.k0,
                                                     block.keys, aligned);
            load_rows<kTileK, kVRowBytes, kThreadsK>(v_tile, launch->v, b, block.hkv, flex_hook_extent(launch, kExtentDv), block.k0,
                                                     block.keys, aligned);
        }
        uint32_t stage = ring;
        HeadVisit visit = walk.next();
        load_queries(stage, backward, b, visit);
        while (visit.tile.exists()) {
            const HeadVisit coming = walk.next();
            const Visit tile = visit.tile;
            copies_wait<0>();
            block_barrier();
            const uint32_t next = kTilingK.stages == 1 ? ring : ring + ring + uint32_t(kStageBytesK) - stage;
            if constexpr (kTilingK.stages == 2) load_queries(next, backward, b, coming);

            const int32_t queries = flex_hook_extent(launch, kExtentQ), own_first = tile.first() + part() * kPartQ;
            const uint32_t q_tile = stage, do_tile = stage + uint32_t(kWalkQ * kQRowBytes), facts = stage + uint32_t(kFactsAt);
            const ColumnQuery own = own_column(launch, b, visit.h, own_first, queries);
            const bool row_is_bad = is_row_bad(facts);
            captured.b = b;
            captured.h = visit.h;
            FLEX_ROLLED
            for (int32_t piece = 0; piece < kPartQ; piece += kPieceQ) {
                const int32_t at = part() * kPartQ + piece, now = opaque(tile.code);
                Fragments<kMK, kPieceQ / 8> s, dp;
                multiply_along<kQRowBytes, true>(s, shared, stripe_row(), q_tile + uint32_t(at * kQRowBytes));
                multiply_along<kVRowBytes, true>(dp, v_tile, stripe_row(), do_tile + uint32_t(at * kVRowBytes));
                const bool bad = row_is_bad || is_any_not_finite(s, dp);
                const bool careful = kSplit == 1 ? warp_any(bad) : block_any(bad);
                const int32_t t = thread_index() % 4, lane = piece + t * 2;
                {
                    const KeyBlock block(launch);
                    const KeysByQueries axis{b,
                                             visit.h,
                                             tile.first() + at + t * 2,
                                             queries,
                                             block.k0 + stripe_row() + thread_index() % 32 / 4,
                                             block.keys,
                                             facts + uint32_t((at + t * 2) * 4),
                                             lane,
                                             &own};
                    const uint32_t hidden = tile.is_full() ? 0 : hidden_pairs<kMK, kPieceQ / 8>(launch, axis, opaque(now));
                    derive<!Atomic>(s, dp, hidden, careful, backward, axis, now, captured);
                }
                // Of a stripe that is split the product is over all queries.
                const int32_t row = kSplit == 1 ? piece : 0;
                multiply_queries<kVRowBytes>(dv, s, do_tile + uint32_t(row * kVRowBytes), shared + uint32_t(kExchangeAt), careful);
                if constexpr (Atomic) {
                    add_to_dq(backward, b, visit.h, tile.first() + at, dp, shared, stripe_row(), careful);
                    scale_columns(dp, own, lane, now);
                }
                multiply_queries<kQRowBytes>(dk, dp, q_tile + uint32_t(row * kQRowBytes), shared + uint32_t(kExchangeAt), careful);
            }

            if (flex_hook_summed_count() > 0 && (coming.h != visit.h || !coming.tile.exists())) {
                const KeyBlock block(launch);
                captured.flush(block.k0 + stripe_row() + thread_index() % 32 / 4, block.keys);
            }
            if constexpr (kTilingK.stages == 1) {
                block_barrier();
                load_queries(next, backward, b, coming);
            }
            visit = coming;
            stage = next;
        }
        copies_wait<0>();

        const KeyBlock block(launch);
        const int32_t row = block.k0 + stripe_row() + thread_index() % 32 / 4;
        if (!backward->k_shared || b + 1 == b_end) {
            const float scale = has(kDefaultScale) ? flex_hook_scale(launch, b, block.hkv * group, 0) : 1.0f;
            store_rows(dk, backward->dk, b, block.hkv, row, block.keys, part() * kPartD, flex_hook_extent(launch, kExtentD),
                       [&](int32_t) { return scale; });
            clear(dk);
        }
        if (!backward->v_shared || b + 1 == b_end) {
            store_rows(dv, backward->dv, b, block.hkv, row, block.keys, part() * kPartDv, flex_hook_extent(launch, kExtentDv),
                       [&](int32_t) { return 1.0f; });
            clear(dv);
        }
    }
}

}  // namespace flexgpu

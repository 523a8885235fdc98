// _queries: dq of a block of queries, as the forward kernel walks them.
//
//     S = Q K^T      dP = dO V^T      dX of backward_step.h      dQ += dX K      dq = scale dQ
//
// Q and dO of the block stay in shared memory; K and V of a tile come together, the next while this one is multiplied: one barrier a tile. dX is
// the left operand of the third product without leaving its registers, as P is in the forward kernel.
#pragma once

#include "backend/skeletons/nvptx/backward_block.h"
#include "backend/skeletons/nvptx/backward_products.h"
#include "backend/skeletons/nvptx/backward_results.h"
#include "backend/skeletons/nvptx/backward_shape.h"
#include "backend/skeletons/nvptx/backward_step.h"
#include "backend/skeletons/nvptx/gradients.h"

namespace flexgpu {

constexpr int32_t kPieceK = kMQ == 2 ? 16 : kWalkK;  // keys of a tile whose scores a warp has at once

/// Sums of |ds * adjoint| of each of a thread's rows, by gradient. What is not finite is no part of a sum (gradients.h).
struct Bounds {
    const flex_gpu_launch* launch;
    int32_t b, h;
    float sum[kRowsQ][kMostGradients];

    FLEX_DEVICE Bounds(const flex_gpu_launch* l, const QueryBlock& block) : launch(l), b(block.b), h(block.h) {
        FLEX_UNROLL
        for (int32_t i = 0; i < kRowsQ; i++) {
            FLEX_UNROLL
            for (int32_t j = 0; j < kMostGradients; j++) sum[i][j] = 0;
        }
    }
    FLEX_DEVICE void add(int32_t i, const float (&terms)[kMostGradients]) {
        FLEX_UNROLL
        for (int32_t j = 0; j < kMostGradients; j++)
            if (j < flex_hook_gradient_count()) sum[i][j] += is_finite(terms[j]) ? terms[j] : 0.0f;
    }
    FLEX_DEVICE void add(int32_t i, const Pair& pair, float x, float ds, bool attends) {
        if (flex_hook_gradient_count() == 0) return;
        float terms[kMostGradients] = {};
        flex_hook_bounds(launch, pair.state, b, h, pair.q, pair.k, x, ds, terms);
        // Of pairs that do not attend ds is 0, but an adjoint may be anything.
        FLEX_UNROLL
        for (int32_t j = 0; j < kMostGradients; j++) terms[j] = attends ? terms[j] : 0.0f;
        add(i, terms);
    }
    FLEX_DEVICE void column(const Pair&) {}
};

/// dq += dX K for a piece of the keys.
template <bool Careful>
FLEX_DEVICE void multiply_keys(float (&dq)[kMQ][kD / 8][4], const float (&dx)[kMQ][kPieceK / 8][4], uint32_t k_rows) {
    FLEX_UNROLL
    for (int32_t step = 0; step < kPieceK / kStepKeys; step++) {
        Words4 w[kMQ];
        FLEX_UNROLL
        for (int32_t m = 0; m < kMQ; m++) w[m] = operand_of(dx, m, step);
        if constexpr (Careful)
            multiply_carefully<kQRowBytes>(dq, w, k_rows, step * kStepKeys, 0);
        else
            multiply_across<kQRowBytes>(dq, w, k_rows, step * kStepKeys, 0);
    }
}

FLEX_DEVICE void queries(const flex_gpu_backward* backward) {
    const flex_gpu_launch* launch = &backward->launch;
    const uint32_t shared = shared_base(), d_o = shared + uint32_t(kTileQ * kQRowBytes), ring = shared + uint32_t(kResidentQ);
    const int32_t d = flex_hook_extent(launch, kExtentD), dv = flex_hook_extent(launch, kExtentDv);
    const bool aligned = launch->aligned != 0;
    const KeysOfQueries keys{launch};
    QueryRow own;
    bool row_is_bad = false;
    {
        const QueryBlock block(launch);
        load_rows<kTileQ, kQRowBytes, kThreadsQ>(shared, launch->q, block.b, block.h, d, block.q0, block.queries, aligned);
        load_rows<kTileQ, kVRowBytes, kThreadsQ>(d_o, backward->d_o, block.b, block.h, dv, block.q0, block.queries, aligned);
        own = own_query(launch, block);
        const RowPlanes planes(backward, block.b, block.h);
        own.m = planes.load(FLEX_GPU_ROW_M, own.q);
        own.weight = planes.load(FLEX_GPU_ROW_WEIGHT, own.q);
        own.delta = planes.load(FLEX_GPU_ROW_DELTA, own.q);
        row_is_bad = !is_finite(own.m) || !is_finite(own.weight) || !is_finite(own.delta);
    }
    const auto load_tile = [&](uint32_t slot, Visit tile) {
        if (tile.exists()) {
            const QueryBlock block(launch);
            const int32_t hkv = kv_head_of(launch, block.h);
            load_rows<kWalkK, kQRowBytes, kThreadsQ>(slot, launch->k, block.b, hkv, d, tile.first(), block.keys, aligned);
            load_rows<kWalkK, kVRowBytes, kThreadsQ>(slot + uint32_t(kWalkK * kQRowBytes), launch->v, block.b, hkv, dv, tile.first(),
                                                     block.keys, aligned);
        }
        copies_commit();
    };

    Fragments<kMQ, kD / 8> dq;
    clear(dq);
    Bounds bounds(launch, QueryBlock(launch));
    Walk<kWalkK> walk(0);
    Visit tile = walk.next(keys);
    uint32_t slot = ring;
    load_tile(slot, tile);
    while (tile.exists()) {
        const Visit coming = walk.next(keys);
        copies_wait<0>();
        block_barrier();
        const uint32_t next = kTilingQ.stages == 1 ? ring : ring + ring + uint32_t(kStageBytesQ) - slot;
        if constexpr (kTilingQ.stages == 2) load_tile(next, coming);

        const int32_t row = thread_index() / 32 * 16 * kMQ;
        FLEX_ROLLED
        for (int32_t piece = 0; piece < kWalkK; piece += kPieceK) {
            Fragments<kMQ, kPieceK / 8> s, dp;
            const uint32_t k_rows = slot + uint32_t(piece * kQRowBytes), v_rows = slot + uint32_t(kWalkK * kQRowBytes + piece * kVRowBytes);
            multiply_along<kQRowBytes, false>(s, shared, row, k_rows);
            multiply_along<kVRowBytes, false>(dp, d_o, row, v_rows);
            const bool careful = warp_any(row_is_bad || is_any_not_finite(s, dp));
            {
                const int32_t now = opaque(tile.code);
                const QueriesByKeys axis(QueryBlock(launch), own, tile.first() + piece, now);
                const uint32_t hidden = tile.is_full() ? 0 : hidden_pairs<kMQ, kPieceK / 8>(launch, axis, now);
                derive<false>(s, dp, hidden, careful, backward, axis, now, bounds);
            }
            if (careful)
                multiply_keys<true>(dq, dp, k_rows);
            else
                multiply_keys<false>(dq, dp, k_rows);
        }
        if constexpr (kTilingQ.stages == 1) {
            block_barrier();
            load_tile(next, coming);
        }
        tile = coming;
        slot = next;
    }
    copies_wait<0>();

    const QueryBlock block(launch);
    const QueriesByKeys rows(block, own, 0, opaque(0));
    store_rows(dq, backward->dq, block.b, block.h, query_of(block, 0), block.queries, 0, d, [&](int32_t i) { return rows.row[i].scale; });
    if (flex_hook_gradient_count() == 0) return;

    if (flex_hook_has_scale_gradient()) {
        // The sum over k of dX (q . k) is q . (dX K).
        block_barrier();  // Q is there even if no tile was
        FLEX_UNROLL
        for (int32_t i = 0; i < kRowsQ; i++) {
            float d_scale = 0;
            FLEX_UNROLL
            for (int32_t n = 0; n < kD / 8; n++) {
                FLEX_UNROLL
                for (int32_t e = 0; e < 2; e++) {
                    const int32_t column = result_column(n, e);
                    const uint32_t at =
                        Swizzle<kQRowBytes>::offset(query_of(block, i) - block.q0, column * kBytes / 16) + uint32_t(column * kBytes % 16);
                    d_scale = fma(element_value(load_shared_element(shared + at)), dq[i / 2][n][i % 2 * 2 + e], d_scale);
                }
            }
            d_scale += from_lane_xor(d_scale, 1);
            d_scale += from_lane_xor(d_scale, 2);
            const int32_t q = query_of(block, i);
            if (rows.row[i].weight == 0) d_scale = 0;  // no keys, whatever Q is
            float terms[kMostGradients] = {};
            flex_hook_bounds_scale(launch, block.b, block.h, rows.row[i].q, d_scale, terms);
            // Once a row, not once a lane.
            FLEX_UNROLL
            for (int32_t j = 0; j < kMostGradients; j++) terms[j] = thread_index() % 4 == 0 ? terms[j] : 0.0f;
            bounds.add(i, terms);
            if (q < block.queries && thread_index() % 4 == 0 && backward->d_scale != 0)
                store_global(backward->d_scale +
                                 uint64_t(((int64_t(block.b) * flex_hook_extent(launch, kExtentH) + block.h) * block.queries + q) * 4),
                             d_scale);
        }
    }
    FLEX_UNROLL
    for (int32_t j = 0; j < kMostGradients; j++) {
        if (j >= flex_hook_gradient_count()) continue;
        float most = 0;
        FLEX_UNROLL
        for (int32_t i = 0; i < kRowsQ; i++) {
            float sum = bounds.sum[i][j];
            sum += from_lane_xor(sum, 1);
            sum += from_lane_xor(sum, 2);
            if (query_of(block, i) < block.queries) most = max(most, sum);
        }
        most = max(most, from_lane_xor(most, 4));
        most = max(most, from_lane_xor(most, 8));
        most = max(most, from_lane_xor(most, 16));
        if (thread_index() % 32 == 0 && most > 0) raise(flex_hook_gradient(launch, j)->bound, most);
    }
}

}  // namespace flexgpu

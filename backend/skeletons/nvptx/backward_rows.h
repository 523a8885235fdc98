// _rows: what the other kernels want of each row (flex_gpu_row_plane).
//
// delta = dO . O - dlse, eight lanes a row. Where |lse| is large, f32 holds it with an error that exp would show; a block with such a row computes its
// scores again and takes the greatest and the sum of each row instead, as it does for PEAK.
#pragma once

#include "backend/skeletons/nvptx/backward_block.h"
#include "backend/skeletons/nvptx/backward_products.h"
#include "backend/skeletons/nvptx/backward_shape.h"
#include "backend/skeletons/nvptx/backward_step.h"

namespace flexgpu {

constexpr float kLargeLse = 64.0f;

/// dO . O of a row by the eight lanes that are neighbours; every one has the result.
FLEX_DEVICE float dot_of_row(uint64_t a, uint64_t b, int32_t columns, bool aligned) {
    float sum = 0;
    const int32_t lane = thread_index() % 8;
    if (aligned) {
        constexpr int32_t kUnit = 16 / kBytes;
        typedef Bits Vector __attribute__((ext_vector_type(kUnit)));
        FLEX_ROLLED
        for (int32_t i = lane * kUnit; i < columns; i += 8 * kUnit) {
            const auto x = load_global<Vector>(a + uint64_t(i * kBytes)), y = load_global<Vector>(b + uint64_t(i * kBytes));
            FLEX_UNROLL
            for (int32_t j = 0; j < kUnit; j++) sum = fma(element_value(x[j]), element_value(y[j]), sum);
        }
    } else {
        FLEX_ROLLED
        for (int32_t i = lane; i < columns; i += 8)
            sum = fma(element_value(load_global<Bits>(a + uint64_t(i * kBytes))),
                      element_value(load_global<Bits>(b + uint64_t(i * kBytes))), sum);
    }
    sum += from_lane_xor(sum, 1);
    sum += from_lane_xor(sum, 2);
    return sum + from_lane_xor(sum, 4);
}

/// Whether rows of a view are made of whole aligned 16-byte chunks.
FLEX_DEVICE bool is_aligned(const flex_gpu_view& view, int32_t columns) {
    return (view.data | uint64_t((view.b_stride | view.h_stride | view.row_stride | columns) * kBytes)) % 16 == 0;
}

/// The greatest score of a row, the sum of exp(score - greatest) and how many scores are the greatest, of some of its keys.
struct Peak {
    float greatest = -kInf, sum = 0, count = 0;
    FLEX_DEVICE void add(float score) {
        if (score == -kInf) return;
        const float next = max(greatest, score), base = next == -kInf ? 0.0f : next;  // of NaN alone: -inf
        sum = (greatest == -kInf ? sum : sum * exp2((greatest - base) * kLog2e)) + exp2((score - base) * kLog2e);
        count = (greatest == next ? count : 0.0f) + float(score == next);
        greatest = next;
    }
    FLEX_DEVICE void merge(int32_t lanes) {
        const float g = from_lane_xor(greatest, lanes), s = from_lane_xor(sum, lanes), c = from_lane_xor(count, lanes);
        const float next = max(greatest, g), base = next == -kInf ? 0.0f : next;
        const auto moved = [&](float from, float x) { return from == -kInf ? x : x * exp2((from - base) * kLog2e); };
        // In the same order in both lanes: sums are commutative.
        sum = moved(greatest, sum) + moved(g, s);
        count = (greatest == next ? count : 0.0f) + (g == next ? c : 0.0f);
        greatest = next;
    }
};

FLEX_DEVICE void scores_again(const flex_gpu_backward* backward, uint32_t shared, const QueryBlock& block) {
    const flex_gpu_launch* launch = &backward->launch;
    const bool aligned = launch->aligned != 0;
    const int32_t d = flex_hook_extent(launch, kExtentD);
    load_rows<kTileQ, kQRowBytes, kThreadsQ>(shared, launch->q, block.b, block.h, d, block.q0, block.queries, aligned);
    copies_commit();
    const QueryRow own = own_query(launch, block);
    Peak peak[kRowsQ];
    const uint32_t keys = shared + uint32_t(kTileQ * kQRowBytes);
    Walk<kWalkK> walk(0);
    FLEX_ROLLED
    for (Visit tile = walk.next(KeysOfQueries{launch}); tile.exists(); tile = walk.next(KeysOfQueries{launch})) {
        block_barrier();
        load_rows<kWalkK, kQRowBytes, kThreadsQ>(keys, launch->k, block.b, kv_head_of(launch, block.h), d, tile.first(), block.keys,
                                                 aligned);
        copies_commit();
        copies_wait<0>();
        block_barrier();
        Fragments<kMQ, kWalkK / 8> s;
        multiply_along<kQRowBytes, false>(s, shared, thread_index() / 32 * 16 * kMQ, keys);
        const QueriesByKeys axis(block, own, tile.first(), tile.code);
        const uint32_t hidden = tile.is_full() ? 0 : hidden_pairs<kMQ, kWalkK / 8>(launch, axis, opaque(tile.code));
        float waiting[kWalkK / 4][kRowsQ];
        each_element(s, [&](float& x, int32_t index) { waiting[index / kRowsQ][index % kRowsQ] = x; });
        // Rarely needed: written down once.
        FLEX_ROLLED
        for (int32_t j = 0; j < kWalkK / 4; j++) {
            const auto column = axis.column(j, 0);
            FLEX_UNROLL
            for (int32_t i = 0; i < kRowsQ; i++) {
                const bool is_hidden = (hidden >> (j * kRowsQ + i) & 1) != 0;
                const float score = score_of(launch, block.b, block.h, column.pair(i), waiting[j][i], is_hidden);
                if (!is_hidden) peak[i].add(score);
            }
        }
    }
    copies_wait<0>();
    const RowPlanes planes(backward, block.b, block.h);
    FLEX_UNROLL
    for (int32_t i = 0; i < kRowsQ; i++) {
        peak[i].merge(1);
        peak[i].merge(2);
        const int32_t q = query_of(block, i);
        if (q >= block.queries || thread_index() % 4 != 0) continue;
        const bool none = peak[i].sum == 0;
        store_global(planes.address(FLEX_GPU_ROW_M, q), peak[i].greatest == -kInf ? 0.0f : peak[i].greatest);
        store_global(planes.address(FLEX_GPU_ROW_WEIGHT, q), none ? 0.0f : reciprocal(peak[i].sum));
        if (none || backward->d_max_score.data == 0) continue;
        const float d_max = load_global<float>(row_address(backward->d_max_score, block.b, block.h, q, 4));
        store_global(planes.address(FLEX_GPU_ROW_PEAK, q), peak[i].greatest);
        store_global(planes.address(FLEX_GPU_ROW_D_PEAK, q), d_max / peak[i].count);
    }
}

FLEX_DEVICE void rows(const flex_gpu_backward* backward) {
    const flex_gpu_launch* launch = &backward->launch;
    const QueryBlock block(launch);
    const int32_t dv = flex_hook_extent(launch, kExtentDv), thread = thread_index();
    const bool aligned = is_aligned(launch->o, dv) && is_aligned(backward->d_o, dv);
    const RowPlanes planes(backward, block.b, block.h);
    bool again = backward->d_max_score.data != 0;
    FLEX_ROLLED
    for (int32_t r = thread / 8; r < kTileQ; r += kThreadsQ / 8) {
        // Lanes beyond the end repeat the last row, for the exchange between them.
        const int32_t row = block.q0 + r, q = min(row, block.queries - 1);
        float delta = dot_of_row(row_address(backward->d_o, block.b, block.h, q, kBytes),
                                 row_address(launch->o, block.b, block.h, q, kBytes), dv, aligned);
        if (row < block.queries && thread % 8 == 0) {
            const float lse = load_global<float>(row_address(launch->lse, block.b, block.h, q, 4));
            const bool none = lse == -kInf;
            if (backward->d_lse.data != 0) delta -= load_global<float>(row_address(backward->d_lse, block.b, block.h, q, 4));
            store_global(planes.address(FLEX_GPU_ROW_M, q), none ? 0.0f : lse);
            store_global(planes.address(FLEX_GPU_ROW_WEIGHT, q), none ? 0.0f : 1.0f);
            store_global(planes.address(FLEX_GPU_ROW_DELTA, q), none ? 0.0f : delta);
            store_global(planes.address(FLEX_GPU_ROW_PEAK, q), __builtin_nanf(""));
            store_global(planes.address(FLEX_GPU_ROW_D_PEAK, q), 0.0f);
            again |= !none && __builtin_fabsf(lse) > kLargeLse && __builtin_fabsf(lse) < kInf;
        }
    }
    // The barrier also orders what both parts store.
    if (block_any(again)) scores_again(backward, shared_base(), block);
}

}  // namespace flexgpu

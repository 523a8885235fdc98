// From registers to memory: weighted sums go through shared memory, where the parts of several warps meet and whole rows form, to o or to the
// partial results of a split.
#pragma once

#include "backend/skeletons/nvptx/careful.h"
#include "backend/skeletons/nvptx/combine.h"
#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/place.h"
#include "backend/skeletons/nvptx/products.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/softmax.h"
#include "backend/skeletons/nvptx/swizzle.h"
#include "backend/skeletons/nvptx/tiles.h"

namespace flexgpu {

// The staging area: parts (one a warp that divides keys), rows, columns in 16-byte chunks with the rows' swizzle; then of each part and row its
// greatest score, sum, and the factor that turns its weighted sums into means.
using StagedRows = Swizzle<kDv * 4>;
FLEX_DEVICE uint32_t staged(uint32_t shared, int32_t part, int32_t row, int32_t chunk) {
    return shared + uint32_t(part * kTileQ * kDv * 4) + StagedRows::offset(row, chunk);
}
struct StagedStatistic {
    Statistic statistic;
    float normalise;
};
FLEX_DEVICE uint32_t staged_statistic(uint32_t shared, int32_t part, int32_t row) {
    return shared + uint32_t(kWarpsK * kTileQ * kDv * 4 + (part * kTileQ + row) * 16);
}
FLEX_DEVICE StagedStatistic load_staged_statistic(uint32_t shared, int32_t part, int32_t row) {
    const Words4 v = load_shared4(staged_statistic(shared, part, row));
    return {{float_of(v.w[0]), float_of(v.w[1])}, float_of(v.w[2])};
}

/// A warp's weighted sums and statistics to the staging area. A thread has pairs of neighbouring columns, or (floats, see multiply_pv) two times four
/// of each 32.
FLEX_DEVICE void stage(uint32_t shared, const Outputs& o, const Statistic (&statistic)[kRows], const float (&normalise)[kRows]) {
    const Place place;
    FLEX_UNROLL
    for (int32_t i = 0; i < kRows; i++) {
        const int32_t row = place.row(i), c = i % 2 * 2;
        if constexpr (kHalf) {
            const uint32_t at = staged(shared, place.slice(), row, place.t / 2) + uint32_t(place.t % 2 * 8);
            FLEX_UNROLL
            for (int32_t n = 0; n < kNv; n++) store_shared2(StagedRows::step(at, n), o[i / 2][n][c], o[i / 2][n][c + 1]);
        } else {
            FLEX_UNROLL
            for (int32_t e = 0; e < 2; e++) {
                const uint32_t at = staged(shared, place.slice(), row, place.t * 2 + e);
                FLEX_UNROLL
                for (int32_t n = 0; n < kNv; n += 4) {
                    Words4 v;
                    FLEX_UNROLL
                    for (int32_t j = 0; j < 4; j++) v.w[j] = bits_of(o[i / 2][n + j][c + e]);
                    store_shared4(StagedRows::step(at, n), v);
                }
            }
        }
        if (place.t == 0)
            store_shared4(staged_statistic(shared, place.slice(), row),
                          {bits_of(statistic[i].greatest), bits_of(statistic[i].sum), bits_of(normalise[i]), 0});
    }
}

/// Results of all warps from the staging area to o, or to the partial results of a split.
FLEX_DEVICE void store_results(const Block& block, uint32_t shared, bool careful) {
    const flex_gpu_launch* launch = block.launch;
    const int32_t dv = flex_hook_extent(launch, kExtentDv), heads = flex_hook_extent(launch, kExtentH);
    const Partials partials(launch, int64_t(flex_hook_extent(launch, kExtentB)) * heads * block.queries, dv);
    const bool is_partial = launch->splits > 1, aligned = output_is_aligned(launch->o, dv);
    const auto number = [&](int32_t h, int32_t q) { return (int64_t(block.b) * heads + h) * block.queries + q; };
    FLEX_ROLLED
    for (int32_t i = thread_index(); i < kTileQ * (kDv / 4); i += kThreads) {
        const int32_t r = i / (kDv / 4), column = i % (kDv / 4) * 4;
        const int32_t h = block.head(r), q = block.query(r);
        if (q >= block.queries) break;
        if (column >= dv) continue;
        StagedStatistic part[kWarpsK];
        Statistic whole{-kInf, 0};
        FLEX_UNROLL
        for (int32_t w = 0; w < kWarpsK; w++) {
            part[w] = load_staged_statistic(shared, w, r);
            whole.greatest = max(whole.greatest, part[w].statistic.greatest);
        }
        Floats4 mean{};
        FLEX_UNROLL
        for (int32_t w = 0; w < kWarpsK; w++) {
            const Words4 v = load_shared4(staged(shared, w, r, column / 4));
            const float weight = kWarpsK == 1 ? part[w].statistic.sum : weight_of(part[w].statistic, whole.greatest);
            whole.sum += weight;
            FLEX_UNROLL
            for (int32_t j = 0; j < 4; j++) {
                const float x = float_of(v.w[j]) * part[w].normalise;
                mean.x[j] = kWarpsK == 1 ? x : mean.x[j] + weighted(weight, x);
            }
        }
        if constexpr (kWarpsK > 1) {
            FLEX_UNROLL
            for (int32_t j = 0; j < 4; j++) mean.x[j] = mean_of(mean.x[j], whole.sum);
        }
        if (is_partial) {
            typedef float Vector __attribute__((ext_vector_type(4)));
            store_global(partials.mean(block_y(), number(h, q)) + uint64_t(column * 4), Vector{mean.x[0], mean.x[1], mean.x[2], mean.x[3]});
            if (column == 0) store_statistic(partials.statistic(block_y(), number(h, q)), whole);
        } else {
            store_output(row_address(launch->o, block.b, h, q, kBytes), column, dv, aligned, mean);
            if (column == 0) store_statistics(launch, block.b, h, q, whole);
        }
    }
    if (!careful) return;
    block_barrier();
    if (is_partial)
        patch<true>(block, shared + kNoteAt, [&](int32_t, int32_t h, int32_t q) { return partials.mean(block_y(), number(h, q)); });
    else
        patch<false>(block, shared + kNoteAt, [&](int32_t, int32_t h, int32_t q) { return row_address(launch->o, block.b, h, q, kBytes); });
}

}  // namespace flexgpu

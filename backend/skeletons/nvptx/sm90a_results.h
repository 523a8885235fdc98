// From registers to memory, of one warpgroup: weighted sums to o, by way of shared memory and a tensor map where there is one, or by stores of its own; or to the
// partial results of a split.
#pragma once

#include "backend/skeletons/nvptx/careful.h"
#include "backend/skeletons/nvptx/combine.h"
#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/elements.h"
#include "backend/skeletons/nvptx/outputs.h"
#include "backend/skeletons/nvptx/place.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/sm90a_async.h"
#include "backend/skeletons/nvptx/sm90a_pieces.h"
#include "backend/skeletons/nvptx/softmax.h"
#include "backend/skeletons/nvptx/swizzle.h"

namespace flexgpu {

FLEX_DEVICE void group_barrier(int32_t group) {
    named_barrier(kBarrierOfGroup + group, kGroup);
}

/// Rounded means to the warpgroup's panels in shared memory. A store of four matrices takes 16 rows and 16 columns.
FLEX_DEVICE void stage_output(uint32_t panels, const Outputs& o) {
    const Place place;
    const int32_t lane = place.lane;
    const uint32_t at = panels + Swizzle<kPanelBytes>::offset(place.warp % 4 * 16 + lane % 8 + lane / 8 % 2 * 8, lane / 16);
    FLEX_UNROLL
    for (int32_t n = 0; n < kNv; n += 2) {
        constexpr int32_t kBlocks = kMapColumns / 8;
        const uint32_t to = (at ^ uint32_t(n % kBlocks * 16)) + uint32_t(n / kBlocks * kPanelQ);
        store_matrices(to, pack_halves(o[0][n][0], o[0][n][1]), pack_halves(o[0][n][2], o[0][n][3]),
                       pack_halves(o[0][n + 1][0], o[0][n + 1][1]), pack_halves(o[0][n + 1][2], o[0][n + 1][3]));
    }
}

/// Everything of a piece, by all consumers at once. The results are means.
FLEX_DEVICE void store_results(const flex_gpu_launch* launch, const flex_gpu_tensors* tensors, uint32_t shared, uint32_t record,
                               bool careful, Outputs& o, const Statistic (&statistic)[kRows]) {
    const Place place;
    const Piece piece = Piece::load(record);
    const Block block = piece.block(launch);
    const int32_t dv = flex_hook_extent(launch, kExtentDv), heads = flex_hook_extent(launch, kExtentH);
    const bool is_partial = launch->splits > 1;
    const Partials partials(launch, int64_t(flex_hook_extent(launch, kExtentB)) * heads * block.queries, dv);
    const auto number = [&](int32_t h, int32_t q) { return (int64_t(block.b) * heads + h) * block.queries + q; };

    const bool by_map = tensors->is_mapped != 0 && !is_partial && !careful;
    if (by_map) {
        const int32_t group = place.warp / 4;
        const uint32_t panels = shared + uint32_t(kOAt + group * kOStride);
        if (kSeparateOutput) {
            // Those of the piece before have to be out.
            if (place.thread % kGroup == 0) stores_wait_read();
            group_barrier(group);
        }
        stage_output(panels, o);
        fence_async();
        group_barrier(group);
        if (place.thread % kGroup == 0) {
            const int32_t q = (piece.row0 + group * 64) / block.pack, batch = launch->o.b_stride ? piece.b : 0;
            FLEX_UNROLL
            for (int32_t p = 0; p < kValuePanels; p++)
                if (p * kMapColumns < dv) store_box(tensors->o, p * kMapColumns, piece.h0, q, batch, panels + uint32_t(p * kPanelQ));
            stores_commit();
            if (!kSeparateOutput) stores_wait_read();
        }
        if (!kSeparateOutput) group_barrier(group);  // the next Q may come
    }
    if (careful && tensors->is_mapped != 0) {
        // The results of the first time may still be on their way.
        if (place.thread % kGroup == 0) stores_wait();
        group_barrier(place.warp / 4);
    }
    const bool pairs = output_is_aligned(launch->o, dv);
    FLEX_UNROLL
    for (int32_t i = 0; i < kRows; i++) {
        const int32_t r = place.row(i), h = block.head(r), q = block.query(r);
        if (q >= block.queries) continue;
        if (place.t == 0) {
            if (is_partial)
                store_statistic(partials.statistic(piece.split, number(h, q)), statistic[i]);
            else
                store_statistics(launch, block.b, h, q, statistic[i]);
        }
        if (by_map) continue;
        // Pairs of neighbouring columns.
        const int32_t columns = is_partial ? partials.columns : dv;
        const uint64_t row = is_partial ? partials.mean(piece.split, number(h, q)) : row_address(launch->o, block.b, h, q, kBytes);
        FLEX_UNROLL
        for (int32_t n = 0; n < kNv; n++) {
            const int32_t column = n * 8 + place.t * 2;
            if (column >= columns) break;
            const float x = o[0][n][i * 2], y = o[0][n][i * 2 + 1];
            if (is_partial) {
                store_global(row + uint64_t(column * 4), uint64_t(bits_of(x)) | uint64_t(bits_of(y)) << 32);
            } else if (pairs) {
                store_global(row + uint64_t(column * kBytes), pack_halves(x, y));
            } else {
                store_global(row + uint64_t(column * kBytes), Bits(element_bits(x)));
                if (column + 1 < columns) store_global(row + uint64_t(column * kBytes + kBytes), Bits(element_bits(y)));
            }
        }
    }
    if (!careful) return;
    named_barrier(kBarrierOfConsumers, kThreads);
    if (is_partial)
        patch<true>(block, record + kNoteOfRecordAt,
                    [&](int32_t, int32_t h, int32_t q) { return partials.mean(piece.split, number(h, q)); });
    else
        patch<false>(block, record + kNoteOfRecordAt,
                     [&](int32_t, int32_t h, int32_t q) { return row_address(launch->o, block.b, h, q, kBytes); });
}

}  // namespace flexgpu

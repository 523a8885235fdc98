// Putting partial results together: of the splits of a launch (flex_combine), and of the warps of a block that divide the keys among them.
//
// Each part i has a greatest score m_i, a sum l_i of exp(score - m_i), and a mean o_i of V under these weights. With m the greatest m_i and
// w_i = l_i exp(m_i - m), the whole has the sum w = sum of w_i and the mean sum of w_i o_i / w. Parts are added in their order, so the result is the same in every run.
//
// A part whose mean is not finite (V was inf) counts as it is even if its weight underflows: a positive weight times inf is inf.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/memory.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/softmax.h"

namespace flexgpu {

FLEX_DEVICE float weight_of(Statistic part, float greatest) {
    return part.sum * exp2((part.greatest - shown(greatest)) * kLog2e);
}
FLEX_DEVICE float weighted(float weight, float mean) {
    return is_finite(mean) ? weight * mean : mean;
}
FLEX_DEVICE float mean_of(float sum, float weights) {
    return weights == 0 ? 0.0f : sum * reciprocal(weights);
}

FLEX_DEVICE void store_statistics(const flex_gpu_launch* launch, int32_t b, int32_t h, int32_t q, Statistic whole) {
    if (launch->lse.data) {
        const float lse = whole.sum == 0 ? -kInf : fma(log2(whole.sum), kLn2, whole.greatest);
        store_global(row_address(launch->lse, b, h, q, 4), lse);
    }
    if (launch->max_score.data) store_global(row_address(launch->max_score, b, h, q, 4), is_nan(whole.sum) ? whole.sum : whole.greatest);
}

/// The partial results of a split launch (flex_gpu_launch::partial).
struct Partials {
    uint64_t means, statistics;
    int32_t columns;  // DV rounded up to 4
    int64_t rows;     // B * H * Q
    FLEX_DEVICE Partials(const flex_gpu_launch* launch, int64_t all_rows, int32_t dv)
        : means(launch->partial), columns((dv + 3) & ~3), rows(all_rows) {
        statistics = means + uint64_t(launch->splits * rows * columns * 4);
    }
    [[nodiscard]] FLEX_DEVICE uint64_t mean(int32_t split, int64_t row) const {
        return means + uint64_t((split * rows + row) * columns * 4);
    }
    [[nodiscard]] FLEX_DEVICE uint64_t statistic(int32_t split, int64_t row) const {
        return statistics + uint64_t((split * rows + row) * 8);
    }
};

FLEX_DEVICE Statistic load_statistic(uint64_t address) {
    const auto bits = load_global<uint64_t>(address);
    return {float_of(uint32_t(bits)), float_of(uint32_t(bits >> 32))};
}
FLEX_DEVICE void store_statistic(uint64_t address, Statistic value) {
    store_global(address, uint64_t(bits_of(value.greatest)) | uint64_t(bits_of(value.sum)) << 32);
}

/// One warp a row.
FLEX_DEVICE void combine(const flex_gpu_launch* launch) {
    const int32_t lane = thread_index() % 32;
    const int32_t heads = flex_hook_extent(launch, kExtentH), queries = flex_hook_extent(launch, kExtentQ);
    const int32_t dv = flex_hook_extent(launch, kExtentDv), splits = launch->splits;
    const Partials partials(launch, int64_t(flex_hook_extent(launch, kExtentB)) * heads * queries, dv);
    const int64_t row = int64_t(block_x()) * (block_threads() / 32) + thread_index() / 32;
    if (row >= partials.rows) return;

    Statistic whole{-kInf, 0};
    FLEX_ROLLED
    for (int32_t i = 0; i < splits; i++) whole.greatest = max(whole.greatest, load_global<float>(partials.statistic(i, row)));
    FLEX_ROLLED
    for (int32_t i = 0; i < splits; i++) whole.sum += weight_of(load_statistic(partials.statistic(i, row)), whole.greatest);

    const int32_t q = int32_t(row % queries), h = int32_t(row / queries % heads), b = int32_t(row / queries / heads);
    const uint64_t out = row_address(launch->o, b, h, q, kBytes);
    const bool aligned = output_is_aligned(launch->o, dv);
    FLEX_ROLLED
    for (int32_t column = lane * 4; column < dv; column += 128) {
        Floats4 sum{};
        FLEX_ROLLED
        for (int32_t i = 0; i < splits; i++) {
            const float weight = weight_of(load_statistic(partials.statistic(i, row)), whole.greatest);
            typedef float Vector __attribute__((ext_vector_type(4)));
            const auto mean = load_global<Vector>(partials.mean(i, row) + uint64_t(column * 4));
            FLEX_UNROLL
            for (int32_t j = 0; j < 4; j++) sum.x[j] += weighted(weight, mean[j]);
        }
        FLEX_UNROLL
        for (int32_t j = 0; j < 4; j++) sum.x[j] = mean_of(sum.x[j], whole.sum);
        store_output(out, column, dv, aligned, sum);
    }
    if (lane == 0) store_statistics(launch, b, h, q, whole);
}

}  // namespace flexgpu

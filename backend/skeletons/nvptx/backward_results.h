// Rows of a result from registers to memory.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/memory.h"

namespace flexgpu {

/// Column of element (n, c = 0 or 1) of a thread: pairs, or of floats four neighbours of each 32 in as many blocks (multiply_across).
FLEX_DEVICE int32_t result_column(int32_t n, int32_t c) {
    const int32_t t = thread_index() % 4;
    return kHalf ? n * 8 + t * 2 + c : n / 4 * 32 + (t * 2 + c) * 4 + n % 4;
}

/// c times `factor(row of the thread)` to the rows of a view: the thread's row i is first + 8 i, and exists below `end`. Column 0 of c is column `column0`.
template <int32_t M, int32_t N, class Factor>
FLEX_DEVICE void store_rows(const float (&c)[M][N][4], const flex_gpu_view& view, int32_t b, int32_t h, int32_t first, int32_t end,
                            int32_t column0, int32_t columns, Factor&& factor) {
    const uint64_t bits = view.data | uint64_t((view.b_stride | view.h_stride | view.row_stride | columns) * kBytes);
    const bool aligned = bits % (kHalf ? 4 : 16) == 0;
    FLEX_UNROLL
    for (int32_t i = 0; i < 2 * M; i++) {
        if (first + i * 8 >= end) continue;
        const uint64_t row = row_address(view, b, h, first + i * 8, kBytes);
        const float f = factor(i);
        FLEX_UNROLL
        for (int32_t n = 0; n < N; n += kHalf ? 1 : 4) {
            if constexpr (kHalf) {
                const int32_t column = column0 + result_column(n, 0);
                const uint32_t pair = pack_halves(c[i / 2][n][i % 2 * 2] * f, c[i / 2][n][i % 2 * 2 + 1] * f);
                const uint64_t at = row + uint64_t(column * kBytes);
                if (aligned) {
                    if (column < columns) store_global(at, pair);
                } else {
                    if (column < columns) store_global(at, Bits(pair));
                    if (column + 1 < columns) store_global(at + kBytes, Bits(pair >> 16));
                }
            } else {
                FLEX_UNROLL
                for (int32_t e = 0; e < 2; e++) {
                    const int32_t column = column0 + result_column(n, e);
                    Floats4 value;
                    FLEX_UNROLL
                    for (int32_t j = 0; j < 4; j++) value.x[j] = c[i / 2][n + j][i % 2 * 2 + e] * f;
                    if (column < columns) store_output(row, column, columns, aligned, value);
                }
            }
        }
    }
}

}  // namespace flexgpu

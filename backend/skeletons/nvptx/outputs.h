// The weighted sums of V that a thread holds a part of.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/softmax.h"

namespace flexgpu {

/// Its columns: mma.h, and multiply_pv for floats.
using Outputs = float[kM][kNv][4];

FLEX_DEVICE void clear(Outputs& o) {
    FLEX_UNROLL
    for (int32_t m = 0; m < kM; m++) {
        FLEX_UNROLL
        for (int32_t n = 0; n < kNv; n++) {
            FLEX_UNROLL
            for (int32_t e = 0; e < 4; e++) o[m][n][e] = 0;
        }
    }
}

/// Multiplies each row by its factor.
FLEX_DEVICE void scale_rows(Outputs& o, const float (&factor)[kRows]) {
    FLEX_UNROLL
    for (int32_t m = 0; m < kM; m++) {
        FLEX_UNROLL
        for (int32_t n = 0; n < kNv; n++) {
            FLEX_UNROLL
            for (int32_t e = 0; e < 4; e++) o[m][n][e] *= factor[m * 2 + e / 2];
        }
    }
}

/// Whether a row has NaN in its weighted sums and not in its weights.
FLEX_DEVICE bool is_suspicious(const Outputs& o, const Statistic (&statistic)[kRows]) {
    bool any = false;
    FLEX_UNROLL
    for (int32_t i = 0; i < kRows; i++) {
        bool bad = false;
        FLEX_UNROLL
        for (int32_t n = 0; n < kNv; n++) bad |= __builtin_isunordered(o[i / 2][n][i % 2 * 2], o[i / 2][n][i % 2 * 2 + 1]);
        any |= bad && !is_nan(statistic[i].sum);
    }
    return any;
}

}  // namespace flexgpu

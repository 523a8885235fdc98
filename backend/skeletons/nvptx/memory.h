// Rows of q, k, v, o and their gradients in global memory.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/elements.h"
#include "backend/skeletons/nvptx/types.h"
#include "runtime/gpu_abi.h"

namespace flexgpu {

FLEX_DEVICE uint64_t row_address(const flex_gpu_view& view, int32_t b, int32_t h, int32_t q, int32_t bytes) {
    return view.data + uint64_t((b * view.b_stride + h * view.h_stride + q * view.row_stride) * bytes);
}

struct Floats4 {
    float x[4];
};

/// Four neighbouring columns of a row of o.
FLEX_DEVICE void store_output(uint64_t row, int32_t column, int32_t columns, bool whole, Floats4 value) {
    if (whole) {
        const uint64_t at = row + uint64_t(column * kBytes);
        if constexpr (kHalf) {
            store_global(at, uint64_t(pack_halves(value.x[0], value.x[1])) | uint64_t(pack_halves(value.x[2], value.x[3])) << 32);
        } else {
            typedef float Vector __attribute__((ext_vector_type(4)));
            store_global(at, Vector{value.x[0], value.x[1], value.x[2], value.x[3]});
        }
        return;
    }
    FLEX_UNROLL
    for (int32_t i = 0; i < 4; i++)
        if (column + i < columns) store_global(row + uint64_t((column + i) * kBytes), Bits(element_bits(value.x[i])));
}
/// Whether rows of o can be stored four columns at a time.
FLEX_DEVICE bool output_is_aligned(const flex_gpu_view& o, int32_t columns) {
    const uint64_t bits = o.data | uint64_t((o.b_stride | o.h_stride | o.row_stride | columns) * kBytes);
    return bits % (4 * kBytes) == 0;
}

}  // namespace flexgpu

// Gradients of captured tensors: sums that do not depend on the order in which they are added up.
//
// A contribution x becomes the integer nearest to x * 2^e. With B the greatest sum of |x| over one row, which _queries has found, and N rows,
//
//     e = 61 - ceil(log2 B) - ceil(log2 N)        so   |sum of x * 2^e| <= 2^61
//
// Roundings add at most half a unit a contribution, and between _queries and _keys |x| differs by rounding only: 63 bits have room for both. What has no such
// integer (NaN, infinities, and what exceeds 2^61 because B did not foresee it) is added to the result as a float. A unit is 2^-61 B N at most 2^2 times: of
// a million rows, 2^-39 of what one row can contribute, far below the 2^-24 of an f32 result.
//
// Images that sum by floating-point atomics have no integers (flex_gpu_gradient::sums == 0): there every contribution is added as a float.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/memory.h"

namespace flexgpu {

/// Read by kernels that come after the one that writes it.
FLEX_DEVICE uint32_t load_bound(uint64_t address) {
    uint32_t bits;
    asm("ld.global.nc.b32 %0, [%1];" : "=r"(bits) : "l"(address));
    return bits;
}
FLEX_DEVICE void add_float(uint64_t address, float x) {
    asm volatile("red.global.add.f32 [%0], %1;" ::"l"(address), "f"(x) : "memory");
}
FLEX_DEVICE void add_integer(uint64_t address, int64_t x) {
    asm volatile("red.global.add.u64 [%0], %1;" ::"l"(address), "l"(x) : "memory");
}
FLEX_DEVICE void raise(uint64_t address, float x) {
    asm volatile("red.global.max.u32 [%0], %1;" ::"l"(address), "r"(bits_of(x)) : "memory");
}

FLEX_DEVICE float power_of_two(int32_t e) {
    return float_of(uint32_t(e + 127) << 23);
}
/// The least e with x <= 2^e, for x > 0.
FLEX_DEVICE int32_t ceil_log2(int64_t x) {
    return x <= 1 ? 0 : 64 - __builtin_clzll(uint64_t(x - 1));
}

/// e of a gradient.
FLEX_DEVICE int32_t fixed_point(const flex_gpu_launch* launch, const flex_gpu_gradient* gradient) {
    const int64_t rows =
        int64_t(flex_hook_extent(launch, kExtentB)) * flex_hook_extent(launch, kExtentH) * flex_hook_extent(launch, kExtentQ);
    // The exponent of the next power of two; sums that exceed all floats have K terms that do not.
    const uint32_t bound = load_bound(gradient->bound);
    const int32_t of_bound = bound >= 0x7f800000 ? 128 + ceil_log2(flex_hook_extent(launch, kExtentK)) : int32_t(bound >> 23) - 126;
    return 61 - of_bound - ceil_log2(rows);
}

FLEX_DEVICE void add_to_gradient(const flex_gpu_launch* launch, int32_t index, int64_t offset, float value) {
    const flex_gpu_gradient* gradient = flex_hook_gradient(launch, index);
    if (gradient->data == 0 || value == 0) return;
    if (gradient->sums != 0) {
        // 2^e itself may be no float; its halves are.
        const int32_t e = fixed_point(launch, gradient), half = e >> 1;
        const float scaled = value * power_of_two(half) * power_of_two(e - half);
        if (__builtin_fabsf(scaled) <= 2305843009213693952.0f) {
            int64_t integer;
            asm("cvt.rni.s64.f32 %0, %1;" : "=l"(integer) : "f"(scaled));
            add_integer(gradient->sums + uint64_t(offset * 8), integer);
            return;
        }
    }
    add_float(gradient->data + uint64_t(offset * 4), value);
}

/// One thread an element.
FLEX_DEVICE void finish(const flex_gpu_backward* backward) {
    const flex_gpu_launch* launch = &backward->launch;
    const int64_t i = int64_t(block_x()) * block_threads() + thread_index();
    const int32_t index = block_y();
    if (index < flex_hook_gradient_count()) {
        const flex_gpu_gradient* gradient = flex_hook_gradient(launch, index);
        if (gradient->data == 0 || gradient->sums == 0 || i >= gradient->count) return;
        const auto sum = load_global<int64_t>(gradient->sums + uint64_t(i * 8));
        if (sum == 0) return;
        const int32_t e = -fixed_point(launch, gradient), half = e >> 1;
        const uint64_t at = gradient->data + uint64_t(i * 4);
        store_global(at, load_global<float>(at) + float(sum) * power_of_two(half) * power_of_two(e - half));
        return;
    }
    if (backward->dq_sums == 0) return;
    const int32_t heads = flex_hook_extent(launch, kExtentH), queries = flex_hook_extent(launch, kExtentQ);
    const int32_t d = flex_hook_extent(launch, kExtentD);
    if (i >= int64_t(flex_hook_extent(launch, kExtentB)) * heads * queries * d) return;
    const int64_t row = i / d;
    const int32_t column = int32_t(i % d), q = int32_t(row % queries), h = int32_t(row / queries % heads),
                  b = int32_t(row / queries / heads);
    const float value = load_global<float>(backward->dq_sums + uint64_t(i * 4)) * flex_hook_scale(launch, b, h, q);
    store_global(row_address(backward->dq, b, h, q, kBytes) + uint64_t(column * kBytes), Bits(element_bits(value)));
}

/// One thread a row: what the scale clause reads. Its derivative comes from _queries, or of an atomic image from q and the sums of dX K.
FLEX_DEVICE void scatter_scale(const flex_gpu_backward* backward) {
    if (!flex_hook_has_scale_gradient()) return;
    const flex_gpu_launch* launch = &backward->launch;
    const int32_t heads = flex_hook_extent(launch, kExtentH), queries = flex_hook_extent(launch, kExtentQ);
    const int64_t rows = int64_t(flex_hook_extent(launch, kExtentB)) * heads * queries;
    const int64_t row = int64_t(block_x()) * block_threads() + thread_index();
    if (row >= rows || backward->d_scale == 0) return;
    const int32_t q = int32_t(row % queries), h = int32_t(row / queries % heads), b = int32_t(row / queries / heads);
    float d_scale = 0;
    if (backward->dq_sums != 0) {
        if (load_global<float>(backward->rows + uint64_t((FLEX_GPU_ROW_WEIGHT * rows + row) * 4)) == 0) return;
        const uint64_t query = row_address(launch->q, b, h, q, kBytes);
        const int32_t d = flex_hook_extent(launch, kExtentD);
        FLEX_ROLLED
        for (int32_t i = 0; i < d; i++)
            d_scale = fma(element_value(load_global<Bits>(query + uint64_t(i * kBytes))),
                          load_global<float>(backward->dq_sums + uint64_t((row * d + i) * 4)), d_scale);
    } else {
        d_scale = load_global<float>(backward->d_scale + uint64_t(row * 4));
    }
    flex_hook_scatter_scale(launch, b, h, q, d_scale);
}

}  // namespace flexgpu

// Of _keys_atomic: dQ += dX K, from the derivatives that a warp has for its keys, added to memory by floating-point atomics.
//
// dX^T is at hand with keys as rows; its transpose is the left operand of a product across the keys of the stripe.
#pragma once

#include "backend/skeletons/nvptx/backward_products.h"
#include "backend/skeletons/nvptx/backward_results.h"
#include "backend/skeletons/nvptx/backward_shape.h"
#include "backend/skeletons/nvptx/backward_step.h"
#include "backend/skeletons/nvptx/gradients.h"

namespace flexgpu {

FLEX_DEVICE uint32_t transpose_halves(uint32_t x) {
    uint32_t r;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(x));
    return r;
}

/// The operand (operand_of) whose rows are queries [16 block, + 16) of a tile and whose columns are kStepKeys keys of the stripe from 8 `octet` on.
template <int32_t M, int32_t N>
FLEX_DEVICE Words4 transposed_operand(const float (&s)[M][N][4], int32_t block, int32_t octet) {
    if constexpr (kHalf) {
        const Words4 w = operand_of(s, octet / 2, block);
        return {{transpose_halves(w.w[0]), transpose_halves(w.w[2]), transpose_halves(w.w[1]), transpose_halves(w.w[3])}};
    } else {
        // Key 2t + c of the octet and query g (+ 8): of lane 4 (2t + c) + g / 2, the value g % 2 of its row of that octet.
        const int32_t lane = thread_index() % 32, g = lane / 4, t = lane % 4;
        Words4 r;
        FLEX_UNROLL
        for (int32_t c = 0; c < 2; c++) {
            FLEX_UNROLL
            for (int32_t half = 0; half < 2; half++) {
                const float(&x)[4] = s[octet / 2][block * 2 + half];
                const int32_t from = (2 * t + c) * 4 + g / 2;
                const int32_t even = __nvvm_shfl_sync_idx_i32(int32_t(kAllLanes), int32_t(bits_of(x[octet % 2 * 2])), from, 31);
                const int32_t odd = __nvvm_shfl_sync_idx_i32(int32_t(kAllLanes), int32_t(bits_of(x[octet % 2 * 2 + 1])), from, 31);
                r.w[c * 2 + half] = uint32_t(g % 2 == 0 ? even : odd);
            }
        }
        return r;
    }
}

/// dx: 16 M keys from row `row` of the tile of K on, 8 N queries from `first` on, without the scale.
template <int32_t M, int32_t N>
FLEX_DEVICE void add_to_dq(const flex_gpu_backward* backward, int32_t b, int32_t h, int32_t first, const float (&dx)[M][N][4],
                           uint32_t k_tile, int32_t row, bool careful) {
    const flex_gpu_launch* launch = &backward->launch;
    const int32_t d = flex_hook_extent(launch, kExtentD), queries = flex_hook_extent(launch, kExtentQ), lane = thread_index() % 32;
    const uint64_t head = backward->dq_sums + uint64_t((int64_t(b) * flex_hook_extent(launch, kExtentH) + h) * queries * d * 4);
    constexpr int32_t kSteps = 16 * M / kStepKeys;
    FLEX_UNROLL
    for (int32_t block = 0; block < N / 2; block++) {
        Words4 w[kSteps][1];
        FLEX_UNROLL
        for (int32_t step = 0; step < kSteps; step++) w[step][0] = transposed_operand(dx, block, step * (kStepKeys / 8));
        FLEX_ROLLED
        for (int32_t column0 = 0; column0 < kD; column0 += 32) {
            Fragments<1, 4> c;
            clear(c);
            FLEX_UNROLL
            for (int32_t step = 0; step < kSteps; step++) {
                const int32_t chunk = column0 * kBytes / 16;
                if (careful)
                    multiply_carefully<kQRowBytes>(c, w[step], k_tile, row + step * kStepKeys, chunk);
                else
                    multiply_across<kQRowBytes>(c, w[step], k_tile, row + step * kStepKeys, chunk);
            }
            FLEX_UNROLL
            for (int32_t i = 0; i < 2; i++) {
                const int32_t q = first + block * 16 + i * 8 + lane / 4;
                if (q >= queries) continue;
                FLEX_UNROLL
                for (int32_t n = 0; n < 4; n++) {
                    FLEX_UNROLL
                    for (int32_t e = 0; e < 2; e++) {
                        const int32_t column = column0 + result_column(n, e);
                        if (column < d) add_float(head + uint64_t((int64_t(q) * d + column) * 4), c[0][n][i * 2 + e]);
                    }
                }
            }
        }
    }
}

}  // namespace flexgpu

// The two matrix products of a tile, and what stands between them in registers.
//
// The first walks along rows of Q and K in steps of 32 bytes. Its result is the left operand of the second without moving anything:
//
//   halves   a step takes 16 keys, two blocks of 8; c of the one gives a0 and a1, of the other a2 and a3, in pairs of neighbouring keys
//   floats   a step takes 8 keys, and their order in a sum is free: calling key 2t number t, and 2t + 1 number t + 4, makes c0 c2 c1 c3 of a block
//            a0 a1 a2 a3. A lane then needs rows 2t and 2t + 1 of V. It loads four neighbouring columns of each at once, for which four blocks of 8
//            columns are interleaved: column g of block j is 4g + j of 32.
#pragma once

#include "backend/skeletons/nvptx/clauses.h"
#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/mma.h"
#include "backend/skeletons/nvptx/outputs.h"
#include "backend/skeletons/nvptx/place.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/softmax.h"
#include "backend/skeletons/nvptx/swizzle.h"

namespace flexgpu {

/// s = Q K^T for the rows of a warp and its keys in one slice.
FLEX_DEVICE void multiply_qk(Scores& s, uint32_t q_tile, uint32_t slot) {
    const Place place;
    const uint32_t q = q_tile + place.q_offset(), k = slot + place.k_offset();
    FLEX_UNROLL
    for (int32_t m = 0; m < kM; m++) {
        FLEX_UNROLL
        for (int32_t n = 0; n < kN; n++) {
            FLEX_UNROLL
            for (int32_t c = 0; c < 4; c++) s[m][n][c] = 0;
        }
    }
    // Four steps are enough to hide the latency of loads; all of them would be twice the code for ptxas to overschedule.
    FLEX_UNROLL_BY_4
    for (int32_t step = 0; step < kD / kStep; step++) {
        A a[kM];
        FLEX_UNROLL
        for (int32_t m = 0; m < kM; m++) a[m] = operand_a(load_matrices(QRows::step(q, step) + uint32_t(m * 16 * kQRowBytes)));
        FLEX_UNROLL
        for (int32_t n = 0; n < kN; n += 2) {
            const Words4 raw = load_matrices(QRows::step(k, step) + uint32_t(n * 8 * kQRowBytes));
            FLEX_UNROLL
            for (int32_t j = 0; j < 2; j++) {
                const B b = operand_b(raw.w[2 * j], raw.w[2 * j + 1]);
                FLEX_UNROLL
                for (int32_t m = 0; m < kM; m++) multiply(s[m][n + j], a[m], b);
            }
        }
    }
}

/// Weights of 16 keys (halves) or 8 (floats) from their scores, as the operand of the second product, added up on the way.
FLEX_DEVICE A weigh(Scores& s, int32_t m, int32_t step, Softmax& softmax, float c, const float (&offset)[kRows]) {
    float p[kHalf ? 2 : 1][4];
    FLEX_UNROLL
    for (int32_t j = 0; j < (kHalf ? 2 : 1); j++) {
        FLEX_UNROLL
        for (int32_t e = 0; e < 4; e++) {
            const int32_t i = m * 2 + e / 2;
            p[j][e] = exp2(fma(s[m][step * (kHalf ? 2 : 1) + j][e], c, -offset[i]));
            add_now(softmax.sum[i], p[j][e]);
        }
    }
    if constexpr (kHalf) {
        return {
            {{pack_halves(p[0][0], p[0][1]), pack_halves(p[0][2], p[0][3]), pack_halves(p[1][0], p[1][1]), pack_halves(p[1][2], p[1][3])}},
            {}};
    } else {
        return operand_a({{bits_of(p[0][0]), bits_of(p[0][2]), bits_of(p[0][1]), bits_of(p[0][3])}});
    }
}

/// o += P V for one step of keys.
FLEX_DEVICE void multiply_pv(Outputs& o, const A (&p)[kM], uint32_t v, int32_t step) {
    if constexpr (kHalf) {
        FLEX_UNROLL
        for (int32_t n = 0; n < kNv; n += 2) {
            const Words4 raw = load_matrices_transposed(VRows::step(v, n / 2) + uint32_t(step * 16 * kVRowBytes));
            FLEX_UNROLL
            for (int32_t j = 0; j < 2; j++) {
                FLEX_UNROLL
                for (int32_t m = 0; m < kM; m++) multiply(o[m][n + j], p[m], operand_b(raw.w[2 * j], raw.w[2 * j + 1]));
            }
        }
    } else {
        const Place place;
        FLEX_UNROLL
        for (int32_t n = 0; n < kNv; n += 4) {
            const uint32_t even = v + VRows::offset(step * 8 + place.t * 2, n * 2 + place.g);
            const uint32_t odd = v + VRows::offset(step * 8 + place.t * 2 + 1, n * 2 + place.g);
            const Words4 raw0 = load_shared4(even), raw1 = load_shared4(odd);
            FLEX_UNROLL
            for (int32_t j = 0; j < 4; j++) {
                const B b = operand_b(raw0.w[j], raw1.w[j]);
                FLEX_UNROLL
                for (int32_t m = 0; m < kM; m++) multiply(o[m][n + j], p[m], b);
            }
        }
    }
}

}  // namespace flexgpu

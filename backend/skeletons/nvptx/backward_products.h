// The matrix products of the backward pass, and their operands in registers. mma.h and products.h say what the fragments are; here the sizes of tiles are
// arguments, because two kernels use them in different roles.
//
//   multiply_along    s = A B^T: rows of A and B lie in shared memory, the sum goes along their columns. S, dP and their transposes.
//   multiply_across   c += W B: W is a result of the first kind in registers, the sum goes across the rows of B. dQ, dK, dV.
//
// S in one kernel is S^T in the other, and both have to agree to the last bit where a score is compared with the greatest of its row and where bounds of
// sums are taken (gradients.h). The order of a sum is that of the columns in both; what differs is the order of the small products of f32, which
// multiply_along exchanges for the transpose.
//
// What is not finite. A pair that does not attend has weight 0, and 0 * inf is NaN; so a warp whose scores show that a row of B may hold such
// values multiplies that tile element by element (multiply_carefully), leaving out weights that are marked as -0: no weight that attends is that.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/elements.h"
#include "backend/skeletons/nvptx/mma.h"
#include "backend/skeletons/nvptx/swizzle.h"
#include "backend/skeletons/nvptx/types.h"

namespace flexgpu {

/// c += a b with the roles of a and b exchanged: the same bits as multiply gives for the transpose.
FLEX_DEVICE void multiply_exchanged(float (&c)[4], const A& a, const B& b) {
    if constexpr (kElement == Element::F32) {
#define FLEX_MMA "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {s0, s1, s2, s3}, "
        asm("{\n\t.reg .f32 s0, s1, s2, s3, zero;\n\tmov.f32 zero, 0f00000000;\n\t" FLEX_MMA
            "{%4, %5, %6, %7}, {%14, %15}, {zero, zero, zero, zero};\n\t" FLEX_MMA
            "{%8, %9, %10, %11}, {%12, %13}, {s0, s1, s2, s3};\n\t" FLEX_MMA
            "{%4, %5, %6, %7}, {%12, %13}, {s0, s1, s2, s3};\n\t"
            "add.rn.f32 %0, %0, s0;\n\tadd.rn.f32 %1, %1, s1;\n\tadd.rn.f32 %2, %2, s2;\n\tadd.rn.f32 %3, %3, s3;\n\t}"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a.big.w[0]), "r"(a.big.w[1]), "r"(a.big.w[2]), "r"(a.big.w[3]), "r"(a.small.w[0]), "r"(a.small.w[1]), "r"(a.small.w[2]),
              "r"(a.small.w[3]), "r"(b.big[0]), "r"(b.big[1]), "r"(b.small[0]), "r"(b.small[1]));
#undef FLEX_MMA
    } else {
        multiply(c, a, b);
    }
}

template <int32_t M, int32_t N>
using Fragments = float[M][N][4];

template <int32_t M, int32_t N>
FLEX_DEVICE void clear(float (&c)[M][N][4]) {
    FLEX_UNROLL
    for (int32_t m = 0; m < M; m++) {
        FLEX_UNROLL
        for (int32_t n = 0; n < N; n++) {
            FLEX_UNROLL
            for (int32_t e = 0; e < 4; e++) c[m][n][e] = 0;
        }
    }
}

/// s = A B^T for 16 M rows of A from `row` on and 8 N rows of B, in tiles at `a` and `b` whose rows have RowBytes.
template <int32_t RowBytes, bool Exchanged, int32_t M, int32_t N>
FLEX_DEVICE void multiply_along(float (&s)[M][N][4], uint32_t a, int32_t row, uint32_t b) {
    using Rows = Swizzle<RowBytes>;
    const int32_t lane = thread_index() % 32;
    a += Rows::offset(row + lane % 8 + lane / 8 % 2 * 8, lane / 16);
    b += Rows::offset(lane % 8 + lane / 16 * 8, lane / 8 % 2);
    clear(s);
    FLEX_UNROLL_BY_4
    for (int32_t step = 0; step < RowBytes / 32; step++) {
        A left[M];
        FLEX_UNROLL
        for (int32_t m = 0; m < M; m++) left[m] = operand_a(load_matrices(Rows::step(a, step) + uint32_t(m * 16 * RowBytes)));
        FLEX_UNROLL
        for (int32_t n = 0; n < N; n += 2) {
            const Words4 raw = load_matrices(Rows::step(b, step) + uint32_t(n * 8 * RowBytes));
            FLEX_UNROLL
            for (int32_t j = 0; j < 2; j++) {
                const B right = operand_b(raw.w[2 * j], raw.w[2 * j + 1]);
                FLEX_UNROLL
                for (int32_t m = 0; m < M; m++) {
                    if constexpr (Exchanged)
                        multiply_exchanged(s[m][n + j], left[m], right);
                    else
                        multiply(s[m][n + j], left[m], right);
                }
            }
        }
    }
}

/// The left operand of multiply_across for one step of kStepKeys columns of s, as it is in memory: rounded to elements, not yet split.
template <int32_t M, int32_t N>
FLEX_DEVICE Words4 operand_of(const float (&s)[M][N][4], int32_t m, int32_t step) {
    if constexpr (kHalf) {
        const float(&x)[4] = s[m][step * 2], (&y)[4] = s[m][step * 2 + 1];
        return {{pack_halves(x[0], x[1]), pack_halves(x[2], x[3]), pack_halves(y[0], y[1]), pack_halves(y[2], y[3])}};
    } else {
        const float(&x)[4] = s[m][step];
        return {{bits_of(x[0]), bits_of(x[2]), bits_of(x[1]), bits_of(x[3])}};
    }
}

/// Part of a step in multiply_across: N blocks of 8 columns of B from the 16-byte chunk `chunk` on, rows from `row` on. Of floats, block j of four has
/// the columns 4 g + j of 32 (products.h).
template <int32_t RowBytes, int32_t M, int32_t N>
FLEX_DEVICE void multiply_across(float (&c)[M][N][4], const Words4 (&w)[M], uint32_t b, int32_t row, int32_t chunk) {
    using Rows = Swizzle<RowBytes>;
    const int32_t lane = thread_index() % 32;
    A left[M];
    FLEX_UNROLL
    for (int32_t m = 0; m < M; m++) left[m] = operand_a(w[m]);
    if constexpr (kHalf) {
        const uint32_t at = b + Rows::offset(row + lane % 8 + lane / 8 % 2 * 8, lane / 16);
        FLEX_UNROLL
        for (int32_t n = 0; n < N; n += 2) {
            const Words4 raw = load_matrices_transposed(Rows::step(at, chunk / 2 + n / 2));
            FLEX_UNROLL
            for (int32_t j = 0; j < 2; j++) {
                FLEX_UNROLL
                for (int32_t m = 0; m < M; m++) multiply(c[m][n + j], left[m], operand_b(raw.w[2 * j], raw.w[2 * j + 1]));
            }
        }
    } else {
        const int32_t g = lane / 4, t = lane % 4;
        FLEX_UNROLL
        for (int32_t n = 0; n < N; n += 4) {
            const Words4 raw0 = load_shared4(b + Rows::offset(row + t * 2, chunk + n * 2 + g));
            const Words4 raw1 = load_shared4(b + Rows::offset(row + t * 2 + 1, chunk + n * 2 + g));
            FLEX_UNROLL
            for (int32_t j = 0; j < 4; j++) {
                const B right = operand_b(raw0.w[j], raw1.w[j]);
                FLEX_UNROLL
                for (int32_t m = 0; m < M; m++) multiply(c[m][n + j], left[m], right);
            }
        }
    }
}

/// The same, one row of B at a time, without those that a row of the result does not attend to.
template <int32_t RowBytes, int32_t M, int32_t N>
FLEX_DEVICE void multiply_carefully(float (&c)[M][N][4], const Words4 (&w)[M], uint32_t b, int32_t row, int32_t chunk) {
    using Rows = Swizzle<RowBytes>;
    const int32_t lane = thread_index() % 32, g = lane / 4, t = lane % 4;
    FLEX_ROLLED
    for (int32_t r = 0; r < kStepKeys; r++) {
        float weight[2 * M];
        bool attends[2 * M];
        FLEX_UNROLL
        for (int32_t i = 0; i < 2 * M; i++) {
            const uint32_t low = w[i / 2].w[i % 2], high = w[i / 2].w[2 + i % 2];
            const uint32_t word = (kHalf ? r < 8 : r % 2 == 0) ? low : high;
            uint32_t mine = __nvvm_shfl_sync_idx_i32(int32_t(kAllLanes), int32_t(word), g * 4 + r % 8 / 2, 31);
            if constexpr (kHalf) mine = r % 2 == 0 ? mine & 0xffff : mine >> 16;
            attends[i] = mine != (kHalf ? 0x8000u : 0x80000000u);
            weight[i] = element_value(Bits(mine));
        }
        const auto add = [&](int32_t n, int32_t e, float x) {
            FLEX_UNROLL
            for (int32_t i = 0; i < 2 * M; i++) {
                float& sum = c[i / 2][n][i % 2 * 2 + e];
                sum = attends[i] ? fma(weight[i], x, sum) : sum;
            }
        };
        FLEX_UNROLL
        for (int32_t n = 0; n < N; n += kHalf ? 1 : 4) {
            if constexpr (kHalf) {
                const auto pair = uint32_t(load_shared(b + Rows::offset(row + r, chunk + n) + uint32_t(t * 4)));
                add(n, 0, element_value(Bits(pair)));
                add(n, 1, element_value(Bits(pair >> 16)));
            } else {
                FLEX_UNROLL
                for (int32_t e = 0; e < 2; e++) {
                    const Words4 four = load_shared4(b + Rows::offset(row + r, chunk + n * 2 + t * 2 + e));
                    FLEX_UNROLL
                    for (int32_t j = 0; j < 4; j++) add(n + j, e, float_of(four.w[j]));
                }
            }
        }
    }
}

}  // namespace flexgpu

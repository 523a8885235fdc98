// The running softmax of the rows that a thread holds a part of.
//
// A row's weights are p = 2^(s c - M) with c = log2(e), or scale * log2(e) where s is the plain dot product. M belongs to a base: the greatest score at
// the time when the base was set. Sums and outputs are relative to it.
//
// Bases move rarely. Any base does as long as nothing over- or underflows, so one is kept until some score exceeds it by 2^8: until then weights are
// at most 2^8 (f16 holds 2^15), and the greatest is at least about 1. So most tiles multiply no output by anything, need no exchange between the lanes of
// a row, and one vote of the warp tells.
//
// Two forms of the exponent:
//
//   near    M = fl(base c) is the offset itself, exactly: p = ex2(fma(s, c, -M)). The product is not rounded, so the only error is that of the
//           result. Sums of exp(s) are 2^M sum p without any error from M's rounding, since M is what was subtracted.
//   exact   for |base c| >= 2^20 in some row of the warp: p = ex2((s - base) c). Here fl(base c) differs from base c by more than 2^-5, and for 1e30 by
//           2^76: the greatest weight would not be near 1. The difference of scores is exact where it matters, and equal scores get weight 1.
//
// A base moves from b to b', and the form with it; the factor of the old sums is 2^e with
//
//   near -> near     M - M'              both offsets as they were used
//   near -> exact    -(fma(b', c, -M))   the exact offset is the real number b' c; one rounding
//   exact -> near    fma(b, c, -M')
//   exact -> exact   (b - b') c
//
// Special scores: -inf gives 0 in each form. +inf becomes the base, inf - inf is NaN, so the sum is. NaN is no maximum and makes its weight NaN. A row
// that has seen nothing has base -inf, for which 0 stands in the exponent. The factor is at least the smallest normal number: an output that is
// infinite because V is stays so, and for all others it is 0.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/shape.h"

namespace flexgpu {

constexpr float kSlack = 8.0f;      // of the exponent, before a base moves
constexpr float kFar = 1048576.0f;  // 2^20
constexpr float kLeast = 1.17549435e-38f;

/// Result of a row or of a part of it: the greatest score in natural units, -inf if there was no key, and the sum of exp(score - greatest).
struct Statistic {
    float greatest, sum;
};

/// The lanes of a row hold the same base, and a lane has parts of kRows rows; so each lane keeps the base of its row t % kRows, and asks its neighbours.
struct Softmax {
    float c;               // exponent = score * c
    bool exact = false;    // the form, the same in all lanes of the warp
    float highest[kRows];  // of this thread's columns
    float sum[kRows];      // of this thread's columns, relative to the base
    float base = -kInf;    // of row t % kRows

    FLEX_DEVICE explicit Softmax(float coefficient) : c(coefficient) {
        FLEX_UNROLL
        for (int32_t i = 0; i < kRows; i++) {
            highest[i] = -kInf;
            sum[i] = 0;
        }
    }

    /// The bases of all rows of this thread. `now`: the present tile.
    FLEX_DEVICE void ask_bases(float (&bases)[kRows], int32_t now) const {
        FLEX_UNROLL
        for (int32_t i = 0; i < kRows; i++) bases[i] = from_quad(base, i, now);
    }

    /// True, in all lanes, if the bases have to move before the weights of scores up to `highest` are formed.
    [[nodiscard]] FLEX_DEVICE bool must_move(const float (&bases)[kRows]) const {
        const float slack = kSlack * reciprocal_approximately(opaque(c));  // in units of the score
        bool any = false;
        FLEX_UNROLL
        for (int32_t i = 0; i < kRows; i++) any |= highest[i] > bases[i] + slack;
        return warp_any(any);
    }

    /// Moves the bases to the greatest scores and gives the factors for what was summed so far.
    FLEX_DEVICE void move(float (&bases)[kRows], float (&factor)[kRows], int32_t t) {
        const bool was_exact = exact;
        float next[kRows];
        bool far = false;
        FLEX_UNROLL
        for (int32_t i = 0; i < kRows; i++) {
            next[i] = max(bases[i], quad_max(highest[i]));
            far |= next[i] != -kInf && __builtin_fabsf(next[i] * c) >= kFar;
        }
        exact = warp_any(far);
        FLEX_UNROLL
        for (int32_t i = 0; i < kRows; i++) {
            const float from = bases[i] * c, to = next[i] * c;
            const float near_near = from - to, near_exact = -fma(next[i], c, -from), exact_near = fma(bases[i], c, -to);
            const float exact_exact = (bases[i] - next[i]) * c;
            const float from_near = exact ? near_exact : near_near, from_exact = exact ? exact_exact : exact_near;
            const float moved = max(exp2(was_exact ? from_exact : from_near), kLeast);
            factor[i] = bases[i] == -kInf ? 1.0f : moved;
            sum[i] *= factor[i];
            bases[i] = next[i];
            base = t % kRows == i ? next[i] : base;
        }
    }

    /// The statistic of row i, in all lanes of the row, and the factor that turns its output into a mean. `unit`: natural score for a score of 1.
    FLEX_DEVICE Statistic finish(int32_t i, float unit, float* normalise) const {
        const float greatest = quad_max(highest[i]), its_base = from_quad(base, i, 0);
        float total = sum[i] + from_lane_xor(sum[i], 1);
        total += from_lane_xor(total, 2);
        const bool empty = total == 0;
        *normalise = empty ? 0.0f : reciprocal(total);
        const float if_exact = (its_base - greatest) * c, if_near = -fma(greatest, c, -(its_base * c));
        const float of_greatest = total * exp2(exact ? if_exact : if_near);
        return {greatest * unit, empty ? 0.0f : of_greatest};
    }

private:
    static FLEX_DEVICE float quad_max(float x) {
        x = max(x, from_lane_xor(x, 1));
        return max(x, from_lane_xor(x, 2));
    }
};

/// What stands for a base in an exponent.
FLEX_DEVICE float shown(float base) {
    return base == -kInf ? 0.0f : base;
}

}  // namespace flexgpu

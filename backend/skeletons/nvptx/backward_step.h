// Between the products: from scores and dO . V to the weights and derivatives of a tile, in place, and to the gradients of captured tensors.
//
//   p  = exp(score(x) - M) * WEIGHT
//   ds = p * (dP - delta)                  + D_PEAK where the score is the greatest of its row and the loss depends on max_score
//   dx = ds * d score / d x
//
// The same for both kernels: a tile is s[M][N][4] and dp[M][N][4], the thread has 2 M rows and 2 N columns, and an Axis tells which query and key an
// element is of. Going by columns, `column(j)` is what is common to column j, and of that `pair(i)` the facts of row i.
//
// What does not attend is a bit a pair (`hidden`), set by a pass that only tiles at an edge of the mask go through. Folded scores (the scale is positive and
// the same for all, there is no score clause) are -inf then, which the exponential makes 0 by itself: full tiles carry no trace of a mask. All others
// select. If a warp has found something that is not finite (`careful`), pairs that do not attend are marked as -0 for multiply_carefully.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/memory.h"
#include "backend/skeletons/nvptx/walk.h"

namespace flexgpu {

FLEX_DEVICE bool has(uint32_t property) {
    return (flex_hook_properties() & property) != 0;
}
FLEX_DEVICE bool is_folded() {
    return has(kPlainScore) && has(kDefaultScale);
}

/// One query and one key.
struct Pair {
    const RowState* state;
    int32_t q, k;  // within bounds
    float scale, m, weight, delta;
};

/// Where the planes of the rows of one head begin, by query.
struct RowPlanes {
    uint64_t data;
    int64_t rows;
    FLEX_DEVICE RowPlanes(const flex_gpu_backward* backward, int32_t b, int32_t h) {
        const int32_t heads = flex_hook_extent(&backward->launch, kExtentH), queries = flex_hook_extent(&backward->launch, kExtentQ);
        rows = int64_t(flex_hook_extent(&backward->launch, kExtentB)) * heads * queries;
        data = backward->rows + uint64_t((int64_t(b) * heads + h) * queries * 4);
    }
    [[nodiscard]] FLEX_DEVICE uint64_t address(int32_t plane, int32_t q) const { return data + uint64_t((plane * rows + q) * 4); }
    [[nodiscard]] FLEX_DEVICE float load(int32_t plane, int32_t q) const { return load_global<float>(address(plane, q)); }
};

/// Column j of a thread, relative to its first: pairs, eight apart.
FLEX_DEVICE int32_t offset_of(int32_t j) {
    return j / 2 * 8 + j % 2;
}

template <int32_t M, int32_t N, class F>
FLEX_DEVICE void each_element(float (&s)[M][N][4], F&& f) {
    FLEX_UNROLL
    for (int32_t j = 0; j < 2 * N; j++) {
        FLEX_UNROLL
        for (int32_t i = 0; i < 2 * M; i++) f(s[i / 2][j / 2][i % 2 * 2 + j % 2], j * 2 * M + i);
    }
}

/// Not zero if any element is not finite.
template <int32_t M, int32_t N>
FLEX_DEVICE bool is_any_not_finite(float (&s)[M][N][4], float (&dp)[M][N][4]) {
    float sum[2] = {0, 0};
    each_element(s, [&](float& x, int32_t) { sum[0] = fma(x, 0, sum[0]); });
    each_element(dp, [&](float& x, int32_t) { sum[1] = fma(x, 0, sum[1]); });
    return is_nan(sum[0] + sum[1]);
}

/// Bits of the pairs that the mask hides or that do not exist. `now`: anything that is new (from_quad).
template <int32_t M, int32_t N, class Axis>
FLEX_DEVICE uint32_t hidden_pairs(const flex_gpu_launch* launch, const Axis& axis, int32_t now) {
    static_assert(4 * M * N <= 32);
    uint32_t hidden = 0;
    const auto ask = [&](int32_t j) __attribute__((always_inline)) {
        const auto column = axis.column(j, now);
        uint32_t bits = 0;
        FLEX_UNROLL
        for (int32_t i = 0; i < 2 * M; i++) {
            const Pair pair = column.pair(i);
            const bool kept = has(kNoMask) || flex_hook_mask(launch, pair.state, axis.b, axis.h, pair.q, pair.k);
            bits |= uint32_t(!kept || !axis.exists(i, j)) << i;
        }
        hidden |= bits << (j * 2 * M);
    };
    if (has(kLongMask)) {
        FLEX_ROLLED
        for (int32_t j = 0; j < 2 * N; j++) ask(j);
    } else {
        FLEX_UNROLL
        for (int32_t j = 0; j < 2 * N; j++) ask(j);
    }
    return hidden;
}

/// The score of a pair, -inf if it is hidden; x becomes scale * dot.
FLEX_DEVICE float score_of(const flex_gpu_launch* launch, int32_t b, int32_t h, const Pair& pair, float& x, bool is_hidden) {
    x *= pair.scale;
    if (is_folded()) return x;
    const float score = has(kPlainScore) ? x : flex_hook_score(launch, pair.state, b, h, pair.q, pair.k, x);
    return is_hidden ? -kInf : score;
}

/// One column: x are products in, weights out; dp are derivatives by scale * dot out, times the scale of their row if `Scaled`.
template <int32_t R, bool Scaled, class Axis, class Column, class Sink>
FLEX_DEVICE void derive_column(float (&x)[R], float (&dp)[R], uint32_t hidden, const flex_gpu_backward* backward, const Axis& axis,
                               const Column& column, Sink& sink) {
    const flex_gpu_launch* launch = &backward->launch;
    float score[R], p[R];
    FLEX_UNROLL
    for (int32_t i = 0; i < R; i++) {
        const Pair pair = column.pair(i);
        score[i] = score_of(launch, axis.b, axis.h, pair, x[i], (hidden >> i & 1) != 0);
        p[i] = exp2((score[i] - pair.m) * kLog2e) * pair.weight;
        dp[i] = p[i] * (dp[i] - pair.delta);
        if (!is_folded()) dp[i] = score[i] == -kInf ? 0.0f : dp[i];
    }
    if (backward->d_max_score.data != 0) {
        const RowPlanes planes(backward, axis.b, axis.h);
        FLEX_UNROLL
        for (int32_t i = 0; i < R; i++) {
            const Pair pair = column.pair(i);
            if (score[i] == planes.load(FLEX_GPU_ROW_PEAK, pair.q)) dp[i] += planes.load(FLEX_GPU_ROW_D_PEAK, pair.q);
        }
    }
    if (is_folded()) {
        FLEX_UNROLL
        for (int32_t i = 0; i < R; i++) x[i] = p[i];
        return;
    }
    FLEX_UNROLL
    for (int32_t i = 0; i < R; i++) {
        const Pair pair = column.pair(i);
        const bool attends = score[i] != -kInf;
        sink.add(i, pair, x[i], dp[i], attends);
        float slope = Scaled && !has(kDefaultScale) ? pair.scale : 1.0f;
        if (!has(kPlainScore)) slope *= flex_hook_score_gradient(launch, pair.state, axis.b, axis.h, pair.q, pair.k, x[i]);
        // + 0, so that no product is -0.
        dp[i] = attends ? fma(dp[i], slope, 0.0f) : -0.0f;
        x[i] = attends ? p[i] : -0.0f;
    }
}

/// s: products in, weights out; dp: dO . V in, derivatives out. `sink` takes what the gradients of captured tensors need: add(row, pair, x, ds, attends)
/// for each pair, column(pair of its first row) after each column.
template <bool Scaled, int32_t M, int32_t N, class Axis, class Sink>
FLEX_DEVICE void derive(float (&s)[M][N][4], float (&dp)[M][N][4], uint32_t hidden, bool careful, const flex_gpu_backward* backward,
                        const Axis& axis, int32_t now, Sink& sink) {
    constexpr int32_t R = 2 * M;
    const auto one = [&](float(&x)[R], float(&d)[R], int32_t j) __attribute__((always_inline)) {
        const auto column = axis.column(j, now);
        derive_column<R, Scaled>(x, d, hidden >> (j * R), backward, axis, column, sink);
        sink.column(column.pair(0));
    };
    if (is_folded()) {
        // Hidden pairs are -inf from here on, and what is -inf is hidden.
        if (hidden != 0) each_element(s, [&](float& x, int32_t index) { x = hidden >> index & 1 ? -kInf : x; });
        if (careful) each_element(s, [&](float& x, int32_t index) { hidden |= uint32_t(x == -kInf) << index; });
    }
    if (has(kLongScore)) {
        float waiting[2 * N][2][R];
        each_element(s, [&](float& x, int32_t index) { waiting[index / R][0][index % R] = x; });
        each_element(dp, [&](float& x, int32_t index) { waiting[index / R][1][index % R] = x; });
        FLEX_ROLLED
        for (int32_t j = 0; j < 2 * N; j++) one(waiting[j][0], waiting[j][1], j);
        each_element(s, [&](float& x, int32_t index) { x = waiting[index / R][0][index % R]; });
        each_element(dp, [&](float& x, int32_t index) { x = waiting[index / R][1][index % R]; });
    } else {
        FLEX_UNROLL
        for (int32_t j = 0; j < 2 * N; j++) {
            float x[R], d[R];
            FLEX_UNROLL
            for (int32_t i = 0; i < R; i++) {
                x[i] = s[i / 2][j / 2][i % 2 * 2 + j % 2];
                d[i] = dp[i / 2][j / 2][i % 2 * 2 + j % 2];
            }
            one(x, d, j);
            FLEX_UNROLL
            for (int32_t i = 0; i < R; i++) {
                s[i / 2][j / 2][i % 2 * 2 + j % 2] = x[i];
                dp[i / 2][j / 2][i % 2 * 2 + j % 2] = d[i];
            }
        }
    }
    if (is_folded() && careful) {
        each_element(s, [&](float& x, int32_t index) { x = hidden >> index & 1 ? -0.0f : x + 0.0f; });
        each_element(dp, [&](float& x, int32_t index) { x = hidden >> index & 1 ? -0.0f : x + 0.0f; });
    }
}

}  // namespace flexgpu

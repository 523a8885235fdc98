// The backward step on one block, included by softmax.cpp: from scores and do . v to weights and derivatives, row by row, one sweep.
//
//   p  = exp(score(x) - m) * scale_l         0 where masked or -inf
//   ds = p * (dp - delta)                    + d_peak where score(x) is the row's peak, if the loss depends on that
//   dx = ds * d score / d x                  what the products with K and Q take
//
// What does not attend is -0, whatever stands there; what does is never -0, so that the products can tell them apart where K, Q or do are not finite.
#pragma once

namespace {

/// What is the same for all keys of a row: read once, since what the step stores might be anything to the compiler.
struct GradRow {
    RowState state;
    int32_t h, q;
    float m, scale_l, delta, peak, d_peak;
    bool has_peak;
};

FLEX_INLINE void begin_row(const flex_grad_block* block, int32_t h, int32_t q, int32_t r, GradRow* row) {
    flex_hook_row(block->args, block->b, h, q, &row->state);
    row->h = h, row->q = q;
    row->m = block->m[r], row->scale_l = block->scale_l[r], row->delta = block->delta[r];
    row->has_peak = block->peak != nullptr;
    row->peak = row->has_peak ? block->peak[r] : 0.0f, row->d_peak = row->has_peak ? block->d_peak[r] : 0.0f;
}

template <bool kFull>
FLEX_INLINE void backward_lanes(const flex_args* args, const GradRow& row, int32_t b, int32_t k, int32_t active, float* s, float* dp,
                                F* row_sums, float* const* d_tensors) {
    const int32_t h = row.h, q = row.q;
    const F x = load(s);
    const F score = flex_hook_score(args, &row.state, b, h, q, k, active, x);
    I keep = score != -kInf;  // true of NaN
    if (!kFull) keep &= flex_hook_mask(args, &row.state, b, h, q, k, active) != 0;
    if (active < kLanes) keep &= lane_index() < active;
    const F p = flexmath::weight(score, F(row.m)) * row.scale_l;  // never -0
    F ds = p * (load(dp) - row.delta);                            // of lanes that do not attend anything
    if (row.has_peak) ds += select(score == row.peak, F(row.d_peak), F(0.0f));
    flex_hook_scatter(args, &row.state, b, h, q, k, active, x, ds, keep, row_sums, d_tensors);
    const F dx = ds * flex_hook_score_gradient(args, &row.state, b, h, q, k, active, x);
    store(s, select(keep, p, F(-0.0f)));
    store(dp, select(keep, dx + 0.0f, F(-0.0f)));
}

/// The keys beyond the last whole vector: one copy of the hooks for all of them.
__attribute__((noinline)) void backward_tail(const flex_grad_block* block, int32_t h, int32_t q, int32_t r, int32_t c, int32_t active,
                                             F* row_sums) {
    GradRow row;
    begin_row(block, h, q, r, &row);
    float *s = block->s + r * block->ld + c, *dp = block->dp + r * block->ld + c;
    if (block->full)
        backward_lanes<true>(block->args, row, block->b, block->k + c, active, s, dp, row_sums, block->d_tensors);
    else
        backward_lanes<false>(block->args, row, block->b, block->k + c, active, s, dp, row_sums, block->d_tensors);
}

}  // namespace

extern "C" {

void flex_backward_block(const flex_grad_block* block) {
    const flex_args* const args = block->args;
    float* const* const d_tensors = block->d_tensors;
    const int32_t whole = block->cols & ~(kLanes - 1), q_end = block->q + block->nq, b = block->b, k0 = block->k;
    int32_t h = block->h, q = block->q;
    for (int32_t r = 0; r < block->rows; r++) {
        GradRow row;
        begin_row(block, h, q, r, &row);
        F row_sums[kRowSums];
        FLEX_UNROLL
        for (int32_t i = 0; i < kRowSums; i++) row_sums[i] = F(0.0f);
        float *const s = block->s + r * block->ld, *const dp = block->dp + r * block->ld;
        if (block->full)
            for (int32_t c = 0; c < whole; c += kLanes)
                backward_lanes<true>(args, row, b, k0 + c, kLanes, s + c, dp + c, row_sums, d_tensors);
        else
            for (int32_t c = 0; c < whole; c += kLanes)
                backward_lanes<false>(args, row, b, k0 + c, kLanes, s + c, dp + c, row_sums, d_tensors);
        if (whole < block->cols) {
            F tail_sums[kRowSums];  // apart, so that those of the loop stay in registers
            FLEX_UNROLL
            for (int32_t i = 0; i < kRowSums; i++) tail_sums[i] = F(0.0f);
            backward_tail(block, h, q, r, whole, block->cols - whole, tail_sums);
            FLEX_UNROLL
            for (int32_t i = 0; i < kRowSums; i++) row_sums[i] += tail_sums[i];
        }
        flex_hook_scatter_row(block->args, block->b, h, q, row_sums, block->d_tensors);
        if (++q == q_end) {
            q = block->q;
            h++;
        }
    }
}

void flex_backward_scale(const flex_args* args, int32_t b, int32_t h, int32_t q, float d_scale, float* const* d_tensors) {
    flex_hook_scatter_scale(args, b, h, q, d_scale, d_tensors);
}

void flex_backward_sink(const flex_args* args, int32_t b, int32_t h, int32_t q, float d_sink, float* const* d_tensors) {
    flex_hook_scatter_sink(args, b, h, q, d_sink, d_tensors);
}

/// Additions to one place wait for each other, and neighbouring keys often share one (a bucket of q - k): the lanes that go where the first goes are
/// summed before, then those that go where the last goes; what is left is added lane by lane.
__attribute__((noinline)) void flex_add_lanes(float* to, const int64_t* offset, F value, I keep) {
    const L places = *reinterpret_cast<const L*>(offset);
    FLEX_UNROLL
    for (int end = 0; end < kLanes; end += kLanes - 1) {
        const I here = keep & narrow(places == offset[end]);
        if (!any(here)) continue;
        to[offset[end]] += reduce_sum(select(here, value, F(0.0f)));
        keep &= ~here;
    }
    if (!any(keep)) return;
    FLEX_UNROLL
    for (int i = 0; i < kLanes; i++)
        if (keep[i]) to[offset[i]] += value[i];
}

__attribute__((always_inline)) void flex_add_sum(float* to, int64_t offset, F value) {
    to[offset] += reduce_sum(value);
}

}  // extern "C"

// The backward step on one block, included by softmax.cpp: from scores and do . v to weights and derivatives, row by row, one sweep.
//
//   p  = exp(score(x) - m) * scale_l         0 where masked or -inf
//   ds = p * (dp - delta)                    + d_peak where score(x) is the row's peak, if the loss depends on that
//   dx = ds * d score / d x                  what the products with K and Q take
//
// What does not attend is -0, whatever stands there; what does is never -0, so that the products can tell them apart where K, Q or do are not finite.
#pragma once

namespace {

template <bool kFull>
FLEX_INLINE void backward_lanes(const flex_grad_block* block, const RowState* row, int32_t h, int32_t q, int32_t r, int32_t c,
                                int32_t active, F* row_sums) {
    float* const s = block->s + r * block->ld + c;
    float* const dp = block->dp + r * block->ld + c;
    const flex_args* args = block->args;
    const int32_t b = block->b, k = block->k + c;
    const F x = load(s);
    const F score = flex_hook_score(args, row, b, h, q, k, active, x);
    I keep = score != -kInf;  // true of NaN
    if (!kFull) keep &= flex_hook_mask(args, row, b, h, q, k, active) != 0;
    if (active < kLanes) keep &= lane_index() < active;
    const F p = flexmath::weight(score, F(block->m[r])) * block->scale_l[r];
    F ds = p * (load(dp) - block->delta[r]);
    if (block->peak) ds += select(score == block->peak[r], F(block->d_peak[r]), F(0.0f));
    ds = select(keep, ds, F(0.0f));
    flex_hook_scatter(args, row, b, h, q, k, active, x, ds, keep, row_sums, block->d_tensors);
    const F dx = ds * flex_hook_score_gradient(args, row, b, h, q, k, active, x);
    store(s, select(keep, p + 0.0f, F(-0.0f)));
    store(dp, select(keep, dx + 0.0f, F(-0.0f)));
}

/// The keys beyond the last whole vector: one copy of the hooks for all of them.
__attribute__((noinline)) void backward_tail(const flex_grad_block* block, int32_t h, int32_t q, int32_t r, int32_t c, int32_t active,
                                             F* row_sums) {
    RowState row;
    flex_hook_row(block->args, block->b, h, q, &row);
    if (block->full)
        backward_lanes<true>(block, &row, h, q, r, c, active, row_sums);
    else
        backward_lanes<false>(block, &row, h, q, r, c, active, row_sums);
}

}  // namespace

extern "C" {

void flex_backward_block(const flex_grad_block* block) {
    const int32_t whole = block->cols & ~(kLanes - 1), q_end = block->q + block->nq;
    int32_t h = block->h, q = block->q;
    for (int32_t r = 0; r < block->rows; r++) {
        RowState row;
        flex_hook_row(block->args, block->b, h, q, &row);
        F row_sums[kRowSums];
        FLEX_UNROLL
        for (int32_t i = 0; i < kRowSums; i++) row_sums[i] = F(0.0f);
        if (block->full)
            for (int32_t c = 0; c < whole; c += kLanes) backward_lanes<true>(block, &row, h, q, r, c, kLanes, row_sums);
        else
            for (int32_t c = 0; c < whole; c += kLanes) backward_lanes<false>(block, &row, h, q, r, c, kLanes, row_sums);
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

__attribute__((noinline)) void flex_add_lanes(float* to, const int64_t* offset, F value, I keep) {
    FLEX_UNROLL
    for (int i = 0; i < kLanes; i++)
        if (keep[i]) to[offset[i]] += value[i];
}

__attribute__((always_inline)) void flex_add_sum(float* to, int64_t offset, F value) {
    to[offset] += reduce_sum(value);
}

}  // extern "C"

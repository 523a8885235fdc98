// A backward skeleton that shows what the gradient hooks of a variant give, as probe.cpp does for the others.
//
//   flex_gpu_backward_rows     one thread a row, for each key k with score q.data[b, h, q, k] and ds k.data[b, h, q, k]: the derivative by the score to
//                              o.data[b, h, q, k]; ds * adjoint to the gradients; bounds to lse.data[b, h, q, kMostGradients]. The kinds of summed reads
//                              to partial[i], whether there is a scatter to partial[kSummedReads]
//   flex_gpu_backward_scale    d_scale v.data[b, h, q] to the gradients, bounds added
#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/functions.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/summaries.h"

using namespace flexgpu;

namespace {

struct Row {
    int32_t b, h, q;
    uint64_t index;
    bool valid;
};
FLEX_DEVICE Row this_row(const flex_gpu_launch* launch) {
    const int32_t heads = flex_hook_extent(launch, kExtentH), queries = flex_hook_extent(launch, kExtentQ);
    const int32_t index = block_x() * block_threads() + thread_index();
    return {index / queries / heads, index / queries % heads, index % queries, uint64_t(index),
            index < flex_hook_extent(launch, kExtentB) * heads * queries};
}

}  // namespace

extern "C" {

extern const int32_t flex_gpu_summarise_threads = 128, flex_gpu_scale_threads = 128, flex_gpu_finish_threads = 128;

__attribute__((nvptx_kernel)) void flex_gpu_backward_rows(flex_gpu_backward backward) {
    const flex_gpu_launch* launch = &backward.launch;
    const Row at = this_row(launch);
    if (!at.valid) return;
    RowState row;
    flex_hook_row(launch, at.b, at.h, at.q, &row);
    const int32_t keys = flex_hook_extent(launch, kExtentK);
    float bounds[kMostGradients] = {}, sums[kSummedReads] = {};
    for (int32_t k = 0; k < keys; k++) {
        const uint64_t place = (at.index * uint64_t(keys) + uint64_t(k)) * 4;
        const float score = load_global<float>(launch->q.data + place), ds = load_global<float>(launch->k.data + place);
        store_global(launch->o.data + place, flex_hook_score_gradient(launch, &row, at.b, at.h, at.q, k, score));
        flex_hook_bounds(launch, &row, at.b, at.h, at.q, k, score, ds, bounds);
#pragma unroll
        for (int32_t i = 0; i < kSummedReads; i++) {
            if (i >= flex_hook_summed_count() || ds == 0) continue;
            const float product = ds * flex_hook_summed_adjoint(launch, &row, at.b, at.h, at.q, k, score, i);
            if (flex_hook_summed_kind(i) == kSummedByKey)
                flex_hook_add_summed(launch, at.b, at.h, 0, k, i, product);
            else
                sums[i] += product;
        }
        if (flex_hook_has_scatter()) flex_hook_scatter(launch, &row, at.b, at.h, at.q, k, score, ds);
    }
#pragma unroll
    for (int32_t i = 0; i < kSummedReads; i++)
        if (i < flex_hook_summed_count() && flex_hook_summed_kind(i) != kSummedByKey)
            flex_hook_add_summed(launch, at.b, at.h, at.q, 0, i, sums[i]);
#pragma unroll
    for (int32_t i = 0; i < kMostGradients; i++) store_global(launch->lse.data + (at.index * kMostGradients + uint64_t(i)) * 4, bounds[i]);
    if (at.index != 0) return;
#pragma unroll
    for (int32_t i = 0; i < kSummedReads; i++)
        store_global(launch->partial + uint64_t(i) * 4, i < flex_hook_summed_count() ? flex_hook_summed_kind(i) : 0);
    store_global(launch->partial + kSummedReads * 4, int32_t(flex_hook_has_scatter()));
}

__attribute__((nvptx_kernel)) void flex_gpu_backward_scale(flex_gpu_backward backward) {
    const flex_gpu_launch* launch = &backward.launch;
    const Row at = this_row(launch);
    if (!at.valid) return;
    const float d_scale = load_global<float>(launch->v.data + at.index * 4);
    flex_hook_scatter_scale(launch, at.b, at.h, at.q, d_scale);
    float bounds[kMostGradients] = {};
    flex_hook_bounds_scale(launch, at.b, at.h, at.q, d_scale, bounds);
#pragma unroll
    for (int32_t i = 0; i < kMostGradients; i++) {
        const uint64_t place = launch->lse.data + (at.index * kMostGradients + uint64_t(i)) * 4;
        store_global(place, load_global<float>(place) + bounds[i]);
    }
}

__attribute__((nvptx_kernel)) void flex_gpu_backward_summarise(flex_gpu_backward backward) {
    summarise(&backward.launch);
}
__attribute__((nvptx_kernel)) void flex_gpu_backward_queries(flex_gpu_backward) {}
__attribute__((nvptx_kernel)) void flex_gpu_backward_keys(flex_gpu_backward) {}
__attribute__((nvptx_kernel)) void flex_gpu_backward_keys_atomic(flex_gpu_backward) {}
__attribute__((nvptx_kernel)) void flex_gpu_backward_finish(flex_gpu_backward) {}

__attribute__((always_inline)) int64_t flex_summary_range(const flex_gpu_launch* launch, int32_t index, int32_t b, int32_t h, int32_t lo,
                                                          int32_t hi) {
    return summary_range(flex_hook_summary(launch, index), b, h, lo, hi);
}
__attribute__((always_inline)) void flex_add(const flex_gpu_launch* launch, int32_t gradient, int64_t offset, float value) {
    const uint64_t data = flex_hook_gradient(launch, gradient)->data;
    if (data) asm volatile("red.global.add.f32 [%0], %1;" ::"l"(data + uint64_t(offset) * 4), "f"(value) : "memory");
}

}  // extern "C"

// A GPU skeleton that shows what the hooks of a variant give, point by point, in place of an attention. Built for the tests of generated code.
//
//   flex_gpu_forward    for each b, h, q, k: the score hook of q.data[b, h, q, k] to o.data, the mask hook (0, 1) to lse.data; the scale to
//                       max_score.data[b, h, q] and the properties to partial[0]
//   flex_gpu_combine    for each of split_keys records {b, h, q_lo, q_hi, k_lo, k_hi} of k.data: the tile state to v.data
//   flex_gpu_summarise  as in the skeletons
#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/functions.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/summaries.h"

using namespace flexgpu;

extern "C" {

extern const int32_t flex_gpu_combine_threads = 128, flex_gpu_summarise_threads = 128, flex_gpu_max_pack = 1;

__attribute__((nvptx_kernel)) void flex_gpu_forward(flex_gpu_launch launch) {
    const int32_t heads = flex_hook_extent(&launch, kExtentH), queries = flex_hook_extent(&launch, kExtentQ);
    const int32_t keys = flex_hook_extent(&launch, kExtentK);
    const int32_t index = block_x() * block_threads() + thread_index();
    if (index >= flex_hook_extent(&launch, kExtentB) * heads * queries * keys) return;
    const int32_t k = index % keys, row_index = index / keys, q = row_index % queries;
    const int32_t h = row_index / queries % heads, b = row_index / queries / heads;
    RowState row;
    flex_hook_row(&launch, b, h, q, &row);
    const uint64_t at = uint64_t(index) * 4;
    store_global(launch.o.data + at, flex_hook_score(&launch, &row, b, h, q, k, load_global<float>(launch.q.data + at)));
    store_global(launch.lse.data + at, flex_hook_mask(&launch, &row, b, h, q, k) ? 1.0f : 0.0f);
    if (k == 0) store_global(launch.max_score.data + uint64_t(row_index) * 4, flex_hook_scale(&launch, b, h, q));
    if (index == 0) store_global(launch.partial, flex_hook_properties());
}

__attribute__((nvptx_kernel)) void flex_gpu_combine(flex_gpu_launch launch) {
    const int32_t index = block_x() * block_threads() + thread_index();
    if (index >= launch.split_keys) return;
    int32_t record[6];
    for (int32_t i = 0; i < 6; i++) record[i] = load_global<int32_t>(launch.k.data + uint64_t(index * 6 + i) * 4);
    const int32_t state = flex_hook_tile_state(&launch, record[0], record[1], record[2], record[3], record[4], record[5]);
    store_global(launch.v.data + uint64_t(index) * 4, state);
}

__attribute__((nvptx_kernel)) void flex_gpu_summarise(flex_gpu_launch launch) {
    summarise(&launch);
}
__attribute__((always_inline)) int64_t flex_summary_range(const flex_gpu_launch* launch, int32_t index, int32_t b, int32_t h, int32_t lo,
                                                          int32_t hi) {
    return summary_range(flex_hook_summary(launch, index), b, h, lo, hi);
}

}  // extern "C"

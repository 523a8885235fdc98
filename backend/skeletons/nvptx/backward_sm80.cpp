// The backward pass for sm_80 and all later GPUs.
#include "backend/skeletons/nvptx/backward_block.h"
#include "backend/skeletons/nvptx/backward_keys.h"
#include "backend/skeletons/nvptx/backward_queries.h"
#include "backend/skeletons/nvptx/backward_rows.h"
#include "backend/skeletons/nvptx/functions.h"
#include "backend/skeletons/nvptx/gradients.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/summaries.h"

extern "C" {

extern const int32_t flex_gpu_summarise_threads = 128, flex_gpu_scale_threads = 128, flex_gpu_finish_threads = 128;

__attribute__((nvptx_kernel)) void flex_gpu_backward_summarise(flex_gpu_backward backward) {
    flexgpu::summarise(&backward.launch);
}
__attribute__((nvptx_kernel)) void flex_gpu_backward_rows(flex_gpu_backward backward) {
    flexgpu::rows(&backward);
}
__attribute__((nvptx_kernel)) void flex_gpu_backward_queries(flex_gpu_backward backward) {
    flexgpu::queries(&backward);
}
__attribute__((nvptx_kernel)) void flex_gpu_backward_keys(flex_gpu_backward backward) {
    flexgpu::keys<false>(&backward);
}
__attribute__((nvptx_kernel)) void flex_gpu_backward_keys_atomic(flex_gpu_backward backward) {
    flexgpu::keys<true>(&backward);
}
__attribute__((nvptx_kernel)) void flex_gpu_backward_scale(flex_gpu_backward backward) {
    flexgpu::scatter_scale(&backward);
}
__attribute__((nvptx_kernel)) void flex_gpu_backward_finish(flex_gpu_backward backward) {
    flexgpu::finish(&backward);
}
__attribute__((always_inline)) int64_t flex_summary_range(const flex_gpu_launch* launch, int32_t index, int32_t b, int32_t h, int32_t lo,
                                                          int32_t hi) {
    return flexgpu::summary_range(flex_hook_summary(launch, index), b, h, lo, hi);
}
__attribute__((always_inline)) void flex_add(const flex_gpu_launch* launch, int32_t gradient, int64_t offset, float value) {
    flexgpu::add_to_gradient(launch, gradient, offset, value);
}

}  // extern "C"

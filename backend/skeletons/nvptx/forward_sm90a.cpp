// The attention kernel for sm_90a: wgmma, copies by tensor map, warpgroups with roles.
#include "backend/skeletons/nvptx/combine.h"
#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/functions.h"
#include "backend/skeletons/nvptx/hooks.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/sm90a_async.h"
#include "backend/skeletons/nvptx/sm90a_consumer.h"
#include "backend/skeletons/nvptx/sm90a_producer.h"
#include "backend/skeletons/nvptx/summaries.h"

namespace flexgpu {
namespace {

FLEX_DEVICE void forward(const flex_gpu_launch* launch, const flex_gpu_tensors* tensors) {
    const uint32_t shared = shared_base();
    if (thread_index() == 0) {
        barrier_init(shared + uint32_t(kQFull), 1);
        barrier_init(shared + uint32_t(kQEmpty), kWarps);
        barrier_init(shared + uint32_t(kDone), kWarps);
        barrier_init(shared + uint32_t(kDone + 8), kWarps);
        FLEX_ROLLED
        for (int32_t i = 0; i < kStages; i++) {
            barrier_init(shared + uint32_t(kKFull + i * 8), 1);
            barrier_init(shared + uint32_t(kKEmpty + i * 8), kWarps);
            barrier_init(shared + uint32_t(kVFull + i * 8), 1);
            barrier_init(shared + uint32_t(kVEmpty + i * 8), kWarps);
        }
        barriers_made();
    }
    block_barrier();

    if (thread_index() >= kThreads) {
        if constexpr (kConsumers > 1) fewer_registers<kProducerRegisters>();
        Producer{launch, tensors, shared, thread_index() - kThreads}.run();
    } else {
        if constexpr (kConsumers > 1) more_registers<kConsumerRegisters>();
        Consumer consumer{launch, tensors, shared};
        while (consumer.consume()) {
        }
        if (thread_index() % kGroup == 0) stores_wait();
    }
}

}  // namespace
}  // namespace flexgpu

extern "C" {

extern const int32_t flex_gpu_combine_threads = 128, flex_gpu_summarise_threads = 128;
extern const int32_t flex_gpu_max_pack = 256;

__attribute__((nvptx_kernel)) void flex_gpu_forward(flex_gpu_launch launch, flex_gpu_tensors tensors) {
    flexgpu::forward(&launch, &tensors);
}
__attribute__((nvptx_kernel)) void flex_gpu_combine(flex_gpu_launch launch) {
    flexgpu::combine(&launch);
}
__attribute__((nvptx_kernel)) void flex_gpu_summarise(flex_gpu_launch launch) {
    flexgpu::summarise(&launch);
}
__attribute__((always_inline)) int64_t flex_summary_range(const flex_gpu_launch* launch, int32_t index, int32_t b, int32_t h, int32_t lo,
                                                          int32_t hi) {
    return flexgpu::summary_range(flex_hook_summary(launch, index), b, h, lo, hi);
}

}  // extern "C"

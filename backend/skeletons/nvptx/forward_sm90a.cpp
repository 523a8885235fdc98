// The attention kernel for sm_90a: products of warpgroups (wgmma), copies by tensor map (TMA), warpgroups with roles. The compiler links the hooks of a variant
// (hooks.h) to one instance of it (instances_sm90a.def, sm90a_shape.h), inlines them and prints PTX.
//
// A block stays until no work is left. It takes pieces (sm90a_pieces.h): 64 rows for each of its consumers, and the tiles of keys that their mask leaves. The
// producer, the last warpgroup, finds these tiles and brings Q, K and V; a consumer multiplies its rows. For D = 128, two consumers, two stages:
//
//   producer      K a   Q   K b   V a         K c   V b         K d   V c         ...    warp 0: one lane issues, all walk; the other warps sleep
//                  |         |     |           |     |
//   shared      [K0] [K1] [V0] [V1]  [Q: 64 rows of each consumer]  [O: likewise]
//                  |         |     |           |     |
//   consumer 0    QK a       QK b  PV a        QK c  PV b
//                  softmax a        softmax b         softmax c            in the shadow of the products of the other, and of PV
//   consumer 1             QK a       QK b  PV a        QK c  PV b
//                            softmax a        softmax b         softmax c
//
// Barriers, in shared memory (sm90a_async.h), beside each other's slots:
//
//   full, of Q and each stage of K and V     1 arrival of the producer, and the bytes of its copies; consumers wait
//   empty, likewise                          1 arrival a warp of the consumers, when its products have read the slot; the producer waits
//   done, two in turn                        1 arrival a warp, when all of a piece is stored: its record may be written over
//   turn, a named barrier a consumer         those who issue next wait for those before (D <= 128: two products are then about as long as a softmax)
//
// The walk is the producer's alone: the code of a tile (its first key, whether a mask is needed, whether it is the last) lies beside its K and becomes known
// with it, so that consumers have no registers and no instructions for it, and the next piece's first tile is under way while this one's results are stored. It goes
// from the first key to the last, as on sm_80: which end is masked makes no difference here, and bases of the softmax move least where positions grow.
//
// Registers: 168 x 384 threads are there at the start. The producer gives up all but 72 (D <= 128; else 56), which the tile states of variants need and copies
// alone would not; 216 or 224 a consumer's thread is what is left. D = 128: 64 O + 64 S + 32 P; D = 256: 128 O + 40 S + 20 P; D = 64: 32 O + 96 S + 48 P. The weights stay f32, in the place
// of the scores, until the product that reads the former P is over, and are packed then: two P at once would cost as many moves as it takes to pack one.
// Three consumers of 160 registers, for D = 64, leave a variant with a score or a mask too few.
//
// V that is not finite (careful.h). A consumer that finds NaN among its results says so in the piece's record; the producer then does this piece again before new
// work, copying and cleaning V itself. Where tensor maps do not fit the arrays, it brings all pieces that way.
//
// What was measured by compiling, not by running: no product is serialised (ptxas says so by C75xx, tests/ptxas fails on it), none spills.
//
// PTX ISA: "Asynchronous Warpgroup Level Matrix Instructions", "Tensor copy" in its section on data movement, mbarrier, "Async proxy", setmaxnreg, bar.
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
        Consumer consumer{launch, tensors, shared, same_in_warp(thread_index() / kGroup)};
        consumer.begin();
        while (consumer.consume()) {
        }
        consumer.end();
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

// Barriers in shared memory, copies by tensor map, named barriers and registers of a warpgroup, as PTX.
//
// An mbarrier completes a phase when as many have arrived as it was made for and all bytes that were announced have come. Phases alternate: a wait for parity p
// ends when the phase of that parity is over, so on a new barrier a wait for parity 1 ends at once. Who fills a slot waits for "empty" with the
// inverse of the parity with which its reader waits for "full".
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/shape.h"
#include "runtime/gpu_abi.h"

namespace flexgpu {

FLEX_DEVICE void barrier_init(uint32_t barrier, int32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
/// Makes the barriers known to copies; then a block barrier makes them known to all threads.
FLEX_DEVICE void barriers_made() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
FLEX_DEVICE void arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Arrives and announces bytes that copies will bring.
FLEX_DEVICE void arrive_expecting(uint32_t barrier, int32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
FLEX_DEVICE void wait(uint32_t barrier, uint32_t parity) {
    asm volatile(
        "{\n\t.reg .pred done;\n"
        "again_%=:\n\tmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t@!done bra again_%=;\n\t}" ::"r"(barrier),
        "r"(parity)
        : "memory");
}
/// x of the first lane of the warp, of which the compiler knows then that all lanes have it.
FLEX_DEVICE int32_t same_in_warp(int32_t x) {
    return __nvvm_shfl_sync_idx_i32(kAllLanes, x, 0, 31);
}
/// One arrival for a warp, after all its lanes.
FLEX_DEVICE void warp_arrive(uint32_t barrier) {
    warp_barrier();
    if (thread_index() % 32 == 0) arrive(barrier);
}

/// What this thread has written to shared memory becomes visible to copies by tensor map and to wgmma.
FLEX_DEVICE void fence_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// A box of a tensor map, from the element at these coordinates, to shared memory.
FLEX_DEVICE void load_box(uint32_t to, const flex_gpu_tensor_map& map, int32_t c0, int32_t c1, int32_t c2, int32_t c3, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
        "l"(&map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(barrier)
        : "memory");
}
FLEX_DEVICE void store_box(const flex_gpu_tensor_map& map, int32_t c0, int32_t c1, int32_t c2, int32_t c3, uint32_t from) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%1, %2, %3, %4}], [%5];" ::"l"(&map), "r"(c0), "r"(c1),
                 "r"(c2), "r"(c3), "r"(from)
                 : "memory");
}
FLEX_DEVICE void stores_commit() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Until what this thread has stored has been read from shared memory.
FLEX_DEVICE void stores_wait_read() {
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
FLEX_DEVICE void stores_wait() {
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

// Named barriers. 0 is the block's.
constexpr int32_t kBarrierOfProducer = 1, kBarrierOfConsumers = 2, kBarrierOfGroup = 3, kBarrierOfTurn = 3 + 3;
FLEX_DEVICE void named_barrier(int32_t id, int32_t threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
FLEX_DEVICE void named_arrive(int32_t id, int32_t threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

template <int32_t Count>
FLEX_DEVICE void fewer_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
}
template <int32_t Count>
FLEX_DEVICE void more_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
}

FLEX_DEVICE void store_matrices(uint32_t address, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a), "r"(b), "r"(c), "r"(d)
                 : "memory");
}

/// Where a side of a pipeline stands: the slot, and the parity of its turn.
struct Turn {
    int32_t slot = 0;
    uint32_t parity = 0;
    FLEX_DEVICE void advance() {
        slot++;
        if (slot == kStages) {
            slot = 0;
            parity ^= 1;
        }
    }
};

}  // namespace flexgpu

// Who a thread of the attention kernel is: its warp's rows and keys, and its own place in the fragments.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/swizzle.h"

namespace flexgpu {

using QRows = Swizzle<kQRowBytes>;
using VRows = Swizzle<kVRowBytes>;

// Threads that share a slice of the ring: all, or one warp.
constexpr int32_t kTeam = kWarpsK == 1 ? kThreads : 32;

FLEX_DEVICE void team_barrier() {
    if constexpr (kWarpsK == 1)
        block_barrier();
    else
        warp_barrier();
}

/// The place of a thread in its block. All follows from its number, so loops ask for it anew: a handful of instructions, of which there
/// is plenty of room beside the tensor cores, instead of registers, of which there is none.
struct Place {
    int32_t thread, lane, warp, g, t;
    FLEX_DEVICE Place() : thread(thread_index()) {
        __builtin_assume(thread >= 0 && thread < kThreads);
        lane = thread % 32;
        warp = thread / 32;
        g = lane / 4;
        t = lane % 4;
    }
    [[nodiscard]] FLEX_DEVICE int32_t warp_row() const { return kWarpsK == 1 ? warp * kWarpRows : 0; }
    /// Of the thread's i-th row within the tile.
    [[nodiscard]] FLEX_DEVICE int32_t row(int32_t i) const { return warp_row() + i * 8 + g; }
    /// Which keys of a tile the warp takes.
    [[nodiscard]] FLEX_DEVICE int32_t slice() const { return kWarpsK == 1 ? 0 : warp; }
    [[nodiscard]] FLEX_DEVICE uint32_t slice_offset() const { return uint32_t(slice() * kSliceBytes); }
    [[nodiscard]] FLEX_DEVICE int32_t team_thread() const { return kWarpsK == 1 ? thread : lane; }

    // Where ldmatrix of this lane begins in a tile of Q and in slots of K and V: see mma.h and swizzle.h.
    [[nodiscard]] FLEX_DEVICE uint32_t q_offset() const { return QRows::offset(warp_row() + lane % 8 + lane / 8 % 2 * 8, lane / 16); }
    [[nodiscard]] FLEX_DEVICE uint32_t k_offset() const { return slice_offset() + QRows::offset(lane % 8 + lane / 16 * 8, lane / 8 % 2); }
    [[nodiscard]] FLEX_DEVICE uint32_t v_offset() const {
        return slice_offset() + (kHalf ? VRows::offset(lane % 8 + lane / 8 % 2 * 8, lane / 16) : 0);
    }
};

}  // namespace flexgpu

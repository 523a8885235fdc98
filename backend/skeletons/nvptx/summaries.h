// Least and greatest values of what a mask reads along the queries or keys: made by flex_summarise before the attention, asked by the tile states.
// runtime/gpu_abi.h describes the records.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/hooks.h"

namespace flexgpu {

constexpr int32_t kPairBytes = 8;
constexpr int32_t kNarrow = FLEX_GPU_SUMMARY_BLOCK, kWide = FLEX_GPU_SUMMARY_WIDE;

FLEX_DEVICE uint64_t record_address(const flex_gpu_summary* summary, int32_t b, int32_t h) {
    return summary->data + uint64_t((int64_t(b) * summary->b_stride + int64_t(h) * summary->h_stride) * kPairBytes);
}

/// One warp a narrow block; its pair, and its share of the wide block's.
FLEX_DEVICE void summarise(const flex_gpu_launch* launch) {
    const int32_t lane = thread_index() % 32;
    const int32_t batches = flex_hook_extent(launch, kExtentB);
    const int32_t index = block_z() / batches, b = block_z() % batches, h = block_y();
    const int32_t flags = flex_hook_summary_flags(index);
    if ((b > 0 && !(flags & FLEX_SUMMARY_BY_B)) || (h > 0 && !(flags & FLEX_SUMMARY_BY_H))) return;
    const flex_gpu_summary* summary = flex_hook_summary(launch, index);
    const int32_t length = flex_hook_extent(launch, flags & FLEX_SUMMARY_OF_KEYS ? kExtentK : kExtentQ);
    const int32_t block = block_x() * (block_threads() / 32) + thread_index() / 32;
    if (block >= summary->blocks) return;
    // Lanes beyond the end repeat the last position.
    const int32_t value = flex_hook_summary_value(launch, index, b, h, min(block * kNarrow + lane, length - 1));
    const int32_t least = __nvvm_redux_sync_min(value, int32_t(kAllLanes));
    const int32_t greatest = __nvvm_redux_sync_max(value, int32_t(kAllLanes));
    if (lane != 0) return;
    const uint64_t record = record_address(summary, b, h);
    const uint64_t wide = record + uint64_t((summary->blocks + block / (kWide / kNarrow)) * kPairBytes);
    store_global(record + uint64_t(block * kPairBytes), uint64_t(uint32_t(least)) | uint64_t(uint32_t(~greatest)) << 32);
    asm volatile("red.global.min.s32 [%0], %1;" ::"l"(wide), "r"(least) : "memory");
    asm volatile("red.global.min.s32 [%0], %1;" ::"l"(wide + 4), "r"(~greatest) : "memory");
}

/// Over whole blocks that contain [lo, hi], wide ones in the middle.
FLEX_DEVICE int64_t summary_range(const flex_gpu_summary* summary, int32_t b, int32_t h, int32_t lo, int32_t hi) {
    constexpr int32_t kRatio = kWide / kNarrow;
    const uint64_t narrow = record_address(summary, b, h), wide = narrow + uint64_t(summary->blocks * kPairBytes);
    const int32_t last = hi / kNarrow;
    int32_t least = INT32_MAX, greatest_not = INT32_MAX;
    for (int32_t block = lo / kNarrow; block <= last;) {
        const bool is_wide = block % kRatio == 0 && block + kRatio <= last + 1;
        const uint64_t at = is_wide ? wide + uint64_t(block / kRatio * kPairBytes) : narrow + uint64_t(block * kPairBytes);
        const auto pair = load_global<uint64_t>(at);
        least = min(least, int32_t(pair));
        greatest_not = min(greatest_not, int32_t(pair >> 32));
        block += is_wide ? kRatio : 1;
    }
    return int64_t(uint64_t(uint32_t(least)) | uint64_t(uint32_t(~greatest_not)) << 32);
}

}  // namespace flexgpu

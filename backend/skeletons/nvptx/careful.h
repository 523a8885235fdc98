// V that is not finite.
//
// A key that a row does not attend to has weight 0 there, and its V must not matter; but 0 * inf is NaN in the product. A block that finds NaN in its
// results, where the sum of weights is not NaN, has probably met this, and does its work again carefully:
//
//   - elements of V that are not finite become 0 in shared memory before the product (clean), and the keys between which this happened are noted;
//   - when the results are written, each such element is added to the rows that attend to its key (patch): a positive weight times inf is
//     inf, and whatever the weight, NaN is NaN.
//
// So finite V costs one vote a block, and V with a few bad keys, as in the padding of a cache, about twice the time.
#pragma once

#include "backend/skeletons/nvptx/combine.h"
#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/shape.h"
#include "backend/skeletons/nvptx/tiles.h"

namespace flexgpu {

/// A note: the first keys of the first and the last tile where V was not finite, in shared memory.
FLEX_DEVICE void clear_note(uint32_t note) {
    store_shared(note, uint32_t(INT32_MAX));
    store_shared(note + 4, uint32_t(-1));
}

/// 0 for what is not finite in four words of V.
FLEX_DEVICE uint32_t finite_or_zero(uint32_t word) {
    if constexpr (kHalf) {
        constexpr uint32_t kExponent = kElement == Element::F16 ? 0x7c00 : 0x7f80;
        constexpr uint32_t kHigh = kExponent << 16;
        const uint32_t low = (word & kExponent) == kExponent ? 0 : word & 0xffffu;
        return low | ((word & kHigh) == kHigh ? 0 : word & 0xffff0000u);
    } else {
        constexpr uint32_t kExponent = 0x7f800000;
        return (word & kExponent) == kExponent ? 0 : word;
    }
}

/// A slice of V of the tile that begins at `key`, by `Threads` threads.
template <int32_t Threads>
FLEX_DEVICE void clean(uint32_t note, uint32_t slice, int32_t thread, int32_t key) {
    FLEX_ROLLED
    for (int32_t i = thread; i < kValueBytes / 16; i += Threads) {
        const uint32_t at = slice + uint32_t(i * 16);
        Words4 v = load_shared4(at);
        uint32_t changed = 0;
        FLEX_UNROLL
        for (int32_t j = 0; j < 4; j++) {
            const uint32_t word = finite_or_zero(v.w[j]);
            changed |= word ^ v.w[j];
            v.w[j] = word;
        }
        if (changed == 0) continue;
        store_shared4(at, v);
        shared_min(note, key);
        shared_max(note + 4, key);
    }
}

/// dot(q, k) as all lanes of a warp compute it together.
FLEX_DEVICE float dot(uint64_t q, uint64_t k, int32_t columns, int32_t lane) {
    float sum = 0;
    FLEX_ROLLED
    for (int32_t i = lane; i < columns; i += 32)
        sum = fma(element_value(load_global<Bits>(q + uint64_t(i * kBytes))), element_value(load_global<Bits>(k + uint64_t(i * kBytes))),
                  sum);
    FLEX_UNROLL
    for (int32_t bits = 16; bits > 0; bits /= 2) sum += from_lane_xor(sum, bits);
    return sum;
}

/// Adds what is not finite in V to results in memory. `output(row)` is the address of a row's elements, of which `Wide` says that they are f32.
/// One warp a row at a time, so nothing is added by two at once.
template <bool Wide, class Output>
FLEX_DEVICE void patch(const Block& block, uint32_t note, Output&& output) {
    const flex_gpu_launch* launch = block.launch;
    const int32_t lane = thread_index() % 32, warp = thread_index() / 32;
    const int32_t begin = load_shared(note), end = min(load_shared(note + 4) + kTileK, block.keys);
    const int32_t d = flex_hook_extent(launch, kExtentD), dv = flex_hook_extent(launch, kExtentDv);
    const int32_t hkv = block.kv_head();
    FLEX_ROLLED
    for (int32_t k = begin; k < end; k++) {
        const uint64_t v = row_address(launch->v, block.b, hkv, k, kBytes);
        bool bad = false;
        FLEX_ROLLED
        for (int32_t i = lane; i < dv; i += 32) bad |= !is_finite(element_value(load_global<Bits>(v + uint64_t(i * kBytes))));
        if (!warp_any(bad)) continue;
        FLEX_ROLLED
        for (int32_t r = warp; r < kTileQ; r += kWarps) {
            const int32_t h = block.head(r), q = block.query(r);
            if (q >= block.queries) break;
            RowState state;
            flex_hook_row(launch, block.b, h, q, &state);
            if (!block.has(kNoMask) && !flex_hook_mask(launch, &state, block.b, h, q, k)) continue;
            if (block.has(kScoreMayHide)) {
                const float product =
                    dot(row_address(launch->q, block.b, h, q, kBytes), row_address(launch->k, block.b, hkv, k, kBytes), d, lane);
                const float score = product * flex_hook_scale(launch, block.b, h, q);
                if (flex_hook_score(launch, &state, block.b, h, q, k, score) == -kInf) continue;
            }
            const uint64_t out = output(r, h, q);
            FLEX_ROLLED
            for (int32_t i = lane; i < dv; i += 32) {
                const float x = element_value(load_global<Bits>(v + uint64_t(i * kBytes)));
                if (is_finite(x)) continue;
                if constexpr (Wide) {
                    const uint64_t at = out + uint64_t(i * 4);
                    store_global(at, load_global<float>(at) + x);
                } else {
                    const uint64_t at = out + uint64_t(i * kBytes);
                    store_global(at, Bits(element_bits(element_value(load_global<Bits>(at)) + x)));
                }
            }
        }
    }
}

}  // namespace flexgpu

// Elements of q, k, v and o: conversions from and to f32.
#pragma once

#include "backend/skeletons/nvptx/device.h"
#include "backend/skeletons/nvptx/types.h"

namespace flexgpu {

/// Two halves in a word, rounded to nearest.
FLEX_DEVICE uint32_t pack_halves(float low, float high) {
    uint32_t r;
    if constexpr (kElement == Element::F16)
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    else
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

FLEX_DEVICE uint32_t element_bits(float x) {
    if constexpr (kHalf)
        return pack_halves(x, 0) & 0xffff;
    else
        return bits_of(x);
}
FLEX_DEVICE float element_value(Bits bits) {
    if constexpr (kElement == Element::BF16)
        return float_of(uint32_t(bits) << 16);
    else if constexpr (kElement == Element::F16)
        return float(__builtin_bit_cast(_Float16, uint16_t(bits)));
    else
        return float_of(bits);
}

FLEX_DEVICE Bits load_shared_element(uint32_t address) {
    if constexpr (kHalf)
        return load_shared_half(address);
    else
        return uint32_t(load_shared(address));
}

}  // namespace flexgpu

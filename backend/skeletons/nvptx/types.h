// What forward and backward instances have in common: the type of elements and the classes of head dimensions, given on the command line.
#pragma once

#include <stdint.h>

namespace flexgpu {

enum class Element { F16, BF16, F32, TF32 };

constexpr Element kElement = Element::FLEX_ELEMENT;
constexpr int32_t kD = FLEX_D, kDv = FLEX_DV;

constexpr bool kHalf = kElement == Element::F16 || kElement == Element::BF16;
constexpr int32_t kBytes = kHalf ? 2 : 4;
using Bits = decltype([] {
    if constexpr (kHalf)
        return uint16_t();
    else
        return uint32_t();
}());

constexpr int32_t kStep = 32 / kBytes;         // columns of Q and K that one step of a product along them takes: 32 bytes
constexpr int32_t kStepKeys = kHalf ? 16 : 8;  // keys that one step of a product along the keys takes
static_assert(kD % 32 == 0 && kDv % 32 == 0);

constexpr int32_t kQRowBytes = kD * kBytes, kVRowBytes = kDv * kBytes;

}  // namespace flexgpu

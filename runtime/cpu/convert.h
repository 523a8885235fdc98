// f16 and bf16 to f32 and back, one value at a time. Integer arithmetic alone: the same bits on every machine.
// To f32 is exact; from f32 rounds to nearest, ties to even; a NaN stays a NaN (made quiet); too large for f16 is inf.
//
// `static`, not `inline`: files compiled for different vector levels include this, and the linker must not merge
// their copies.
#pragma once

#include <cstdint>
#include <cstring>

namespace flex {

[[maybe_unused]] static inline uint32_t float_bits(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

[[maybe_unused]] static inline float bits_float(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

[[maybe_unused]] static inline float bf16_to_f32(uint16_t h) {
    return bits_float(static_cast<uint32_t>(h) << 16);
}

[[maybe_unused]] static inline uint16_t f32_to_bf16(float x) {
    const uint32_t bits = float_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

[[maybe_unused]] static inline float f16_to_f32(uint16_t h) {
    const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
    const uint32_t exponent = (h >> 10) & 0x1fu;
    uint32_t mantissa = h & 0x3ffu;
    if (exponent == 0x1fu) return bits_float(sign | 0x7f800000u | (mantissa << 13));
    if (exponent != 0) return bits_float(sign | ((exponent + 112u) << 23) | (mantissa << 13));
    if (mantissa == 0) return bits_float(sign);
    uint32_t shifted = 113;  // subnormal: normalise
    while ((mantissa & 0x400u) == 0) {
        mantissa <<= 1;
        --shifted;
    }
    return bits_float(sign | (shifted << 23) | ((mantissa & 0x3ffu) << 13));
}

[[maybe_unused]] static inline uint16_t f32_to_f16(float x) {
    const uint32_t bits = float_bits(x);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
    if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and above round to inf
    if (magnitude >= 0x38800000u) {                                              // normal in f16
        const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
        return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
    }
    if (magnitude < 0x33000000u) return static_cast<uint16_t>(sign);  // below 2^-25
    // Subnormal: the mantissa with its hidden bit, shifted so that one unit is 2^-24.
    const uint32_t shift = 126u - (magnitude >> 23);
    const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    const uint32_t half = 1u << (shift - 1);
    const uint32_t rest = mantissa & ((half << 1) - 1);
    uint32_t value = mantissa >> shift;
    if (rest > half || (rest == half && (value & 1u))) ++value;
    return static_cast<uint16_t>(sign | value);
}

}  // namespace flex

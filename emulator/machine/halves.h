// f16 and bf16 without branches, for loops over lanes. An operation is done in double with its result rounded to odd, narrowed to f32, again to odd, and
// rounded to the half once: 24 bits to odd are enough for 11.
#pragma once

#include <algorithm>
#include <bit>

#include "emulator/numeric/float.h"

namespace flexemu {

/// f32 -> f16, to nearest. The number is added to a power of two that puts the last bit to keep at the end of the mantissa.
struct ToF16 {
    [[gnu::always_inline]] numeric::F16 operator()(float a) const {
        const uint32_t bits = std::bit_cast<uint32_t>(a), twice = bits + bits;
        float base = (std::bit_cast<float>(bits & 0x7fffffff) * 0x1p112f) * 0x1p-110f;
        const uint32_t bias = std::max<uint32_t>(twice & 0xff000000, 0x71000000);
        base = std::bit_cast<float>((bias >> 1) + 0x07800000) + base;
        const uint32_t sum = std::bit_cast<uint32_t>(base);
        const uint32_t magnitude = (sum >> 13 & 0x7c00) + (sum & 0xfff);
        return {static_cast<uint16_t>(twice > 0xff000000 ? numeric::kCanonicalHalf : (bits >> 16 & 0x8000) | magnitude)};
    }
};
/// f32 -> bf16, to nearest.
struct ToBF16 {
    [[gnu::always_inline]] numeric::BF16 operator()(float a) const {
        const uint32_t bits = std::bit_cast<uint32_t>(a);
        const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        return {static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? numeric::kCanonicalHalf : rounded)};
    }
};

[[gnu::always_inline]] inline float narrow_to_odd(double value) {
    const auto nearest = static_cast<float>(value);
    const auto back = static_cast<double>(nearest);
    const uint32_t bits = std::bit_cast<uint32_t>(nearest);
    const bool inexact = back < value || back > value;
    const bool outwards = std::fabs(back) < std::fabs(value);
    const uint32_t step = inexact && (bits & 1) == 0 ? (outwards ? 1 : UINT32_MAX) : 0;
    return std::bit_cast<float>(bits + step);
}

inline numeric::F16 nearest_half(float value, numeric::F16) {
    return ToF16()(value);
}
inline numeric::BF16 nearest_half(float value, numeric::BF16) {
    return ToBF16()(value);
}

/// add, sub, mul, fma of halves with .ftz, .sat, .relu. F computes in double, to odd where it is inexact.
template <typename F>
struct HalfOperation {
    numeric::Mode mode;
    bool relu = false;

    template <typename H, typename... More>
    [[gnu::always_inline]] H operator()(H first, More... more) const {
        const auto in = [&](H value) __attribute__((always_inline)) {
            return static_cast<double>(numeric::to_f32(mode.ftz ? numeric::flush(value) : value));
        };
        float value = narrow_to_odd(F::exact(in(first), in(more)...));
        if (mode.sat) value = numeric::saturate(value);
        if (relu) value = value <= 0 ? 0.0f : value;
        const H result = nearest_half(value, H());
        return mode.ftz ? numeric::flush(result) : result;
    }
};

struct HalfAdd {
    [[gnu::always_inline]] static double exact(double a, double b) { return numeric::add_to_odd(a, b); }
};
struct HalfSub {
    [[gnu::always_inline]] static double exact(double a, double b) { return numeric::add_to_odd(a, -b); }
};
struct HalfMul {
    [[gnu::always_inline]] static double exact(double a, double b) { return a * b; }
};
struct HalfFma {
    [[gnu::always_inline]] static double exact(double a, double b, double c) {
        const double product = a * b;
        return numeric::add_to_odd(product, c);
    }
};

}  // namespace flexemu

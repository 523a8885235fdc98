// f16 and bf16: every pattern there and back, and rounding by comparison with the neighbours.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <random>

#include "runtime/cpu/convert.h"

using namespace flex;

namespace {

/// The value of a 16-bit float with `mantissa` explicit bits, from its definition. Not for inf and NaN.
double defined(uint16_t bits, int mantissa, int bias) {
    const int exponent = (bits & 0x7fff) >> mantissa;
    const double fraction = static_cast<double>(bits & ((1 << mantissa) - 1)) / (1 << mantissa);
    const double magnitude = exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
    return bits & 0x8000 ? -magnitude : magnitude;
}

struct Format {
    int mantissa, bias;
    float (*widen)(uint16_t);
    uint16_t (*narrow)(float);
    [[nodiscard]] uint16_t infinity() const { return static_cast<uint16_t>(0x7fff >> mantissa << mantissa); }
};

const Format kFormats[] = {{10, 15, [](uint16_t h) { return f16_to_f32(h); }, [](float x) { return f32_to_f16(x); }},
                           {7, 127, [](uint16_t h) { return bf16_to_f32(h); }, [](float x) { return f32_to_bf16(x); }}};

}  // namespace

TEST_CASE("every pattern has its defined value and survives the way there and back") {
    for (const Format& f : kFormats) {
        int wrong = 0;
        for (uint32_t i = 0; i < 0x10000; ++i) {
            const auto bits = static_cast<uint16_t>(i);
            const float x = f.widen(bits);
            const int magnitude = bits & 0x7fff;
            if (magnitude > f.infinity()) {
                const uint16_t back = f.narrow(x);
                wrong += !std::isnan(x) || (back & 0x7fff) <= f.infinity();
            } else {
                if (magnitude == f.infinity())
                    wrong += !std::isinf(x) || std::signbit(x) != (bits >> 15);
                else
                    wrong += static_cast<double>(x) != defined(bits, f.mantissa, f.bias) || std::signbit(x) != (bits >> 15);
                wrong += f.narrow(x) != bits;
            }
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("rounding is to nearest, ties to even, and overflows to inf") {
    for (const Format& f : kFormats) {
        int wrong = 0;
        for (uint16_t bits = 0; bits < f.infinity(); ++bits) {
            const double low = defined(bits, f.mantissa, f.bias);
            // What would follow the largest finite value, were the exponent one wider.
            const double high = defined(static_cast<uint16_t>(bits + 1), f.mantissa, f.bias);
            const double half = low + (high - low) / 2;
            const auto middle = static_cast<float>(half);
            if (static_cast<double>(middle) != half) continue;  // below f32's own precision
            const uint16_t even = bits & 1 ? static_cast<uint16_t>(bits + 1) : bits;
            const auto up = static_cast<uint16_t>(bits + 1);
            for (const float sign : {1.0f, -1.0f}) {
                const auto signed_bits = [&](uint16_t b) { return static_cast<uint16_t>(sign < 0 ? b | 0x8000 : b); };
                wrong += f.narrow(sign * middle) != signed_bits(even);
                wrong += f.narrow(sign * std::nextafter(middle, 0.0f)) != signed_bits(bits);
                wrong += f.narrow(sign * std::nextafter(middle, INFINITY)) != signed_bits(up);
            }
        }
        CHECK(wrong == 0);
        CHECK(f.narrow(INFINITY) == f.infinity());
        CHECK(f.narrow(-INFINITY) == (f.infinity() | 0x8000));
        CHECK(f.narrow(3.4e38f) == (f.mantissa == 10 ? 0x7c00 : 0x7f80));
        CHECK(f.narrow(1e-45f) == 0);
        CHECK(f.narrow(-0.0f) == 0x8000);
        // A NaN whose payload lies only in the bits that are dropped.
        CHECK((f.narrow(bits_float(0x7f800001u)) & 0x7fff) > f.infinity());
        CHECK((f.narrow(bits_float(0xffffffffu)) & 0x7fff) > f.infinity());
    }
}

TEST_CASE("the nearest of random values") {
    std::mt19937 random(3);
    for (const Format& f : kFormats) {
        int wrong = 0;
        for (int i = 0; i < 200000; ++i) {
            const float x = bits_float(random() & 0x7fffffffu);
            const uint16_t bits = f.narrow(x);
            if (std::isnan(x) || bits == f.infinity()) continue;
            const double error = std::abs(defined(bits, f.mantissa, f.bias) - static_cast<double>(x));
            const double up = std::abs(defined(static_cast<uint16_t>(bits + 1), f.mantissa, f.bias) - static_cast<double>(x));
            const double down =
                bits ? std::abs(defined(static_cast<uint16_t>(bits - 1), f.mantissa, f.bias) - static_cast<double>(x)) : error;
            wrong += error > up || error > down;
        }
        CHECK(wrong == 0);
    }
}

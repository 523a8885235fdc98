// Floating point as PTX defines it, on single values: conversions, correctly rounded arithmetic, minima, and float-to-integer conversion. Pure functions,
// independent of the processor's rounding mode, made to be inlined into loops over lanes: the common cases (round to nearest, constant flags) fold away.
//
// f16 and bf16 are their bits in a strong type; f32 and f64 are native. Every operation rounds once, also in the directed modes and into subnormals. NaN
// results of f32, f16 and bf16 arithmetic are the canonical NaN of the ISA (0x7fffffff, 0x7fff); f64 gives a quiet NaN.
//
// Narrow arithmetic works in double: an inexact intermediate is rounded to odd (its last bit says "something was cut off"), and 53 bits to odd then round
// to 24 or fewer bits in any mode as the exact value would.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace flexemu::numeric {

/// .rn .rna .rz .rm .rp; of conversions to integers also .rni .rzi .rmi .rpi.
enum class Rounding : uint8_t { NearestEven, NearestAway, Zero, Down, Up };

struct F16 {
    uint16_t bits = 0;
};
struct BF16 {
    uint16_t bits = 0;
};

/// How arithmetic is modified: .ftz (subnormal inputs and results become zeros of their sign) and .sat (to [0, 1], NaN to +0).
struct Mode {
    Rounding rounding = Rounding::NearestEven;
    bool ftz = false, sat = false;
};

// Formats

inline constexpr uint32_t kCanonicalF32 = 0x7fffffff;
inline constexpr uint16_t kCanonicalHalf = 0x7fff;  // of f16 and of bf16
inline constexpr uint8_t kCanonicalE4M3 = 0x7f, kCanonicalE5M2 = 0x7f;

inline float canonical_nan() {
    return std::bit_cast<float>(kCanonicalF32);
}
inline float canonical(float value) {
    return value == value ? value : canonical_nan();
}

/// A binary format narrower than double. With infinities all codes of the highest exponent are Inf or NaN; without (e4m3) only the all-ones code is NaN.
struct Format {
    int exponent_bits = 0, mantissa_bits = 0;
    bool infinities = true;
    [[nodiscard]] constexpr int bias() const { return (1 << (exponent_bits - 1)) - 1; }
    [[nodiscard]] constexpr uint32_t sign_bit() const { return uint32_t{1} << (exponent_bits + mantissa_bits); }
    [[nodiscard]] constexpr uint32_t infinity() const { return ((uint32_t{1} << exponent_bits) - 1) << mantissa_bits; }
    [[nodiscard]] constexpr uint32_t largest() const { return infinities ? infinity() - 1 : sign_bit() - 2; }
    [[nodiscard]] constexpr uint32_t nan() const { return sign_bit() - 1; }
};
inline constexpr Format kF16{5, 10}, kBF16{8, 7}, kTF32{8, 10}, kF32{8, 23}, kE5M2{5, 2}, kE4M3{4, 3, false};

/// The bits of `value` in the format, rounded once. `satfinite`: what lies outside, infinities too, becomes the largest finite number of its sign; NaN stays
/// NaN. A format without infinities gives NaN for them otherwise.
uint32_t round_to(const Format& format, double value, Rounding rounding, bool satfinite = false);
/// The exact value of bits of the format.
double widen(const Format& format, uint32_t bits);

inline float to_f32(F16 value) {
    // The exponent is moved by a multiplication, which also normalises subnormals.
    const uint32_t magnitude = uint32_t{value.bits} & 0x7fff, sign = uint32_t{value.bits & 0x8000u} << 16;
    const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
    const uint32_t bits = magnitude >= 0x7c00 ? (magnitude << 13) | 0x7f800000 : std::bit_cast<uint32_t>(scaled);
    return std::bit_cast<float>(bits | sign);
}
inline float to_f32(BF16 value) {
    return std::bit_cast<float>(uint32_t{value.bits} << 16);
}
inline float e4m3_to_f32(uint8_t bits) {
    return static_cast<float>(widen(kE4M3, bits));
}
inline float e5m2_to_f32(uint8_t bits) {
    return static_cast<float>(widen(kE5M2, bits));
}
inline F16 to_f16(double value, Rounding rounding = Rounding::NearestEven, bool satfinite = false) {
    return {static_cast<uint16_t>(round_to(kF16, value, rounding, satfinite))};
}
inline BF16 to_bf16(double value, Rounding rounding = Rounding::NearestEven, bool satfinite = false) {
    return {static_cast<uint16_t>(round_to(kBF16, value, rounding, satfinite))};
}
/// f64 -> f32 (and any exact intermediate).
inline float to_f32(double value, Rounding rounding) {
    if (rounding == Rounding::NearestEven) return canonical(static_cast<float>(value));
    return std::bit_cast<float>(round_to(kF32, value, rounding));
}
/// A tf32 as the f32 it is kept in, low 13 bits zero; NaN is 0x7fffffff.
uint32_t to_tf32(float value, Rounding rounding, bool satfinite = false);
inline uint8_t to_e4m3(double value, Rounding rounding = Rounding::NearestEven) {
    return static_cast<uint8_t>(round_to(kE4M3, value, rounding, true));
}
inline uint8_t to_e5m2(double value, Rounding rounding = Rounding::NearestEven) {
    return static_cast<uint8_t>(round_to(kE5M2, value, rounding, true));
}
/// .relu of conversions and of fma: negative values become +0, NaN the canonical NaN.
inline double relu(double value) {
    return value <= 0 ? 0.0 : value;
}

// Flags

inline float flush(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    return (bits & 0x7f800000) == 0 ? std::bit_cast<float>(bits & 0x80000000) : value;
}
inline F16 flush(F16 value) {
    return {static_cast<uint16_t>((value.bits & 0x7c00) == 0 ? value.bits & 0x8000 : value.bits)};
}
inline BF16 flush(BF16 value) {
    return {static_cast<uint16_t>((value.bits & 0x7f80) == 0 ? value.bits & 0x8000 : value.bits)};
}
/// .sat: [0, 1]; NaN and both zeros give +0.
inline float saturate(float value) {
    return value > 0 ? (value < 1 ? value : 1.0f) : 0.0f;
}
inline double saturate(double value) {
    return value > 0 ? (value < 1 ? value : 1.0) : 0.0;
}
inline float finish(float value, const Mode& mode) {
    value = canonical(value);
    if (mode.ftz) value = flush(value);
    return mode.sat ? saturate(value) : value;
}

// Arithmetic

/// a + b to odd, unless it is exact, infinite or NaN. No cancellation may underflow: operands are sums and products of narrower numbers.
inline double add_to_odd(double a, double b) {
    const double sum = a + b;
    const double b_part = sum - a;
    const double a_part = sum - b_part;
    const double error = (a - a_part) + (b - b_part);
    const uint64_t bits = std::bit_cast<uint64_t>(sum);
    const bool outwards = (error > 0) == (sum > 0);
    const bool inexact = error > 0 || error < 0;
    const uint64_t step = inexact && (bits & 1) == 0 ? (outwards ? 1 : ~uint64_t{0}) : 0;
    return std::bit_cast<double>(bits + step);
}
double div_to_odd(double a, double b);  // of values that are f32 or narrower
double sqrt_to_odd(double a);

inline float add(float a, float b, const Mode& mode = {}) {
    if (mode.ftz) a = flush(a), b = flush(b);
    if (mode.rounding == Rounding::NearestEven) return finish(a + b, mode);
    // An exact zero of opposite operands is -0 when rounding down.
    const double sum = add_to_odd(a, b);
    if (sum == 0 && mode.rounding == Rounding::Down && !(std::signbit(a) == 0 && std::signbit(b) == 0)) return finish(-0.0f, mode);
    return finish(to_f32(sum, mode.rounding), mode);
}
inline float sub(float a, float b, const Mode& mode = {}) {
    return add(a, -b, mode);
}
inline float mul(float a, float b, const Mode& mode = {}) {
    if (mode.ftz) a = flush(a), b = flush(b);
    if (mode.rounding == Rounding::NearestEven) return finish(a * b, mode);
    return finish(to_f32(static_cast<double>(a) * static_cast<double>(b), mode.rounding), mode);
}
inline float fma(float a, float b, float c, const Mode& mode = {}) {
    if (mode.ftz) a = flush(a), b = flush(b), c = flush(c);
    const double product = static_cast<double>(a) * static_cast<double>(b);
    const double sum = add_to_odd(product, static_cast<double>(c));
    if (mode.rounding == Rounding::NearestEven) return finish(static_cast<float>(sum), mode);
    if (sum == 0 && mode.rounding == Rounding::Down && (std::signbit(product) || std::signbit(c))) return finish(-0.0f, mode);
    return finish(to_f32(sum, mode.rounding), mode);
}
inline float div(float a, float b, const Mode& mode = {}) {
    if (mode.ftz) a = flush(a), b = flush(b);
    if (mode.rounding == Rounding::NearestEven) return finish(a / b, mode);
    return finish(to_f32(div_to_odd(a, b), mode.rounding), mode);
}
inline float rcp(float a, const Mode& mode = {}) {
    return div(1.0f, a, mode);
}
inline float sqrt(float a, const Mode& mode = {}) {
    if (mode.ftz) a = flush(a);
    if (mode.rounding == Rounding::NearestEven) return finish(std::sqrt(a), mode);
    return finish(to_f32(sqrt_to_odd(a), mode.rounding), mode);
}

double add(double a, double b, Rounding rounding = Rounding::NearestEven);
double mul(double a, double b, Rounding rounding = Rounding::NearestEven);
double fma(double a, double b, double c, Rounding rounding = Rounding::NearestEven);
double div(double a, double b, Rounding rounding = Rounding::NearestEven);
double sqrt(double a, Rounding rounding = Rounding::NearestEven);
inline double sub(double a, double b, Rounding rounding = Rounding::NearestEven) {
    return add(a, -b, rounding);
}
inline double rcp(double a, Rounding rounding = Rounding::NearestEven) {
    return div(1.0, a, rounding);
}

// f16 and bf16 round to nearest only; Mode::rounding is not looked at. `relu` as in fma.relu: negative results become +0.
F16 add(F16 a, F16 b, const Mode& mode = {});
F16 sub(F16 a, F16 b, const Mode& mode = {});
F16 mul(F16 a, F16 b, const Mode& mode = {});
F16 fma(F16 a, F16 b, F16 c, const Mode& mode = {}, bool relu = false);
BF16 add(BF16 a, BF16 b, const Mode& mode = {});
BF16 sub(BF16 a, BF16 b, const Mode& mode = {});
BF16 mul(BF16 a, BF16 b, const Mode& mode = {});
BF16 fma(BF16 a, BF16 b, BF16 c, const Mode& mode = {}, bool relu = false);

/// Of min and max: .NaN (any NaN operand gives the canonical NaN; else it gives the other operand) and .xorsign.abs (of the magnitudes, with the product of
/// the signs). -0 is less than +0.
struct Choice {
    bool nan = false, xorsign_abs = false, ftz = false;
};
float min(float a, float b, const Choice& choice = {});
float max(float a, float b, const Choice& choice = {});
double min(double a, double b);
double max(double a, double b);
F16 min(F16 a, F16 b, const Choice& choice = {});
F16 max(F16 a, F16 b, const Choice& choice = {});
BF16 min(BF16 a, BF16 b, const Choice& choice = {});
BF16 max(BF16 a, BF16 b, const Choice& choice = {});

// Integers

/// cvt.rni.f32.f32 and the like: a whole number in the same format. NearestAway is not used by PTX but defined.
double round_to_integral(double value, Rounding rounding);
/// Two's complement of `width` bits (8 to 64), zero-extended; what does not fit becomes the nearest that does. NaN gives 0, but 1 << (width - 1) where the
/// source is f64 or the result has 64 bits.
uint64_t to_integer(double value, Rounding rounding, int width, bool is_signed, bool source_is_f64);
/// An integer as a float: sign and magnitude, rounded once.
double integer_to_f64(bool negative, uint64_t magnitude, Rounding rounding);
uint32_t integer_to(const Format& format, bool negative, uint64_t magnitude, Rounding rounding, bool satfinite = false);
inline float integer_to_f32(bool negative, uint64_t magnitude, Rounding rounding) {
    return std::bit_cast<float>(integer_to(kF32, negative, magnitude, rounding));
}

}  // namespace flexemu::numeric

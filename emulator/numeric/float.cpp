#include "emulator/numeric/float.h"

namespace flexemu::numeric {
namespace {

using Wide = unsigned __int128;

int width(Wide value) {
    const auto high = static_cast<uint64_t>(value >> 64);
    return high != 0 ? 128 - std::countl_zero(high) : 64 - std::countl_zero(static_cast<uint64_t>(value));
}

/// Shifts right; what falls off is kept as the lowest bit.
Wide shift_sticky(Wide value, int count) {
    if (count <= 0) return value;
    if (count > 127) return value != 0 ? 1 : 0;
    const Wide lost = value & ((Wide{1} << count) - 1);
    return (value >> count) | (lost != 0 ? 1 : 0);
}

/// Whether the kept part is moved up, given the part cut off compared with a half (-1, 0, 1) and whether there is any.
bool rounds_up(Rounding rounding, bool negative, bool odd, bool any, int against_half) {
    switch (rounding) {
        case Rounding::NearestEven: return against_half > 0 || (against_half == 0 && odd);
        case Rounding::NearestAway: return against_half >= 0 && any;
        case Rounding::Zero: return false;
        case Rounding::Down: return negative && any;
        case Rounding::Up: return !negative && any;
    }
    return false;
}

bool overflow_is_infinite(Rounding rounding, bool negative) {
    switch (rounding) {
        case Rounding::NearestEven:
        case Rounding::NearestAway: return true;
        case Rounding::Zero: return false;
        case Rounding::Down: return negative;
        case Rounding::Up: return !negative;
    }
    return true;
}

/// magnitude * 2^exponent as f64; the lowest bit of the magnitude may be sticky if it has more than 54 bits.
double round_f64(bool negative, Wide magnitude, int exponent, Rounding rounding) {
    const uint64_t sign = negative ? uint64_t{1} << 63 : 0;
    if (magnitude == 0) return std::bit_cast<double>(sign);
    const int lead = width(magnitude) - 1 + exponent;  // of the value: 2^lead <= |value|
    const int unit = (lead < -1022 ? -1022 : lead) - 52;
    const int shift = unit - exponent;
    uint64_t kept = 0;
    bool any = false;
    int against_half = -1;
    if (shift <= 0) {
        kept = static_cast<uint64_t>(magnitude << -shift);
    } else if (shift > 127) {
        any = true;
    } else {
        kept = static_cast<uint64_t>(magnitude >> shift);
        const Wide rest = magnitude & ((Wide{1} << shift) - 1), half = Wide{1} << (shift - 1);
        any = rest != 0;
        against_half = rest > half ? 1 : rest == half ? 0 : -1;
    }
    kept += rounds_up(rounding, negative, (kept & 1) != 0, any, against_half) ? 1 : 0;
    // The leading bit of a normal number adds one to the exponent field, and so does a carry.
    const uint64_t field = lead < -1022 ? 0 : static_cast<uint64_t>(lead + 1022);
    uint64_t bits = lead > 1023 ? uint64_t{0x7ff} << 52 : (field << 52) + kept;
    if (bits >= uint64_t{0x7ff} << 52) bits = (uint64_t{0x7ff} << 52) - (overflow_is_infinite(rounding, negative) ? 0 : 1);
    return std::bit_cast<double>(sign | bits);
}

/// A finite f64 as integer times a power of two.
struct Parts {
    bool negative = false;
    uint64_t magnitude = 0;
    int exponent = 0;
};
Parts parts_of(double value) {
    const uint64_t bits = std::bit_cast<uint64_t>(value), fraction = bits & ((uint64_t{1} << 52) - 1);
    const int field = static_cast<int>(bits >> 52 & 0x7ff);
    return {(bits >> 63) != 0, field == 0 ? fraction : fraction | uint64_t{1} << 52, (field == 0 ? 1 : field) - 1075};
}

/// x + y * 2^0 with x, y given as magnitudes below 2^107 and exponents; exact but for a sticky bit far below the result's precision.
double add_parts(bool x_negative, Wide x, int x_exponent, bool y_negative, Wide y, int y_exponent, Rounding rounding) {
    if (x == 0 && y == 0) {
        const bool negative = x_negative == y_negative ? x_negative : rounding == Rounding::Down;
        return negative ? -0.0 : 0.0;
    }
    if (x == 0) return round_f64(y_negative, y, y_exponent, rounding);
    if (y == 0) return round_f64(x_negative, x, x_exponent, rounding);
    // Both leading bits to bit 120; then the smaller one down by the difference. Close exponents lose nothing: 107 bits and a few fit below bit 120.
    const int x_up = 121 - width(x), y_up = 121 - width(y);
    x <<= x_up, x_exponent -= x_up;
    y <<= y_up, y_exponent -= y_up;
    const int exponent = x_exponent > y_exponent ? x_exponent : y_exponent;
    x = shift_sticky(x, exponent - x_exponent);
    y = shift_sticky(y, exponent - y_exponent);
    if (x_negative == y_negative) return round_f64(x_negative, x + y, exponent, rounding);
    if (x == y) return rounding == Rounding::Down ? -0.0 : 0.0;
    return x > y ? round_f64(x_negative, x - y, exponent, rounding) : round_f64(y_negative, y - x, exponent, rounding);
}

bool all_finite(double a, double b, double c = 0) {
    return std::isfinite(a) && std::isfinite(b) && std::isfinite(c);
}

}  // namespace

uint32_t round_to(const Format& format, double value, Rounding rounding, bool satfinite) {
    const uint64_t bits = std::bit_cast<uint64_t>(value);
    const bool negative = (bits >> 63) != 0;
    const uint32_t sign = negative ? format.sign_bit() : 0;
    const uint64_t magnitude = bits & ~(uint64_t{1} << 63);
    if (magnitude >= uint64_t{0x7ff} << 52) {
        if (magnitude > uint64_t{0x7ff} << 52) return format.nan();
        if (satfinite) return sign | format.largest();
        return format.infinities ? sign | format.infinity() : format.nan();
    }
    if (magnitude == 0) return sign;
    const int exponent =
        static_cast<int>(magnitude >> 52) - 1023;  // of a subnormal double far below any format's least number: its value does not matter
    const uint64_t significand = (magnitude & ((uint64_t{1} << 52) - 1)) | uint64_t{1} << 52;
    const int least = 1 - format.bias();
    int shift = 52 - format.mantissa_bits + (exponent < least ? least - exponent : 0);
    if (shift > 60) shift = 60;
    const uint64_t rest = significand & ((uint64_t{1} << shift) - 1), half = uint64_t{1} << (shift - 1);
    auto kept = static_cast<uint32_t>(significand >> shift);
    kept += rounds_up(rounding, negative, (kept & 1) != 0, rest != 0, rest > half ? 1 : rest == half ? 0 : -1) ? 1 : 0;
    const uint64_t code = (exponent < least ? 0 : static_cast<uint64_t>(exponent - least) << format.mantissa_bits) + kept;
    if (code <= format.largest()) return sign | static_cast<uint32_t>(code);
    if (satfinite || !overflow_is_infinite(rounding, negative)) return sign | format.largest();
    return format.infinities ? sign | format.infinity() : format.nan();
}

double widen(const Format& format, uint32_t bits) {
    const uint32_t magnitude = bits & format.nan();
    const bool negative = (bits & format.sign_bit()) != 0;
    if (magnitude > format.largest()) {
        if (format.infinities && magnitude == format.infinity())
            return negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
        return std::numeric_limits<double>::quiet_NaN();
    }
    const int field = static_cast<int>(magnitude >> format.mantissa_bits);
    const uint32_t fraction = magnitude & ((uint32_t{1} << format.mantissa_bits) - 1);
    const double significand = field == 0 ? fraction : fraction + (uint32_t{1} << format.mantissa_bits);
    const double value = std::ldexp(significand, (field == 0 ? 1 : field) - format.bias() - format.mantissa_bits);
    return negative ? -value : value;
}

uint32_t to_tf32(float value, Rounding rounding, bool satfinite) {
    if (value != value) return kCanonicalF32;
    return round_to(kTF32, static_cast<double>(value), rounding, satfinite) << 13;
}

double div_to_odd(double a, double b) {
    const double quotient = a / b;
    if (!std::isfinite(quotient) || quotient == 0 || !std::isfinite(b)) return quotient;
    const double rest = std::fma(-quotient, b, a);
    const uint64_t bits = std::bit_cast<uint64_t>(quotient);
    if (rest == 0 || (bits & 1) != 0) return quotient;
    // The exact quotient lies beyond the rounded one where the rest has the sign of a.
    return std::bit_cast<double>((rest > 0) == (a > 0) ? bits + 1 : bits - 1);
}

double sqrt_to_odd(double a) {
    const double root = std::sqrt(a);
    if (!std::isfinite(root) || root == 0) return root;
    const double rest = std::fma(-root, root, a);
    const uint64_t bits = std::bit_cast<uint64_t>(root);
    if (rest == 0 || (bits & 1) != 0) return root;
    return std::bit_cast<double>(rest > 0 ? bits + 1 : bits - 1);
}

double add(double a, double b, Rounding rounding) {
    if (rounding == Rounding::NearestEven || !all_finite(a, b)) return a + b;
    const Parts x = parts_of(a), y = parts_of(b);
    return add_parts(x.negative, x.magnitude, x.exponent, y.negative, y.magnitude, y.exponent, rounding);
}

double mul(double a, double b, Rounding rounding) {
    if (rounding == Rounding::NearestEven || !all_finite(a, b)) return a * b;
    const Parts x = parts_of(a), y = parts_of(b);
    return round_f64(x.negative != y.negative, Wide{x.magnitude} * y.magnitude, x.exponent + y.exponent, rounding);
}

double fma(double a, double b, double c, Rounding rounding) {
    if (rounding == Rounding::NearestEven || !all_finite(a, b, c)) return std::fma(a, b, c);
    const Parts x = parts_of(a), y = parts_of(b), z = parts_of(c);
    return add_parts(x.negative != y.negative, Wide{x.magnitude} * y.magnitude, x.exponent + y.exponent, z.negative, z.magnitude,
                     z.exponent, rounding);
}

double div(double a, double b, Rounding rounding) {
    if (rounding == Rounding::NearestEven || !all_finite(a, b) || a == 0 || b == 0) return a / b;
    const Parts x = parts_of(a), y = parts_of(b);
    // Normalised to 64 and 53 bits, the quotient has at least 65 - 54 + 64 bits.
    const int y_up = 53 - width(y.magnitude), x_up = 120 - width(x.magnitude);
    const Wide numerator = Wide{x.magnitude} << x_up, denominator = Wide{y.magnitude} << y_up;
    const Wide quotient = numerator / denominator;
    const Wide sticky = numerator % denominator != 0 ? 1 : 0;
    return round_f64(x.negative != y.negative, (quotient << 1) | sticky, x.exponent - x_up - y.exponent + y_up - 1, rounding);
}

double sqrt(double a, Rounding rounding) {
    if (rounding == Rounding::NearestEven || !(a > 0) || !std::isfinite(a)) return std::sqrt(a);
    Parts x = parts_of(a);
    int up = 118 - width(x.magnitude);
    if (((x.exponent - up) & 1) != 0) --up;
    const Wide wide = Wide{x.magnitude} << up;
    // The root has about 59 bits: one estimate from f64, then exact corrections.
    auto root = static_cast<uint64_t>(std::sqrt(static_cast<double>(wide)));
    while (Wide{root} * root > wide) root -= 1 + static_cast<uint64_t>((Wide{root} * root - wide) / (Wide{root} * 2));
    while (wide - Wide{root} * root > Wide{root} * 2)
        root += 1 + static_cast<uint64_t>((wide - Wide{root} * root) / (Wide{root} * 2 + 2)) / 2;
    const Wide sticky = Wide{root} * root != wide ? 1 : 0;
    return round_f64(false, (Wide{root} << 1) | sticky, (x.exponent - up) / 2 - 1, rounding);
}

namespace {

double wide_value(F16 value) {
    return static_cast<double>(to_f32(value));
}
double wide_value(BF16 value) {
    return static_cast<double>(to_f32(value));
}
template <typename Half>
constexpr const Format& format_of() {
    if constexpr (std::is_same_v<Half, F16>)
        return kF16;
    else
        return kBF16;
}

template <typename Half>
Half finish_half(double value, const Mode& mode, bool relu_result) {
    if (mode.sat) value = value == value ? saturate(value) : 0.0;
    if (relu_result) value = relu(value);
    Half result{static_cast<uint16_t>(round_to(format_of<Half>(), value, Rounding::NearestEven))};
    return mode.ftz ? flush(result) : result;
}

template <typename Half>
Half add_half(Half a, Half b, const Mode& mode) {
    if (mode.ftz) a = flush(a), b = flush(b);
    return finish_half<Half>(add_to_odd(wide_value(a), wide_value(b)), mode, false);
}
template <typename Half>
Half mul_half(Half a, Half b, const Mode& mode) {
    if (mode.ftz) a = flush(a), b = flush(b);
    return finish_half<Half>(wide_value(a) * wide_value(b), mode, false);
}
template <typename Half>
Half fma_half(Half a, Half b, Half c, const Mode& mode, bool relu_result) {
    if (mode.ftz) a = flush(a), b = flush(b), c = flush(c);
    const double product = wide_value(a) * wide_value(b);
    return finish_half<Half>(add_to_odd(product, wide_value(c)), mode, relu_result);
}
template <typename Half>
Half negated(Half value) {
    return {static_cast<uint16_t>(value.bits ^ 0x8000)};
}

/// min and max on bits: formats of sign and magnitude order alike.
template <typename Bits>
Bits choose(Bits a, Bits b, Bits sign_bit, Bits infinity, Bits canonical_bits, bool want_max, const Choice& choice) {
    const Bits sign = (a ^ b) & sign_bit;
    const bool a_nan = (a & static_cast<Bits>(~sign_bit)) > infinity, b_nan = (b & static_cast<Bits>(~sign_bit)) > infinity;
    if ((a_nan && b_nan) || (choice.nan && (a_nan || b_nan))) return canonical_bits;
    if (choice.xorsign_abs) a &= static_cast<Bits>(~sign_bit), b &= static_cast<Bits>(~sign_bit);
    const auto key = [&](Bits bits) { return (bits & sign_bit) != 0 ? static_cast<Bits>(~bits) : static_cast<Bits>(bits | sign_bit); };
    Bits result;
    if (a_nan || b_nan)
        result = a_nan ? b : a;
    else
        result = (key(a) < key(b)) == want_max ? b : a;
    return choice.xorsign_abs ? static_cast<Bits>((result & static_cast<Bits>(~sign_bit)) | sign) : result;
}

float choose_f32(float a, float b, bool want_max, const Choice& choice) {
    if (choice.ftz) a = flush(a), b = flush(b);
    return std::bit_cast<float>(
        choose<uint32_t>(std::bit_cast<uint32_t>(a), std::bit_cast<uint32_t>(b), 0x80000000, 0x7f800000, kCanonicalF32, want_max, choice));
}
double choose_f64(double a, double b, bool want_max) {
    return std::bit_cast<double>(choose<uint64_t>(std::bit_cast<uint64_t>(a), std::bit_cast<uint64_t>(b), uint64_t{1} << 63,
                                                  uint64_t{0x7ff} << 52, uint64_t{0x7ff8} << 48, want_max, {}));
}
template <typename Half>
Half choose_half(Half a, Half b, bool want_max, const Choice& choice) {
    if (choice.ftz) a = flush(a), b = flush(b);
    const auto infinity = static_cast<uint16_t>(format_of<Half>().infinity());
    return {choose<uint16_t>(a.bits, b.bits, 0x8000, infinity, kCanonicalHalf, want_max, choice)};
}

}  // namespace

F16 add(F16 a, F16 b, const Mode& mode) {
    return add_half(a, b, mode);
}
F16 sub(F16 a, F16 b, const Mode& mode) {
    return add_half(a, negated(b), mode);
}
F16 mul(F16 a, F16 b, const Mode& mode) {
    return mul_half(a, b, mode);
}
F16 fma(F16 a, F16 b, F16 c, const Mode& mode, bool relu_result) {
    return fma_half(a, b, c, mode, relu_result);
}
BF16 add(BF16 a, BF16 b, const Mode& mode) {
    return add_half(a, b, mode);
}
BF16 sub(BF16 a, BF16 b, const Mode& mode) {
    return add_half(a, negated(b), mode);
}
BF16 mul(BF16 a, BF16 b, const Mode& mode) {
    return mul_half(a, b, mode);
}
BF16 fma(BF16 a, BF16 b, BF16 c, const Mode& mode, bool relu_result) {
    return fma_half(a, b, c, mode, relu_result);
}

float min(float a, float b, const Choice& choice) {
    return choose_f32(a, b, false, choice);
}
float max(float a, float b, const Choice& choice) {
    return choose_f32(a, b, true, choice);
}
double min(double a, double b) {
    return choose_f64(a, b, false);
}
double max(double a, double b) {
    return choose_f64(a, b, true);
}
F16 min(F16 a, F16 b, const Choice& choice) {
    return choose_half(a, b, false, choice);
}
F16 max(F16 a, F16 b, const Choice& choice) {
    return choose_half(a, b, true, choice);
}
BF16 min(BF16 a, BF16 b, const Choice& choice) {
    return choose_half(a, b, false, choice);
}
BF16 max(BF16 a, BF16 b, const Choice& choice) {
    return choose_half(a, b, true, choice);
}

double round_to_integral(double value, Rounding rounding) {
    if (!(std::fabs(value) < 0x1p52)) return value;
    const double magnitude = std::fabs(value), whole = static_cast<double>(static_cast<int64_t>(magnitude)), rest = magnitude - whole;
    const bool odd = (static_cast<int64_t>(magnitude) & 1) != 0;
    const bool up = rounds_up(rounding, std::signbit(value), odd, rest > 0, rest > 0.5 ? 1 : rest == 0.5 ? 0 : -1);
    return std::copysign(whole + (up ? 1 : 0), value);
}

uint64_t to_integer(double value, Rounding rounding, int bit_count, bool is_signed, bool source_is_f64) {
    const uint64_t mask = bit_count == 64 ? ~uint64_t{0} : (uint64_t{1} << bit_count) - 1;
    if (value != value) return source_is_f64 || bit_count == 64 ? uint64_t{1} << (bit_count - 1) : 0;
    const double whole = round_to_integral(value, rounding);
    if (is_signed) {
        const double limit = std::ldexp(1.0, bit_count - 1);
        if (whole >= limit) return mask >> 1;
        if (whole < -limit) return uint64_t{1} << (bit_count - 1);
        return static_cast<uint64_t>(static_cast<int64_t>(whole)) & mask;
    }
    if (whole <= 0) return 0;
    if (whole >= std::ldexp(1.0, bit_count)) return mask;
    return static_cast<uint64_t>(whole);
}

double integer_to_f64(bool negative, uint64_t magnitude, Rounding rounding) {
    return magnitude == 0 ? 0.0 : round_f64(negative, magnitude, 0, rounding);
}

uint32_t integer_to(const Format& format, bool negative, uint64_t magnitude, Rounding rounding, bool satfinite) {
    if (magnitude == 0) return 0;
    // To 53 bits, rounded to odd.
    const int over = 64 - std::countl_zero(magnitude) - 53;
    double value;
    if (over <= 0)
        value = static_cast<double>(magnitude);
    else
        value = std::ldexp(static_cast<double>(static_cast<uint64_t>(shift_sticky(magnitude, over))), over);
    return round_to(format, negative ? -value : value, rounding, satfinite);
}

}  // namespace flexemu::numeric

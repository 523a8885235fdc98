#include "tests/unit/emulator/float_reference.h"

#include <bit>

namespace flexemu::test {
namespace {

Quad power_of_two(int exponent) {
    return std::bit_cast<Quad>(static_cast<unsigned __int128>(exponent + 16383) << 112);
}

bool negative(Quad value) {
    return (std::bit_cast<unsigned __int128>(value) >> 127) != 0;
}
bool infinite(Quad value) {
    return value == value && value - value != value - value;
}

/// floor(log2(|value|)) of a finite number that is not 0.
int exponent_of(Quad value) {
    return static_cast<int>((std::bit_cast<unsigned __int128>(value) >> 112) & 0x7fff) - 16383;
}

/// The whole number below |value|, and how the rest compares with a half: -1, 0, 1; `any`: there is a rest.
Quad floor_of(Quad magnitude, int rest, int* half, bool* any) {
    Quad result = magnitude;
    if (magnitude < power_of_two(112)) {
        const auto digits = static_cast<unsigned __int128>(magnitude);
        result = static_cast<Quad>(digits);
    }
    Quad fraction = magnitude - result;
    if (fraction == 0 && rest < 0) {
        result -= 1;
        *half = 1;
        *any = true;
        return result;
    }
    *any = fraction != 0 || rest != 0;
    *half = fraction > Quad{0.5} ? 1 : fraction < Quad{0.5} ? -1 : rest;
    return result;
}

Quad round_magnitude(Quad magnitude, int rest, bool is_negative, Round round) {
    int half = 0;
    bool any = false;
    const Quad below = floor_of(magnitude, rest, &half, &any);
    bool up = false;
    switch (round) {
        case Round::Nearest: {
            const Quad halved = below * Quad{0.5};
            int unused = 0;
            bool odd = false;
            floor_of(halved, 0, &unused, &odd);
            up = half > 0 || (half == 0 && odd);
            break;
        }
        case Round::Away: up = half >= 0; break;
        case Round::Zero: break;
        case Round::Down: up = any && is_negative; break;
        case Round::Up: up = any && !is_negative; break;
    }
    return up ? below + 1 : below;
}

uint64_t ones(int count) {
    return (uint64_t{1} << count) - 1;
}

}  // namespace

const char* spelling(Round round) {
    switch (round) {
        case Round::Nearest: return "rn";
        case Round::Away: return "rna";
        case Round::Zero: return "rz";
        case Round::Down: return "rm";
        case Round::Up: return "rp";
    }
    return "";
}

Exact exact(Quad value) {
    return {value, 0, value != value};
}

Exact sum(Exact a, Exact b, Round round) {
    if (a.is_nan || b.is_nan) return {0, 0, true};
    const Quad total = a.value + b.value;
    if (total != total) return {0, 0, true};
    if (infinite(total)) return {total, 0, false};
    if (total == 0) {
        if (negative(a.value) == negative(b.value)) return {a.value, 0, false};
        return {round == Round::Down ? -Quad{0} : Quad{0}, 0, false};
    }
    const Quad b_part = total - a.value, a_part = total - b_part;
    const Quad error = (a.value - a_part) + (b.value - b_part);
    return {total, error > 0 ? 1 : error < 0 ? -1 : 0, false};
}

Exact product(Exact a, Exact b) {
    const Quad value = a.value * b.value;
    return {value, 0, a.is_nan || b.is_nan || value != value};
}

Exact quotient(Exact a, Exact b) {
    const Quad value = a.value / b.value;
    return {value, 0, a.is_nan || b.is_nan || value != value};
}

Exact decode(const Layout& layout, uint64_t bits) {
    const int bias = (1 << (layout.exponent_bits - 1)) - 1;
    const uint64_t mantissa = bits & ones(layout.mantissa_bits), exponent = bits >> layout.mantissa_bits & ones(layout.exponent_bits);
    const bool is_negative = (bits >> (layout.mantissa_bits + layout.exponent_bits) & 1) != 0;
    Quad magnitude = 0;
    if (exponent == ones(layout.exponent_bits) && layout.infinities) {
        if (mantissa != 0) return {0, 0, true};
        magnitude = Quad{1} / Quad{0};
    } else if (!layout.infinities && exponent == ones(layout.exponent_bits) && mantissa == ones(layout.mantissa_bits)) {
        return {0, 0, true};
    } else if (exponent == 0) {
        magnitude = static_cast<Quad>(mantissa) * power_of_two(1 - bias - layout.mantissa_bits);
    } else {
        magnitude = static_cast<Quad>(mantissa + ones(layout.mantissa_bits) + 1) *
                    power_of_two(static_cast<int>(exponent) - bias - layout.mantissa_bits);
    }
    return {is_negative ? -magnitude : magnitude, 0, false};
}

uint64_t encode(const Layout& layout, Exact value, Round round, bool saturate_finite) {
    const int bias = (1 << (layout.exponent_bits - 1)) - 1, width = layout.exponent_bits + layout.mantissa_bits;
    if (value.is_nan) return ones(width);
    const bool is_negative = negative(value.value);
    const uint64_t sign = is_negative ? uint64_t{1} << width : 0;
    const uint64_t infinity = layout.infinities ? ones(layout.exponent_bits) << layout.mantissa_bits : ones(width);
    const uint64_t largest = infinity - 1;
    const Quad magnitude = is_negative ? -value.value : value.value;
    const int rest = is_negative ? -value.rest : value.rest;
    if (infinite(magnitude)) return saturate_finite ? sign | largest : layout.infinities ? sign | infinity : ones(width);
    if (magnitude == 0) return sign;
    // A rest below a power of two belongs to the finer spacing there, of which the last bit alone is missing: it rounds as from one more digit.
    int exponent = exponent_of(magnitude);
    if (exponent < 1 - bias) exponent = 1 - bias;
    const Quad spacing = power_of_two(exponent - layout.mantissa_bits);
    Quad steps = round_magnitude(magnitude / spacing, rest, is_negative, round);
    if (rest < 0 && magnitude == power_of_two(exponent) && exponent > 1 - bias) {
        const Quad fine = round_magnitude(magnitude / (spacing * Quad{0.5}), rest, is_negative, round);
        steps = fine * Quad{0.5};
        if (fine < power_of_two(layout.mantissa_bits + 1)) {
            --exponent;
            steps = fine;
        }
    }
    if (steps >= power_of_two(layout.mantissa_bits + 1)) {
        steps *= Quad{0.5};
        ++exponent;
    }
    const auto digits = static_cast<uint64_t>(steps);
    const uint64_t hidden = uint64_t{1} << layout.mantissa_bits;
    const uint64_t result = digits < hidden ? digits : (static_cast<uint64_t>(exponent + bias) << layout.mantissa_bits) + (digits - hidden);
    if (digits >= hidden && (exponent + bias > static_cast<int>(ones(layout.exponent_bits)) || result >= infinity)) {
        const bool stays =
            saturate_finite || round == Round::Zero || (round == Round::Down && !is_negative) || (round == Round::Up && is_negative);
        return stays ? sign | largest : layout.infinities ? sign | infinity : ones(width);
    }
    return sign | result;
}

Quad whole(Quad value, Round round) {
    if (value != value || infinite(value) || value == 0) return value;
    const bool is_negative = negative(value);
    const Quad magnitude = round_magnitude(is_negative ? -value : value, 0, is_negative, round);
    return is_negative ? -magnitude : magnitude;
}

bool is_nan(const Layout& layout, uint64_t bits) {
    return decode(layout, bits).is_nan;
}

uint64_t flushed(const Layout& layout, uint64_t bits) {
    const bool subnormal = (bits >> layout.mantissa_bits & ones(layout.exponent_bits)) == 0;
    return subnormal ? bits & uint64_t{1} << (layout.exponent_bits + layout.mantissa_bits) : bits;
}

uint64_t saturated(const Layout& layout, uint64_t bits) {
    const Exact value = decode(layout, bits);
    if (value.is_nan || !(value.value > 0)) return 0;
    return value.value < 1 ? bits : encode(layout, exact(1), Round::Nearest);
}

}  // namespace flexemu::test

// cvt: between all pairs of types, with every rounding, .sat, .ftz, .relu, .satfinite, packed forms, tf32 and fp8.
//
// Integers go through 64 bits, floats through double, in which every float type is exact: one rounding remains, that to the result. The conversions that
// kernels are full of (f32 to and from halves, s32 to f32, ...) have loops of their own.
#include <algorithm>
#include <limits>

#include "emulator/machine/arithmetic.h"
#include "emulator/machine/float_flags.h"
#include "emulator/machine/halves.h"
#include "emulator/machine/lanes.h"

namespace flexemu {
namespace {

using numeric::BF16;
using numeric::F16;
using numeric::Rounding;
using ptx::Type;

constexpr uint32_t kToIntegral = 512;  // .rni and the like

bool is_integer(Type type) {
    switch (type) {
        case Type::U8:
        case Type::U16:
        case Type::U32:
        case Type::U64:
        case Type::S8:
        case Type::S16:
        case Type::S32:
        case Type::S64: return true;
        default: return false;
    }
}

uint64_t low_bits(int count) {
    return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}
int64_t sign_extended(uint64_t value, int bits) {
    return static_cast<int64_t>(value << (64 - bits)) >> (64 - bits);
}

/// An integer of `bits` bits as it lies in a register of `register_bits`: with its sign if it has one.
uint64_t spread(uint64_t value, int bits, bool with_sign, int register_bits) {
    const uint64_t extended = with_sign ? static_cast<uint64_t>(sign_extended(value, bits)) : value & low_bits(bits);
    return extended & low_bits(register_bits);
}

/// The value of a float type, of bits.
double float_value(Type type, uint64_t bits) {
    switch (type) {
        case Type::F16: return static_cast<double>(numeric::to_f32(F16{static_cast<uint16_t>(bits)}));
        case Type::BF16: return static_cast<double>(numeric::to_f32(BF16{static_cast<uint16_t>(bits)}));
        case Type::F32: return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits)));
        case Type::E4M3: return numeric::widen(numeric::kE4M3, static_cast<uint32_t>(bits & 0xff));
        case Type::E5M2: return numeric::widen(numeric::kE5M2, static_cast<uint32_t>(bits & 0xff));
        default: return std::bit_cast<double>(bits);
    }
}

/// Rounds to a float type, with the flags.
uint64_t float_bits(Type type, double value, uint32_t flags) {
    const auto rounding = static_cast<Rounding>(flags & kRoundingMask);
    const bool satfinite = (flags & kSatFinite) != 0;
    if ((flags & kSaturate) != 0) value = numeric::saturate(value);
    if ((flags & kRelu) != 0) value = numeric::relu(value);
    switch (type) {
        case Type::F16: return numeric::to_f16(value, rounding, satfinite).bits;
        case Type::BF16: return numeric::to_bf16(value, rounding, satfinite).bits;
        case Type::TF32: return numeric::to_tf32(static_cast<float>(value), rounding, satfinite);
        case Type::E4M3: return numeric::to_e4m3(value, rounding);
        case Type::E5M2: return numeric::to_e5m2(value, rounding);
        case Type::F32: {
            const float result = numeric::to_f32(value, rounding);
            return std::bit_cast<uint32_t>((flags & kFlush) != 0 ? numeric::flush(result) : result);
        }
        default: return std::bit_cast<uint64_t>(value);
    }
}

double flushed_value(Type type, uint64_t bits, uint32_t flags) {
    if (type == Type::F32 && (flags & kFlush) != 0)
        return static_cast<double>(numeric::flush(std::bit_cast<float>(static_cast<uint32_t>(bits))));
    return float_value(type, bits);
}

// The general handlers: op.type is the result's type, op.type2 the source's; flags2: bits of the destination register.

void integer_to_integer(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Lanes scratch, result;
    const uint64_t* from = warp.read(op.sources[0], scratch);
    const int bits = ptx::bits(op.type), from_bits = ptx::bits(op.type2), register_bits = static_cast<int>(op.flags2);
    const bool to_signed = is_signed(op.type), from_signed = is_signed(op.type2);
    if ((op.flags & kSaturate) == 0) {
        for (size_t i = 0; i < kLanes; ++i) result[i] = spread(spread(from[i], from_bits, from_signed, 64), bits, to_signed, register_bits);
    } else {
        const uint64_t most = low_bits(to_signed ? bits - 1 : bits);
        const int64_t least = to_signed ? -static_cast<int64_t>(most) - 1 : 0;
        for (size_t i = 0; i < kLanes; ++i) {
            uint64_t value = spread(from[i], from_bits, from_signed, 64);
            if (from_signed && static_cast<int64_t>(value) < 0) {
                value = static_cast<uint64_t>(std::max(static_cast<int64_t>(value), least));
            } else {
                value = std::min(value, most);
            }
            result[i] = spread(value, bits, to_signed, register_bits);
        }
    }
    warp.write(op.destinations[0], result, active);
}

void integer_to_float(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Lanes scratch, result;
    const uint64_t* from = warp.read(op.sources[0], scratch);
    const int from_bits = ptx::bits(op.type2);
    const bool from_signed = is_signed(op.type2);
    const auto rounding = static_cast<Rounding>(op.flags & kRoundingMask);
    for (size_t i = 0; i < kLanes; ++i) {
        const uint64_t value = spread(from[i], from_bits, from_signed, 64);
        const bool negative = from_signed && static_cast<int64_t>(value) < 0;
        const uint64_t magnitude = negative ? 0 - value : value;
        if ((op.flags & kSaturate) != 0) {
            result[i] = float_bits(op.type, negative || magnitude == 0 ? 0.0 : 1.0, 0);
        } else if (op.type == Type::F64) {
            result[i] = std::bit_cast<uint64_t>(numeric::integer_to_f64(negative, magnitude, rounding));
        } else {
            const numeric::Format& format = op.type == Type::F16 ? numeric::kF16 : op.type == Type::BF16 ? numeric::kBF16 : numeric::kF32;
            result[i] = numeric::integer_to(format, negative, magnitude, rounding, (op.flags & kSatFinite) != 0);
        }
    }
    warp.write(op.destinations[0], result, active);
}

void float_to_integer(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Lanes scratch, result;
    const uint64_t* from = warp.read(op.sources[0], scratch);
    const int bits = ptx::bits(op.type), register_bits = static_cast<int>(op.flags2);
    const bool to_signed = is_signed(op.type);
    const auto rounding = static_cast<Rounding>(op.flags & kRoundingMask);
    for (size_t i = 0; i < kLanes; ++i) {
        const double value = flushed_value(op.type2, from[i], op.flags);
        result[i] = spread(numeric::to_integer(value, rounding, bits, to_signed, op.type2 == Type::F64), bits, to_signed, register_bits);
    }
    warp.write(op.destinations[0], result, active);
}

void float_to_float(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Lanes scratch, result;
    const uint64_t* from = warp.read(op.sources[0], scratch);
    const auto rounding = static_cast<Rounding>(op.flags & kRoundingMask);
    const bool to_integral = (op.flags & kToIntegral) != 0;
    for (size_t i = 0; i < kLanes; ++i) {
        double value = flushed_value(op.type2, from[i], op.flags);
        if (to_integral) value = numeric::round_to_integral(value, rounding);
        result[i] = float_bits(op.type, value, op.flags);
    }
    warp.write(op.destinations[0], result, active);
}

/// Of a pair type, the type of its halves.
Type half_of(Type type) {
    switch (type) {
        case Type::F16x2: return Type::F16;
        case Type::BF16x2: return Type::BF16;
        case Type::E4M3x2: return Type::E4M3;
        case Type::E5M2x2: return Type::E5M2;
        default: return Type::None;
    }
}

/// d = {a, b}: a is the upper half.
void floats_to_pair(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    const Type half = half_of(op.type);
    const int bits = ptx::bits(half);
    Lanes scratch[2], result;
    const uint64_t* high = warp.read(op.sources[0], scratch[0]);
    const uint64_t* low = warp.read(op.sources[1], scratch[1]);
    for (size_t i = 0; i < kLanes; ++i) {
        result[i] = float_bits(half, flushed_value(op.type2, low[i], op.flags), op.flags) |
                    float_bits(half, flushed_value(op.type2, high[i], op.flags), op.flags) << bits;
    }
    warp.write(op.destinations[0], result, active);
}

void pair_to_pair(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    const Type half = half_of(op.type), from_half = half_of(op.type2);
    const int bits = ptx::bits(half), from_bits = ptx::bits(from_half);
    Lanes scratch, result;
    const uint64_t* from = warp.read(op.sources[0], scratch);
    for (size_t i = 0; i < kLanes; ++i) {
        result[i] = float_bits(half, float_value(from_half, from[i]), op.flags) |
                    float_bits(half, float_value(from_half, from[i] >> from_bits), op.flags) << bits;
    }
    warp.write(op.destinations[0], result, active);
}

// The frequent ones, to nearest.

template <typename F, typename H>
struct ToPair {
    Pair<H> operator()(float high, float low) const { return {F()(low), F()(high)}; }
};
struct ToF32 {
    template <typename T>
    float operator()(T a) const {
        return numeric::to_f32(a);
    }
    float operator()(int32_t a) const { return static_cast<float>(a); }
    float operator()(uint32_t a) const { return static_cast<float>(a); }
};

/// Towards zero; NaN becomes 0.
struct ToS32 {
    int32_t operator()(float a) const {
        const auto value = static_cast<double>(a == a ? a : 0.0f);
        return static_cast<int32_t>(std::min(std::max(value, -0x1p31), 0x1p31 - 1));
    }
};

Handler frequent(const Op& op, int register_bits) {
    if (register_bits != ptx::bits(op.type)) return nullptr;
    const auto is = [&](Type to, Type from) { return op.type == to && op.type2 == from; };
    if (is(Type::S32, Type::F32) && (op.flags & ~kFlush) == static_cast<uint32_t>(Rounding::Zero)) return map<ToS32, int32_t, float>;
    if (op.flags != 0) return nullptr;
    if (is(Type::F16, Type::F32)) return map<ToF16, F16, float>;
    if (is(Type::BF16, Type::F32)) return map<ToBF16, BF16, float>;
    if (is(Type::F16x2, Type::F32)) return map<ToPair<ToF16, F16>, Pair<F16>, float, float>;
    if (is(Type::BF16x2, Type::F32)) return map<ToPair<ToBF16, BF16>, Pair<BF16>, float, float>;
    if (is(Type::F32, Type::F16)) return map<ToF32, float, F16>;
    if (is(Type::F32, Type::BF16)) return map<ToF32, float, BF16>;
    if (is(Type::F32, Type::S32)) return map<ToF32, float, int32_t>;
    if (is(Type::F32, Type::U32)) return map<ToF32, float, uint32_t>;
    return nullptr;
}

// cvt.pack

/// d = {c, sat(a), sat(b)}: flags: bits of each; op.type: signed or not.
void pack_integers(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Lanes scratch[3], result;
    const uint64_t* a = warp.read(op.sources[0], scratch[0]);
    const uint64_t* b = warp.read(op.sources[1], scratch[1]);
    const uint64_t* c = op.sources.size() > 2 ? warp.read(op.sources[2], scratch[2]) : nullptr;
    const int bits = static_cast<int>(op.flags);
    const bool to_signed = is_signed(op.type);
    const auto most = static_cast<int64_t>(low_bits(to_signed ? bits - 1 : bits));
    const int64_t least = to_signed ? -most - 1 : 0;
    const auto limited = [&](uint64_t value) {
        return static_cast<uint64_t>(std::clamp(sign_extended(value, 32), least, most)) & low_bits(bits);
    };
    for (size_t i = 0; i < kLanes; ++i) {
        const uint64_t both = limited(b[i]) | limited(a[i]) << bits;
        result[i] = (both | (c != nullptr ? c[i] << (2 * bits) : 0)) & 0xffffffff;
    }
    warp.write(op.destinations[0], result, active);
}

bool decode_pack(Decoding& decoding) {
    if (!decoding.take("sat")) return decoding.fail("`cvt.pack` needs `.sat`");
    const int narrow = decoding.take_one({"u2", "s2", "u4", "s4", "u8", "s8", "u16", "s16"});
    if (narrow < 0) return decoding.fail("`cvt.pack` needs a type to convert to");
    if (!decoding.take("s32")) return decoding.fail("`cvt.pack` converts `.s32`");
    const bool has_third = narrow < 6;
    if (has_third && !decoding.take("b32")) return decoding.fail("`cvt.pack` of 8 or fewer bits ends with `.b32`");
    decoding.op.flags = 2U << (narrow / 2);
    decoding.op.type = narrow % 2 == 1 ? Type::S32 : Type::U32;
    decoding.op.run = pack_integers;
    if (!decoding.operands(has_third ? 4 : 3) || !decoding.destination(0, Type::B32)) return false;
    for (size_t i = 1; i <= 2; ++i)
        if (!decoding.source(i, Type::S32)) return false;
    return (!has_third || decoding.source(3, Type::B32)) && decoding.finish();
}

// Decoding

/// Exponent and mantissa bits of scalar float types, to tell which conversion loses precision.
bool holds_all_of(Type to, Type from) {
    const auto rank = [](Type type) { return type == Type::F64 ? 3 : type == Type::F32 ? 2 : 1; };
    return to == from || rank(to) > rank(from);
}

bool is_scalar_float(Type type) {
    return type == Type::F16 || type == Type::BF16 || type == Type::F32 || type == Type::F64;
}

bool take_integral_rounding(Decoding& decoding) {
    constexpr Rounding kModes[] = {Rounding::NearestEven, Rounding::Zero, Rounding::Down, Rounding::Up};
    const int index = decoding.take_one({"rni", "rzi", "rmi", "rpi"});
    if (index >= 0) decoding.op.flags |= static_cast<uint32_t>(kModes[index]);
    return index >= 0;
}

bool decode_packed(Decoding& decoding, Type to, Type from) {
    const bool to_fp8 = to == Type::E4M3x2 || to == Type::E5M2x2, from_fp8 = from == Type::E4M3x2 || from == Type::E5M2x2;
    const std::string spelling = decoding.text.spelling();
    if (!take_rounding(decoding)) return decoding.fail("a packed conversion needs `.rn` or `.rz`");
    const auto rounding = static_cast<Rounding>(decoding.op.flags & kRoundingMask);
    if (rounding == Rounding::Up || rounding == Rounding::Down || ((to_fp8 || from_fp8) && rounding != Rounding::NearestEven)) {
        return decoding.fail("a packed conversion knows `.rn` and, to halves, `.rz`");
    }
    take_flag(decoding, "relu", kRelu);
    const bool satfinite = take_flag(decoding, "satfinite", kSatFinite);
    if (to_fp8 && !satfinite) return decoding.fail("a conversion to 8 bits needs `.satfinite`");
    if (!decoding.needs_target(to_fp8 || from_fp8 ? 89 : 80, spelling)) return false;
    decoding.op.type = to;
    decoding.op.type2 = from;
    if (from == Type::F32) {
        decoding.op.run = frequent(decoding.op, ptx::bits(to));
        if (decoding.op.run == nullptr) decoding.op.run = floats_to_pair;
        return decoding.operands(3) && decoding.destination(0, to) && decoding.source(1, from) && decoding.source(2, from) &&
               decoding.finish();
    }
    const bool known = (to_fp8 && from == Type::F16x2) || (to == Type::F16x2 && from_fp8);
    if (from_fp8 && satfinite) return decoding.fail("`.satfinite` is for conversions to 8 bits and of f32");
    if (!known) return decoding.fail(fmt::format("`cvt` does not convert `.{}` to `.{}`", ptx::name(from), ptx::name(to)));
    decoding.op.run = pair_to_pair;
    return decoding.operands(2) && decoding.destination(0, to) && decoding.source(1, from) && decoding.finish();
}

bool decode_tf32(Decoding& decoding, Type from) {
    if (from != Type::F32) return decoding.fail("`.tf32` is made of `.f32`");
    if (decoding.take("rna")) {
        decoding.op.flags |= static_cast<uint32_t>(Rounding::NearestAway);
        if (!decoding.needs_target(80, decoding.text.spelling())) return false;
    } else {
        if (!take_rounding(decoding)) return decoding.fail("a conversion to `.tf32` needs `.rna`, `.rn` or `.rz`");
        const auto rounding = static_cast<Rounding>(decoding.op.flags & kRoundingMask);
        if (rounding != Rounding::NearestEven && rounding != Rounding::Zero)
            return decoding.fail("a conversion to `.tf32` knows `.rna`, `.rn` and `.rz`");
        if (!decoding.needs_target(90, decoding.text.spelling())) return false;
        take_flag(decoding, "relu", kRelu);
    }
    const bool satfinite = take_flag(decoding, "satfinite", kSatFinite);
    const bool away = (decoding.op.flags & kRoundingMask) == static_cast<uint32_t>(Rounding::NearestAway);
    if (satfinite && !away && !decoding.needs_target(100, decoding.text.spelling())) return false;
    decoding.op.type = Type::TF32;
    decoding.op.type2 = from;
    decoding.op.run = float_to_float;
    return decoding.operands(2) && decoding.destination(0, Type::B32) && decoding.source(1, from) && decoding.finish();
}

bool decode_scalar(Decoding& decoding, Type to, Type from) {
    Op& op = decoding.op;
    const bool to_float = is_scalar_float(to), from_float = is_scalar_float(from);
    if ((!to_float && !is_integer(to)) || (!from_float && !is_integer(from))) {
        return decoding.fail(fmt::format("`cvt` does not convert `.{}` to `.{}`", ptx::name(from), ptx::name(to)));
    }
    const std::string spelling = decoding.text.spelling();
    if (from_float && !to_float) {
        if (!take_integral_rounding(decoding)) return decoding.fail("a conversion of floats to integers needs a rounding like `.rzi`");
        op.run = float_to_integer;
    } else if (to_float && !from_float) {
        if (!take_rounding(decoding)) return decoding.fail("a conversion of integers to floats needs a rounding like `.rn`");
        op.run = integer_to_float;
    } else if (to_float && to == from) {
        if (take_integral_rounding(decoding)) op.flags |= kToIntegral;
        op.run = float_to_float;
    } else if (to_float) {
        // Between the halves, and from bf16, assemblers take a rounding or none.
        const bool optional = from == Type::BF16 || (to == Type::BF16 && from == Type::F16);
        const bool exact = holds_all_of(to, from);
        if (take_rounding(decoding) == exact && !optional) {
            return decoding.fail(exact ? "nothing is rounded here" : "a conversion to a narrower float needs a rounding like `.rn`");
        }
        op.run = float_to_float;
    } else {
        op.run = integer_to_integer;
    }
    if (from == Type::F32 || to == Type::F32) take_flag(decoding, "ftz", kFlush);
    // Floats are limited to the range of integers in any case.
    const bool may_saturate = to != Type::BF16 && (from != Type::BF16 || !to_float);
    if (may_saturate && take_flag(decoding, "sat", kSaturate) && from_float && !to_float) op.flags &= ~kSaturate;
    if ((to == Type::F16 || to == Type::BF16) && from == Type::F32) {
        if (take_flag(decoding, "relu", kRelu) && !decoding.needs_target(80, spelling)) return false;
        if (take_flag(decoding, "satfinite", kSatFinite) && !decoding.needs_target(80, spelling)) return false;
        const auto rounding = static_cast<Rounding>(op.flags & kRoundingMask);
        if ((op.flags & (kRelu | kSatFinite)) != 0 && (rounding == Rounding::Up || rounding == Rounding::Down)) {
            return decoding.fail("`.relu` and `.satfinite` need `.rn` or `.rz`");
        }
    }
    if ((from == Type::BF16 && ptx::bits(to) == 8) || (to == Type::BF16 && ptx::bits(from) == 8)) {
        return decoding.fail("integers of 8 bits are not converted to and from `.bf16`");
    }
    const bool is_widening = from == Type::BF16 && to == Type::F32 && (op.flags & kFlush) == 0;
    if (is_widening) {
        op.flags &= ~kRoundingMask;
        if (!decoding.needs_target(80, spelling)) return false;
    } else if (from == Type::BF16 || (to == Type::BF16 && from != Type::F32)) {
        if (!decoding.needs_target(90, spelling)) return false;
    } else if (to == Type::BF16 && !decoding.needs_target(80, spelling)) {
        return false;
    }
    if (to == Type::F32 && from == Type::F16) op.flags &= ~kFlush;  // subnormal halves are normal in f32
    op.type = to;
    op.type2 = from;
    if (!decoding.operands(2) || !decoding.wide_destination(0, to) || !decoding.wide_source(1, from)) return false;
    const int register_bits = decoding.register_bits(decoding.text.operands[0]);
    op.flags2 = static_cast<uint32_t>(register_bits == 0 ? ptx::bits(to) : register_bits);
    if (const Handler handler = frequent(op, static_cast<int>(op.flags2))) op.run = handler;
    return decoding.finish();
}

}  // namespace

bool decode_cvt(Decoding& decoding) {
    if (decoding.take("pack")) return decode_pack(decoding);
    Type to, from;
    if (!decoding.type(&to) || !decoding.type(&from)) return false;
    if (to == Type::TF32) return decode_tf32(decoding, from);
    if (half_of(to) != Type::None) return decode_packed(decoding, to, from);
    return decode_scalar(decoding, to, from);
}

}  // namespace flexemu

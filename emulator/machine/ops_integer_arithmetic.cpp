// Integer add, sub, mul, mad, div, rem, min, max, abs, neg, with carries. Results wrap unless .sat.
#include <algorithm>
#include <limits>

#include "emulator/machine/arithmetic.h"
#include "emulator/machine/lanes.h"

namespace flexemu {
namespace {

using ptx::Type;
__extension__ typedef __int128 Int128;
__extension__ typedef unsigned __int128 UInt128;

struct Add {
    template <typename T>
    T operator()(T a, T b) const {
        return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
    }
};
struct Sub {
    template <typename T>
    T operator()(T a, T b) const {
        return static_cast<T>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
    }
};
int32_t saturated(int64_t value) {
    return static_cast<int32_t>(std::clamp<int64_t>(value, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
}
struct AddSat {
    int32_t operator()(int32_t a, int32_t b) const { return saturated(int64_t{a} + b); }
};
struct SubSat {
    int32_t operator()(int32_t a, int32_t b) const { return saturated(int64_t{a} - b); }
};
struct MulLow {
    template <typename T>
    T operator()(T a, T b) const {
        return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
    }
};
struct MulHigh {
    template <typename T>
    T operator()(T a, T b) const {
        if constexpr (sizeof(T) == 8) {
            using Wide = std::conditional_t<std::is_signed_v<T>, Int128, UInt128>;
            return static_cast<T>((static_cast<Wide>(a) * b) >> 64);
        } else {
            using Wide = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
            return static_cast<T>((static_cast<Wide>(a) * b) >> (8 * sizeof(T)));
        }
    }
};
template <typename Wide>
struct MulWide {
    template <typename T>
    Wide operator()(T a, T b) const {
        return static_cast<Wide>(static_cast<int64_t>(a) * static_cast<int64_t>(b));
    }
};
template <>
struct MulWide<uint64_t> {
    uint64_t operator()(uint32_t a, uint32_t b) const { return uint64_t{a} * b; }
};
template <typename Product>
struct Mad {
    template <typename T, typename W>
    W operator()(T a, T b, W c) const {
        return Add()(static_cast<W>(Product()(a, b)), c);
    }
};
struct MadHighSat {
    int32_t operator()(int32_t a, int32_t b, int32_t c) const { return saturated(int64_t{MulHigh()(a, b)} + c); }
};
// What division by zero gives is left open by the ISA. Compilers divide ahead of the test that drops the result, so it is no fault here; this is what GPUs give.
struct Div {
    template <typename T>
    T operator()(T a, T b) const {
        if (b == 0) return static_cast<T>(~T{0});
        if constexpr (std::is_signed_v<T>) {
            if (b == -1) return Sub()(T{0}, a);
        }
        return static_cast<T>(a / b);
    }
};
struct Rem {
    template <typename T>
    T operator()(T a, T b) const {
        if (b == 0) return a;
        if constexpr (std::is_signed_v<T>) {
            if (b == -1) return 0;
        }
        return static_cast<T>(a % b);
    }
};
struct Min {
    template <typename T>
    T operator()(T a, T b) const {
        return a < b ? a : b;
    }
};
struct Max {
    template <typename T>
    T operator()(T a, T b) const {
        return a > b ? a : b;
    }
};
template <typename F>
struct Relu {
    template <typename T>
    T operator()(T a, T b) const {
        return Max()(F()(a, b), T{0});
    }
};
struct Abs {
    template <typename T>
    T operator()(T a) const {
        return a < 0 ? Sub()(T{0}, a) : a;
    }
};
struct Neg {
    template <typename T>
    T operator()(T a) const {
        return Sub()(T{0}, a);
    }
};

/// The handler for the six types; null for another.
template <typename F>
Handler binary(Type type) {
    switch (type) {
        case Type::U16: return map<F, uint16_t, uint16_t, uint16_t>;
        case Type::U32: return map<F, uint32_t, uint32_t, uint32_t>;
        case Type::U64: return map<F, uint64_t, uint64_t, uint64_t>;
        case Type::S16: return map<F, int16_t, int16_t, int16_t>;
        case Type::S32: return map<F, int32_t, int32_t, int32_t>;
        case Type::S64: return map<F, int64_t, int64_t, int64_t>;
        default: return nullptr;
    }
}
/// For functions that do not look at the sign.
template <typename F>
Handler unsigned_binary(Type type) {
    switch (ptx::bits(type)) {
        case 16: return map<F, uint16_t, uint16_t, uint16_t>;
        case 32: return map<F, uint32_t, uint32_t, uint32_t>;
        default: return map<F, uint64_t, uint64_t, uint64_t>;
    }
}
template <typename F>
Handler ternary(Type type) {
    switch (type) {
        case Type::U16: return map<F, uint16_t, uint16_t, uint16_t, uint16_t>;
        case Type::U32: return map<F, uint32_t, uint32_t, uint32_t, uint32_t>;
        case Type::U64: return map<F, uint64_t, uint64_t, uint64_t, uint64_t>;
        case Type::S16: return map<F, int16_t, int16_t, int16_t, int16_t>;
        case Type::S32: return map<F, int32_t, int32_t, int32_t, int32_t>;
        case Type::S64: return map<F, int64_t, int64_t, int64_t, int64_t>;
        default: return nullptr;
    }
}
template <typename F>
Handler signed_unary(Type type) {
    switch (type) {
        case Type::S16: return map<F, int16_t, int16_t>;
        case Type::S32: return map<F, int32_t, int32_t>;
        default: return map<F, int64_t, int64_t>;
    }
}

bool integer_type(Decoding& decoding, Type type) {
    return decoding.type_is(type, {Type::U16, Type::U32, Type::U64, Type::S16, Type::S32, Type::S64});
}

enum class Chain : uint32_t { Add, Sub, MadLow, MadHigh };
constexpr uint32_t kCarryIn = 1, kCarryOut = 2;

/// CC.CF is the carry of the adder, which subtracts as a + ~b + 1: set where nothing is borrowed. The ISA speaks of the borrow itself, and as long as
/// subtractions follow subtractions there is no difference; but the CUDA library's division reads the carry of subc by addc.
/// add.cc, addc, subc, mad.lo.cc, madc: sources a, b, of mad also c, then perhaps CC.CF; destinations d and perhaps CC.CF.
template <typename T>
void carry_chain(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    const auto chain = static_cast<Chain>(op.flags2);
    Lanes scratch[4];
    const uint64_t* from[4] = {};
    for (size_t i = 0; i < op.sources.size(); ++i) from[i] = warp.read(op.sources[i], scratch[i]);
    const size_t terms = chain == Chain::Add || chain == Chain::Sub ? 2 : 3;
    Lanes result, carry;
    for (size_t i = 0; i < kLanes; ++i) {
        const T a = Slot<T>::get(from[0][i]), b = Slot<T>::get(from[1][i]);
        const UInt128 in = (op.flags & kCarryIn) != 0 ? from[terms][i] : 0;
        UInt128 sum = 0;
        switch (chain) {
            case Chain::Add: sum = static_cast<UInt128>(a) + b + in; break;
            case Chain::Sub: sum = static_cast<UInt128>(a) + static_cast<T>(~b) + ((op.flags & kCarryIn) != 0 ? in : 1); break;
            default: {
                // The sign of the operands is seen by the high half alone.
                T product = MulLow()(a, b);
                if (chain == Chain::MadHigh) {
                    using Signed = std::make_signed_t<T>;
                    product =
                        is_signed(op.type) ? static_cast<T>(MulHigh()(static_cast<Signed>(a), static_cast<Signed>(b))) : MulHigh()(a, b);
                }
                sum = static_cast<UInt128>(product) + Slot<T>::get(from[2][i]) + in;
            }
        }
        result[i] = Slot<T>::put(static_cast<T>(sum));
        carry[i] = static_cast<uint64_t>(sum >> (8 * sizeof(T))) & 1;
    }
    warp.write(op.destinations[0], result, active);
    if ((op.flags & kCarryOut) != 0) warp.write(op.destinations[1], carry, active);
}

bool decode_chain(Decoding& decoding, Type type, Chain chain, bool carry_in) {
    if (!decoding.type_is(type, {Type::U32, Type::S32, Type::U64, Type::S64})) return false;
    const bool carry_out = decoding.take("cc");
    if (!decoding.operation(type, chain == Chain::Add || chain == Chain::Sub ? 2 : 3)) return false;
    if (carry_in && !decoding.carry_in()) return false;
    if (carry_out && !decoding.carry_out()) return false;
    decoding.op.flags = (carry_in ? kCarryIn : 0) | (carry_out ? kCarryOut : 0);
    decoding.op.flags2 = static_cast<uint32_t>(chain);
    decoding.op.run = ptx::bits(type) == 32 ? carry_chain<uint32_t> : carry_chain<uint64_t>;
    return decoding.finish();
}

Type widened(Type type) {
    switch (type) {
        case Type::U16: return Type::U32;
        case Type::S16: return Type::S32;
        case Type::U32: return Type::U64;
        case Type::S32: return Type::S64;
        default: return Type::None;
    }
}

}  // namespace

bool is_signed(Type type) {
    return type == Type::S8 || type == Type::S16 || type == Type::S32 || type == Type::S64;
}

bool decode_integer_add(Decoding& decoding, Type type) {
    const std::string& opcode = decoding.text.opcode;
    const bool is_add = opcode.starts_with("add"), carry_in = opcode.size() == 4;
    if (carry_in || decoding.sees("cc")) return decode_chain(decoding, type, is_add ? Chain::Add : Chain::Sub, carry_in);
    if (!integer_type(decoding, type)) return false;
    if (decoding.take("sat")) {
        if (type != Type::S32) return decoding.fail("`.sat` needs `.s32`");
        decoding.op.run = is_add ? map<AddSat, int32_t, int32_t, int32_t> : map<SubSat, int32_t, int32_t, int32_t>;
    } else {
        decoding.op.run = is_add ? unsigned_binary<Add>(type) : unsigned_binary<Sub>(type);
    }
    return decoding.operation(type, 2) && decoding.finish();
}

bool decode_integer_mul(Decoding& decoding, Type type) {
    if (!integer_type(decoding, type)) return false;
    switch (decoding.take_one({"lo", "hi", "wide"})) {
        case 0: decoding.op.run = unsigned_binary<MulLow>(type); break;
        case 1: decoding.op.run = binary<MulHigh>(type); break;
        case 2:
            switch (type) {
                case Type::U16: decoding.op.run = map<MulWide<uint32_t>, uint32_t, uint16_t, uint16_t>; break;
                case Type::S16: decoding.op.run = map<MulWide<int32_t>, int32_t, int16_t, int16_t>; break;
                case Type::U32: decoding.op.run = map<MulWide<uint64_t>, uint64_t, uint32_t, uint32_t>; break;
                case Type::S32: decoding.op.run = map<MulWide<int64_t>, int64_t, int32_t, int32_t>; break;
                default: return decoding.fail("`.wide` needs 16 or 32 bits");
            }
            decoding.op.type = type;
            return decoding.operands(3) && decoding.destination(0, widened(type)) && decoding.source(1, type) && decoding.source(2, type) &&
                   decoding.finish();
        default: return decoding.fail("`mul` of integers needs `.lo`, `.hi` or `.wide`");
    }
    return decoding.operation(type, 2) && decoding.finish();
}

bool decode_integer_mad(Decoding& decoding, Type type) {
    const bool carry_in = decoding.text.opcode == "madc";
    const int part = decoding.take_one({"lo", "hi", "wide"});
    if (carry_in || decoding.sees("cc")) {
        if (part != 0 && part != 1) return decoding.fail("a carry needs `.lo` or `.hi`");
        return decode_chain(decoding, type, part == 0 ? Chain::MadLow : Chain::MadHigh, carry_in);
    }
    if (!integer_type(decoding, type)) return false;
    switch (part) {
        case 0:
            switch (ptx::bits(type)) {
                case 16: decoding.op.run = ternary<Mad<MulLow>>(Type::U16); break;
                case 32: decoding.op.run = ternary<Mad<MulLow>>(Type::U32); break;
                default: decoding.op.run = ternary<Mad<MulLow>>(Type::U64);
            }
            break;
        case 1:
            decoding.op.run = ternary<Mad<MulHigh>>(type);
            if (decoding.take("sat")) {
                if (type != Type::S32) return decoding.fail("`.sat` needs `.s32`");
                decoding.op.run = map<MadHighSat, int32_t, int32_t, int32_t, int32_t>;
            }
            break;
        case 2: {
            switch (type) {
                case Type::U16: decoding.op.run = map<Mad<MulWide<uint32_t>>, uint32_t, uint16_t, uint16_t, uint32_t>; break;
                case Type::S16: decoding.op.run = map<Mad<MulWide<int32_t>>, int32_t, int16_t, int16_t, int32_t>; break;
                case Type::U32: decoding.op.run = map<Mad<MulWide<uint64_t>>, uint64_t, uint32_t, uint32_t, uint64_t>; break;
                case Type::S32: decoding.op.run = map<Mad<MulWide<int64_t>>, int64_t, int32_t, int32_t, int64_t>; break;
                default: return decoding.fail("`.wide` needs 16 or 32 bits");
            }
            const Type wide = widened(type);
            decoding.op.type = type;
            return decoding.operands(4) && decoding.destination(0, wide) && decoding.source(1, type) && decoding.source(2, type) &&
                   decoding.source(3, wide) && decoding.finish();
        }
        default: return decoding.fail("`mad` of integers needs `.lo`, `.hi` or `.wide`");
    }
    return decoding.operation(type, 3) && decoding.finish();
}

bool decode_integer_div(Decoding& decoding, Type type) {
    if (!integer_type(decoding, type)) return false;
    decoding.op.run = decoding.text.opcode == "div" ? binary<Div>(type) : binary<Rem>(type);
    return decoding.operation(type, 2) && decoding.finish();
}

bool decode_integer_min_max(Decoding& decoding, Type type) {
    if (!integer_type(decoding, type)) return false;
    const bool is_min = decoding.text.opcode == "min";
    decoding.op.run = is_min ? binary<Min>(type) : binary<Max>(type);
    if (decoding.take("relu")) {
        if (type != Type::S32) return decoding.fail("`.relu` needs `.s32` or `.s16x2`");
        if (!decoding.needs_target(90, decoding.text.spelling())) return false;
        decoding.op.run = is_min ? map<Relu<Min>, int32_t, int32_t, int32_t> : map<Relu<Max>, int32_t, int32_t, int32_t>;
    }
    return decoding.operation(type, 2) && decoding.finish();
}

bool decode_integer_abs_neg(Decoding& decoding, Type type) {
    if (!decoding.type_is(type, {Type::S16, Type::S32, Type::S64})) return false;
    decoding.op.run = decoding.text.opcode == "abs" ? signed_unary<Abs>(type) : signed_unary<Neg>(type);
    return decoding.operation(type, 1) && decoding.finish();
}

bool decode_integer_pairs(Decoding& decoding, bool is_signed) {
    using S = Pair<int16_t>;
    using U = Pair<uint16_t>;
    const std::string& opcode = decoding.text.opcode;
    if (!decoding.needs_target(90, decoding.text.spelling())) return false;
    const bool relu = decoding.take("relu");
    if (relu && (!is_signed || opcode == "add")) return decoding.fail("`.relu` needs `min` or `max` of `.s16x2`");
    if (opcode == "add") {
        decoding.op.run = map<Both<Add>, U, U, U>;
    } else if (opcode == "min") {
        decoding.op.run = relu ? map<Both<Relu<Min>>, S, S, S> : is_signed ? map<Both<Min>, S, S, S> : map<Both<Min>, U, U, U>;
    } else if (opcode == "max") {
        decoding.op.run = relu ? map<Both<Relu<Max>>, S, S, S> : is_signed ? map<Both<Max>, S, S, S> : map<Both<Max>, U, U, U>;
    } else {
        return decoding.fail(fmt::format("`{}` is not known for pairs of 16-bit integers", opcode));
    }
    return decoding.operation(Type::B32, 2) && decoding.finish();
}

}  // namespace flexemu

// setp and set. A comparison gives a bit in each lane, which may be combined with a predicate c: p = bit op c, q = !bit op c.
#include "emulator/machine/arithmetic.h"
#include "emulator/machine/lanes.h"

namespace flexemu {
namespace {

using numeric::BF16;
using numeric::F16;
using ptx::Type;

enum class Comparison : uint8_t { Eq, Ne, Lt, Le, Gt, Ge, Equ, Neu, Ltu, Leu, Gtu, Geu, Num, Nan };

template <Comparison comparison>
struct Compare {
    template <typename T>
    bool operator()(T a, T b) const {
        switch (comparison) {
            case Comparison::Eq: return a == b;
            case Comparison::Ne: return a < b || a > b;  // false for NaN
            case Comparison::Lt: return a < b;
            case Comparison::Le: return a <= b;
            case Comparison::Gt: return a > b;
            case Comparison::Ge: return a >= b;
            case Comparison::Equ: return !(a < b || a > b);
            case Comparison::Neu: return !(a == b);
            case Comparison::Ltu: return !(a >= b);
            case Comparison::Leu: return !(a > b);
            case Comparison::Gtu: return !(a <= b);
            case Comparison::Geu: return !(a < b);
            case Comparison::Num: return a == a && b == b;
            case Comparison::Nan: return a != a || b != b;
        }
        return false;
    }
};

enum class Combine : uint32_t { None, And, Or, Xor };
constexpr uint32_t kFtz = 16;

Combine combine_of(const Op& op) {
    return static_cast<Combine>(op.flags & 3);
}

uint64_t combined(Combine combine, uint64_t bit, uint64_t c) {
    switch (combine) {
        case Combine::And: return bit & c;
        case Combine::Or: return bit | c;
        case Combine::Xor: return bit ^ c;
        default: return bit;
    }
}

/// What is compared: a number as it is, halves as f32; flushed where asked.
template <typename T>
auto value_of(uint64_t slot, bool ftz) {
    if constexpr (std::is_integral_v<T> || std::is_same_v<T, double>) {
        return Slot<T>::get(slot);
    } else {
        T value = Slot<T>::get(slot);
        if (ftz) value = numeric::flush(value);
        if constexpr (std::is_same_v<T, float>) {
            return value;
        } else {
            return numeric::to_f32(value);
        }
    }
}

struct Bits {
    Lanes bits;  // 0 or 1
    const uint64_t* c = nullptr;
    Lanes scratch;
};

template <Comparison comparison, typename T>
void compare(Warp& warp, const Op& op, unsigned shift, Bits* out) {
    Lanes scratch[2];
    const uint64_t* a = warp.read(op.sources[0], scratch[0]);
    const uint64_t* b = warp.read(op.sources[1], scratch[1]);
    const bool ftz = (op.flags & kFtz) != 0;
    for (size_t i = 0; i < kLanes; ++i) {
        out->bits[i] = Compare<comparison>()(value_of<T>(a[i] >> shift, ftz), value_of<T>(b[i] >> shift, ftz)) ? 1 : 0;
    }
    if (combine_of(op) != Combine::None) out->c = warp.read(op.sources[2], out->scratch);
}

void combine_all(const Op& op, Bits* values, bool inverted, Lanes* out) {
    const Combine combine = combine_of(op);
    const uint64_t flip = inverted ? 1 : 0;
    if (combine == Combine::None) {
        for (size_t i = 0; i < kLanes; ++i) (*out)[i] = values->bits[i] ^ flip;
        return;
    }
    for (size_t i = 0; i < kLanes; ++i) (*out)[i] = combined(combine, values->bits[i] ^ flip, values->c[i]);
}

template <Comparison comparison, typename T>
void setp(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Bits values;
    compare<comparison, T>(warp, op, 0, &values);
    if (combine_of(op) == Combine::None && op.destinations[1] == kNoRegister) return warp.write(op.destinations[0], values.bits, active);
    Lanes p, q;
    combine_all(op, &values, false, &p);
    combine_all(op, &values, true, &q);
    warp.write(op.destinations[0], p, active);
    warp.write(op.destinations[1], q, active);
}

/// Of pairs: p from the low halves, q from the high ones.
template <Comparison comparison, typename T>
void setp_pair(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Bits low, high;
    compare<comparison, T>(warp, op, 0, &low);
    compare<comparison, T>(warp, op, 16, &high);
    Lanes p, q;
    combine_all(op, &low, false, &p);
    combine_all(op, &high, false, &q);
    warp.write(op.destinations[0], p, active);
    warp.write(op.destinations[1], q, active);
}

/// op.offset: what stands for true.
template <Comparison comparison, typename T>
void set(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Bits values;
    compare<comparison, T>(warp, op, 0, &values);
    Lanes result;
    combine_all(op, &values, false, &result);
    for (size_t i = 0; i < kLanes; ++i) result[i] *= static_cast<uint64_t>(op.offset);
    warp.write(op.destinations[0], result, active);
}

template <Comparison comparison, typename T>
void set_pair(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    Bits low, high;
    compare<comparison, T>(warp, op, 0, &low);
    compare<comparison, T>(warp, op, 16, &high);
    Lanes result, upper;
    combine_all(op, &low, false, &result);
    combine_all(op, &high, false, &upper);
    for (size_t i = 0; i < kLanes; ++i) result[i] = (result[i] | upper[i] << 16) * static_cast<uint64_t>(op.offset);
    warp.write(op.destinations[0], result, active);
}

template <Comparison comparison>
Handler handler_of(Type type, bool is_set) {
    switch (type) {
        case Type::B16:
        case Type::U16: return is_set ? set<comparison, uint16_t> : setp<comparison, uint16_t>;
        case Type::B32:
        case Type::U32: return is_set ? set<comparison, uint32_t> : setp<comparison, uint32_t>;
        case Type::B64:
        case Type::U64: return is_set ? set<comparison, uint64_t> : setp<comparison, uint64_t>;
        case Type::S16: return is_set ? set<comparison, int16_t> : setp<comparison, int16_t>;
        case Type::S32: return is_set ? set<comparison, int32_t> : setp<comparison, int32_t>;
        case Type::S64: return is_set ? set<comparison, int64_t> : setp<comparison, int64_t>;
        case Type::F16: return is_set ? set<comparison, F16> : setp<comparison, F16>;
        case Type::BF16: return is_set ? set<comparison, BF16> : setp<comparison, BF16>;
        case Type::F32: return is_set ? set<comparison, float> : setp<comparison, float>;
        case Type::F64: return is_set ? set<comparison, double> : setp<comparison, double>;
        case Type::F16x2: return is_set ? set_pair<comparison, F16> : setp_pair<comparison, F16>;
        case Type::BF16x2: return is_set ? set_pair<comparison, BF16> : setp_pair<comparison, BF16>;
        default: return nullptr;
    }
}

Handler handler_of(Comparison comparison, Type type, bool is_set) {
    switch (comparison) {
        case Comparison::Eq: return handler_of<Comparison::Eq>(type, is_set);
        case Comparison::Ne: return handler_of<Comparison::Ne>(type, is_set);
        case Comparison::Lt: return handler_of<Comparison::Lt>(type, is_set);
        case Comparison::Le: return handler_of<Comparison::Le>(type, is_set);
        case Comparison::Gt: return handler_of<Comparison::Gt>(type, is_set);
        case Comparison::Ge: return handler_of<Comparison::Ge>(type, is_set);
        case Comparison::Equ: return handler_of<Comparison::Equ>(type, is_set);
        case Comparison::Neu: return handler_of<Comparison::Neu>(type, is_set);
        case Comparison::Ltu: return handler_of<Comparison::Ltu>(type, is_set);
        case Comparison::Leu: return handler_of<Comparison::Leu>(type, is_set);
        case Comparison::Gtu: return handler_of<Comparison::Gtu>(type, is_set);
        case Comparison::Geu: return handler_of<Comparison::Geu>(type, is_set);
        case Comparison::Num: return handler_of<Comparison::Num>(type, is_set);
        case Comparison::Nan: return handler_of<Comparison::Nan>(type, is_set);
    }
    return nullptr;
}

/// The comparison, .and/.or/.xor and .ftz of setp and set; `type` is that of the operands.
bool decode_comparison(Decoding& decoding, Type type, bool is_set) {
    const bool is_floating = is_float(type);
    const bool is_bits = type == Type::B16 || type == Type::B32 || type == Type::B64;
    int index = decoding.take_one({"eq", "ne", "lt", "le", "gt", "ge"});
    if (index < 0 && is_floating) {
        index = decoding.take_one({"equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"});
        if (index >= 0) index += static_cast<int>(Comparison::Equ);
    }
    if (index < 0 && !is_floating && !is_bits && !is_signed(type)) {
        index = decoding.take_one({"lo", "ls", "hi", "hs"});
        if (index >= 0) index += static_cast<int>(Comparison::Lt);
    }
    if (index < 0)
        return decoding.fail(fmt::format("`{}` has no comparison that type `.{}` knows", decoding.text.spelling(), ptx::name(type)));
    const auto comparison = static_cast<Comparison>(index);
    if (is_bits && comparison != Comparison::Eq && comparison != Comparison::Ne) {
        return decoding.fail(fmt::format("type `.{}` is only compared by `.eq` and `.ne`", ptx::name(type)));
    }
    decoding.op.flags = static_cast<uint32_t>(decoding.take_one({"and", "or", "xor"}) + 1);
    if (is_floating && type != Type::F64 && decoding.take("ftz")) {
        if (type == Type::BF16 || type == Type::BF16x2) return decoding.fail("`.ftz` is not known with `.bf16`");
        decoding.op.flags |= kFtz;
    }
    if ((type == Type::BF16 || type == Type::BF16x2) && !decoding.needs_target(90, decoding.text.spelling())) return false;
    decoding.op.run = handler_of(comparison, type, is_set);
    if (decoding.op.run == nullptr)
        return decoding.fail(fmt::format("`{}` is not known with type `.{}`", decoding.text.opcode, ptx::name(type)));
    return true;
}

/// Which results `set` has for operands of a type. Of pairs, integers hold 16 bits for each half.
bool set_gives(Type from, Type to) {
    if (from == Type::F16x2 || from == Type::BF16x2) return to == from || to == Type::U32 || to == Type::S32;
    switch (to) {
        case Type::U32:
        case Type::S32: return true;
        case Type::U16:
        case Type::S16: return from == Type::F16 || from == Type::BF16;
        case Type::F32: return from != Type::F16 && from != Type::BF16;
        case Type::F16: return from != Type::BF16;
        case Type::BF16: return true;
        default: return false;
    }
}

bool decode_compared(Decoding& decoding, Type type) {
    const Type each = type;
    if (!decoding.source(1, each) || !decoding.source(2, each)) return false;
    return combine_of(decoding.op) == Combine::None || decoding.source(3, Type::Pred);
}

}  // namespace

bool decode_setp(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decode_comparison(decoding, type, false)) return false;
    if (!decoding.operands(combine_of(decoding.op) == Combine::None ? 3 : 4)) return false;
    if ((type == Type::F16 || type == Type::BF16) && !decoding.text.operands[0].second.empty()) {
        return decoding.fail("`setp` of one half has no second predicate");
    }
    ptx::Operand p = decoding.text.operands[0];
    p.second.clear();
    decoding.op.type = type;
    return decoding.destination(p, Type::Pred) && decoding.second_destination(0) && decode_compared(decoding, type) && decoding.finish();
}

bool decode_set(Decoding& decoding) {
    Type to, type;
    if (!decoding.type(&to) || !decoding.type(&type) || !decode_comparison(decoding, type, true)) return false;
    if (!decoding.operands(combine_of(decoding.op) == Combine::None ? 3 : 4)) return false;
    const bool is_pair = type == Type::F16x2 || type == Type::BF16x2;
    if (!set_gives(type, to)) {
        return decoding.fail(fmt::format("`set` of `.{}` does not give `.{}`", ptx::name(type), ptx::name(to)));
    }
    switch (to) {
        case Type::F32: decoding.op.offset = 0x3f800000; break;
        case Type::F16:
        case Type::F16x2: decoding.op.offset = 0x3c00; break;
        case Type::BF16:
        case Type::BF16x2: decoding.op.offset = 0x3f80; break;
        default: decoding.op.offset = ptx::bits(to) == 16 || is_pair ? 0xffff : 0xffffffff;
    }
    if (to == Type::BF16) {
        if (!decoding.needs_target(90, decoding.text.spelling())) return false;
        if ((decoding.op.flags & kFtz) != 0) return decoding.fail("`.ftz` is not known with `.bf16`");
    }
    decoding.op.type = type;
    decoding.op.type2 = to;
    return decoding.destination(0, to) && decode_compared(decoding, type) && decoding.finish();
}

}  // namespace flexemu

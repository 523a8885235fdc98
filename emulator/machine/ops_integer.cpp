// Bits and integers beyond arithmetic: logic, shifts, bit fields, counting, byte permutation, dot products of bytes. Formulas are those of the PTX ISA.
#include <algorithm>
#include <bit>

#include "emulator/machine/arithmetic.h"
#include "emulator/machine/lanes.h"

namespace flexemu {
namespace {

using ptx::Type;

// Logic

struct And {
    template <typename T>
    T operator()(T a, T b) const {
        return static_cast<T>(a & b);
    }
};
struct Or {
    template <typename T>
    T operator()(T a, T b) const {
        return static_cast<T>(a | b);
    }
};
struct Xor {
    template <typename T>
    T operator()(T a, T b) const {
        return static_cast<T>(a ^ b);
    }
};
struct Not {
    template <typename T>
    T operator()(T a) const {
        return static_cast<T>(~a);
    }
    bool operator()(bool a) const { return !a; }
};
struct CNot {
    template <typename T>
    T operator()(T a) const {
        return a == 0 ? 1 : 0;
    }
};

template <typename F>
bool decode_logic(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::Pred, Type::B16, Type::B32, Type::B64})) return false;
    switch (type) {
        case Type::Pred: decoding.op.run = map<F, bool, bool, bool>; break;
        case Type::B16: decoding.op.run = map<F, uint16_t, uint16_t, uint16_t>; break;
        case Type::B32: decoding.op.run = map<F, uint32_t, uint32_t, uint32_t>; break;
        default: decoding.op.run = map<F, uint64_t, uint64_t, uint64_t>;
    }
    return decoding.operation(type, 2) && decoding.finish();
}

bool decode_not(Decoding& decoding) {
    const bool is_cnot = decoding.text.opcode == "cnot";
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::Pred, Type::B16, Type::B32, Type::B64})) return false;
    if (is_cnot && type == Type::Pred) return decoding.fail("`cnot` is not known with type `.pred`");
    switch (type) {
        case Type::Pred: decoding.op.run = map<Not, bool, bool>; break;
        case Type::B16: decoding.op.run = is_cnot ? map<CNot, uint16_t, uint16_t> : map<Not, uint16_t, uint16_t>; break;
        case Type::B32: decoding.op.run = is_cnot ? map<CNot, uint32_t, uint32_t> : map<Not, uint32_t, uint32_t>; break;
        default: decoding.op.run = is_cnot ? map<CNot, uint64_t, uint64_t> : map<Not, uint64_t, uint64_t>;
    }
    return decoding.operation(type, 1) && decoding.finish();
}

/// Bit (a << 2 | b << 1 | c) of the table, for each bit.
struct Lop3 {
    explicit Lop3(const Op& op) {
        for (size_t i = 0; i < 8; ++i) terms_[i] = (op.flags >> i & 1) != 0 ? UINT32_MAX : 0;
    }
    uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
        const uint32_t without_a = (~b & ~c & terms_[0]) | (~b & c & terms_[1]) | (b & ~c & terms_[2]) | (b & c & terms_[3]);
        const uint32_t with_a = (~b & ~c & terms_[4]) | (~b & c & terms_[5]) | (b & ~c & terms_[6]) | (b & c & terms_[7]);
        return (~a & without_a) | (a & with_a);
    }

private:
    uint32_t terms_[8];
};

/// lop3.or.b32 d|p, a, b, c, table, q: p = (d != 0) or q. flags2: or, and.
void lop3_predicate(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    const Lop3 lop3(op);
    Lanes scratch[4], value, predicate;
    const uint64_t* from[4];
    for (size_t i = 0; i < 4; ++i) from[i] = warp.read(op.sources[i], scratch[i]);
    for (size_t i = 0; i < kLanes; ++i) {
        value[i] = lop3(static_cast<uint32_t>(from[0][i]), static_cast<uint32_t>(from[1][i]), static_cast<uint32_t>(from[2][i]));
        const bool is_set = value[i] != 0, q = from[3][i] != 0;
        predicate[i] = op.flags2 == 0 ? is_set || q : is_set && q;
    }
    warp.write(op.destinations[0], value, active);
    warp.write(op.destinations[1], predicate, active);
}

bool decode_lop3(Decoding& decoding) {
    const int combined = decoding.take_one({"or", "and"});
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::B32}) || !decoding.operands(combined >= 0 ? 6 : 5)) return false;
    int64_t table = 0;
    if (!decoding.constant(4, 0, 255, &table)) return false;
    decoding.op.type = type;
    decoding.op.flags = static_cast<uint32_t>(table);
    if (combined >= 0) {
        ptx::Operand value = decoding.text.operands[0];
        value.second.clear();
        if (decoding.text.operands[0].second.empty()) return decoding.fail("a combined `lop3` has a predicate: `d|p`");
        if (!decoding.destination(value, type) || !decoding.second_destination(0)) return false;
    } else if (!decoding.destination(0, type)) {
        return false;
    }
    for (size_t i = 1; i <= 3; ++i)
        if (!decoding.source(i, type)) return false;
    decoding.op.run = map<Lop3, uint32_t, uint32_t, uint32_t, uint32_t>;
    if (combined >= 0) {
        decoding.op.run = lop3_predicate;
        decoding.op.flags2 = static_cast<uint32_t>(combined);
        if (!decoding.source(5, Type::Pred)) return false;
    }
    return decoding.finish();
}

// Shifts. Amounts above the width count as the width.

struct Shl {
    template <typename T>
    T operator()(T a, uint32_t amount) const {
        constexpr uint32_t kBits = 8 * sizeof(T);
        return amount < kBits ? static_cast<T>(static_cast<uint64_t>(a) << (amount & (kBits - 1))) : T{0};
    }
};
struct Shr {
    template <typename T>
    T operator()(T a, uint32_t amount) const {
        constexpr uint32_t kBits = 8 * sizeof(T);
        if constexpr (std::is_signed_v<T>) {
            return static_cast<T>(a >> std::min(amount, kBits - 1));
        } else {
            return amount < kBits ? static_cast<T>(a >> (amount & (kBits - 1))) : T{0};
        }
    }
};

bool decode_shift(Decoding& decoding) {
    const bool left = decoding.text.opcode == "shl";
    Type type;
    if (!decoding.type(&type)) return false;
    const auto handler = [&]() -> Handler {
        switch (type) {
            case Type::B16: return left ? map<Shl, uint16_t, uint16_t, uint32_t> : map<Shr, uint16_t, uint16_t, uint32_t>;
            case Type::B32: return left ? map<Shl, uint32_t, uint32_t, uint32_t> : map<Shr, uint32_t, uint32_t, uint32_t>;
            case Type::B64: return left ? map<Shl, uint64_t, uint64_t, uint32_t> : map<Shr, uint64_t, uint64_t, uint32_t>;
            case Type::U16: return left ? nullptr : map<Shr, uint16_t, uint16_t, uint32_t>;
            case Type::U32: return left ? nullptr : map<Shr, uint32_t, uint32_t, uint32_t>;
            case Type::U64: return left ? nullptr : map<Shr, uint64_t, uint64_t, uint32_t>;
            case Type::S16: return left ? nullptr : map<Shr, int16_t, int16_t, uint32_t>;
            case Type::S32: return left ? nullptr : map<Shr, int32_t, int32_t, uint32_t>;
            case Type::S64: return left ? nullptr : map<Shr, int64_t, int64_t, uint32_t>;
            default: return nullptr;
        }
    };
    decoding.op.run = handler();
    decoding.op.type = type;
    if (decoding.op.run == nullptr)
        return decoding.fail(fmt::format("`{}` is not known with type `.{}`", decoding.text.opcode, ptx::name(type)));
    return decoding.operands(3) && decoding.destination(0, type) && decoding.source(1, type) && decoding.source(2, Type::U32) &&
           decoding.finish();
}

template <bool left, bool wrap>
struct FunnelShift {
    uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
        const uint32_t amount = wrap ? c & 31 : std::min<uint32_t>(c, 32);
        const uint64_t both = uint64_t{b} << 32 | a;
        return static_cast<uint32_t>(left ? (both << amount) >> 32 : both >> amount);
    }
};

bool decode_funnel_shift(Decoding& decoding) {
    const int side = decoding.take_one({"l", "r"}), mode = decoding.take_one({"wrap", "clamp"});
    if (side < 0 || mode < 0) return decoding.fail("`shf` needs `.l` or `.r`, and `.wrap` or `.clamp`");
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::B32})) return false;
    constexpr Handler kHandlers[2][2] = {{map<FunnelShift<true, true>, uint32_t, uint32_t, uint32_t, uint32_t>,
                                          map<FunnelShift<true, false>, uint32_t, uint32_t, uint32_t, uint32_t>},
                                         {map<FunnelShift<false, true>, uint32_t, uint32_t, uint32_t, uint32_t>,
                                          map<FunnelShift<false, false>, uint32_t, uint32_t, uint32_t, uint32_t>}};
    decoding.op.run = kHandlers[side][mode];
    return decoding.operation(type, 3) && decoding.finish();
}

// Bit fields

struct BitFieldExtract {
    template <typename T>
    T operator()(T a, uint32_t b, uint32_t c) const {
        using U = std::make_unsigned_t<T>;
        constexpr uint32_t kBits = 8 * sizeof(T);
        const uint32_t position = b & 0xff, length = c & 0xff;
        bool sign = false;
        if (std::is_signed_v<T> && length != 0) sign = (static_cast<U>(a) >> std::min(position + length - 1, kBits - 1) & 1) != 0;
        const uint32_t count = position >= kBits ? 0 : std::min(length, kBits - position);
        const U mask = count >= kBits ? static_cast<U>(~U{0}) : static_cast<U>((U{1} << count) - 1);
        const U field = position >= kBits ? U{0} : static_cast<U>(static_cast<U>(a) >> position & mask);
        return static_cast<T>(sign ? field | static_cast<U>(~mask) : field);
    }
};
struct BitFieldInsert {
    template <typename T>
    T operator()(T a, T b, uint32_t c, uint32_t d) const {
        constexpr uint32_t kBits = 8 * sizeof(T);
        const uint32_t position = c & 0xff, length = d & 0xff;
        if (position >= kBits) return b;
        const uint32_t count = std::min(length, kBits - position);
        const T field = count >= kBits ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << count) - 1);
        const T mask = static_cast<T>(field << position);
        return static_cast<T>((b & ~mask) | ((a << position) & mask));
    }
};

bool decode_bfe(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::U32, Type::S32, Type::U64, Type::S64})) return false;
    switch (type) {
        case Type::U32: decoding.op.run = map<BitFieldExtract, uint32_t, uint32_t, uint32_t, uint32_t>; break;
        case Type::S32: decoding.op.run = map<BitFieldExtract, int32_t, int32_t, uint32_t, uint32_t>; break;
        case Type::U64: decoding.op.run = map<BitFieldExtract, uint64_t, uint64_t, uint32_t, uint32_t>; break;
        default: decoding.op.run = map<BitFieldExtract, int64_t, int64_t, uint32_t, uint32_t>;
    }
    decoding.op.type = type;
    return decoding.operands(4) && decoding.destination(0, type) && decoding.source(1, type) && decoding.source(2, Type::U32) &&
           decoding.source(3, Type::U32) && decoding.finish();
}

bool decode_bfi(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::B32, Type::B64})) return false;
    decoding.op.run = type == Type::B32 ? map<BitFieldInsert, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t>
                                        : map<BitFieldInsert, uint64_t, uint64_t, uint64_t, uint32_t, uint32_t>;
    decoding.op.type = type;
    return decoding.operands(5) && decoding.destination(0, type) && decoding.source(1, type) && decoding.source(2, type) &&
           decoding.source(3, Type::U32) && decoding.source(4, Type::U32) && decoding.finish();
}

template <bool wrap>
uint32_t field_number(uint32_t value) {
    return wrap ? value & 31 : std::min<uint32_t>(value, 32);
}
template <bool wrap>
struct BitMask {
    uint32_t operator()(uint32_t a, uint32_t b) const {
        const uint32_t from = field_number<wrap>(a), end = std::min<uint32_t>(from + field_number<wrap>(b), 32);
        return static_cast<uint32_t>((uint64_t{1} << end) - (uint64_t{1} << from));
    }
};
template <bool wrap>
struct Extend {
    template <typename T>
    T operator()(T a, uint32_t b) const {
        const uint32_t count = field_number<wrap>(b);
        if (count == 0) return 0;
        // Shifted to the top and back: the sign comes with the type.
        return static_cast<T>(static_cast<T>(static_cast<uint32_t>(a) << (32 - count)) >> (32 - count));
    }
};

bool decode_bmsk(Decoding& decoding) {
    const int mode = decoding.take_one({"wrap", "clamp"});
    if (mode < 0) return decoding.fail("`bmsk` needs `.wrap` or `.clamp`");
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::B32})) return false;
    decoding.op.run = mode == 0 ? map<BitMask<true>, uint32_t, uint32_t, uint32_t> : map<BitMask<false>, uint32_t, uint32_t, uint32_t>;
    return decoding.operation(type, 2) && decoding.finish();
}

bool decode_szext(Decoding& decoding) {
    const int mode = decoding.take_one({"wrap", "clamp"});
    if (mode < 0) return decoding.fail("`szext` needs `.wrap` or `.clamp`");
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::U32, Type::S32})) return false;
    if (type == Type::U32) {
        decoding.op.run = mode == 0 ? map<Extend<true>, uint32_t, uint32_t, uint32_t> : map<Extend<false>, uint32_t, uint32_t, uint32_t>;
    } else {
        decoding.op.run = mode == 0 ? map<Extend<true>, int32_t, int32_t, uint32_t> : map<Extend<false>, int32_t, int32_t, uint32_t>;
    }
    return decoding.operation(type, 2) && decoding.finish();
}

// Counting

struct PopCount {
    template <typename T>
    uint32_t operator()(T a) const {
        return static_cast<uint32_t>(std::popcount(a));
    }
};
struct CountLeadingZeros {
    template <typename T>
    uint32_t operator()(T a) const {
        return static_cast<uint32_t>(std::countl_zero(a));
    }
};
struct Reverse {
    template <typename T>
    T operator()(T a) const {
        T result = 0;
        for (size_t i = 0; i < 8 * sizeof(T); ++i, a = static_cast<T>(a >> 1)) result = static_cast<T>(result << 1 | (a & 1));
        return result;
    }
};
/// The highest bit that differs from the sign (from 0 if unsigned), as a position or as the shift that brings it to the top; all ones if there is none.
template <bool shift_amount>
struct FindLeading {
    template <typename T>
    uint32_t operator()(T a) const {
        using U = std::make_unsigned_t<T>;
        const U bits = static_cast<U>(a < 0 ? ~a : a);
        if (bits == 0) return UINT32_MAX;
        const auto zeros = static_cast<uint32_t>(std::countl_zero(bits));
        return shift_amount ? zeros : static_cast<uint32_t>(8 * sizeof(T)) - 1 - zeros;
    }
};
/// The n-th set bit at or after a base, or before it for negative n.
struct FindNthSet {
    uint32_t operator()(uint32_t mask, uint32_t base, int32_t offset) const {
        if (base > 31) return UINT32_MAX;
        if (offset == 0) return (mask >> base & 1) != 0 ? base : UINT32_MAX;
        int64_t left = offset < 0 ? -int64_t{offset} : offset;
        const int step = offset < 0 ? -1 : 1;
        for (int position = static_cast<int>(base); position >= 0 && position < 32; position += step) {
            if ((mask >> position & 1) != 0 && --left == 0) return static_cast<uint32_t>(position);
        }
        return UINT32_MAX;
    }
};

bool decode_count(Decoding& decoding) {
    const bool is_popc = decoding.text.opcode == "popc";
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::B32, Type::B64})) return false;
    if (type == Type::B32) {
        decoding.op.run = is_popc ? map<PopCount, uint32_t, uint32_t> : map<CountLeadingZeros, uint32_t, uint32_t>;
    } else {
        decoding.op.run = is_popc ? map<PopCount, uint32_t, uint64_t> : map<CountLeadingZeros, uint32_t, uint64_t>;
    }
    decoding.op.type = type;
    return decoding.operands(2) && decoding.destination(0, Type::U32) && decoding.source(1, type) && decoding.finish();
}

bool decode_brev(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::B32, Type::B64})) return false;
    decoding.op.run = type == Type::B32 ? map<Reverse, uint32_t, uint32_t> : map<Reverse, uint64_t, uint64_t>;
    return decoding.operation(type, 1) && decoding.finish();
}

template <bool shift_amount>
Handler find_leading(Type type) {
    switch (type) {
        case Type::U32: return map<FindLeading<shift_amount>, uint32_t, uint32_t>;
        case Type::S32: return map<FindLeading<shift_amount>, uint32_t, int32_t>;
        case Type::U64: return map<FindLeading<shift_amount>, uint32_t, uint64_t>;
        default: return map<FindLeading<shift_amount>, uint32_t, int64_t>;
    }
}

bool decode_bfind(Decoding& decoding) {
    const bool shift_amount = decoding.take("shiftamt");
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::U32, Type::S32, Type::U64, Type::S64})) return false;
    decoding.op.run = shift_amount ? find_leading<true>(type) : find_leading<false>(type);
    decoding.op.type = type;
    return decoding.operands(2) && decoding.destination(0, Type::U32) && decoding.source(1, type) && decoding.finish();
}

bool decode_fns(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::B32})) return false;
    decoding.op.run = map<FindNthSet, uint32_t, uint32_t, uint32_t, int32_t>;
    return decoding.operation(type, 3) && decoding.finish();
}

// Bytes

/// For each mode the byte of (b, a) that goes to each byte of d, lowest first, by the two lowest bits of c.
constexpr uint8_t kPermutations[6][4][4] = {
    {{0, 1, 2, 3}, {1, 2, 3, 4}, {2, 3, 4, 5}, {3, 4, 5, 6}},  // f4e
    {{0, 7, 6, 5}, {1, 0, 7, 6}, {2, 1, 0, 7}, {3, 2, 1, 0}},  // b4e
    {{0, 0, 0, 0}, {1, 1, 1, 1}, {2, 2, 2, 2}, {3, 3, 3, 3}},  // rc8
    {{0, 1, 2, 3}, {1, 1, 2, 3}, {2, 2, 2, 3}, {3, 3, 3, 3}},  // ecl
    {{0, 0, 0, 0}, {0, 1, 1, 1}, {0, 1, 2, 2}, {0, 1, 2, 3}},  // ecr
    {{0, 1, 0, 1}, {2, 3, 2, 3}, {0, 1, 0, 1}, {2, 3, 2, 3}},  // rc16
};
struct Permute {
    uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
        const uint64_t bytes = uint64_t{b} << 32 | a;
        uint32_t result = 0;
        for (uint32_t i = 0; i < 4; ++i) {
            const uint32_t selector = c >> (4 * i) & 15;
            const auto byte = static_cast<uint32_t>(bytes >> (8 * (selector & 7)) & 0xff);
            // The fourth bit spreads the sign of the byte over it.
            const uint32_t sign = (byte >> 7) * 0xff;
            result |= ((selector & 8) != 0 ? sign : byte) << (8 * i);
        }
        return result;
    }
};
struct PermuteByMode {
    explicit PermuteByMode(const Op& op) : table(kPermutations[op.flags]) {}
    uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
        const uint64_t bytes = uint64_t{b} << 32 | a;
        uint32_t result = 0;
        for (uint32_t i = 0; i < 4; ++i) result |= static_cast<uint32_t>(bytes >> (8 * table[c & 3][i]) & 0xff) << (8 * i);
        return result;
    }
    const uint8_t (&table)[4][4];
};

bool decode_prmt(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::B32})) return false;
    const int mode = decoding.take_one({"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"});
    decoding.op.run =
        mode < 0 ? map<Permute, uint32_t, uint32_t, uint32_t, uint32_t> : map<PermuteByMode, uint32_t, uint32_t, uint32_t, uint32_t>;
    decoding.op.flags = mode < 0 ? 0 : static_cast<uint32_t>(mode);
    return decoding.operation(type, 3) && decoding.finish();
}

/// d = c + sum of the products of parts of a and b. dp4a: four bytes each; dp2a: two halves of a and the lower or upper two bytes of b.
struct DotProduct {
    explicit DotProduct(const Op& op)
        : parts(op.flags == 0 ? 4 : 2),
          a_bits(op.flags == 0 ? 8 : 16),
          b_shift(op.flags == 2 ? 16 : 0),
          a_signed(is_signed(op.type)),
          b_signed(is_signed(op.type2)) {}
    static int64_t part(uint32_t value, uint32_t at, uint32_t bits, bool is_signed) {
        const uint32_t raised = value >> at << (32 - bits);
        return is_signed ? static_cast<int32_t>(raised) >> (32 - bits) : static_cast<int64_t>(raised >> (32 - bits));
    }
    uint32_t operator()(uint32_t a, uint32_t b, uint32_t c) const {
        int64_t sum = c;
        for (uint32_t i = 0; i < parts; ++i) sum += part(a, i * a_bits, a_bits, a_signed) * part(b, b_shift + 8 * i, 8, b_signed);
        return static_cast<uint32_t>(sum);
    }
    uint32_t parts, a_bits, b_shift;
    bool a_signed, b_signed;
};

bool decode_dot_product(Decoding& decoding) {
    if (decoding.text.opcode == "dp2a") {
        const int half = decoding.take_one({"lo", "hi"});
        if (half < 0) return decoding.fail("`dp2a` needs `.lo` or `.hi`");
        decoding.op.flags = static_cast<uint32_t>(half) + 1;
    }
    Type a, b;
    if (!decoding.type(&a) || !decoding.type(&b) || !decoding.type_is(a, {Type::U32, Type::S32}) ||
        !decoding.type_is(b, {Type::U32, Type::S32}))
        return false;
    decoding.op.run = map<DotProduct, uint32_t, uint32_t, uint32_t, uint32_t>;
    if (!decoding.operation(a, 3)) return false;
    decoding.op.type2 = b;
    return decoding.finish();
}

// Products of 24 bits, and absolute differences

template <typename T>
int64_t product24(T a, T b) {
    if constexpr (std::is_signed_v<T>) {
        const auto extend = [](T value) { return static_cast<int64_t>(static_cast<int32_t>(static_cast<uint32_t>(value) << 8) >> 8); };
        return extend(a) * extend(b);
    } else {
        return static_cast<int64_t>((a & 0xffffff) * static_cast<uint64_t>(b & 0xffffff));
    }
}
template <bool high>
struct Mul24 {
    template <typename T>
    T operator()(T a, T b) const {
        return static_cast<T>(product24(a, b) >> (high ? 16 : 0));
    }
};
template <bool high>
struct Mad24 {
    template <typename T>
    T operator()(T a, T b, T c) const {
        return static_cast<T>(static_cast<uint32_t>(Mul24<high>()(a, b)) + static_cast<uint32_t>(c));
    }
};
struct Mad24Sat {
    int32_t operator()(int32_t a, int32_t b, int32_t c) const {
        return static_cast<int32_t>(std::clamp<int64_t>(int64_t{Mul24<true>()(a, b)} + c, INT32_MIN, INT32_MAX));
    }
};

bool decode_mul24(Decoding& decoding) {
    const bool is_mad = decoding.text.opcode == "mad24";
    const int half = decoding.take_one({"lo", "hi"});
    if (half < 0) return decoding.fail(fmt::format("`{}` needs `.lo` or `.hi`", decoding.text.opcode));
    Type type;
    if (!decoding.type(&type) || !decoding.type_is(type, {Type::U32, Type::S32})) return false;
    const bool is_s32 = type == Type::S32, high = half == 1;
    if (!is_mad) {
        const Handler low_handler = is_s32 ? map<Mul24<false>, int32_t, int32_t, int32_t> : map<Mul24<false>, uint32_t, uint32_t, uint32_t>;
        const Handler high_handler = is_s32 ? map<Mul24<true>, int32_t, int32_t, int32_t> : map<Mul24<true>, uint32_t, uint32_t, uint32_t>;
        decoding.op.run = high ? high_handler : low_handler;
    } else if (decoding.take("sat")) {
        if (!is_s32 || !high) return decoding.fail("`.sat` needs `.hi` and `.s32`");
        decoding.op.run = map<Mad24Sat, int32_t, int32_t, int32_t, int32_t>;
    } else if (high) {
        decoding.op.run =
            is_s32 ? map<Mad24<true>, int32_t, int32_t, int32_t, int32_t> : map<Mad24<true>, uint32_t, uint32_t, uint32_t, uint32_t>;
    } else {
        decoding.op.run = map<Mad24<false>, uint32_t, uint32_t, uint32_t, uint32_t>;
        if (is_s32) decoding.op.run = map<Mad24<false>, int32_t, int32_t, int32_t, int32_t>;
    }
    return decoding.operation(type, is_mad ? 3 : 2) && decoding.finish();
}

struct SumOfDifference {
    template <typename T>
    T operator()(T a, T b, T c) const {
        const uint64_t x = static_cast<uint64_t>(a), y = static_cast<uint64_t>(b);
        return static_cast<T>(static_cast<uint64_t>(c) + (a < b ? y - x : x - y));
    }
};

bool decode_sad(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type)) return false;
    switch (type) {
        case Type::U16: decoding.op.run = map<SumOfDifference, uint16_t, uint16_t, uint16_t, uint16_t>; break;
        case Type::S16: decoding.op.run = map<SumOfDifference, int16_t, int16_t, int16_t, int16_t>; break;
        case Type::U32: decoding.op.run = map<SumOfDifference, uint32_t, uint32_t, uint32_t, uint32_t>; break;
        case Type::S32: decoding.op.run = map<SumOfDifference, int32_t, int32_t, int32_t, int32_t>; break;
        case Type::U64: decoding.op.run = map<SumOfDifference, uint64_t, uint64_t, uint64_t, uint64_t>; break;
        case Type::S64: decoding.op.run = map<SumOfDifference, int64_t, int64_t, int64_t, int64_t>; break;
        default: return decoding.fail(fmt::format("`sad` is not known with type `.{}`", ptx::name(type)));
    }
    return decoding.operation(type, 3) && decoding.finish();
}

constexpr DecoderEntry kDecoders[] = {
    {"and", decoder<decode_logic<And>>}, {"or", decoder<decode_logic<Or>>},     {"xor", decoder<decode_logic<Xor>>},
    {"not", decoder<decode_not>},        {"cnot", decoder<decode_not>},         {"lop3", decoder<decode_lop3>},
    {"shl", decoder<decode_shift>},      {"shr", decoder<decode_shift>},        {"shf", decoder<decode_funnel_shift>},
    {"bfe", decoder<decode_bfe>},        {"bfi", decoder<decode_bfi>},          {"bmsk", decoder<decode_bmsk>},
    {"szext", decoder<decode_szext>},    {"popc", decoder<decode_count>},       {"clz", decoder<decode_count>},
    {"brev", decoder<decode_brev>},      {"bfind", decoder<decode_bfind>},      {"fns", decoder<decode_fns>},
    {"prmt", decoder<decode_prmt>},      {"dp4a", decoder<decode_dot_product>}, {"dp2a", decoder<decode_dot_product>},
    {"mul24", decoder<decode_mul24>},    {"mad24", decoder<decode_mul24>},      {"sad", decoder<decode_sad>},
    {"vadd2", decoder<decode_video>},    {"vadd4", decoder<decode_video>},      {"vsub2", decoder<decode_video>},
    {"vsub4", decoder<decode_video>},    {"vabsdiff2", decoder<decode_video>},  {"vabsdiff4", decoder<decode_video>},
    {"vmin2", decoder<decode_video>},    {"vmin4", decoder<decode_video>},      {"vmax2", decoder<decode_video>},
    {"vmax4", decoder<decode_video>},
};

}  // namespace

std::span<const DecoderEntry> integer_decoders() {
    return kDecoders;
}

}  // namespace flexemu

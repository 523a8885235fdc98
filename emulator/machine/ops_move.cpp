// mov (also packing and unpacking), selp and slct.
#include <algorithm>

#include "emulator/machine/arithmetic.h"
#include "emulator/machine/lanes.h"

namespace flexemu {
namespace {

using ptx::Operand;
using ptx::Type;

struct Identity {
    template <typename T>
    T operator()(T a) const {
        return a;
    }
};
struct Select {
    template <typename T>
    T operator()(T a, T b, bool c) const {
        return c ? a : b;
    }
};
struct SelectBySign {
    template <typename T>
    T operator()(T a, T b, int32_t c) const {
        return c >= 0 ? a : b;
    }
};
struct SelectByFloatSign {
    explicit SelectByFloatSign(const Op& op) : ftz(op.flags != 0) {}
    template <typename T>
    T operator()(T a, T b, float c) const {
        return (ftz ? numeric::flush(c) : c) >= 0 ? a : b;
    }
    bool ftz;
};

template <typename F, typename... A>
Handler by_width(Type type) {
    switch (ptx::bits(type)) {
        case 16: return map<F, uint16_t, uint16_t, uint16_t, A...>;
        case 32: return map<F, uint32_t, uint32_t, uint32_t, A...>;
        default: return map<F, uint64_t, uint64_t, uint64_t, A...>;
    }
}

Type bits_of(int width) {
    switch (width) {
        case 8: return Type::B8;
        case 16: return Type::B16;
        case 32: return Type::B32;
        case 64: return Type::B64;
        default: return Type::None;
    }
}

/// mov.b64 d, {a, b}: `flags` bits each, lowest first. A .b128 has two destinations.
void pack(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    const size_t per_register = op.sources.size() / op.destinations.size();
    Lanes scratch;
    Lanes result[2] = {};
    for (size_t i = 0; i < op.sources.size(); ++i) {
        const uint64_t* from = warp.read(op.sources[i], scratch);
        const uint64_t mask = op.flags == 64 ? ~uint64_t{0} : (uint64_t{1} << op.flags) - 1;
        Lanes& to = result[i / per_register];
        for (size_t lane = 0; lane < kLanes; ++lane) to[lane] |= (from[lane] & mask) << (op.flags * (i % per_register));
    }
    for (size_t i = 0; i < op.destinations.size(); ++i) warp.write(op.destinations[i], result[i], active);
}

void unpack(Warp& warp, const Op& op, LaneMask active) {
    if (active == 0) return;
    const size_t per_register = op.destinations.size() / op.sources.size();
    // All is read before anything is written: a part may go to the register that is taken apart.
    Lanes scratch[2];
    const uint64_t* from[2] = {};
    for (size_t i = 0; i < op.sources.size(); ++i) {
        const uint64_t* values = warp.read(op.sources[i], scratch[i]);
        if (values != scratch[i].data()) std::copy_n(values, kLanes, scratch[i].begin());
        from[i] = scratch[i].data();
    }
    const uint64_t mask = op.flags == 64 ? ~uint64_t{0} : (uint64_t{1} << op.flags) - 1;
    for (size_t i = 0; i < op.destinations.size(); ++i) {
        Lanes result;
        for (size_t lane = 0; lane < kLanes; ++lane) result[lane] = from[i / per_register][lane] >> (op.flags * (i % per_register)) & mask;
        warp.write(op.destinations[i], result, active);
    }
}

/// The two registers of a .b128.
bool wide_register(Decoding& decoding, const Operand& operand, bool is_source) {
    if (operand.kind == Operand::Kind::Sink && !is_source) {
        decoding.op.destinations.insert(decoding.op.destinations.end(), 2, kNoRegister);
        return true;
    }
    if (decoding.register_bits(operand) != 128) return decoding.fail("`mov.b128` needs a .b128 register or two or four parts");
    if (!is_source) {
        if (!decoding.destination(operand, Type::B128)) return false;
        decoding.op.destinations.push_back(decoding.op.destinations.back() + 1);
        return true;
    }
    if (!decoding.source(operand, Type::B128)) return false;
    decoding.op.sources.push_back(decoding.op.sources.back());
    ++decoding.op.sources.back().number;
    return true;
}

bool decode_parts(Decoding& decoding, Type type, const Operand& to, const Operand& from) {
    const bool is_pack = from.kind == Operand::Kind::Vector;
    if (is_pack && to.kind == Operand::Kind::Vector) return decoding.fail("`mov` takes a vector on one side");
    if (!decoding.type_is(type, {Type::B16, Type::B32, Type::B64, Type::B128})) return false;
    const std::vector<Operand>& parts = is_pack ? from.elements : to.elements;
    const Type part = parts.size() == 2 || parts.size() == 4 ? bits_of(ptx::bits(type) / static_cast<int>(parts.size())) : Type::None;
    if (part == Type::None) return decoding.fail(fmt::format("`{}` has no {} parts", decoding.text.spelling(), parts.size()));
    decoding.op.flags = static_cast<uint32_t>(ptx::bits(part));
    decoding.op.run = is_pack ? pack : unpack;
    if (type == Type::B128) {
        if (!wide_register(decoding, is_pack ? to : from, !is_pack)) return false;
    } else if (is_pack ? !decoding.destination(to, type) : !decoding.source(from, type)) {
        return false;
    }
    for (const Operand& each : parts) {
        if (is_pack ? !decoding.source(each, part) : !decoding.destination(each, part)) return false;
    }
    return decoding.finish();
}

}  // namespace

bool decode_mov(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decoding.operands(2)) return false;
    decoding.op.type = type;
    const Operand &to = decoding.text.operands[0], &from = decoding.text.operands[1];
    if (to.kind == Operand::Kind::Vector || from.kind == Operand::Kind::Vector) return decode_parts(decoding, type, to, from);
    switch (type) {
        case Type::Pred: decoding.op.run = map<Identity, bool, bool>; break;
        case Type::B16:
        case Type::U16:
        case Type::S16: decoding.op.run = map<Identity, uint16_t, uint16_t>; break;
        case Type::B32:
        case Type::U32:
        case Type::S32:
        case Type::F32: decoding.op.run = map<Identity, uint32_t, uint32_t>; break;
        case Type::B64:
        case Type::U64:
        case Type::S64:
        case Type::F64: decoding.op.run = map<Identity, uint64_t, uint64_t>; break;
        case Type::B128:
            // One part of 64 bits a register.
            decoding.op.run = unpack;
            decoding.op.flags = 64;
            return wide_register(decoding, to, false) && wide_register(decoding, from, true) && decoding.finish();
        default: return decoding.fail(fmt::format("`mov` is not known with type `.{}`", ptx::name(type)));
    }
    return decoding.operation(type, 1) && decoding.finish();
}

bool decode_selp(Decoding& decoding) {
    Type type;
    if (!decoding.type(&type) || !decoding.operands(4)) return false;
    if (!decoding.type_is(type, {Type::B16, Type::B32, Type::B64, Type::U16, Type::U32, Type::U64, Type::S16, Type::S32, Type::S64,
                                 Type::F32, Type::F64}))
        return false;
    decoding.op.type = type;
    decoding.op.run = by_width<Select, bool>(type);
    return decoding.destination(0, type) && decoding.source(1, type) && decoding.source(2, type) && decoding.source(3, Type::Pred) &&
           decoding.finish();
}

bool decode_slct(Decoding& decoding) {
    Type type, by;
    if (!decoding.type(&type) || !decoding.type(&by) || !decoding.operands(4)) return false;
    if (!decoding.type_is(type, {Type::B16, Type::B32, Type::B64, Type::U16, Type::U32, Type::U64, Type::S16, Type::S32, Type::S64,
                                 Type::F32, Type::F64}))
        return false;
    if (!decoding.type_is(by, {Type::S32, Type::F32})) return false;
    if (by == Type::F32) decoding.op.flags = decoding.take("ftz") ? 1 : 0;
    decoding.op.type = type;
    decoding.op.type2 = by;
    decoding.op.run = by == Type::S32 ? by_width<SelectBySign, int32_t>(type) : by_width<SelectByFloatSign, float>(type);
    return decoding.destination(0, type) && decoding.source(1, type) && decoding.source(2, type) && decoding.source(3, by) &&
           decoding.finish();
}

}  // namespace flexemu

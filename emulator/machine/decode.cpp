#include "emulator/machine/decode.h"

#include <algorithm>

namespace flexemu {

bool Decoding::take(std::string_view modifier) {
    for (size_t i = 0; i < text.modifiers.size() && i < 64; ++i) {
        if ((taken_ >> i & 1) != 0 || text.modifiers[i] != modifier) continue;
        taken_ |= uint64_t{1} << i;
        return true;
    }
    return false;
}

int Decoding::take_one(std::initializer_list<std::string_view> modifiers) {
    int index = 0;
    for (const std::string_view modifier : modifiers) {
        if (take(modifier)) return index;
        ++index;
    }
    return -1;
}

ptx::Type Decoding::take_type() {
    for (size_t i = 0; i < text.modifiers.size() && i < 64; ++i) {
        if ((taken_ >> i & 1) != 0) continue;
        const ptx::Type type = ptx::type_named(text.modifiers[i]);
        if (type == ptx::Type::None) continue;
        taken_ |= uint64_t{1} << i;
        return type;
    }
    return ptx::Type::None;
}

bool Decoding::type(ptx::Type* out) {
    *out = take_type();
    return *out != ptx::Type::None || fail(fmt::format("`{}` names no type", text.spelling()));
}

bool Decoding::finish() {
    for (size_t i = 0; i < text.modifiers.size(); ++i) {
        if (i >= 64 || (taken_ >> i & 1) == 0) return fail(fmt::format("`.{}` is not known in `{}`", text.modifiers[i], text.spelling()));
    }
    return true;
}

bool Decoding::operands(size_t least, size_t most) {
    const size_t count = text.operands.size();
    if (count >= least && count <= most) return true;
    if (least == most) return fail(fmt::format("`{}` takes {} operands, found {}", text.spelling(), least, count));
    return fail(fmt::format("`{}` takes {} to {} operands, found {}", text.spelling(), least, most, count));
}

int Decoding::register_bits(const ptx::Operand& operand) const {
    if (operand.kind != ptx::Operand::Kind::Register) return 0;
    return ptx::bits(context.function().registers[static_cast<size_t>(operand.number)].type);
}

bool Decoding::width(const ptx::Operand& operand, ptx::Type type, bool wider) {
    if (operand.kind == ptx::Operand::Kind::Vector || operand.kind == ptx::Operand::Kind::Memory) {
        return fail(fmt::format("`{}` takes no vector and no address here", text.spelling()));
    }
    const int bits = register_bits(operand);
    if (bits == 0) return true;
    if (operand.component >= 0) return fail(fmt::format("a part of a register is not known in `{}`", text.spelling()));
    if (bits == ptx::bits(type) || (wider && bits > ptx::bits(type))) return true;
    const ptx::Register& reg = context.function().registers[static_cast<size_t>(operand.number)];
    return fail(
        fmt::format("`{}` is a .{} register, `{}` needs {} bits here", reg.name, ptx::name(reg.type), text.spelling(), ptx::bits(type)));
}

bool Decoding::add_destination(const ptx::Operand& operand, ptx::Type type, bool wider) {
    uint32_t reg = kNoRegister;
    if (!width(operand, type, wider) || !context.destination(operand, &reg, error_)) return false;
    op.destinations.push_back(reg);
    return operand.second.empty() || fail(fmt::format("`|` is not known in `{}`", text.spelling()));
}

bool Decoding::add_source(const ptx::Operand& operand, ptx::Type type, bool wider) {
    Source source;
    if (!width(operand, type, wider)) return false;
    if (operand.kind == ptx::Operand::Kind::Sink) return fail(fmt::format("`_` cannot be read by `{}`", text.spelling()));
    if (operand.negated && type != ptx::Type::Pred) return fail("`!` stands before predicates alone");
    if (!context.source(operand, type, &source, error_)) return false;
    op.sources.push_back(source);
    return true;
}

bool Decoding::operation(ptx::Type type, size_t sources) {
    if (!operands(sources + 1) || !destination(0, type)) return false;
    for (size_t i = 1; i <= sources; ++i)
        if (!source(i, type)) return false;
    op.type = type;
    return true;
}

bool Decoding::second_destination(size_t index) {
    const ptx::Operand& operand = text.operands[index];
    if (operand.second.empty()) {
        op.destinations.push_back(kNoRegister);
        return true;
    }
    return destination(operand.second[0], ptx::Type::Pred);
}

bool Decoding::constant(size_t index, int64_t least, int64_t most, int64_t* out) {
    const ptx::Operand& operand = text.operands[index];
    if (operand.kind != ptx::Operand::Kind::Immediate || operand.is_float || operand.is_f32) {
        return fail(fmt::format("operand {} of `{}` must be an integer constant", index + 1, text.spelling()));
    }
    *out = static_cast<int64_t>(operand.bits);
    if (*out >= least && *out <= most) return true;
    return fail(fmt::format("operand {} of `{}` is {}: it must be from {} to {}", index + 1, text.spelling(), *out, least, most));
}

bool Decoding::carry_in() {
    ptx::Operand carry;
    carry.kind = ptx::Operand::Kind::Register;
    carry.number = context.function().carry;
    return source(carry, ptx::Type::Pred);
}

bool Decoding::carry_out() {
    ptx::Operand carry;
    carry.kind = ptx::Operand::Kind::Register;
    carry.number = context.function().carry;
    return destination(carry, ptx::Type::Pred);
}

bool Decoding::type_is(ptx::Type type, std::initializer_list<ptx::Type> types) {
    if (std::find(types.begin(), types.end(), type) != types.end()) return true;
    return fail(fmt::format("`{}` is not known with type `.{}`", text.opcode, ptx::name(type)));
}

bool Decoding::needs_target(int compute_capability, std::string_view what) {
    int target = 0;
    for (const char c : context.module().target.substr(std::min<size_t>(3, context.module().target.size()))) {
        if (c < '0' || c > '9') break;
        target = target * 10 + (c - '0');
    }
    if (target >= compute_capability) return true;
    return fail(fmt::format("`{}` needs `.target sm_{}` or later, the module has `{}`", what, compute_capability, context.module().target));
}

}  // namespace flexemu

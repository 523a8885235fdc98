// Constant folding. f32 is folded in f32, and only operations that IEEE 754 rounds correctly: every target gives the same bits.
#include <algorithm>
#include <bit>
#include <cmath>

#include "ir/passes.h"
#include "ir/rewrite.h"
#include "ir/scalar_ops.h"

namespace flexc::ir {

namespace {

float as_float(uint32_t bits) {
    return std::bit_cast<float>(bits);
}
int32_t as_int(uint32_t bits) {
    return static_cast<int32_t>(bits);
}

uint32_t bits_of(float value) {
    return std::isnan(value) ? 0x7fc00000u : std::bit_cast<uint32_t>(value);
}
uint32_t bits_of(int32_t value) {
    return static_cast<uint32_t>(value);
}
uint32_t bits_of(bool value) {
    return value ? 1 : 0;
}

bool opposite_zeros(float a, float b) {
    return a == 0 && b == 0 && std::signbit(a) != std::signbit(b);
}

std::optional<uint32_t> fold_f32(Op op, float a, float b, float c) {
    switch (op) {
        case Op::Neg: return bits_of(-a);
        case Op::Abs: return bits_of(std::fabs(a));
        case Op::Sign: return bits_of(scalar::sign_of(a));
        case Op::Add: return bits_of(a + b);
        case Op::Sub: return bits_of(a - b);
        case Op::Mul: return bits_of(a * b);
        case Op::Div: return bits_of(a / b);
        case Op::Min:
            if (opposite_zeros(a, b)) return std::nullopt;
            return bits_of(scalar::min(a, b));
        case Op::Max:
            if (opposite_zeros(a, b)) return std::nullopt;
            return bits_of(scalar::max(a, b));
        case Op::Clamp:
            if (opposite_zeros(a, b) || opposite_zeros(scalar::max(a, b), c)) return std::nullopt;
            return bits_of(scalar::clamp(a, b, c));
        case Op::Eq: return bits_of(a == b);
        case Op::Ne: return bits_of(a != b);
        case Op::Lt: return bits_of(a < b);
        case Op::Le: return bits_of(a <= b);
        case Op::Sqrt: return bits_of(std::sqrt(a));
        case Op::Floor: return bits_of(std::floor(a));
        case Op::Ceil: return bits_of(std::ceil(a));
        case Op::Round: return bits_of(std::nearbyint(a));
        case Op::ToI32: return bits_of(scalar::from_float(a));
        default: return std::nullopt;
    }
}

std::optional<uint32_t> fold_i32(Op op, int32_t a, int32_t b, int32_t c) {
    switch (op) {
        case Op::Neg: return bits_of(scalar::neg(a));
        case Op::Abs: return bits_of(scalar::abs(a));
        case Op::Sign: return bits_of(scalar::sign(a));
        case Op::BitNot: return bits_of(~a);
        case Op::Add: return bits_of(scalar::add(a, b));
        case Op::Sub: return bits_of(scalar::sub(a, b));
        case Op::Mul: return bits_of(scalar::mul(a, b));
        case Op::FloorDiv: return bits_of(scalar::floordiv(a, b));
        case Op::Mod: return bits_of(scalar::mod(a, b));
        case Op::Min: return bits_of(std::min(a, b));
        case Op::Max: return bits_of(std::max(a, b));
        case Op::Clamp: return bits_of(std::min(std::max(a, b), c));
        case Op::BitAnd: return bits_of(a & b);
        case Op::BitOr: return bits_of(a | b);
        case Op::BitXor: return bits_of(a ^ b);
        case Op::Shl: return bits_of(scalar::shl(a, b));
        case Op::Shr: return bits_of(scalar::shr(a, b));
        case Op::Eq: return bits_of(a == b);
        case Op::Ne: return bits_of(a != b);
        case Op::Lt: return bits_of(a < b);
        case Op::Le: return bits_of(a <= b);
        case Op::ToF32: return bits_of(static_cast<float>(a));
        default: return std::nullopt;
    }
}

std::optional<uint32_t> fold_bool(Op op, bool a, bool b) {
    switch (op) {
        case Op::Not: return bits_of(!a);
        case Op::And: return bits_of(a && b);
        case Op::Or: return bits_of(a || b);
        case Op::Eq: return bits_of(a == b);
        case Op::Ne: return bits_of(a != b);
        case Op::ToF32: return bits_of(a ? 1.0f : 0.0f);
        case Op::ToI32: return bits_of(a ? 1 : 0);
        default: return std::nullopt;
    }
}

bool is_const(const Node& node) {
    return node.op == Op::ConstF32 || node.op == Op::ConstI32 || node.op == Op::ConstBool;
}

NodeId constant(Graph& graph, Type type, uint32_t bits) {
    switch (type) {
        case Type::F32: return graph.f32(as_float(bits));
        case Type::I32: return graph.i32(as_int(bits));
        case Type::Bool: break;
    }
    return graph.boolean(bits != 0);
}

}  // namespace

NodeId fold_node(Graph& out, const Node& node, std::span<const NodeId> operands) {
    const OpKind kind = info(node.op).kind;
    if (operands.empty() || kind == OpKind::Leaf || kind == OpKind::Load || kind == OpKind::Reduce) return out.like(node, operands);
    if (node.op == Op::Select) {
        const auto condition = out.as_bool(operands[0]);
        return condition ? operands[*condition ? 1 : 2] : out.like(node, operands);
    }
    uint32_t bits[3] = {};
    for (size_t i = 0; i < operands.size(); ++i) {
        if (!is_const(out[operands[i]])) return out.like(node, operands);
        bits[i] = out[operands[i]].payload;
    }
    std::optional<uint32_t> result;
    switch (out.type(operands[0])) {
        case Type::F32: result = fold_f32(node.op, as_float(bits[0]), as_float(bits[1]), as_float(bits[2])); break;
        case Type::I32: result = fold_i32(node.op, as_int(bits[0]), as_int(bits[1]), as_int(bits[2])); break;
        case Type::Bool: result = fold_bool(node.op, bits[0] != 0, bits[1] != 0); break;
    }
    return result ? constant(out, node.type, *result) : out.like(node, operands);
}

void fold(Attention& attention) {
    rewrite(attention, fold_node);
}

}  // namespace flexc::ir

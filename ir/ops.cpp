// The ops table, and the rules of typing.
#include <array>

#include "ir/ir.h"

namespace flexc::ir {

namespace {

constexpr std::array<OpInfo, kOpCount> kOps = {{
#define FLEX_OP(ident, text, arity, result, kind) {text, arity, OpResult::result, OpKind::kind},
#include "ir/ops.def"
#undef FLEX_OP
}};

bool is_number(Type type) {
    return type != Type::Bool;
}

bool takes(Op op, std::span<const Type> t) {
    switch (op) {
        case Op::Neg:
        case Op::Abs:
        case Op::Sign: return is_number(t[0]);
        case Op::BitNot: return t[0] == Type::I32;
        case Op::Not: return t[0] == Type::Bool;

        case Op::Add:
        case Op::Sub:
        case Op::Mul:
        case Op::Min:
        case Op::Max:
        case Op::Lt:
        case Op::Le: return is_number(t[0]) && t[1] == t[0];
        case Op::Eq:
        case Op::Ne: return t[1] == t[0];
        case Op::FloorDiv:
        case Op::Mod:
        case Op::BitAnd:
        case Op::BitOr:
        case Op::BitXor:
        case Op::Shl:
        case Op::Shr:
        case Op::LoopVar: return t[0] == Type::I32 && t[1] == Type::I32;
        case Op::And:
        case Op::Or: return t[0] == Type::Bool && t[1] == Type::Bool;
        case Op::Clamp: return is_number(t[0]) && t[1] == t[0] && t[2] == t[0];
        case Op::Select: return t[0] == Type::Bool && t[1] == t[2];

        case Op::ToF32: return t[0] != Type::F32;
        case Op::ToI32: return t[0] != Type::I32;
        case Op::RowLoad: return t[0] == Type::I32;

        case Op::ReduceSum:
        case Op::ReduceMin:
        case Op::ReduceMax: return t[0] == Type::I32 && is_number(t[1]);
        case Op::ReduceAny:
        case Op::ReduceAll: return t[0] == Type::I32 && t[1] == Type::Bool;

        default: break;
    }
    for (const Type type : t)  // div and the functions of f32
        if (type != Type::F32) return false;
    return true;
}

}  // namespace

const OpInfo& info(Op op) {
    return kOps[static_cast<size_t>(op)];
}

std::optional<Type> result_type(Op op, std::span<const Type> operands) {
    const OpInfo& op_info = info(op);
    if (op_info.arity != static_cast<int>(operands.size()) || operands.empty() || !takes(op, operands)) return std::nullopt;
    switch (op_info.result) {
        case OpResult::F32: return Type::F32;
        case OpResult::I32: return Type::I32;
        case OpResult::Bool: return Type::Bool;
        case OpResult::Same: return operands[op_info.kind == OpKind::Reduce || op == Op::Select ? 1 : 0];
        case OpResult::Leaf: break;
    }
    return std::nullopt;
}

std::string_view name(Type type) {
    switch (type) {
        case Type::F32: return "f32";
        case Type::I32: return "i32";
        case Type::Bool: return "bool";
    }
    return "?";
}

std::string_view name(ElemType type) {
    switch (type) {
        case ElemType::F32: return "f32";
        case ElemType::F16: return "f16";
        case ElemType::BF16: return "bf16";
        case ElemType::I32: return "i32";
        case ElemType::I16: return "i16";
        case ElemType::I8: return "i8";
        case ElemType::U8: return "u8";
        case ElemType::Bool: return "bool";
    }
    return "?";
}

Type widened(ElemType type) {
    switch (type) {
        case ElemType::F32:
        case ElemType::F16:
        case ElemType::BF16: return Type::F32;
        case ElemType::I32:
        case ElemType::I16:
        case ElemType::I8:
        case ElemType::U8: return Type::I32;
        case ElemType::Bool: break;
    }
    return Type::Bool;
}

std::string_view name(IndexVar which) {
    static constexpr std::string_view kNames[kIndexVars] = {"b", "h", "q", "k", "hkv", "d"};
    return kNames[static_cast<size_t>(which)];
}

std::string_view name(TileBound which) {
    static constexpr std::string_view kNames[] = {"q_lo", "q_hi", "k_lo", "k_hi"};
    return kNames[static_cast<size_t>(which)];
}

std::string_view name(ClauseVar which) {
    static constexpr std::string_view kNames[] = {"score", "out", "query_row", "key_row", "weight"};
    return kNames[static_cast<size_t>(which)];
}

}  // namespace flexc::ir

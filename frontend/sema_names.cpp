#include "frontend/sema_names.h"

#include <algorithm>
#include <limits>
#include <numbers>

namespace flexc::sema {

namespace {

using ir::Op;

constexpr std::array kBuiltins = {
    Builtin{"exp", Shape::Float, Op::Exp, "exp(x)"},
    Builtin{"exp2", Shape::Float, Op::Exp2, "exp2(x)"},
    Builtin{"log", Shape::Float, Op::Log, "log(x)"},
    Builtin{"log2", Shape::Float, Op::Log2, "log2(x)"},
    Builtin{"sqrt", Shape::Float, Op::Sqrt, "sqrt(x)"},
    Builtin{"rsqrt", Shape::Float, Op::Rsqrt, "rsqrt(x)"},
    Builtin{"tanh", Shape::Float, Op::Tanh, "tanh(x)"},
    Builtin{"tanh_approx", Shape::Float, Op::TanhApprox, "tanh_approx(x)"},
    Builtin{"sigmoid", Shape::Float, Op::Sigmoid, "sigmoid(x)"},
    Builtin{"sin", Shape::Float, Op::Sin, "sin(x)"},
    Builtin{"cos", Shape::Float, Op::Cos, "cos(x)"},
    Builtin{"tan", Shape::Float, Op::Tan, "tan(x)"},
    Builtin{"erf", Shape::Float, Op::Erf, "erf(x)"},
    Builtin{"floor", Shape::Float, Op::Floor, "floor(x)"},
    Builtin{"ceil", Shape::Float, Op::Ceil, "ceil(x)"},
    Builtin{"round", Shape::Float, Op::Round, "round(x)"},
    Builtin{"pow", Shape::Float2, Op::Pow, "pow(x, y)"},
    Builtin{"abs", Shape::Numeric, Op::Abs, "abs(x)"},
    Builtin{"sign", Shape::Numeric, Op::Sign, "sign(x)"},
    Builtin{"min", Shape::Numeric2, Op::Min, "min(x, y)"},
    Builtin{"max", Shape::Numeric2, Op::Max, "max(x, y)"},
    Builtin{"clamp", Shape::Clamp, Op::Clamp, "clamp(x, lo, hi)"},
    Builtin{"select", Shape::SelectShape, Op::Select, "select(condition, a, b)"},
    Builtin{"f32", Shape::ToF32, Op::ToF32, "f32(x)"},
    Builtin{"i32", Shape::ToI32, Op::ToI32, "i32(x)"},
    Builtin{"dot", Shape::Dot, Op::ReduceSum, "dot(x[i, :], y[j, :])"},
};

constexpr std::array<std::string_view, 3> kReductions = {"sum", "any", "all"};  // min and max are above
constexpr std::array<std::string_view, 19> kWords = {"import", "const", "fn",    "mask", "score", "attention", "grad",
                                                     "let",    "if",    "then",  "else", "in",    "and",       "or",
                                                     "not",    "true",  "false", "bool", "return"};

struct Foreign {
    std::string_view theirs, ours;
};
constexpr std::array kForeignNames = {
    Foreign{"q_idx", "q"},
    Foreign{"kv_idx", "k"},
    Foreign{"k_idx", "k"},
    Foreign{"b_idx", "b"},
    Foreign{"h_idx", "h"},
    Foreign{"batch", "b"},
    Foreign{"batch_idx", "b"},
    Foreign{"head", "h"},
    Foreign{"head_idx", "h"},
    Foreign{"kv", "k"},
    Foreign{"q_index", "q"},
    Foreign{"kv_index", "k"},
    Foreign{"score_mod", "score"},
    Foreign{"mask_mod", "mask"},
    Foreign{"scores", "score"},
    Foreign{"kv_head", "hkv"},
    Foreign{"h_kv", "hkv"},
    Foreign{"where", "select"},
    Foreign{"maximum", "max"},
    Foreign{"minimum", "min"},
    Foreign{"fmax", "max"},
    Foreign{"fmin", "min"},
    Foreign{"ln", "log"},
    Foreign{"float", "f32"},
    Foreign{"float32", "f32"},
    Foreign{"int", "i32"},
    Foreign{"int32", "i32"},
    Foreign{"fabs", "abs"},
    Foreign{"True", "true"},
    Foreign{"False", "false"},
    Foreign{"INF", "inf"},
    Foreign{"Inf", "inf"},
    Foreign{"infinity", "inf"},
    Foreign{"infty", "inf"},
    Foreign{"Infinity", "inf"},
    Foreign{"TRUE", "true"},
    Foreign{"FALSE", "false"},
    Foreign{"query_idx", "q"},
    Foreign{"key_idx", "k"},
    Foreign{"qi", "q"},
    Foreign{"ki", "k"},
    Foreign{"q_pos", "q"},
    Foreign{"k_pos", "k"},
    Foreign{"kv_pos", "k"},
    Foreign{"PI", "pi"},
    Foreign{"clip", "clamp"},
    Foreign{"power", "pow"},
    Foreign{"absolute", "abs"},
    Foreign{"exp_2", "exp2"},
    Foreign{"expit", "sigmoid"},
    Foreign{"seq_len", "K"},
    Foreign{"q_len", "Q"},
    Foreign{"kv_len", "K"},
    Foreign{"head_dim", "D"},
    Foreign{"num_heads", "H"},
    Foreign{"n_heads", "H"},
    Foreign{"num_kv_heads", "HKV"},
    Foreign{"batch_size", "B"},
    Foreign{"INFINITY", "inf"},
    Foreign{"M_PI", "pi"},
    Foreign{"Kv", "K"},
    Foreign{"KV", "K"},
    Foreign{"KV_LEN", "K"},
    Foreign{"Q_LEN", "Q"},
    Foreign{"Hq", "H"},
    Foreign{"Hkv", "HKV"},
    Foreign{"num_q_heads", "H"},
    Foreign{"S_q", "Q"},
    Foreign{"S_kv", "K"},
    Foreign{"S_k", "K"},
    Foreign{"Sq", "Q"},
    Foreign{"Skv", "K"},
    Foreign{"Sk", "K"},
    Foreign{"seqlen_q", "Q"},
    Foreign{"seqlen_k", "K"},
    Foreign{"kv_seq_len", "K"},
    Foreign{"q_seq_len", "Q"},
    Foreign{"max_seqlen", "K"},
    Foreign{"SEQ_LEN", "K"},
    Foreign{"HEAD_DIM", "D"},
    Foreign{"num_kv_groups", "H // HKV"},
};
constexpr std::array kForeignTypes = {
    Foreign{"float", "f32"}, Foreign{"float32", "f32"},  Foreign{"double", "f32"}, Foreign{"f64", "f32"},       Foreign{"float64", "f32"},
    Foreign{"half", "f16"},  Foreign{"float16", "f16"},  Foreign{"fp16", "f16"},   Foreign{"fp32", "f32"},      Foreign{"bfloat16", "bf16"},
    Foreign{"int", "i32"},   Foreign{"int32", "i32"},    Foreign{"i64", "i32"},    Foreign{"int64", "i32"},     Foreign{"long", "i32"},
    Foreign{"u32", "i32"},   Foreign{"uint32", "i32"},   Foreign{"int16", "i16"},  Foreign{"int8", "i8"},       Foreign{"uint8", "u8"},
    Foreign{"byte", "u8"},   Foreign{"boolean", "bool"}, Foreign{"b1", "bool"},    Foreign{"Tensor", "f32[N]"}, Foreign{"tensor", "f32[N]"},
};

template <size_t N>
std::string_view look_up(const std::array<Foreign, N>& table, std::string_view name) {
    for (const Foreign& row : table)
        if (row.theirs == name) return row.ours;
    return {};
}

template <size_t N>
bool contains(const std::array<std::string_view, N>& table, std::string_view name) {
    return std::find(table.begin(), table.end(), name) != table.end();
}

}  // namespace

std::string_view name(Type type) {
    switch (type) {
        case Type::F32: return "f32";
        case Type::I32: return "i32";
        case Type::Bool: return "bool";
        case Type::Error: break;
    }
    return "?";
}

ir::Type to_ir(Type type) {
    return type == Type::F32 ? ir::Type::F32 : type == Type::I32 ? ir::Type::I32 : ir::Type::Bool;
}
Type from_ir(ir::Type type) {
    return type == ir::Type::F32 ? Type::F32 : type == ir::Type::I32 ? Type::I32 : Type::Bool;
}

std::optional<Slot> slot_named(std::string_view name) {
    for (size_t i = 0; i < kSlots; ++i)
        if (kSlotNames[i] == name) return static_cast<Slot>(i);
    return std::nullopt;
}

std::optional<uint32_t> extent_named(std::string_view name) {
    for (uint32_t i = 0; i < kExtentNames.size(); ++i)
        if (kExtentNames[i] == name) return i;
    return std::nullopt;
}

const Builtin* builtin_named(std::string_view name) {
    const auto* found = std::find_if(kBuiltins.begin(), kBuiltins.end(), [&](const Builtin& b) { return b.name == name; });
    return found == kBuiltins.end() ? nullptr : found;
}

std::optional<float> constant_named(std::string_view name) {
    if (name == "inf") return std::numeric_limits<float>::infinity();
    if (name == "pi") return std::numbers::pi_v<float>;
    return std::nullopt;
}

std::string_view owner_of(std::string_view name) {
    if (name == "score") return "the score";
    if (slot_named(name)) return "an index";
    if (extent_named(name)) return "an extent";
    if (name == "f32" || name == "i32") return "a type";
    if (builtin_named(name) || contains(kReductions, name)) return "a builtin function";
    if (constant_named(name)) return "a builtin constant";
    if (contains(kWords, name)) return "a word of the language";
    return {};
}

std::string_view launch_array_named(std::string_view name) {
    if (name == "v") return "the array `v` of every attention";
    if (name == "do") return "the array `do` of a backward pass";
    if (name == "dlse") return "the array `dlse` of a backward pass";
    if (name == "dmax_score") return "the array `dmax_score` of a backward pass";
    return {};
}

std::string_view foreign_name(std::string_view name) {
    return look_up(kForeignNames, name);
}
std::string_view foreign_type(std::string_view name) {
    return look_up(kForeignTypes, name);
}

const std::vector<std::string>& language_names() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> all;
        for (const Builtin& b : kBuiltins) all.emplace_back(b.name);
        for (const std::string_view n : kReductions) all.emplace_back(n);
        for (const std::string_view n : kSlotNames) all.emplace_back(n);
        for (const std::string_view n : kExtentNames) all.emplace_back(n);
        all.insert(all.end(), {"inf", "pi", "true", "false"});
        return all;
    }();
    return names;
}

std::string_view describe(ast::DeclKind kind) {
    switch (kind) {
        case ast::DeclKind::Import: return "an import";
        case ast::DeclKind::Const: return "a constant";
        case ast::DeclKind::Fn: return "a function";
        case ast::DeclKind::Mask: return "a mask";
        case ast::DeclKind::Score: return "a score function";
        case ast::DeclKind::Attention: return "an attention";
    }
    return "a declaration";
}

}  // namespace flexc::sema

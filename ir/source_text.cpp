#include "ir/source_text.h"

#include <bit>
#include <vector>

#include <fmt/format.h>

#include "ir/text.h"

namespace flexc::ir {

namespace {

/// How tight an expression binds, as the grammar has it.
enum Level : uint8_t { kConditional, kOr, kAnd, kNot, kCompare, kBitOr, kBitXor, kBitAnd, kShift, kSum, kProduct, kUnary, kPostfix };

struct Text {
    std::string text;
    Level level = kPostfix;
};

struct Infix {
    Op op;
    std::string_view text;
    Level level;
    bool associative;
};

constexpr Infix kInfix[] = {
    {Op::Or, "or", kOr, true},        {Op::And, "and", kAnd, true},
    {Op::Eq, "==", kCompare, false},  {Op::Ne, "!=", kCompare, false},
    {Op::Lt, "<", kCompare, false},   {Op::Le, "<=", kCompare, false},
    {Op::BitOr, "|", kBitOr, true},   {Op::BitXor, "^", kBitXor, true},
    {Op::BitAnd, "&", kBitAnd, true}, {Op::Shl, "<<", kShift, false},
    {Op::Shr, ">>", kShift, false},   {Op::Add, "+", kSum, false},
    {Op::Sub, "-", kSum, false},      {Op::Mul, "*", kProduct, false},
    {Op::Div, "/", kProduct, false},  {Op::FloorDiv, "//", kProduct, false},
    {Op::Mod, "%", kProduct, false},
};

class Printer {
public:
    Printer(const Attention& attention, NodeId root) : attention_(attention), graph_(attention.graph), texts_(root.value + 1) {
        std::vector<bool> wanted(root.value + 1, false);
        wanted[root.value] = true;
        for (uint32_t i = root.value + 1; i-- > 0;)
            if (wanted[i])
                for (const NodeId operand : graph_.operands(NodeId{i})) wanted[operand.value] = true;
        for (uint32_t i = 0; i <= root.value; ++i)
            if (wanted[i]) texts_[i] = shortened(of(NodeId{i}));
    }

    std::string take(NodeId root) { return std::move(texts_[root.value].text); }

private:
    /// Values are shared, so a whole text can be exponential in the number of nodes.
    static Text shortened(Text text) {
        if (text.text.size() <= kMaxSourceText) return text;
        size_t end = kMaxSourceText - 3;
        while (end > 0 && (static_cast<unsigned char>(text.text[end]) & 0xc0) == 0x80) --end;  // not inside of a character
        return {text.text.substr(0, end) + "...", kPostfix};
    }

    std::string arg(NodeId id, size_t i, Level least) const {
        const Text& text = texts_[graph_.operand(id, i).value];
        return text.level >= least ? text.text : "(" + text.text + ")";
    }

    std::string list(NodeId id) const {
        std::string all;
        for (size_t i = 0; i < graph_[id].operand_count; ++i) all += (i ? ", " : "") + arg(id, i, kConditional);
        return all;
    }

    static std::string loop_name(uint32_t depth) { return depth ? fmt::format("j{}", depth) : "j"; }

    Text number(const Node& node) const {
        if (node.type == Type::Bool) return {node.payload ? "true" : "false"};
        const std::string text = node.type == Type::I32 ? fmt::format("{}", static_cast<int32_t>(node.payload))
                                                        : text::float_text(std::bit_cast<float>(node.payload));
        return {text, text[0] == '-' ? kUnary : kPostfix};
    }

    Text infix(NodeId id, const Infix& how) const {
        const Node& node = graph_[id];
        // x + -3 is x - 3.
        if (node.op == Op::Add) {
            if (const auto value = graph_.as_i32(graph_.operand(id, 1)); value && *value < 0 && *value != INT32_MIN)
                return {fmt::format("{} - {}", arg(id, 0, kSum), -int64_t{*value}), kSum};
            if (const auto value = graph_.as_i32(graph_.operand(id, 0)); value && *value < 0 && *value != INT32_MIN)
                return {fmt::format("{} - {}", arg(id, 1, kSum), -int64_t{*value}), kSum};
        }
        // A chain of comparisons means something else: operands of one bind tighter.
        const bool chains = how.level != kCompare;
        const auto tighter = static_cast<Level>(how.level + 1);
        return {
            fmt::format("{} {} {}", arg(id, 0, chains ? how.level : tighter), how.text, arg(id, 1, how.associative ? how.level : tighter)),
            how.level};
    }

    Text of(NodeId id) const {
        const Node& node = graph_[id];
        for (const Infix& how : kInfix)
            if (how.op == node.op) return infix(id, how);
        switch (node.op) {
            case Op::ConstF32:
            case Op::ConstI32:
            case Op::ConstBool: return number(node);
            case Op::Index: return {std::string(name(static_cast<IndexVar>(node.payload)))};
            case Op::Extent: return {attention_.extent_name(node.payload)};
            case Op::Scalar: return {attention_.params[node.payload].name};
            case Op::TileBound: {
                static constexpr std::string_view kEnds[] = {"q0", "q1", "k0", "k1"};
                if (node.payload < kFirstSummary) return {std::string(kEnds[node.payload])};
                return {fmt::format("summary_{}_{}", (node.payload - kFirstSummary) / 2, (node.payload - kFirstSummary) % 2 ? "hi" : "lo")};
            }
            case Op::ClauseVar: return {std::string(name(static_cast<ClauseVar>(node.payload)))};
            case Op::LoopVar: return {loop_name(node.payload)};
            case Op::Neg: return {"-" + arg(id, 0, kUnary), kUnary};
            case Op::BitNot: return {"~" + arg(id, 0, kUnary), kUnary};
            case Op::Not: return {"not " + arg(id, 0, kNot), kNot};
            case Op::Select:
                return {fmt::format("if {} then {} else {}", arg(id, 0, kOr), arg(id, 1, kOr), arg(id, 2, kConditional)), kConditional};
            case Op::Load: return {fmt::format("{}[{}]", attention_.params[node.payload].name, list(id))};
            case Op::RowLoad:
                return {fmt::format("{}[{}]", static_cast<ClauseVar>(node.payload) == ClauseVar::QueryRow ? "query" : "key", list(id))};
            case Op::ReduceSum: return reduction(id, "sum");
            case Op::ReduceAny: return reduction(id, "any");
            case Op::ReduceAll: return reduction(id, "all");
            case Op::ReduceMin: return reduction(id, "min");
            case Op::ReduceMax: return reduction(id, "max");
            default: return {fmt::format("{}({})", info(node.op).name, list(id))};
        }
    }

    Text reduction(NodeId id, std::string_view word) const {
        const NodeId variable = graph_.operand(id, 0);
        return {fmt::format("{}({} in {}..{}: {})", word, loop_name(graph_[variable].payload), arg(variable, 0, kSum),
                            arg(variable, 1, kSum), arg(id, 1, kConditional))};
    }

    const Attention& attention_;
    const Graph& graph_;
    std::vector<Text> texts_;
};

}  // namespace

std::string source_text(const Attention& attention, NodeId id) {
    return Printer(attention, id).take(id);
}

}  // namespace flexc::ir

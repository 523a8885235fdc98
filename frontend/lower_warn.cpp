// Whether a mask is constant, found by ranges of i32 values and by pairs of conditions that exclude each other.
// Sound, not complete: every index and extent is taken as any non-negative i32, every captured value as any value of its type.
#include <algorithm>
#include <limits>

#include "frontend/lower_eval.h"

namespace flexc::sema {

namespace {

using ir::NodeId;
using ir::Op;

struct Range {
    int64_t lo = std::numeric_limits<int32_t>::min();
    int64_t hi = std::numeric_limits<int32_t>::max();
};
constexpr Range kAny{};
constexpr size_t kMaxTerms = 16;  // of a conjunction that is searched for contradictions

Range wrapped(int64_t lo, int64_t hi) {
    return lo < kAny.lo || hi > kAny.hi ? kAny : Range{lo, hi};
}

class Analysis {
public:
    explicit Analysis(const ir::Attention& attention)
        : attention_(attention), graph_(attention.graph), ranges_(graph_.size()), truth_(graph_.size()) {}

    std::optional<bool> run(NodeId root) {
        for (uint32_t i = 0; i <= root.value; ++i) {
            const NodeId id{i};
            if (graph_.type(id) == ir::Type::I32) ranges_[i] = range(id);
            if (graph_.type(id) == ir::Type::Bool) truth_[i] = truth(id);
        }
        return truth_[root.value];
    }

private:
    const Range& at(NodeId id, size_t i) const { return ranges_[graph_.operand(id, i).value]; }

    Range range(NodeId id) const {
        const ir::Node& n = graph_[id];
        switch (n.op) {
            case Op::ConstI32: {
                const auto v = static_cast<int32_t>(n.payload);
                return {v, v};
            }
            case Op::Index: return {0, kAny.hi - 1};  // below an extent
            case Op::Extent: return {0, kAny.hi};
            case Op::LoopVar: return {at(id, 0).lo, std::max(at(id, 0).lo, at(id, 1).hi - 1)};
            case Op::Load:
                switch (attention_.params[n.payload].elem) {
                    case ir::ElemType::U8: return {0, 255};
                    case ir::ElemType::I8: return {-128, 127};
                    case ir::ElemType::I16: return {-32768, 32767};
                    default: return kAny;
                }
            case Op::Neg: return wrapped(-at(id, 0).hi, -at(id, 0).lo);
            case Op::Abs: {
                const Range& a = at(id, 0);
                if (a.lo >= 0) return a;
                if (a.lo == kAny.lo) return kAny;
                return {a.hi <= 0 ? -a.hi : 0, std::max(-a.lo, a.hi)};
            }
            case Op::Sign: return {-1, 1};
            case Op::Add: return wrapped(at(id, 0).lo + at(id, 1).lo, at(id, 0).hi + at(id, 1).hi);
            case Op::Sub:
                return graph_.operand(id, 0) == graph_.operand(id, 1) ? Range{0, 0}
                                                                      : wrapped(at(id, 0).lo - at(id, 1).hi, at(id, 0).hi - at(id, 1).lo);
            case Op::Mul: {
                const auto& [a, b] = at(id, 0);
                const auto& [c, d] = at(id, 1);
                const auto [lo, hi] = std::minmax({a * c, a * d, b * c, b * d});
                return wrapped(lo, hi);
            }
            case Op::FloorDiv:
                if (at(id, 0).lo >= 0 && at(id, 1).lo >= 0) return {0, at(id, 1).lo > 0 ? at(id, 0).hi / at(id, 1).lo : at(id, 0).hi};
                return kAny;
            case Op::Mod:
                if (at(id, 1).lo > 0) return {0, at(id, 1).hi - 1};
                if (at(id, 1).lo >= 0) return {0, std::max<int64_t>(0, at(id, 1).hi - 1)};
                return kAny;
            case Op::Min: return {std::min(at(id, 0).lo, at(id, 1).lo), std::min(at(id, 0).hi, at(id, 1).hi)};
            case Op::Max: return {std::max(at(id, 0).lo, at(id, 1).lo), std::max(at(id, 0).hi, at(id, 1).hi)};
            case Op::Select: return {std::min(at(id, 1).lo, at(id, 2).lo), std::max(at(id, 1).hi, at(id, 2).hi)};
            case Op::BitAnd:
                if (at(id, 0).lo >= 0 || at(id, 1).lo >= 0)
                    return {0, std::min(at(id, 0).lo >= 0 ? at(id, 0).hi : kAny.hi, at(id, 1).lo >= 0 ? at(id, 1).hi : kAny.hi)};
                return kAny;
            case Op::ToI32:
                if (graph_.type(graph_.operand(id, 0)) == ir::Type::Bool) return {0, 1};
                return kAny;
            default: return kAny;
        }
    }

    std::optional<bool> truth(NodeId id) const {
        const ir::Node& n = graph_[id];
        const auto operands = graph_.operands(id);
        const auto known = [&](size_t i) { return truth_[operands[i].value]; };
        const bool integers = !operands.empty() && graph_.type(operands[0]) == ir::Type::I32;
        switch (n.op) {
            case Op::ConstBool: return n.payload != 0;
            case Op::Not: return known(0) ? std::optional(!*known(0)) : std::nullopt;
            case Op::And:
            case Op::Or: {
                const bool is_and = n.op == Op::And;
                for (size_t i = 0; i < 2; ++i)
                    if (known(i) && *known(i) != is_and) return !is_and;
                if (known(0) && known(1)) return is_and;
                if (excluded(id, n.op)) return !is_and;
                return std::nullopt;
            }
            case Op::Eq:
            case Op::Ne: {
                if (!integers) return std::nullopt;
                const Range& a = at(id, 0);
                const Range& b = at(id, 1);
                const bool equal = n.op == Op::Eq;
                if (operands[0] == operands[1] || (a.lo == a.hi && b.lo == b.hi && a.lo == b.lo)) return equal;
                if (a.hi < b.lo || b.hi < a.lo) return !equal;
                return std::nullopt;
            }
            case Op::Lt:
            case Op::Le: {
                if (!integers) return std::nullopt;
                const Range& a = at(id, 0);
                const Range& b = at(id, 1);
                const bool strict = n.op == Op::Lt;
                if (operands[0] == operands[1]) return !strict;
                if (strict ? a.hi < b.lo : a.hi <= b.lo) return true;
                if (strict ? a.lo >= b.hi : a.lo > b.hi) return false;
                return std::nullopt;
            }
            case Op::ReduceAny: return known(1) == std::optional(false) ? std::optional(false) : std::nullopt;
            case Op::ReduceAll: return known(1) == std::optional(true) ? std::optional(true) : std::nullopt;
            default: return std::nullopt;
        }
    }

    /// Whether among the terms of an `and` two exclude each other (of an `or`: two of which one always holds).
    bool excluded(NodeId id, Op op) const {
        std::vector<NodeId> terms;
        std::vector<NodeId> open = {id};
        while (!open.empty() && terms.size() <= kMaxTerms) {
            const NodeId t = open.back();
            open.pop_back();
            if (graph_[t].op == op)
                for (const NodeId o : graph_.operands(t)) open.push_back(o);
            else
                terms.push_back(t);
        }
        if (terms.size() > kMaxTerms) return false;
        for (const NodeId a : terms)
            for (const NodeId b : terms)
                if (opposite(a, b, op == Op::And)) return true;
        return false;
    }

    bool opposite(NodeId a, NodeId b, bool conjunction) const {
        const ir::Node& x = graph_[a];
        const ir::Node& y = graph_[b];
        if (x.op == Op::Not) return graph_.operand(a, 0) == b;
        if (x.operand_count != 2 || y.operand_count != 2 || graph_.type(graph_.operand(a, 0)) != ir::Type::I32) return false;
        const bool same = graph_.operand(a, 0) == graph_.operand(b, 0) && graph_.operand(a, 1) == graph_.operand(b, 1);
        const bool turned = graph_.operand(a, 0) == graph_.operand(b, 1) && graph_.operand(a, 1) == graph_.operand(b, 0);
        if (x.op == Op::Eq && y.op == Op::Ne) return same || turned;
        if (x.op == Op::Lt && y.op == Op::Le) return turned;                         // a < b, b <= a
        if (conjunction && x.op == Op::Lt && y.op == Op::Lt) return turned;          // a < b, b < a
        if (!conjunction && x.op == Op::Le && y.op == Op::Le) return turned;         // a <= b, b <= a
        if (conjunction && x.op == Op::Lt && y.op == Op::Eq) return same || turned;  // a < b, a == b
        return false;
    }

    const ir::Attention& attention_;
    const ir::Graph& graph_;
    std::vector<Range> ranges_;
    std::vector<std::optional<bool>> truth_;
};

}  // namespace

std::optional<bool> constant_mask(const ir::Attention& attention) {
    return Analysis(attention).run(attention.mask);
}

}  // namespace flexc::sema

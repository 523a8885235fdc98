// Whether a mask is constant, found by ranges of i32 values and by pairs of conditions that exclude each other.
// Sound, not complete: every index and extent is taken as any non-negative i32, every captured value as any value of its type.
#include <algorithm>
#include <limits>
#include <map>

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

    /// Whether a constant 0 divides in what counts for the value of `root`.
    bool zero_divides(NodeId root) {
        run(root);
        std::vector<bool> seen(graph_.size());
        std::vector<NodeId> open = {root};
        while (!open.empty()) {
            const NodeId id = open.back();
            open.pop_back();
            if (seen[id.value]) continue;
            seen[id.value] = true;
            const ir::Node& n = graph_[id];
            if (graph_.type(id) == ir::Type::Bool && truth_[id.value]) continue;
            const auto operands = graph_.operands(id);
            if (n.op == Op::Select) {
                const std::optional<bool> chosen = truth_[operands[0].value];
                open.push_back(operands[0]);
                if (chosen != std::optional(false)) open.push_back(operands[1]);
                if (chosen != std::optional(true)) open.push_back(operands[2]);
                continue;
            }
            if (n.op == Op::Div || n.op == Op::FloorDiv || n.op == Op::Mod) {
                const ir::Node& divisor = graph_[operands[1]];
                const auto bits = static_cast<uint32_t>(divisor.payload);
                if ((divisor.op == Op::ConstI32 && bits == 0) || (divisor.op == Op::ConstF32 && (bits & 0x7FFFFFFFu) == 0)) return true;
            }
            for (const NodeId o : operands) open.push_back(o);
        }
        return false;
    }

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

    /// A sum of values with factors, and a constant. Nothing in it wraps around.
    struct Linear {
        std::map<uint32_t, int64_t> factors;
        int64_t constant = 0;
    };

    void add(Linear& sum, NodeId id, int64_t factor, int depth) const {
        const ir::Node& n = graph_[id];
        const auto fits = [](int64_t lo, int64_t hi) { return lo >= kAny.lo && hi <= kAny.hi; };
        if (n.op == Op::ConstI32) {
            sum.constant += factor * static_cast<int32_t>(n.payload);
        } else if (depth > 0 && n.op == Op::Add && fits(at(id, 0).lo + at(id, 1).lo, at(id, 0).hi + at(id, 1).hi)) {
            add(sum, graph_.operand(id, 0), factor, depth - 1);
            add(sum, graph_.operand(id, 1), factor, depth - 1);
        } else if (depth > 0 && n.op == Op::Sub && fits(at(id, 0).lo - at(id, 1).hi, at(id, 0).hi - at(id, 1).lo)) {
            add(sum, graph_.operand(id, 0), factor, depth - 1);
            add(sum, graph_.operand(id, 1), -factor, depth - 1);
        } else if ((sum.factors[id.value] += factor) == 0) {
            sum.factors.erase(id.value);
        }
    }

    /// `q - k <= -1` and `k <= q`: two bounds of one difference, of which never both hold (of an `or`: always one).
    bool bounds_exclude(NodeId a, NodeId b, bool conjunction) const {
        constexpr int kDepth = 6;
        Linear sum;  // of what is at most 0 in the two
        for (const NodeId id : {a, b}) {
            const Op o = graph_[id].op;
            if (o != Op::Lt && o != Op::Le) return false;
            if (graph_.type(graph_.operand(id, 0)) != ir::Type::I32) return false;
            add(sum, graph_.operand(id, 0), conjunction ? 1 : -1, kDepth);
            add(sum, graph_.operand(id, 1), conjunction ? -1 : 1, kDepth);
            sum.constant += conjunction ? (o == Op::Lt ? 1 : 0) : (o == Op::Lt ? 0 : 1);
        }
        return sum.factors.empty() && sum.constant > 0;
    }

    bool opposite(NodeId a, NodeId b, bool conjunction) const {
        const ir::Node& x = graph_[a];
        const ir::Node& y = graph_[b];
        if (x.op == Op::Not) return graph_.operand(a, 0) == b;
        if (x.operand_count != 2 || y.operand_count != 2 || graph_.type(graph_.operand(a, 0)) != ir::Type::I32) return false;
        const bool same = graph_.operand(a, 0) == graph_.operand(b, 0) && graph_.operand(a, 1) == graph_.operand(b, 1);
        const bool turned = graph_.operand(a, 0) == graph_.operand(b, 1) && graph_.operand(a, 1) == graph_.operand(b, 0);
        if (x.op == Op::Eq && y.op == Op::Ne) return same || turned;
        if (x.op == Op::Lt && y.op == Op::Le) return turned;                  // a < b, b <= a
        if (conjunction && x.op == Op::Lt && y.op == Op::Lt) return turned;   // a < b, b < a
        if (!conjunction && x.op == Op::Le && y.op == Op::Le) return turned;  // a <= b, b <= a
        if (bounds_exclude(a, b, conjunction)) return true;
        if (conjunction && x.op == Op::Lt && y.op == Op::Eq) return same || turned;  // a < b, a == b
        return false;
    }

    const ir::Attention& attention_;
    const ir::Graph& graph_;
    std::vector<Range> ranges_;
    std::vector<std::optional<bool>> truth_;
};

}  // namespace

bool divides_by_zero(const ir::Attention& attention, NodeId root) {
    return Analysis(attention).zero_divides(root);
}

std::optional<bool> constant_mask(const ir::Attention& attention) {
    return Analysis(attention).run(attention.mask);
}

}  // namespace flexc::sema

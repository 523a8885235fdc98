// Nodes are visited from the root down in falling order of their ids, so that all users of a node come before it, and each hands its adjoint, times a
// partial derivative, to its operands.
//
// An adjoint is a sum of terms, each under a guard: the conjunction of the conditions of the `if`s around it. A product is taken inside of the guard, and
// the sum is of select(guard, value, 0): so a partial derivative that is infinite where its branch is not taken meets no 0 to be multiplied with.
//
// Reductions. The adjoint of a node may depend on the loop variables that are free in the node, and on no others. Where an operand has fewer of
// them free than its user (x in `sum(j: x * y[j])`), what the user hands down is summed over the others by a new reduction over the same variable.
#include "ir/gradient.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "diag/check.h"
#include "ir/rewrite.h"

namespace flexc::ir {

namespace {

constexpr size_t kMaxTerms = 8;  // of one adjoint; beyond, they are summed into one

struct Term {
    NodeId guard;  // bool; invalid: always
    NodeId value;
};

class Reverse {
public:
    Reverse(Attention& attention, NodeId root) : attention_(attention), graph_(attention.graph), root_(root), terms_(root.value + 1) {
        active_.resize(root.value + 1, false);
        for (uint32_t i = 0; i <= root.value; ++i) active_[i] = is_active(NodeId{i});
        if (active_[root.value]) add(root, {}, graph_.f32(1.0f));
        for (uint32_t i = root.value + 1; i-- > 0;)
            if (!terms_[i].empty()) visit(NodeId{i});
    }

    /// Of the root by a leaf, which is 0 if nothing reached it.
    NodeId adjoint(NodeId leaf) { return leaf.value < terms_.size() ? total(terms_[leaf.value]) : graph_.f32(0.0f); }

    std::vector<GradientRead> reads() {
        std::vector<GradientRead> all;
        for (uint32_t i = 0; i <= root_.value; ++i) {
            const NodeId id{i};
            if (graph_[id].op != Op::Load || terms_[i].empty()) continue;
            GradientRead read{id, adjoint(id), {}};
            for (uint32_t depth = 0; depth < kMaxLoopDepth; ++depth)
                if (graph_.free_loops(id) >> depth & 1) read.loops.push_back(variable(id, depth));
            all.push_back(std::move(read));
        }
        return all;
    }

private:
    /// Whether a derivative by something wanted passes through the node.
    bool is_active(NodeId id) const {
        const Node& node = graph_[id];
        if (node.type != Type::F32) return false;
        if (node.op == Op::ClauseVar) return static_cast<ClauseVar>(node.payload) == ClauseVar::Score;
        if (node.op == Op::Load) return attention_.params[node.payload].grad;
        const auto operands = graph_.operands(id);
        return std::any_of(operands.begin(), operands.end(), [&](NodeId operand) { return active_[operand.value]; });
    }

    NodeId make(Op op, std::initializer_list<NodeId> operands) { return make_simplified(graph_, op, operands); }
    NodeId f32(double value) { return graph_.f32(static_cast<float>(value)); }
    bool is(NodeId id, float value) const { return graph_.as_f32(id) == value; }

    /// An adjoint times a partial derivative.
    NodeId times(NodeId a, NodeId b) {
        if (is(a, 1.0f)) return b;
        if (is(b, 1.0f)) return a;
        if (is(a, -1.0f)) return make(Op::Neg, {b});
        if (is(b, -1.0f)) return make(Op::Neg, {a});
        return make(Op::Mul, {a, b});
    }
    NodeId over(NodeId a, NodeId b) { return is(b, 1.0f) ? a : make(Op::Div, {a, b}); }

    NodeId both(NodeId a, NodeId b) {
        if (!a.valid()) return b;
        return b.valid() ? make(Op::And, {a, b}) : a;
    }

    NodeId guarded(const Term& term) {
        return term.guard.valid() ? make(Op::Select, {term.guard, term.value, graph_.f32(0.0f)}) : term.value;
    }

    NodeId total(const std::vector<Term>& terms) {
        NodeId sum;
        for (const Term& term : terms) sum = sum.valid() ? make(Op::Add, {sum, guarded(term)}) : guarded(term);
        return sum.valid() ? sum : graph_.f32(0.0f);
    }

    /// The loop variable of a depth that is free in a node.
    NodeId variable(NodeId id, uint32_t depth) {
        while (graph_[id].op != Op::LoopVar || graph_[id].payload != depth) {
            const auto operands = graph_.operands(id);
            const auto next = std::find_if(operands.begin(), operands.end(), [&](NodeId o) { return graph_.free_loops(o) >> depth & 1; });
            FLEX_CHECK(next != operands.end(), "a free loop variable is an operand of something");
            id = *next;
        }
        return id;
    }

    /// A reduction binds the innermost variable of its body. Where deeper ones stay free (x[j] in `sum(i: sum(j: x[j] * y[i]))`), the
    /// variable, and with it the reductions inside, first move deeper than all.
    NodeId sum_over(NodeId loop, NodeId body) {
        const uint32_t depth = graph_[loop].payload;
        if (graph_.free_loops(body) >> depth <= 1) return graph_.reduce(Op::ReduceSum, loop, body);
        uint32_t deepest = 0;
        for (uint32_t i = 0; i < graph_.size(); ++i)
            if (graph_[NodeId{i}].op == Op::LoopVar) deepest = std::max(deepest, graph_[NodeId{i}].payload);
        const uint32_t shift = deepest + 1 - depth;
        FLEX_CHECK(deepest + shift < kMaxLoopDepth, "reductions are nested less deeply than the IR allows");
        const NodeId inner = graph_.loop_var(depth + shift, graph_.operand(loop, 0), graph_.operand(loop, 1));
        return graph_.reduce(Op::ReduceSum, inner, replace_loops(graph_, body, {{loop.value, inner}}, shift));
    }

    void add(NodeId to, NodeId guard, NodeId value) {
        if (is(value, 0.0f)) return;
        if (guard.valid()) {
            const auto constant = graph_.as_bool(guard);
            if (constant == false) return;
            if (constant == true) guard = {};
        }
        std::vector<Term>& terms = terms_[to.value];
        for (Term& term : terms)
            if (term.guard == guard) {
                term.value = make(Op::Add, {term.value, value});
                return;
            }
        terms.push_back({guard, value});
        if (terms.size() > kMaxTerms) terms = {{{}, total(terms)}};
    }

    /// Hands `to`, an operand of `from`, each term of the adjoint of `from` times `partial` (invalid: 1), under `condition` (invalid: always).
    /// `inside`: loops that are open at the operand besides those free in `from`, which is the reduction around it.
    void pass(NodeId from, NodeId to, NodeId partial, NodeId condition = {}, uint32_t inside = 0, NodeId bound = {}) {
        if (!active_[to.value]) return;
        const uint32_t closed = (graph_.free_loops(from) | inside) & ~graph_.free_loops(to);
        const std::vector<Term> terms = terms_[from.value];
        for (const Term& term : terms) {
            Term part{both(term.guard, condition), partial.valid() ? times(term.value, partial) : term.value};
            if (closed != 0) {
                NodeId sum = guarded(part);
                for (uint32_t depth = kMaxLoopDepth; depth-- > 0;)
                    if (closed >> depth & 1) sum = sum_over(inside >> depth & 1 ? bound : variable(from, depth), sum);
                part = {{}, sum};
            }
            add(to, part.guard, part.value);
        }
    }

    void visit(NodeId id);
    void visit_math(NodeId id, NodeId x);

    Attention& attention_;
    Graph& graph_;
    const NodeId root_;
    std::vector<std::vector<Term>> terms_;
    std::vector<bool> active_;
};

void Reverse::visit(NodeId id) {
    const Node node = graph_[id];
    const std::vector<NodeId> args(graph_.operands(id).begin(), graph_.operands(id).end());
    const auto a = [&](size_t i) { return args[i]; };
    const auto less = [&](NodeId x, NodeId y) { return make(Op::Lt, {x, y}); };
    switch (node.op) {
        case Op::Neg: return pass(id, a(0), f32(-1));
        case Op::Abs: return pass(id, a(0), make(Op::Sign, {a(0)}));
        case Op::Add: pass(id, a(0), {}); return pass(id, a(1), {});
        case Op::Sub: pass(id, a(0), {}); return pass(id, a(1), f32(-1));
        case Op::Mul:
            if (a(0) == a(1)) return pass(id, a(0), make(Op::Add, {a(0), a(0)}));
            pass(id, a(0), a(1));
            return pass(id, a(1), a(0));
        case Op::Div:
            pass(id, a(0), over(f32(1), a(1)));
            if (active_[a(1).value]) pass(id, a(1), make(Op::Neg, {over(id, a(1))}));
            return;
        case Op::Min:
        case Op::Max: {
            const bool least = node.op == Op::Min;
            const NodeId tie = make(Op::Eq, {a(0), a(1)}), half = f32(0.5);
            for (const size_t i : {0u, 1u}) {
                pass(id, a(i), {}, least ? less(a(i), a(1 - i)) : less(a(1 - i), a(i)));
                pass(id, a(i), half, tie);
            }
            return;
        }
        case Op::Clamp: {
            const NodeId x = a(0), lo = a(1), hi = a(2);
            pass(id, x, {}, make(Op::And, {make(Op::Le, {lo, x}), make(Op::Le, {x, hi})}));
            if (active_[lo.value]) pass(id, lo, {}, make(Op::And, {less(x, lo), make(Op::Le, {lo, hi})}));
            if (active_[hi.value]) pass(id, hi, {}, make(Op::Or, {less(hi, x), less(hi, lo)}));
            return;
        }
        case Op::Select: pass(id, a(1), {}, a(0)); return pass(id, a(2), {}, make(Op::Not, {a(0)}));
        case Op::Pow: {
            const NodeId x = a(0), y = a(1), zero = f32(0);
            if (active_[x.value]) {
                const NodeId less_one = is(y, 2.0f) ? x : make(Op::Pow, {x, make(Op::Sub, {y, f32(1)})});
                pass(id, x, times(y, less_one), make(Op::Not, {make(Op::Eq, {y, zero})}));
            }
            if (active_[y.value]) {
                const NodeId at_zero = make(Op::And, {make(Op::Eq, {x, zero}), make(Op::Le, {zero, y})});
                pass(id, y, make(Op::Mul, {id, make(Op::Log, {x})}), make(Op::Not, {at_zero}));
            }
            return;
        }
        case Op::ReduceSum: return pass(id, a(1), {}, {}, uint32_t{1} << graph_[a(0)].payload, a(0));
        case Op::ReduceMin:
        case Op::ReduceMax: {
            const NodeId chosen = make(Op::Eq, {a(1), id});
            const NodeId count = graph_.reduce(Op::ReduceSum, a(0), make(Op::Select, {chosen, f32(1), f32(0)}));
            return pass(id, a(1), over(f32(1), count), chosen, uint32_t{1} << graph_[a(0)].payload, a(0));
        }
        case Op::ToF32:
            if (graph_.type(a(0)) == Type::F32) pass(id, a(0), {});
            return;
        default:
            if (node.operand_count == 1 && info(node.op).kind == OpKind::Math) visit_math(id, a(0));
            return;
    }
}

void Reverse::visit_math(NodeId id, NodeId x) {
    const auto one_minus = [&](NodeId y) { return make(Op::Sub, {f32(1), y}); };
    const auto square = [&](NodeId y) { return make(Op::Mul, {y, y}); };
    switch (graph_[id].op) {
        case Op::Exp: return pass(id, x, id);
        case Op::Exp2: return pass(id, x, times(id, f32(std::numbers::ln2)));
        case Op::Log: return pass(id, x, over(f32(1), x));
        case Op::Log2: return pass(id, x, over(f32(std::numbers::log2e), x));
        case Op::Sqrt: return pass(id, x, over(f32(0.5), id));
        case Op::Rsqrt: return pass(id, x, over(times(id, f32(-0.5)), x));
        case Op::Tanh:
        case Op::TanhApprox: return pass(id, x, one_minus(square(id)));
        case Op::Sigmoid: return pass(id, x, times(id, one_minus(id)));
        case Op::Sin: return pass(id, x, make(Op::Cos, {x}));
        case Op::Cos: return pass(id, x, make(Op::Neg, {make(Op::Sin, {x})}));
        case Op::Tan: return pass(id, x, make(Op::Add, {square(id), f32(1)}));
        case Op::Erf: return pass(id, x, times(make(Op::Exp, {make(Op::Neg, {square(x)})}), f32(2 / std::sqrt(std::numbers::pi))));
        default: return;  // floor, ceil, round: constant between steps
    }
}

}  // namespace

void differentiate(Attention& attention) {
    Graph& graph = attention.graph;
    Gradient gradient;
    const NodeId score = graph.score();
    Reverse of_score(attention, attention.score);
    gradient.score = of_score.adjoint(score);
    gradient.score_reads = of_score.reads();
    if (attention.scale.valid()) gradient.scale_reads = Reverse(attention, attention.scale).reads();
    if (attention.sink.valid()) gradient.sink_reads = Reverse(attention, attention.sink).reads();
    attention.gradient = std::move(gradient);
}

}  // namespace flexc::ir

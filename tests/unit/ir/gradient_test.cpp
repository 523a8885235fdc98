// Derivatives of the score clause: by central differences in float64 on random expressions, at ties and under conditions by value, and as text.
#include "ir/gradient.h"

#include <array>
#include <cmath>
#include <limits>

#include <doctest/doctest.h>

#include "ir/passes.h"
#include "tests/unit/ir/eval.h"
#include "tests/unit/ir/random_expr.h"

using namespace flexc::ir;
using namespace flexc::ir::testing;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

/// An attention with two tensors whose gradients are wanted, t [5] and u [4, 3], and one without.
struct Problem : Scratch {
    Rng rng;
    NodeId q = g.index(IndexVar::Q), k = g.index(IndexVar::K), s = g.score();
    uint32_t t, u, fixed;

    explicit Problem(uint64_t seed = 0) : rng(seed) {
        bindings.extents = {1, 1, 1, 6, 6, 8, 8};
        t = add_tensor(ElemType::F32, {5}, numbers(5));
        u = add_tensor(ElemType::F32, {4, 3}, numbers(12));
        fixed = add_tensor(ElemType::F32, {5}, numbers(5));
        attention.params[t].grad = attention.params[u].grad = true;
    }

    std::vector<double> numbers(int n) {
        std::vector<double> out;
        for (int i = 0; i < n; ++i) out.push_back(rng.between(-999, 999) / 500.0 + 0.0007);
        return out;
    }
    NodeId op(Op what, std::initializer_list<NodeId> operands) { return g.make(what, operands); }
    NodeId at(uint32_t tensor, std::initializer_list<NodeId> indices) {
        return g.load(tensor, ElemType::F32, std::vector<NodeId>(indices));
    }

    // Random expressions. `loops`: the variables that are open.
    NodeId index(std::vector<NodeId>& loops) {
        switch (rng.below(loops.empty() ? 5 : 8)) {
            case 0: return q;
            case 1: return k;
            case 2: return op(Op::Sub, {q, k});
            case 3: return op(Op::Mod, {op(Op::Add, {q, k}), g.i32(3)});
            case 4: return g.i32(rng.between(-1, 4));
            default: return loops[static_cast<size_t>(rng.below(static_cast<int>(loops.size())))];
        }
    }
    NodeId leaf(std::vector<NodeId>& loops) {
        switch (rng.below(6)) {
            case 0: return g.f32(static_cast<float>(rng.between(-20, 20)) / 8.0f + 0.03f);
            case 1: return at(u, {index(loops), index(loops)});
            case 2: return at(fixed, {index(loops)});
            case 3: return at(t, {index(loops)});
            default: return s;
        }
    }
    NodeId condition(int depth, std::vector<NodeId>& loops) {
        if (rng.chance(50)) return op(Op::Lt, {index(loops), index(loops)});
        return op(Op::Lt, {expression(depth - 1, loops), expression(depth - 1, loops)});
    }
    NodeId expression(int depth, std::vector<NodeId>& loops) {
        if (depth <= 0) return leaf(loops);
        const auto e = [&] { return expression(depth - 1, loops); };
        const auto positive = [&] { return op(Op::Add, {op(Op::Abs, {e()}), g.f32(0.5f)}); };
        const auto small = [&] { return op(Op::Tanh, {e()}); };
        switch (rng.below(27)) {
            case 0:
            case 1:
            case 2: return op(Op::Add, {e(), e()});
            case 3: return op(Op::Sub, {e(), e()});
            case 4:
            case 5: return op(Op::Mul, {e(), e()});
            case 6: return op(Op::Div, {e(), positive()});
            case 7: return op(Op::Min, {e(), e()});
            case 8: return op(Op::Max, {e(), e()});
            case 9: return op(Op::Clamp, {e(), e(), e()});
            case 10: return op(Op::Select, {condition(depth, loops), e(), e()});
            case 11: return op(Op::Select, {op(Op::Lt, {g.f32(0.1f), e()}), op(Op::Log, {positive()}), op(Op::Sqrt, {positive()})});
            case 12: return op(Op::Exp, {small()});
            case 13: return op(Op::Exp2, {small()});
            case 14: return op(Op::Log2, {positive()});
            case 15: return op(Op::Rsqrt, {positive()});
            case 16: return op(Op::Sigmoid, {e()});
            case 17: return op(Op::Sin, {e()});
            case 18: return op(Op::Cos, {e()});
            case 19: return op(Op::Erf, {e()});
            case 20: return op(Op::Pow, {positive(), small()});
            case 21: return op(Op::Pow, {e(), g.f32(2)});
            case 22: return op(Op::Floor, {e()});
            case 23: return op(Op::Tan, {small()});
            case 24: return op(Op::Neg, {op(Op::Abs, {e()})});
            default: break;
        }
        if (loops.size() >= 2) return op(Op::Mul, {e(), e()});
        const Op kind = rng.pick({Op::ReduceSum, Op::ReduceSum, Op::ReduceMin, Op::ReduceMax});
        const NodeId lo = g.i32(rng.between(-1, 1)), hi = rng.chance(50) ? g.i32(rng.between(0, 4)) : op(Op::Min, {q, g.i32(4)});
        const NodeId variable = g.loop_var(static_cast<uint32_t>(loops.size()), lo, hi);
        loops.push_back(variable);
        const NodeId body = expression(depth - 1, loops);
        loops.pop_back();
        const NodeId value = g.reduce(kind, variable, body);
        // An empty minimum is infinite.
        return kind == Op::ReduceSum ? value : op(Op::Clamp, {value, g.f32(-9), g.f32(9)});
    }
};

/// Walks the loops of a read and adds its adjoints at its indices.
void scatter(const Attention& attention, const Bindings& bindings, const Point& point, const GradientRead& read,
             std::vector<std::vector<double>>* out) {
    // The values of free loop variables are given by closing the loops one value after another: a sum over [v, v + 1) of each expression.
    Attention closed = attention;
    Graph& g = closed.graph;
    std::vector<NodeId> wanted(g.operands(read.load).begin(), g.operands(read.load).end());
    wanted.push_back(read.adjoint);
    const auto visit = [&](auto&& self, size_t at, std::vector<NodeId> values) -> void {
        if (at == read.loops.size()) {
            std::vector<NodeId> roots;
            for (NodeId root : values) roots.push_back(root);
            const std::vector<double> results = Evaluator(closed, bindings, roots).at(point);
            const uint32_t param = g[read.load].payload;
            const std::vector<int32_t>& dim = bindings.tensors[param].dim;
            int64_t offset = 0;
            for (size_t i = 0; i < dim.size(); ++i) {
                if (results[i] < 0 || results[i] >= dim[i]) return;
                offset = offset * dim[i] + static_cast<int64_t>(results[i]);
            }
            (*out)[param][static_cast<size_t>(offset)] += results.back();
            return;
        }
        const size_t level = read.loops.size() - 1 - at;  // innermost first
        const NodeId loop = read.loops[level];
        const uint32_t depth = g[loop].payload;
        REQUIRE((g.free_loops(g.operand(loop, 0)) | g.free_loops(g.operand(loop, 1))) == 0);
        const std::vector<double> range = Evaluator(closed, bindings, {g.operand(loop, 0), g.operand(loop, 1)}).at(point);
        for (int32_t v = static_cast<int32_t>(range[0]); v < static_cast<int32_t>(range[1]); ++v) {
            std::vector<NodeId> next;
            for (NodeId value : values) {
                // Replaces the variable by its value, node by node.
                std::vector<NodeId> copy(value.value + 1);
                std::vector<NodeId> operands;
                for (uint32_t i = 0; i <= value.value; ++i) {
                    copy[i] = NodeId{i};
                    if (!(g.free_loops(NodeId{i}) >> depth & 1)) continue;
                    if (NodeId{i} == loop) {
                        copy[i] = g.i32(v);
                        continue;
                    }
                    if (g[NodeId{i}].op == Op::LoopVar && g[NodeId{i}].payload == depth) continue;
                    operands.clear();
                    for (const NodeId operand : g.operands(NodeId{i})) operands.push_back(copy[operand.value]);
                    bool changed = false;
                    for (size_t o = 0; o < operands.size(); ++o) changed = changed || !(operands[o] == g.operand(NodeId{i}, o));
                    if (changed) copy[i] = g.like(g[NodeId{i}], operands);
                }
                next.push_back(copy[value.value]);
            }
            self(self, at + 1, next);
        }
    };
    visit(visit, 0, wanted);
}

struct Totals {
    int compared = 0, rough = 0;
};

/// Compares with differences of two widths; a point where these disagree lies at a kink and counts as rough.
void compare(double exact, const std::function<double(double)>& moved, Totals* totals) {
    const auto slope = [&](double h) { return (moved(h) - moved(-h)) / (2 * h); };
    const double wide = slope(1e-4), narrow = slope(1e-5);
    const double size = std::max({std::fabs(wide), std::fabs(narrow), 1.0});
    const double left = (moved(0) - moved(-1e-5)) / 1e-5, right = (moved(1e-5) - moved(0)) / 1e-5;
    if (!std::isfinite(size) || std::fabs(wide - narrow) > 1e-5 * size || std::fabs(left - right) > 1e-2 * size) {
        ++totals->rough;
        return;
    }
    ++totals->compared;
    CHECK(std::fabs(exact - narrow) <= 1e-4 * size);
}

}  // namespace

TEST_CASE("gradient: random expressions against central differences") {
    const char* const factor = std::getenv("FLEXC_RANDOM_FACTOR");
    const uint64_t cases = 250 * static_cast<uint64_t>(factor ? std::max(std::atoi(factor), 1) : 1);
    Totals totals;
    for (uint64_t seed = 0; seed < cases; ++seed) {
        CAPTURE(seed);
        Problem p(seed);
        std::vector<NodeId> loops;
        p.attention.score = p.expression(4, loops);
        REQUIRE(verify(p.attention) == "");
        if (seed % 2) optimise(p.attention);
        differentiate(p.attention);
        REQUIRE(verify(p.attention) == "");
        if (seed % 3) optimise(p.attention);
        REQUIRE(verify(p.attention) == "");

        Point point;
        point.q = p.rng.between(0, 5), point.k = p.rng.between(0, 5), point.score = p.rng.between(-99, 99) / 50.0 + 0.0003;
        const Gradient& gradient = *p.attention.gradient;
        const double d_score = Evaluator(p.attention, p.bindings, {gradient.score}).at(point)[0];
        compare(
            d_score,
            [&](double h) {
                Point moved = point;
                moved.score += h;
                return Evaluator(p.attention, p.bindings, {p.attention.score}).at(moved)[0];
            },
            &totals);

        std::vector<std::vector<double>> d_tensors;
        for (const InterpTensor& tensor : p.bindings.tensors) d_tensors.emplace_back(tensor.values.size(), 0.0);
        for (const GradientRead& read : gradient.score_reads) scatter(p.attention, p.bindings, point, read, &d_tensors);
        for (const uint32_t param : {p.t, p.u})
            for (size_t i = 0; i < d_tensors[param].size(); ++i)
                compare(
                    d_tensors[param][i],
                    [&](double h) {
                        Bindings moved = p.bindings;
                        moved.tensors[param].values[i] += h;
                        return Evaluator(p.attention, moved, {p.attention.score}).at(point)[0];
                    },
                    &totals);
    }
    MESSAGE(totals.compared << " derivatives compared, " << totals.rough << " at kinks");
    CHECK(totals.compared > 15 * totals.rough);
}

TEST_CASE("gradient: ties and edges as PyTorch has them") {
    Problem p;
    const auto slope = [&](NodeId score, double at) {
        p.attention.score = score;
        differentiate(p.attention);
        Point point;
        point.score = at;
        return Evaluator(p.attention, p.bindings, {p.attention.gradient->score}).at(point)[0];
    };
    const auto c = [&](float value) { return p.g.f32(value); };
    CHECK(slope(p.op(Op::Min, {p.s, c(2)}), 2) == 0.5);
    CHECK(slope(p.op(Op::Max, {p.s, c(2)}), 2) == 0.5);
    CHECK(slope(p.op(Op::Max, {p.s, p.op(Op::Mul, {p.s, c(2)})}), 0) == 1.5);
    CHECK(slope(p.op(Op::Clamp, {p.s, c(-1), c(2)}), 2) == 1);
    CHECK(slope(p.op(Op::Clamp, {p.s, c(-1), c(2)}), -1) == 1);
    CHECK(slope(p.op(Op::Clamp, {p.s, c(-1), c(2)}), 2.5) == 0);
    CHECK(slope(p.op(Op::Clamp, {c(5), p.s, c(9)}), 7) == 1);
    CHECK(slope(p.op(Op::Clamp, {c(5), c(1), p.s}), 3) == 1);
    CHECK(slope(p.op(Op::Abs, {p.s}), 0) == 0);
    CHECK(slope(p.op(Op::Sign, {p.s}), 3) == 0);
    CHECK(slope(p.op(Op::Pow, {p.s, c(0)}), 0) == 0);
    CHECK(slope(p.op(Op::Pow, {c(0), p.s}), 2) == 0);
    CHECK(slope(p.op(Op::Floor, {p.s}), 1.5) == 0);
    CHECK(slope(p.op(Op::Div, {c(1), p.s}), 2) == -0.25);
    const NodeId loop = p.g.loop_var(0, p.g.i32(0), p.g.i32(4));  // four equal maxima
    CHECK(slope(p.g.reduce(Op::ReduceMax, loop, p.op(Op::Mul, {p.s, c(3)})), 1) == 3);
}

TEST_CASE("gradient: what is not chosen contributes nothing, however steep it is") {
    Problem p;
    const NodeId zero = p.g.f32(0);
    // if s > 0 then sqrt(s) else 0, at 0: the derivative of the root is infinite there.
    p.attention.score = p.op(Op::Select, {p.op(Op::Lt, {zero, p.s}), p.op(Op::Sqrt, {p.s}), zero});
    optimise(p.attention);
    differentiate(p.attention);
    optimise(p.attention);
    Point point;
    for (const auto& [at, want] : {std::pair{0.0, 0.0}, std::pair{-4.0, 0.0}, std::pair{4.0, 0.25}}) {
        point.score = at;
        CHECK(Evaluator(p.attention, p.bindings, {p.attention.gradient->score}).at(point)[0] == want);
    }
    point.score = kInf;
    CHECK(Evaluator(p.attention, p.bindings, {p.attention.gradient->score}).at(point)[0] == 0);
}

TEST_CASE("gradient: common variants cost what is written by hand") {
    const auto derived = [](const std::function<NodeId(Problem&)>& score) {
        Problem p;
        p.attention.score = score(p);
        optimise(p.attention);
        differentiate(p.attention);
        optimise(p.attention);
        const std::string text = print(p.attention);
        std::string error;
        const auto again = parse_text(text, &error);
        CHECK(error == "");
        REQUIRE(again);
        CHECK(print(*again) == text);
        return text.substr(text.find("%0:"));
    };
    CHECK(derived([](Problem& p) { return p.s; }).find("d_score = ") != std::string::npos);
    // A bias: the score passes, and each read has the adjoint 1.
    const std::string bias = derived([](Problem& p) { return p.op(Op::Add, {p.s, p.at(p.t, {p.op(Op::Sub, {p.q, p.k})})}); });
    CHECK(bias.find("mul") == std::string::npos);
    CHECK(bias.find("const 1.0") != std::string::npos);
    CHECK(bias.find("d_read ") != std::string::npos);
    // Soft capping: one tanh, 1 - tanh^2.
    const std::string capped =
        derived([](Problem& p) { return p.op(Op::Mul, {p.op(Op::Tanh, {p.op(Op::Div, {p.s, p.g.f32(8)})}), p.g.f32(8)}); });
    CHECK(capped.find("tanh") == capped.rfind("tanh"));
    CHECK(std::count(capped.begin(), capped.end(), '\n') <= 15);
}

// The rules of the passes one by one, the rules that must not exist, and the list of passes.
#include <algorithm>

#include <doctest/doctest.h>

#include "ir/passes.h"
#include "tests/unit/ir/eval.h"

using namespace flexc::ir;
using namespace flexc::ir::testing;

namespace {

/// x, y i32; u, v f32; a, b bool: captured scalars to build expressions of.
struct Rules : Scratch {
    NodeId x = add_scalar(Type::I32, 0), y = add_scalar(Type::I32, 0);
    NodeId u = add_scalar(Type::F32, 0), v = add_scalar(Type::F32, 0);
    NodeId a = add_scalar(Type::Bool, 0), b = add_scalar(Type::Bool, 0);

    NodeId i(int32_t value) { return g.i32(value); }
    NodeId f(float value) { return g.f32(value); }
    NodeId op(Op what, std::initializer_list<NodeId> operands) { return g.make(what, operands); }
};

/// The value as the score, cast if need be.
Attention optimised(const Attention& attention, NodeId id) {
    Attention copy = attention;
    copy.score = copy.graph.type(id) == Type::F32 ? id : copy.graph.make(Op::ToF32, {id});
    optimise(copy);
    return copy;
}

/// A value as an S-expression, operands of commutative operations sorted: equal texts are equal values.
std::string expression(const Graph& g, NodeId id) {
    std::vector<std::string> operands;
    for (const NodeId operand : g.operands(id)) operands.push_back(expression(g, operand));
    switch (g[id].op) {
        case Op::Add:
        case Op::Mul:
        case Op::Min:
        case Op::Max:
        case Op::And:
        case Op::Or:
        case Op::Eq:
        case Op::Ne: std::sort(operands.begin(), operands.end()); break;
        default: break;
    }
    std::string text = "(" + std::string(info(g[id].op).name) + " " + std::string(name(g.type(id))) + " " + std::to_string(g[id].payload);
    for (const std::string& operand : operands) text += " " + operand;
    return text + ")";
}

std::string text_of(const Attention& attention, NodeId id) {
    const Attention result = optimised(attention, id);
    return expression(result.graph, result.score);
}

#define CHECK_BECOMES(r, from, to) CHECK(text_of((r).attention, (from)) == text_of((r).attention, (to)))

/// `from` as it is, not simplified to `to`.
#define CHECK_STAYS(r, from, to) CHECK(text_of((r).attention, (from)) != text_of((r).attention, (to)))

}  // namespace

TEST_CASE("simplify: i32") {
    Rules r;
    CHECK_BECOMES(r, r.op(Op::Add, {r.i(0), r.x}), r.x);
    CHECK_BECOMES(r, r.op(Op::Sub, {r.x, r.i(0)}), r.x);
    CHECK_BECOMES(r, r.op(Op::Sub, {r.x, r.x}), r.i(0));
    CHECK_BECOMES(r, r.op(Op::Mul, {r.i(1), r.x}), r.x);
    CHECK_BECOMES(r, r.op(Op::Mul, {r.x, r.i(0)}), r.i(0));
    CHECK_BECOMES(r, r.op(Op::Add, {r.op(Op::Add, {r.x, r.i(5)}), r.i(-2)}), r.op(Op::Add, {r.x, r.i(3)}));
    CHECK_BECOMES(r, r.op(Op::Add, {r.x, r.op(Op::Sub, {r.y, r.x})}), r.y);
    CHECK_BECOMES(r, r.op(Op::Sub, {r.op(Op::Add, {r.x, r.y}), r.x}), r.y);
    CHECK_BECOMES(r, r.op(Op::Neg, {r.op(Op::Neg, {r.x})}), r.x);
    CHECK_BECOMES(r, r.op(Op::FloorDiv, {r.x, r.i(1)}), r.x);
    CHECK_BECOMES(r, r.op(Op::FloorDiv, {r.x, r.i(0)}), r.i(0));
    CHECK_BECOMES(r, r.op(Op::FloorDiv, {r.op(Op::FloorDiv, {r.x, r.i(4)}), r.i(8)}), r.op(Op::FloorDiv, {r.x, r.i(32)}));
    CHECK_BECOMES(r, r.op(Op::Mod, {r.x, r.i(1)}), r.i(0));
    CHECK_BECOMES(r, r.op(Op::Mod, {r.x, r.i(-1)}), r.i(0));
    CHECK_BECOMES(r, r.op(Op::Mod, {r.op(Op::Mod, {r.x, r.y}), r.y}), r.op(Op::Mod, {r.x, r.y}));
    CHECK_BECOMES(r, r.op(Op::BitAnd, {r.x, r.i(-1)}), r.x);
    CHECK_BECOMES(r, r.op(Op::BitXor, {r.x, r.x}), r.i(0));
    CHECK_BECOMES(r, r.op(Op::Shl, {r.x, r.i(32)}), r.i(0));
    CHECK_BECOMES(r, r.op(Op::Shr, {r.x, r.i(-3)}), r.op(Op::Shr, {r.x, r.i(31)}));
    CHECK_BECOMES(r, r.op(Op::Min, {r.x, r.op(Op::Min, {r.y, r.x})}), r.op(Op::Min, {r.x, r.y}));
    // 0 // 0 is 0, so x // x is not 1.
    CHECK_STAYS(r, r.op(Op::FloorDiv, {r.x, r.x}), r.i(1));
}

TEST_CASE("simplify: f32 keeps NaN, infinities and signed zeros") {
    Rules r;
    CHECK_BECOMES(r, r.op(Op::Mul, {r.u, r.f(1)}), r.u);
    CHECK_BECOMES(r, r.op(Op::Mul, {r.f(-1), r.u}), r.op(Op::Neg, {r.u}));
    CHECK_BECOMES(r, r.op(Op::Add, {r.u, r.f(-0.0f)}), r.u);
    CHECK_BECOMES(r, r.op(Op::Sub, {r.u, r.f(0.0f)}), r.u);
    CHECK_BECOMES(r, r.op(Op::Sub, {r.u, r.op(Op::Neg, {r.v})}), r.op(Op::Add, {r.u, r.v}));
    CHECK_BECOMES(r, r.op(Op::Div, {r.u, r.f(8)}), r.op(Op::Mul, {r.u, r.f(0.125f)}));
    CHECK_BECOMES(r, r.op(Op::Round, {r.op(Op::ToF32, {r.x})}), r.op(Op::ToF32, {r.x}));
    CHECK_STAYS(r, r.op(Op::Add, {r.u, r.f(0.0f)}), r.u);  // -0 + 0 = 0
    CHECK_STAYS(r, r.op(Op::Sub, {r.u, r.f(-0.0f)}), r.u);
    CHECK_STAYS(r, r.op(Op::Mul, {r.u, r.f(0.0f)}), r.f(0.0f));  // NaN, inf, -1
    CHECK_STAYS(r, r.op(Op::Sub, {r.u, r.u}), r.f(0.0f));
    CHECK_STAYS(r, r.op(Op::Div, {r.u, r.u}), r.f(1.0f));
    CHECK_STAYS(r, r.op(Op::Div, {r.u, r.f(3)}), r.op(Op::Mul, {r.u, r.f(1.0f / 3)}));
    CHECK_STAYS(r, r.op(Op::Sub, {r.f(0.0f), r.u}), r.op(Op::Neg, {r.u}));  // 0 - 0 = 0
    CHECK_STAYS(r, r.op(Op::Add, {r.op(Op::Add, {r.u, r.f(1)}), r.f(2)}), r.op(Op::Add, {r.u, r.f(3)}));
    CHECK_STAYS(r, r.op(Op::Div, {r.u, r.f(1e-45f)}), r.op(Op::Mul, {r.u, r.f(1.0f / 1e-45f)}));
}

TEST_CASE("simplify: logic and comparisons") {
    Rules r;
    const NodeId yes = r.g.boolean(true), no = r.g.boolean(false), lt = r.op(Op::Lt, {r.x, r.y}), lt_f = r.op(Op::Lt, {r.u, r.v});
    CHECK_BECOMES(r, r.op(Op::And, {yes, r.a}), r.a);
    CHECK_BECOMES(r, r.op(Op::And, {r.a, no}), no);
    CHECK_BECOMES(r, r.op(Op::Or, {r.a, r.a}), r.a);
    CHECK_BECOMES(r, r.op(Op::And, {r.a, r.op(Op::Not, {r.a})}), no);
    CHECK_BECOMES(r, r.op(Op::Or, {r.op(Op::Not, {r.a}), r.a}), yes);
    CHECK_BECOMES(r, r.op(Op::And, {r.a, r.op(Op::Or, {r.b, r.a})}), r.a);
    CHECK_BECOMES(r, r.op(Op::Not, {r.op(Op::Not, {r.a})}), r.a);
    CHECK_BECOMES(r, r.op(Op::Not, {lt}), r.op(Op::Le, {r.y, r.x}));
    CHECK_STAYS(r, r.op(Op::Not, {lt_f}), r.op(Op::Le, {r.v, r.u}));  // NaN
    CHECK_BECOMES(r, r.op(Op::Not, {r.op(Op::Eq, {r.u, r.v})}), r.op(Op::Ne, {r.u, r.v}));
    CHECK_BECOMES(r, r.op(Op::Eq, {r.x, r.x}), yes);
    CHECK_STAYS(r, r.op(Op::Eq, {r.u, r.u}), yes);
    CHECK_BECOMES(r, r.op(Op::Lt, {r.u, r.u}), no);
    CHECK_BECOMES(r, r.op(Op::Eq, {r.op(Op::Add, {r.x, r.i(3)}), r.i(5)}), r.op(Op::Eq, {r.x, r.i(2)}));
    CHECK_STAYS(r, r.op(Op::Lt, {r.op(Op::Add, {r.x, r.i(3)}), r.i(5)}), r.op(Op::Lt, {r.x, r.i(2)}));  // x + 3 may wrap
    CHECK_BECOMES(r, r.op(Op::Eq, {r.a, no}), r.op(Op::Not, {r.a}));
    CHECK_BECOMES(r, r.op(Op::Select, {r.a, yes, no}), r.a);
    CHECK_BECOMES(r, r.op(Op::Select, {r.a, no, yes}), r.op(Op::Not, {r.a}));
    CHECK_BECOMES(r, r.op(Op::Select, {r.op(Op::Not, {r.a}), r.u, r.v}), r.op(Op::Select, {r.a, r.v, r.u}));
    CHECK_BECOMES(r, r.op(Op::Select, {r.a, r.u, r.u}), r.u);
    CHECK_BECOMES(r, r.op(Op::Select, {r.a, r.op(Op::Select, {r.a, r.u, r.v}), r.v}), r.op(Op::Select, {r.a, r.u, r.v}));
}

TEST_CASE("simplify and unroll: reductions") {
    Rules r;
    Graph& g = r.g;
    const NodeId dynamic = g.loop_var(0, r.i(0), r.x), few = g.loop_var(0, r.i(2), r.i(5)), many = g.loop_var(0, r.i(0), r.i(1000));
    CHECK_BECOMES(r, g.reduce(Op::ReduceSum, g.loop_var(0, r.i(3), r.i(3)), r.u), r.f(0));
    CHECK_BECOMES(r, g.reduce(Op::ReduceAny, dynamic, r.a), r.op(Op::And, {r.op(Op::Lt, {r.i(0), r.x}), r.a}));
    CHECK_BECOMES(r, g.reduce(Op::ReduceSum, many, r.y), r.op(Op::Mul, {r.y, r.i(1000)}));
    CHECK_BECOMES(r, g.reduce(Op::ReduceSum, few, few), r.i(9));
    CHECK_BECOMES(r, g.reduce(Op::ReduceAny, few, r.op(Op::Eq, {r.x, few})),
                  r.op(Op::Or, {r.op(Op::Or, {r.op(Op::Eq, {r.x, r.i(2)}), r.op(Op::Eq, {r.x, r.i(3)})}), r.op(Op::Eq, {r.x, r.i(4)})}));
    CHECK_STAYS(r, g.reduce(Op::ReduceSum, many, r.u), r.op(Op::Mul, {r.u, r.f(1000)}));  // rounded each time
    const Attention kept = optimised(r.attention, g.reduce(Op::ReduceSum, many, r.op(Op::Mul, {many, r.x})));
    CHECK(kept.graph[kept.graph.operand(kept.score, 0)].op == Op::ReduceSum);  // too long to unroll
}

TEST_CASE("fold: functions are left alone, arithmetic is f32") {
    Rules r;
    const Attention exp = optimised(r.attention, r.op(Op::Exp, {r.f(1)}));
    CHECK(exp.graph[exp.score].op == Op::Exp);
    const Attention sum = optimised(r.attention, r.op(Op::Add, {r.f(16777216.0f), r.f(1.0f)}));
    CHECK(sum.graph.as_f32(sum.score) == 16777216.0f);
    const Attention root = optimised(r.attention, r.op(Op::Div, {r.f(1), r.op(Op::Sqrt, {r.f(64)})}));
    CHECK(root.graph.as_f32(root.score) == 0.125f);
}

TEST_CASE("cse: one order, one node, no dead ones") {
    Rules r;
    const NodeId one = r.op(Op::Mul, {r.u, r.v}), other = r.op(Op::Mul, {r.v, r.u});
    REQUIRE(one != other);
    r.op(Op::Sin, {r.u});
    r.attention.score = r.op(Op::Sub, {one, other});
    cse(r.attention);
    CHECK(r.g.operand(r.attention.score, 0) == r.g.operand(r.attention.score, 1));
    CHECK(r.g.size() == 5);  // u, v, the product, the difference, true
}

TEST_CASE("optimise: reports each pass, and stops") {
    Rules r;
    r.attention.score = r.op(Op::Add, {r.op(Op::Mul, {r.g.score(), r.f(1)}), r.f(-0.0f)});
    std::vector<std::string> names;
    optimise(r.attention, [&](std::string_view pass, const Attention& now) {
        names.emplace_back(pass);
        CHECK(verify(now) == "");
    });
    REQUIRE(names.size() == 2 * passes().size());  // one round that works, one that finds nothing
    for (size_t i = 0; i < names.size(); ++i) CHECK(names[i] == passes()[i % passes().size()].name);
    CHECK(r.attention.score == r.g.score());
}

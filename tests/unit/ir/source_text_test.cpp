// Source text of expressions: as few parentheses as keep the meaning, names instead of numbers, and no text of exponential length.
#include "ir/source_text.h"

#include <array>
#include <limits>

#include <doctest/doctest.h>

#include "tests/unit/ir/eval.h"

using namespace flexc::ir;
using namespace flexc::ir::testing;

namespace {

struct Source : Scratch {
    NodeId q = g.index(IndexVar::Q), k = g.index(IndexVar::K), h = g.index(IndexVar::H);
    NodeId i(int32_t value) { return g.i32(value); }
    NodeId op(Op what, std::initializer_list<NodeId> operands) { return g.make(what, operands); }
    std::string text(NodeId id) { return source_text(attention, id); }
};

}  // namespace

TEST_CASE("source text: parentheses where the order of operations needs them") {
    Source s;
    const NodeId sum = s.op(Op::Add, {s.q, s.k}), difference = s.op(Op::Sub, {s.q, s.k});
    CHECK(s.text(s.op(Op::Mul, {sum, s.q})) == "(q + k) * q");
    CHECK(s.text(s.op(Op::Add, {s.op(Op::Mul, {s.q, s.k}), s.q})) == "q * k + q");
    CHECK(s.text(s.op(Op::Sub, {s.h, difference})) == "h - (q - k)");
    CHECK(s.text(s.op(Op::Sub, {difference, s.h})) == "q - k - h");
    CHECK(s.text(s.op(Op::FloorDiv, {s.q, s.op(Op::Mod, {s.k, s.h})})) == "q // (k % h)");
    CHECK(s.text(s.op(Op::Mod, {s.op(Op::FloorDiv, {s.q, s.k}), s.h})) == "q // k % h");
    CHECK(s.text(s.op(Op::Neg, {sum})) == "-(q + k)");
    CHECK(s.text(s.op(Op::BitNot, {s.op(Op::Neg, {s.q})})) == "~-q");
    CHECK(s.text(s.op(Op::BitAnd, {s.op(Op::Shl, {s.q, s.k}), s.op(Op::BitOr, {s.q, s.k})})) == "q << k & (q | k)");
    CHECK(s.text(s.op(Op::Abs, {difference})) == "abs(q - k)");
    CHECK(s.text(s.op(Op::Add, {s.q, s.i(-3)})) == "q - 3");
    CHECK(s.text(s.op(Op::Add, {s.q, s.i(std::numeric_limits<int32_t>::min())})) == "q + -2147483648");
    CHECK(s.text(s.op(Op::Sub, {s.q, s.i(-3)})) == "q - -3");
    CHECK(s.text(s.op(Op::Mul, {s.i(-3), s.q})) == "-3 * q");
}

TEST_CASE("source text: conditions") {
    Source s;
    const NodeId le = s.op(Op::Le, {s.k, s.q}), lt = s.op(Op::Lt, {s.k, s.i(7)}), eq = s.op(Op::Eq, {s.q, s.k});
    CHECK(s.text(s.op(Op::And, {le, s.op(Op::Or, {lt, eq})})) == "k <= q and (k < 7 or q == k)");
    CHECK(s.text(s.op(Op::Or, {s.op(Op::And, {le, lt}), eq})) == "k <= q and k < 7 or q == k");
    CHECK(s.text(s.op(Op::And, {le, s.op(Op::And, {lt, eq})})) == "k <= q and k < 7 and q == k");
    CHECK(s.text(s.op(Op::Not, {s.op(Op::And, {le, lt})})) == "not (k <= q and k < 7)");
    CHECK(s.text(s.op(Op::And, {s.op(Op::Not, {le}), lt})) == "not k <= q and k < 7");
    CHECK(s.text(s.op(Op::Eq, {le, lt})) == "(k <= q) == (k < 7)");
    CHECK(s.text(s.op(Op::Eq, {s.op(Op::Not, {le}), lt})) == "(not k <= q) == (k < 7)");
    const NodeId choice = s.op(Op::Select, {le, s.q, s.k});
    CHECK(s.text(choice) == "if k <= q then q else k");
    CHECK(s.text(s.op(Op::Add, {choice, s.i(1)})) == "(if k <= q then q else k) + 1");
    CHECK(s.text(s.op(Op::Select, {lt, choice, choice})) == "if k < 7 then (if k <= q then q else k) else if k <= q then q else k");
}

TEST_CASE("source text: names, loads, reductions, floats") {
    Source s;
    s.attention.extents = {"N"};
    const NodeId n = s.g.extent(kBuiltinExtents), slope = s.add_scalar(Type::F32, 1);
    const uint32_t table = s.add_tensor(ElemType::I32, {4, 4}, std::vector<double>(16, 0));
    const NodeId j = s.g.loop_var(0, s.i(0), n);
    const std::array<NodeId, 2> at = {s.op(Op::FloorDiv, {s.q, s.i(64)}), j};
    const NodeId any = s.g.reduce(Op::ReduceAny, j, s.op(Op::Eq, {s.g.load(table, ElemType::I32, at), s.k}));
    CHECK(s.text(any) == "any(j in 0..N: t1[q // 64, j] == k)");
    CHECK(s.text(s.op(Op::Mul, {slope, s.op(Op::ToF32, {s.op(Op::Sub, {s.k, s.q})})})) == "s0 * f32(k - q)");
    CHECK(s.text(s.op(Op::Add, {s.g.score(), s.g.f32(-0.5f)})) == "score + -0.5");
    CHECK(s.text(s.op(Op::Clamp, {s.q, s.i(0), s.op(Op::Sub, {n, s.i(1)})})) == "clamp(q, 0, N - 1)");
    CHECK(s.text(s.g.tile_bound(TileBound::QLo)) == "q0");
    CHECK(s.text(s.g.boolean(true)) == "true");
}

TEST_CASE("source text: a value that is used over and over is cut off") {
    Source s;
    NodeId value = s.op(Op::Add, {s.q, s.k});
    for (int i = 0; i < 200; ++i) value = s.op(Op::Mul, {value, value});
    const std::string text = s.text(value);
    CHECK(text.size() <= kMaxSourceText);
    CHECK(text.ends_with("..."));
}

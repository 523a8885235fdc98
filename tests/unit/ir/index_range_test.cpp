// Bounds of k, and of q, that a mask gives: their text for the common masks, and that no kept element lies outside.
#include "ir/index_range.h"

#include <algorithm>
#include <array>

#include <doctest/doctest.h>

#include "ir/passes.h"
#include "ir/source_text.h"
#include "tests/unit/ir/eval.h"

using namespace flexc::ir;
using namespace flexc::ir::testing;

namespace {

constexpr int32_t kQ = 37, kK = 45, kTile = 5;

struct Keys : Scratch {
    NodeId q = g.index(IndexVar::Q), k = g.index(IndexVar::K);
    Keys() { bindings.extents = {1, 4, 2, kQ, kK, 8, 8}; }

    NodeId i(int32_t value) { return g.i32(value); }
    NodeId op(Op what, std::initializer_list<NodeId> operands) { return g.make(what, operands); }
    NodeId scalar(int32_t value) { return add_scalar(Type::I32, value); }
    NodeId causal() { return op(Op::Le, {k, q}); }

    /// "[lower, upper]", with `*` for a side without bound; and every kept element must lie inside.
    std::string solve(NodeId mask) {
        attention.mask = mask;
        optimise(attention);
        const IndexRange range = key_range(attention);
        REQUIRE(verify(attention) == "");
        check(range);
        return range.empty ? "empty" : "[" + text(range.lower) + ", " + text(range.upper) + "]";
    }

    /// The same for q.
    std::string solve_queries(NodeId mask) {
        attention.mask = mask;
        optimise(attention);
        const IndexRange range = query_range(attention);
        REQUIRE(verify(attention) == "");
        std::vector<NodeId> roots = {attention.mask};
        for (const auto* bound : {&range.lower, &range.upper})
            if (*bound) roots.push_back((*bound)->value);
        Evaluator values(attention, bindings, roots);
        int outside = 0;
        for (int32_t k_lo = 0; k_lo < kK; k_lo += kTile) {
            Point point;
            point.k_lo = k_lo, point.k_hi = std::min<int32_t>(k_lo + kTile, kK) - 1;
            for (point.k = point.k_lo; point.k <= point.k_hi; ++point.k)
                for (point.q = 0; point.q < kQ; ++point.q) {
                    const std::vector<double>& at = values.at(point);
                    if (at[0] == 0) continue;
                    outside += range.empty || (range.lower && point.q < at[1]) || (range.upper && point.q > at.back());
                }
        }
        CHECK(outside == 0);
        return range.empty ? "empty" : "[" + text(range.lower) + ", " + text(range.upper) + "]";
    }

    std::string text(const std::optional<IndexBound>& bound) { return bound ? source_text(attention, bound->value) : std::string("*"); }

    void check(const IndexRange& range) {
        std::vector<NodeId> roots = {attention.mask};
        for (const auto* bound : {&range.lower, &range.upper})
            if (*bound) roots.push_back((*bound)->value);
        Evaluator values(attention, bindings, roots);
        int outside = 0;
        for (int32_t q_lo = 0; q_lo < kQ; q_lo += kTile) {
            Point point;
            point.q_lo = q_lo, point.q_hi = std::min<int32_t>(q_lo + kTile, kQ) - 1;
            for (point.q = point.q_lo; point.q <= point.q_hi; ++point.q)
                for (point.k = 0; point.k < kK; ++point.k) {
                    const std::vector<double>& at = values.at(point);
                    if (at[0] == 0) continue;
                    outside += range.empty || (range.lower && point.k < at[1]) || (range.upper && point.k > at.back());
                }
        }
        CHECK(outside == 0);
    }
};

}  // namespace

TEST_CASE("key range: affine conditions") {
    Keys all;
    CHECK(all.solve(all.g.boolean(true)) == "[*, *]");
    Keys a;
    CHECK(a.solve(a.causal()) == "[*, q1]");
    Keys b;
    CHECK(b.solve(b.op(Op::And, {b.causal(), b.op(Op::Le, {b.op(Op::Sub, {b.q, b.k}), b.scalar(7)})})) == "[q0 - s0, q1]");
    Keys c;
    CHECK(c.solve(c.op(Op::Lt, {c.op(Op::Abs, {c.op(Op::Sub, {c.q, c.k})}), c.i(4)})) == "[q0 - 3, q1 + 3]");
    Keys d;
    CHECK(d.solve(d.op(Op::Not, {d.causal()})) == "[q0 + 1, *]");
    Keys e;
    CHECK(e.solve(e.op(Op::Eq, {e.op(Op::Add, {e.k, e.i(3)}), e.q})) == "[q0 - 3, q1 - 3]");
    Keys f;
    CHECK(f.solve(f.op(Op::Lt, {f.op(Op::Mul, {f.k, f.i(2)}), f.q})) == "[*, *]");  // a factor of 2
    Keys g;
    CHECK(g.solve(g.op(Op::Le, {g.k, g.op(Op::Mul, {g.q, g.i(-1)})})).starts_with("[*, "));
}

TEST_CASE("query range: the transpose") {
    Keys a;
    CHECK(a.solve_queries(a.causal()) == "[k0, *]");
    Keys b;
    CHECK(b.solve_queries(b.op(Op::And, {b.causal(), b.op(Op::Le, {b.op(Op::Sub, {b.q, b.k}), b.scalar(7)})})) == "[k0, k1 + s0]");
    Keys c;
    CHECK(c.solve_queries(c.op(Op::Lt, {c.op(Op::Abs, {c.op(Op::Sub, {c.q, c.k})}), c.i(4)})) == "[k0 - 3, k1 + 3]");
    Keys d;
    CHECK(d.solve_queries(d.op(Op::Eq, {d.op(Op::FloorDiv, {d.q, d.i(7)}), d.op(Op::FloorDiv, {d.k, d.i(7)})})) ==
          "[k0 // 7 * 7, k1 // 7 * 7 + 6]");
    Keys e;
    CHECK(e.solve_queries(e.op(Op::Or, {e.op(Op::Lt, {e.k, e.scalar(9)}), e.causal()})) == "[*, *]");  // the prefix is for all
    Keys f;
    CHECK(f.solve_queries(f.op(Op::And, {f.op(Op::Lt, {f.q, f.scalar(9)}), f.causal()})) == "[k0, s0 - 1]");
}

TEST_CASE("key range: and, or, if") {
    Keys a;
    CHECK(a.solve(a.op(Op::Or, {a.op(Op::Lt, {a.k, a.scalar(9)}), a.causal()})) == "[*, max(s0 - 1, q1)]");
    Keys b;  // a query that sees all
    CHECK(b.solve(b.op(Op::Or, {b.op(Op::Eq, {b.q, b.i(3)}), b.causal()})) == "[*, *]");
    Keys c;
    const NodeId near = c.op(Op::Le, {c.op(Op::Abs, {c.op(Op::Sub, {c.q, c.k})}), c.i(2)});
    CHECK(c.solve(c.op(Op::Select, {c.op(Op::Lt, {c.q, c.scalar(9)}), near, c.causal()})) == "[*, q1 + 2]");
    Keys d;
    CHECK(d.solve(d.op(Op::And, {d.causal(), d.op(Op::Le, {d.k, d.op(Op::Add, {d.q, d.i(5)})})})) == "[*, q1]");
}

TEST_CASE("key range: blocks") {
    Keys a;
    CHECK(a.solve(a.op(Op::Eq, {a.op(Op::FloorDiv, {a.q, a.i(7)}), a.op(Op::FloorDiv, {a.k, a.i(7)})})) ==
          "[q0 // 7 * 7, q1 // 7 * 7 + 6]");
    Keys b;
    const NodeId n = b.scalar(6);
    CHECK(b.solve(b.op(Op::Le, {b.op(Op::FloorDiv, {b.k, n}), b.op(Op::FloorDiv, {b.q, n})})) == "[*, (q1 // s0 + 1) * s0 - 1]");
}

TEST_CASE("key range: equalities of the mask are used") {
    Keys a;  // batchify(causal, n)
    const NodeId n = a.scalar(6);
    const NodeId same = a.op(Op::Eq, {a.op(Op::FloorDiv, {a.q, n}), a.op(Op::FloorDiv, {a.k, n})});
    const std::string text = a.solve(a.op(Op::And, {same, a.op(Op::Le, {a.op(Op::Mod, {a.k, n}), a.op(Op::Mod, {a.q, n})})}));
    CHECK(text == "[q0 // s0 * s0, min((q1 // s0 + 1) * s0 - 1, q1)]");
}

TEST_CASE("key range: values that are looked up stay as they are, each row by itself") {
    Keys a;
    const uint32_t off = a.add_tensor(ElemType::I32, {kQ}, std::vector<double>(kQ, 3));
    a.attention.mask = a.op(Op::And, {a.op(Op::Le, {a.g.load(off, ElemType::I32, std::array{a.q}), a.k}), a.causal()});
    IndexRange range = key_range(a.attention);
    REQUIRE(range.lower);
    CHECK(source_text(a.attention, range.lower->value) == "t0[q]");
    CHECK(range.lower->rows.size() == 1);
    CHECK(range.upper->rows.empty());
    CHECK(range.unsolved.empty());

    Keys b;
    const uint32_t doc = b.add_tensor(ElemType::I32, {kK}, std::vector<double>(kK, 3));
    const NodeId same = b.op(Op::Eq, {b.g.load(doc, ElemType::I32, std::array{b.q}), b.g.load(doc, ElemType::I32, std::array{b.k})});
    b.attention.mask = b.op(Op::And, {same, b.causal()});
    range = key_range(b.attention);
    CHECK(!range.lower);
    REQUIRE(range.unsolved.size() == 1);
    CHECK(range.unsolved[0] == same);
}

TEST_CASE("key range: how an index steps") {
    Keys a;
    CHECK(step_along(a.g, a.op(Op::Sub, {a.q, a.k}), IndexVar::K) == -1);
    CHECK(step_along(a.g, a.op(Op::Sub, {a.q, a.k}), IndexVar::Q) == 1);
    CHECK(step_along(a.g, a.op(Op::Mul, {a.k, a.i(3)}), IndexVar::K) == 3);
    CHECK(step_along(a.g, a.op(Op::FloorDiv, {a.q, a.i(3)}), IndexVar::K) == 0);
    CHECK(!step_along(a.g, a.op(Op::FloorDiv, {a.k, a.i(3)}), IndexVar::K));
}

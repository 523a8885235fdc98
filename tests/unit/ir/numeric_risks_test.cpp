#include "ir/numeric_risks.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "ir/float_range.h"

using namespace flexc::ir;
using Why = NumericRisk::Why;

namespace {

/// An attention with a captured f32[H] and a way to give its score.
struct Scored {
    Attention attention;
    Graph& g = attention.graph;
    NodeId score, slope, zero, one;

    Scored() {
        attention.name = "a";
        Param param;
        param.name = "slope";
        param.is_tensor = true;
        param.elem = ElemType::F32;
        param.dims = {Dim{1, int(ExtentVar::H), 0}};
        attention.params.push_back(param);
        score = g.score();
        const NodeId h = g.index(IndexVar::H);
        slope = g.load(0, ElemType::F32, std::vector<NodeId>{h});
        zero = g.f32(0), one = g.f32(1);
    }
    std::vector<Why> risks(NodeId clause) {
        attention.score = clause;
        std::vector<Why> out;
        for (const NumericRisk& risk : numeric_risks(attention)) out.push_back(risk.why);
        return out;
    }
};

}  // namespace

TEST_CASE("functions outside of their domain") {
    Scored s;
    CHECK(s.risks(s.g.make(Op::Log, {s.score})) == std::vector{Why::LogOfNegative});
    CHECK(s.risks(s.g.make(Op::Log, {s.g.make(Op::Abs, {s.score})})) == std::vector{Why::LogOfZero});
    CHECK(s.risks(s.g.make(Op::Log, {s.g.make(Op::Max, {s.score, s.one})})).empty());
    CHECK(s.risks(s.g.make(Op::Sqrt, {s.score})) == std::vector{Why::SqrtOfNegative});
    CHECK(s.risks(s.g.make(Op::Rsqrt, {s.g.make(Op::Abs, {s.score})})) == std::vector{Why::RsqrtOfZero});
    CHECK(s.risks(s.g.make(Op::Pow, {s.score, s.g.f32(2.5F)})) == std::vector{Why::PowOfNegative});
    CHECK(s.risks(s.g.make(Op::Pow, {s.score, s.g.f32(3)})).empty());
    CHECK(s.risks(s.g.make(Op::Exp, {s.score})) == std::vector{Why::ExpOverflow});
    CHECK(s.risks(s.g.make(Op::Exp, {s.g.make(Op::Tanh, {s.score})})).empty());
    CHECK(s.risks(s.g.make(Op::Div, {s.score, s.g.make(Op::Sub, {s.score, s.one})})) == std::vector{Why::DivisionByZero});
    CHECK(s.risks(s.g.make(Op::Div, {s.score, s.slope})).empty());  // the user's own number
    CHECK(s.risks(s.g.make(Op::Mul, {s.score, s.score})).empty());
}

TEST_CASE("a condition on the operand guards") {
    Scored s;
    const NodeId log = s.g.make(Op::Log, {s.score});
    const NodeId positive = s.g.make(Op::Lt, {s.zero, s.score});
    CHECK(s.risks(s.g.make(Op::Select, {positive, log, s.zero})).empty());
    CHECK(s.risks(s.g.make(Op::Select, {positive, log, s.g.make(Op::Mul, {log, s.one})})) == std::vector{Why::LogOfNegative});
    const NodeId causal = s.g.make(Op::Le, {s.g.index(IndexVar::K), s.g.index(IndexVar::Q)});
    CHECK(s.risks(s.g.make(Op::Select, {causal, log, s.zero})) == std::vector{Why::LogOfNegative});
}

TEST_CASE("infinities that meet") {
    Scored s;
    const NodeId causal = s.g.make(Op::Le, {s.g.index(IndexVar::K), s.g.index(IndexVar::Q)});
    const NodeId hidden = s.g.make(Op::Select, {causal, s.score, s.g.f32(-INFINITY)});
    CHECK(s.risks(hidden).empty());
    CHECK(s.risks(s.g.make(Op::Add, {hidden, s.slope})).empty());
    CHECK(s.risks(s.g.make(Op::Mul, {hidden, s.slope})) == std::vector{Why::ZeroTimesInfinity});
    CHECK(s.risks(s.g.make(Op::Sub, {hidden, hidden})).size() <= 1);  // may be folded to 0
    const NodeId other = s.g.make(Op::Select, {causal, s.slope, s.g.f32(-INFINITY)});
    CHECK(s.risks(s.g.make(Op::Sub, {hidden, other})) == std::vector{Why::InfinityDifference});
}

TEST_CASE("ranges of floats") {
    Scored s;
    const NodeId log = s.g.make(Op::Log, {s.g.f32(8)});
    const NodeId root = s.g.make(Op::Sqrt, {s.g.make(Op::Max, {s.score, s.g.f32(4)})});
    s.attention.score = s.g.make(Op::Add, {log, root});
    const auto ranges = float_ranges(s.attention, {100, 10});
    CHECK(ranges[s.score.value].hi == 100);
    CHECK(ranges[s.slope.value].lo == -10);
    CHECK(ranges[root.value].lo == doctest::Approx(2));
    CHECK(ranges[root.value].hi == doctest::Approx(10));
    if (s.g[log].op == Op::Log) {
        CHECK(ranges[log.value].lo == doctest::Approx(2.0794415).epsilon(1e-5));
        CHECK(ranges[log.value].lo <= 2.0794415416798357);
        CHECK(ranges[log.value].hi >= 2.0794415416798357);
    }
}

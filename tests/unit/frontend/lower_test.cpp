// Lowering: sharing, bounds on work, and the shape of what comes out.
#include <doctest/doctest.h>

#include <chrono>
#include <functional>

#include "frontend/frontend.h"
#include "ir/passes.h"

using namespace flexc;

namespace {

struct Lowered {
    diag::SourceManager sources;
    diag::Sink sink;
    std::optional<ir::Attention> attention;

    explicit Lowered(const std::string& text, const frontend::ConstValues& consts = {}) {
        const auto program = frontend::check(sources, sources.add("main.flex", text), frontend::default_imports(), sink);
        REQUIRE_MESSAGE(program, diag::render_all(sources, sink, false));
        attention = frontend::lower(*program, program->attentions().back().name, consts, sink);
        if (attention) CHECK(ir::verify(*attention) == "");
    }

    [[nodiscard]] bool reports(diag::Kind kind) const {
        for (const diag::Diagnostic& d : sink.all())
            if (d.kind == kind) return true;
        return false;
    }
    [[nodiscard]] size_t count(ir::Op op) const {
        size_t n = 0;
        for (uint32_t i = 0; i < attention->graph.size(); ++i) n += attention->graph[ir::NodeId{i}].op == op;
        return n;
    }
};

std::string repeated(int n, const std::function<std::string(int)>& line) {
    std::string text;
    for (int i = 0; i < n; ++i) text += line(i);
    return text;
}

}  // namespace

TEST_CASE("what is written once is computed once, through lets, calls and masks") {
    const Lowered l(
        "fn f(x: f32) -> f32 = exp(x) + exp(x); mask m(i: mask) = i() and i() or i();"
        "attention a(w: f32[N]) { let e = f(w[k]); score = e + e + f(w[k]); mask = m(e > 1.0); }");
    REQUIRE(l.attention);
    CHECK(l.count(ir::Op::Exp) == 1);
    CHECK(l.count(ir::Op::Load) == 1);
    CHECK(l.count(ir::Op::Lt) == 1);
}

TEST_CASE("lets that double sixty times over stay sixty values") {
    const Lowered l(
        "attention a { let a0 = score; " +
        repeated(60,
                 [](int i) { return "let a" + std::to_string(i + 1) + " = a" + std::to_string(i) + " * a" + std::to_string(i) + "; "; }) +
        "score = a60; }");
    REQUIRE(l.attention);
    CHECK(l.count(ir::Op::Mul) == 60);
}

TEST_CASE("masks by name that double sixty times over are shared") {
    const Lowered l("mask m0(i: mask) = i(); " +
                    repeated(60,
                             [](int i) {
                                 return "mask m" + std::to_string(i + 1) + "(i: mask) = m" + std::to_string(i) + "(i()) and m" +
                                        std::to_string(i) + "(i()); ";
                             }) +
                    "attention a { mask = m60(q > k); }");
    REQUIRE(l.attention);
    CHECK(l.attention->graph.size() < 100);
}

TEST_CASE("nested chains of comparisons are evaluated once") {
    std::string e = "q";
    for (int i = 0; i < 100; ++i) e = "i32(0 < " + e + " < 9)";
    const Lowered l("attention a { mask = " + e + " == 1; }");
    REQUIRE(l.attention);
    CHECK(l.attention->graph.size() < 600);
}

TEST_CASE("work is bounded, whatever is inlined") {
    const auto start = std::chrono::steady_clock::now();
    const std::string doubling = "fn g0(x: f32) -> f32 = x + 1.0; " + repeated(60, [](int i) {
                                     const std::string g = "g" + std::to_string(i);
                                     return "fn g" + std::to_string(i + 1) + "(x: f32) -> f32 = " + g + "(" + g + "(x) + 1.0); ";
                                 });
    CHECK(Lowered(doubling + "attention a { score = g60(score); }").reports(diag::Kind::too_many_nodes));

    const std::string closures =
        "mask m0(i: mask) = i(); " + repeated(60, [](int i) {
            const std::string m = "m" + std::to_string(i);
            return "mask m" + std::to_string(i + 1) + "(i: mask) = " + m + "(i(q = k, k = q)) and " + m + "(i(q = q + 1)); ";
        });
    CHECK(Lowered(closures + "attention a { mask = m60(q > k); }").reports(diag::Kind::too_many_nodes));

    const std::string deep = "fn g0(x: f32) -> f32 = x + 1.0; " + repeated(5000, [](int i) {
                                 return "fn g" + std::to_string(i + 1) + "(x: f32) -> f32 = g" + std::to_string(i) + "(x) + 1.0; ";
                             });
    CHECK(Lowered(deep + "attention a { score = g5000(score); }").reports(diag::Kind::inlining_too_deep));
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(60));
}

TEST_CASE("along every path of the graph the loop variables differ") {
    // Values of reductions come into other reductions through a let, an argument, a bound, and a mask.
    const Lowered l(
        "fn total(x: f32) -> f32 = sum (j in 0..N2: x * f32(j)); const N2: i32 = 3; score count(i: mask) = f32(sum (j in 0..3: i32(i(k = "
        "j))));"
        "attention a(w: f32[N]) { let row = sum (j in 0..3: w[j]); score = total(row) + sum (j in 0..3: row) + f32(sum (j in 0..sum (i in "
        "0..3: i): j))"
        " + count(sum (j in 0..3: j * k) > 4) + sum (i in 0..3: total(total(row) + f32(i))); }");
    REQUIRE(l.attention);
    const ir::Graph& g = l.attention->graph;
    std::vector<uint32_t> inside(g.size(), 0);  // depths of the reductions in or below a node
    for (uint32_t i = 0; i < g.size(); ++i) {
        const ir::NodeId id{i};
        for (const ir::NodeId o : g.operands(id)) inside[i] |= inside[o.value];
        if (ir::info(g[id].op).kind != ir::OpKind::Reduce) continue;
        const uint32_t bit = 1u << g[g.operand(id, 0)].payload;
        CHECK((inside[i] & bit) == 0);
        inside[i] |= bit;
    }
}

TEST_CASE("constant parameters are folded and absent, the others keep their order") {
    const Lowered l(
        "attention a(x: f32 = 2, const n: i32, w: grad f32[n, M], const on: bool = false, b2: bool = true, blocks_of: i32[B, 1, R, J]) {"
        " score = score * x + w[n - 1, k] + f32(on == b2); blocks = blocks_of; }",
        {{"n", "5"}});
    REQUIRE(l.attention);
    const ir::Attention& a = *l.attention;
    REQUIRE(a.params.size() == 4);
    CHECK(a.params[0].name == "x");
    CHECK(a.params[0].default_bits == std::optional<uint32_t>(0x40000000u));
    CHECK(a.params[1].grad);
    CHECK(a.dim_text(a.params[1].dims[0]) == "5");
    CHECK(a.params[2].default_bits == std::optional<uint32_t>(1u));
    CHECK(a.blocks == std::optional<uint32_t>(3));
    CHECK(a.extents == std::vector<std::string>{"M", "R", "J"});
    CHECK(!a.scale.valid());
}

TEST_CASE("a tensor passes where its elements widen to the same type, and is loaded as what it is") {
    const Lowered l("mask same(doc: i32[N]) = doc[q] == doc[k]; attention a(doc: i16[M]) { mask = same(doc); }");
    REQUIRE(l.attention);
    CHECK(l.attention->params[0].elem == ir::ElemType::I16);
}

TEST_CASE("constant masks are warned about where the user wrote one") {
    const auto kind = [](const std::string& mask) {
        const Lowered l("attention a(n: i32, t: u8[K]) { score = score + f32(n) + f32(t[k]); mask = " + mask + "; }");
        return l.reports(diag::Kind::mask_always_false) ? -1 : l.reports(diag::Kind::mask_always_true) ? 1 : 0;
    };
    CHECK(kind("q < k and q > k") == -1);
    CHECK(kind("k < 0") == -1);
    CHECK(kind("q == k and q != k") == -1);
    CHECK(kind("t[k] > 255") == -1);
    CHECK(kind("any (j in 0..4: j > 9)") == -1);
    CHECK(kind("(q >= k) and not (q >= k)") == -1);
    CHECK(kind("q >= k or q < k") == 1);
    CHECK(kind("abs(k) >= 0") == 1);
    CHECK(kind("k % 4 < 4") == 1);
    CHECK(kind("q + 1 > 0") == 1);
    CHECK(kind("q - k <= n") == 0);
    CHECK(kind("q + 2 > 0") == 0);  // may wrap
    CHECK(kind("k % n < n") == 0);
    CHECK(kind("abs(n) >= 0") == 0);  // abs(INT_MIN)
}

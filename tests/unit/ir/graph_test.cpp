#include <chrono>

#include <doctest/doctest.h>

#include "ir/ir.h"
#include "ir/variance.h"

using namespace flexc::ir;

TEST_CASE("graph: the same operation on the same operands is the same node") {
    Graph g;
    const NodeId q = g.index(IndexVar::Q), k = g.index(IndexVar::K);
    const NodeId d = g.make(Op::Sub, {q, k});
    CHECK(g.make(Op::Sub, {q, k}) == d);
    CHECK(g.make(Op::Sub, {k, q}) != d);
    CHECK(g.make(Op::Add, {q, k}) != d);
    CHECK(g.i32(1) != g.boolean(true));
    CHECK(g.f32(0.0f) != g.f32(-0.0f));
    CHECK(g.scalar(0, Type::F32) != g.scalar(0, Type::I32));
    CHECK(g.scalar(0, Type::I32) != g.scalar(1, Type::I32));
    CHECK(g.load(0, ElemType::I32, std::span(&d, 1)) == g.load(0, ElemType::I32, std::span(&d, 1)));
    CHECK(g.load(0, ElemType::I32, std::span(&d, 1)) != g.load(1, ElemType::I32, std::span(&d, 1)));
}

TEST_CASE("graph: operands may be a view into the graph itself") {
    Graph g;
    NodeId x = g.index(IndexVar::Q);
    x = g.make(Op::Add, {x, g.i32(1)});
    for (int i = 0; i < 2000; ++i) x = g.make(i % 2 ? Op::Sub : Op::Mul, g.operands(x));
    CHECK(g[x].op == Op::Sub);
    CHECK(g.operand(x, 1) == g.i32(1));
}

TEST_CASE("graph: free loop variables") {
    Graph g;
    const NodeId i = g.loop_var(0, g.i32(0), g.extent(7));
    const NodeId j = g.loop_var(1, i, g.extent(7));
    CHECK(g.free_loops(i) == 1);
    CHECK(g.free_loops(j) == 3);
    const NodeId inner = g.reduce(Op::ReduceSum, j, j);
    CHECK(g.free_loops(inner) == 1);
    const NodeId outer = g.reduce(Op::ReduceSum, i, g.make(Op::Add, {inner, i}));
    CHECK(g.free_loops(outer) == 0);
    CHECK(g.type(outer) == Type::I32);
    CHECK(g.loop_var(1, i, g.extent(7)) == j);
}

TEST_CASE("graph: types") {
    Graph g;
    const NodeId q = g.index(IndexVar::Q), s = g.score(), b = g.boolean(true);
    CHECK(g.type(g.make(Op::Lt, {q, q})) == Type::Bool);
    CHECK(g.type(g.make(Op::Select, {b, s, s})) == Type::F32);
    CHECK(g.type(g.make(Op::ToI32, {s})) == Type::I32);
    CHECK(g.type(g.make(Op::Clamp, {q, q, q})) == Type::I32);
    const std::array<Type, 2> mixed = {Type::F32, Type::I32}, bools = {Type::Bool, Type::Bool}, floats = {Type::F32, Type::F32};
    CHECK(!result_type(Op::Add, mixed));
    CHECK(!result_type(Op::Add, bools));
    CHECK(!result_type(Op::FloorDiv, floats));
    CHECK(!result_type(Op::Lt, bools));
    CHECK(!result_type(Op::Exp, floats));
    CHECK(!result_type(Op::Exp, {}));
    CHECK(result_type(Op::Eq, bools) == Type::Bool);
    CHECK(result_type(Op::Div, floats) == Type::F32);
}

TEST_CASE("graph: a hundred thousand nodes in well below a second") {
    const auto start = std::chrono::steady_clock::now();
    Graph g;
    NodeId x = g.index(IndexVar::Q);
    for (int i = 0; i < 100'000; ++i) x = g.make(i % 3 ? Op::Add : Op::BitXor, {x, g.i32(i)});
    CHECK(g.size() == 200'001);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    MESSAGE("200,001 nodes in ", taken.count() * 1e3, " ms");
    CHECK(taken.count() < 1.0);
}

TEST_CASE("attention: the text of extents") {
    Attention a;
    a.extents = {"N"};
    CHECK(a.dim_text({0, -1, 128}) == "128");
    CHECK(a.dim_text({1, 7, 1}) == "N + 1");
    CHECK(a.dim_text({2, static_cast<int32_t>(ExtentVar::K), 0}) == "2 * K");
    CHECK(a.dim_text({3, 7, -2}) == "3 * N - 2");
    CHECK(a.extent_name(static_cast<uint32_t>(ExtentVar::DV)) == "DV");
}

TEST_CASE("variance: which indices a value depends on") {
    Graph g;
    const NodeId q = g.index(IndexVar::Q), k = g.index(IndexVar::K), hkv = g.index(IndexVar::Hkv), n = g.extent(7);
    const NodeId d = g.make(Op::Sub, {q, k});
    const NodeId loop = g.loop_var(0, g.i32(0), hkv);
    const NodeId sum = g.reduce(Op::ReduceSum, loop, g.make(Op::Mul, {loop, k}));
    const NodeId body_uniform = g.reduce(Op::ReduceSum, loop, n);
    const std::vector<Variance> v = variance(g);
    CHECK(v[q.value] == kVariesQ);
    CHECK(v[d.value] == (kVariesQ | kVariesK));
    CHECK(v[hkv.value] == kVariesH);
    CHECK(v[n.value] == 0);
    CHECK(v[loop.value] == kVariesH);
    CHECK(v[sum.value] == (kVariesH | kVariesK));
    CHECK(v[body_uniform.value] == kVariesH);
    CHECK(variance_text(v[sum.value]) == "h k");
    CHECK(variance_text(0) == "uniform");
    Graph s;
    const NodeId score = s.score(), out = s.out();
    CHECK(variance_text(variance(s)[score.value]) == "b h q k score");
    CHECK(variance_text(variance(s)[out.value]) == "b h q d");
}

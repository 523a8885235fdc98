// The verifier catches each kind of damage. A sound attention is damaged in one place, and the fault that it names is checked.
#include <functional>

#include <doctest/doctest.h>

#include "ir/passes.h"

namespace flexc::ir {

struct GraphAccess {
    static Node& node(Graph& g, NodeId id) { return g.nodes_[id.value]; }
    static NodeId& operand(Graph& g, NodeId id, size_t i) { return g.operand_pool_[g.nodes_[id.value].first_operand + i]; }
    static uint32_t& free_loops(Graph& g, NodeId id) { return g.free_loops_[id.value]; }
};

}  // namespace flexc::ir

using namespace flexc::ir;

namespace {

struct Sample {
    Attention a;
    NodeId q, k, difference, two, as_float, bias, factor, sum_bound, variable, reduction, flag;

    Sample() {
        Graph& g = a.graph;
        a.name = "sample";
        a.extents = {"N"};
        Param bias_param;
        bias_param.name = "bias";
        bias_param.is_tensor = true;
        bias_param.grad = true;
        bias_param.dims = {Dim{1, kBuiltinExtents, 0}};
        Param scalar;
        scalar.name = "c";
        Param routes;
        routes.name = "routes";
        routes.is_tensor = true;
        routes.elem = ElemType::I32;
        routes.dims = {Dim{0, -1, 1}, Dim{0, -1, 1}, Dim{0, -1, 4}, Dim{0, -1, 2}};
        a.params = {bias_param, scalar, routes};
        a.blocks = 2;
        a.constraints = {{Dim{1, kBuiltinExtents, 0}, Dim{0, -1, 8}, "why"}};
        q = g.index(IndexVar::Q), k = g.index(IndexVar::K);
        difference = g.make(Op::Sub, {q, k});
        two = g.i32(2);
        as_float = g.make(Op::ToF32, {difference});
        bias = g.load(0, ElemType::F32, std::span(&difference, 1));
        factor = g.scalar(1, Type::F32);
        sum_bound = g.extent(kBuiltinExtents);
        variable = g.loop_var(0, two, sum_bound);
        reduction = g.reduce(Op::ReduceSum, variable, g.make(Op::Mul, {variable, difference}));
        flag = g.boolean(true);
        const NodeId parts = g.make(Op::Add, {g.make(Op::Mul, {bias, factor}), g.make(Op::ToF32, {reduction})});
        a.score = g.make(Op::Add, {g.make(Op::Add, {g.score(), as_float}), parts});
        a.mask = g.make(Op::And, {g.make(Op::Le, {k, q}), flag});
        a.scale = factor;
        a.sink = g.make(Op::ToF32, {q});
        a.output = g.out();
        a.query = g.row_load(ClauseVar::QueryRow, g.index(IndexVar::D));
        a.key = g.row_load(ClauseVar::KeyRow, g.index(IndexVar::D));
        a.emits = {{"e", Emit::Kind::Mean, g.weight()}};
    }
};

void expect_fault(std::string_view wanted, const std::function<void(Sample&)>& damage) {
    Sample sample;
    REQUIRE(verify(sample.a) == "");
    damage(sample);
    const std::string fault = verify(sample.a);
    CHECK_MESSAGE(fault.find(wanted) != std::string::npos, "`", fault, "` instead of `", wanted, "`");
}

}  // namespace

TEST_CASE("verify: nodes") {
    using A = GraphAccess;
    expect_fault("not defined before", [](Sample& s) { A::operand(s.a.graph, s.difference, 0) = s.as_float; });
    expect_fault("not defined before", [](Sample& s) { A::operand(s.a.graph, s.difference, 1) = NodeId{}; });
    expect_fault("sub has 1 operands", [](Sample& s) { A::node(s.a.graph, s.difference).operand_count = 1; });
    expect_fault("types do not fit", [](Sample& s) { A::node(s.a.graph, s.difference).type = Type::F32; });
    expect_fault("types do not fit", [](Sample& s) { A::node(s.a.graph, s.difference).op = Op::And; });
    expect_fault("unknown operation", [](Sample& s) { A::node(s.a.graph, s.difference).op = static_cast<Op>(200); });
    expect_fault("unknown index", [](Sample& s) { A::node(s.a.graph, s.q).payload = 6; });
    expect_fault("index of type f32", [](Sample& s) { A::node(s.a.graph, s.q).type = Type::F32; });
    expect_fault("neither true nor false", [](Sample& s) { A::node(s.a.graph, s.flag).payload = 2; });
    expect_fault("extent is not declared", [](Sample& s) { A::node(s.a.graph, s.sum_bound).payload = 8; });
    expect_fault("load of what is no tensor", [](Sample& s) { A::node(s.a.graph, s.bias).payload = 1; });
    expect_fault("load of what is no tensor", [](Sample& s) { A::node(s.a.graph, s.bias).payload = 9; });
    expect_fault("as i32", [](Sample& s) { A::node(s.a.graph, s.bias).type = Type::I32; });
    expect_fault("with 1 indices", [](Sample& s) { s.a.params[0].dims.push_back(Dim{0, -1, 2}); });
    expect_fault("no scalar", [](Sample& s) { A::node(s.a.graph, s.factor).payload = 0; });
    expect_fault("param of type f32", [](Sample& s) { s.a.params[1].type = Type::I32; });
    expect_fault("unknown clause variable", [](Sample& s) { A::node(s.a.graph, s.a.output).payload = 2; });
    expect_fault("unknown row", [](Sample& s) { A::node(s.a.graph, s.a.query).payload = 0; });
    expect_fault("unknown tile bound",
                 [](Sample& s) { A::node(s.a.graph, s.a.graph.tile_bound(TileBound::QLo)).payload = kFirstSummary + 2 * kMaxSummaries; });
    expect_fault("const of type f32", [](Sample& s) { A::node(s.a.graph, s.factor).op = Op::ConstI32; });
    expect_fault("neg has 0 operands", [](Sample& s) { A::node(s.a.graph, s.q).op = Op::Neg; });
}

TEST_CASE("verify: reductions") {
    using A = GraphAccess;
    expect_fault("nesting deeper", [](Sample& s) { A::node(s.a.graph, s.variable).payload = 32; });
    expect_fault("binds no loop variable", [](Sample& s) { A::operand(s.a.graph, s.reduction, 0) = s.two; });
    expect_fault("summary of free loop variables", [](Sample& s) { A::free_loops(s.a.graph, s.reduction) = 1; });
    expect_fault("summary of free loop variables", [](Sample& s) { A::free_loops(s.a.graph, s.difference) = 2; });
    // Two variables of one depth: the reduction binds one of them.
    expect_fault("not bound by it or around it", [](Sample& s) {
        Graph& g = s.a.graph;
        const NodeId other = g.loop_var(0, g.i32(0), g.i32(5));
        g.reduce(Op::ReduceSum, s.variable, other);
    });
    expect_fault("two loop variables of one depth", [](Sample& s) {
        Graph& g = s.a.graph;
        g.make(Op::Add, {s.variable, g.loop_var(0, g.i32(0), g.i32(5))});
    });
    expect_fault("outside of its reduction", [](Sample& s) { s.a.score = s.a.graph.make(Op::ToF32, {s.variable}); });
}

TEST_CASE("verify: clauses") {
    expect_fault("`score` is missing", [](Sample& s) { s.a.score = NodeId{}; });
    expect_fault("`mask` is missing", [](Sample& s) { s.a.mask = NodeId{}; });
    expect_fault("`mask` refers to no node", [](Sample& s) { s.a.mask = NodeId{100'000}; });
    expect_fault("`mask` is of type i32", [](Sample& s) { s.a.mask = s.q; });
    expect_fault("`scale` reads k", [](Sample& s) { s.a.scale = s.a.graph.make(Op::ToF32, {s.k}); });
    expect_fault("`scale` reads score", [](Sample& s) { s.a.scale = s.a.graph.score(); });
    expect_fault("`mask` reads score", [](Sample& s) { s.a.mask = s.a.graph.make(Op::Lt, {s.a.graph.score(), s.factor}); });
    expect_fault("`mask` reads q_lo", [](Sample& s) { s.a.mask = s.a.graph.make(Op::Lt, {s.a.graph.tile_bound(TileBound::QLo), s.k}); });
    expect_fault("`score` reads d", [](Sample& s) { s.a.score = s.a.graph.make(Op::ToF32, {s.a.graph.index(IndexVar::D)}); });
    expect_fault("`score` reads weight", [](Sample& s) { s.a.score = s.a.graph.weight(); });
    expect_fault("`sink` reads k", [](Sample& s) { s.a.sink = s.as_float; });
    expect_fault("`output` reads k", [](Sample& s) { s.a.output = s.as_float; });
    expect_fault("`query` reads key_row", [](Sample& s) { s.a.query = s.a.key; });
    expect_fault("`key` reads query_row", [](Sample& s) { s.a.key = s.a.query; });
    expect_fault("`key` reads h", [](Sample& s) { s.a.key = s.a.graph.make(Op::ToF32, {s.a.graph.index(IndexVar::H)}); });
    expect_fault("`emit` reads out", [](Sample& s) { s.a.emits[0].value = s.a.graph.out(); });
    expect_fault("emitted twice", [](Sample& s) { s.a.emits.push_back(s.a.emits[0]); });
    expect_fault("`blocks` is an i32 tensor of rank 4", [](Sample& s) { s.a.blocks = 0; });
    expect_fault("`blocks` is an i32 tensor of rank 4", [](Sample& s) { s.a.blocks = 7; });
}

TEST_CASE("verify: captures") {
    expect_fault("parameter `c` is declared twice", [](Sample& s) { s.a.params[2].name = "c"; });
    expect_fault("extent `N` is declared twice", [](Sample& s) { s.a.extents.push_back("N"); });
    expect_fault("extent `HKV` is declared twice", [](Sample& s) { s.a.extents.push_back("HKV"); });
    expect_fault("has 0 dimensions", [](Sample& s) { s.a.params[0].dims.clear(); });
    expect_fault("has 9 dimensions", [](Sample& s) { s.a.params[0].dims.assign(9, Dim{0, -1, 1}); });
    expect_fault("scalar `c` has dimensions", [](Sample& s) { s.a.params[1].dims = {Dim{0, -1, 1}}; });
    expect_fault("an extent in bias is not declared", [](Sample& s) { s.a.params[0].dims[0].extent_id = 8; });
    expect_fault("has the factor 0", [](Sample& s) { s.a.params[0].dims[0].multiplier = 0; });
    expect_fault("has a factor", [](Sample& s) { s.a.params[0].dims[0].extent_id = -1; });
    expect_fault("an extent in a requirement is not declared", [](Sample& s) { s.a.constraints[0].left.extent_id = 99; });
    expect_fault("grad but no float tensor", [](Sample& s) { s.a.params[1].grad = true; });
    expect_fault("tensor `bias` has a default", [](Sample& s) { s.a.params[0].default_bits = 0; });
    expect_fault("default of `c` is no bool", [](Sample& s) {
        s.a.params[1].type = Type::Bool;
        s.a.params[1].default_bits = 2;
    });
}

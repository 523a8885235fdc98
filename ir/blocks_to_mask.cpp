// `blocks` as a condition of the mask: what the clause means (interpret.h), written with the operations that every target has. The analysis of tiles sees it like any
// other condition.
#include "ir/passes.h"

namespace flexc::ir {

namespace {

NodeId value_of(Graph& graph, const Dim& dim) {
    const NodeId offset = graph.i32(static_cast<int32_t>(dim.offset));
    if (dim.extent_id < 0) return offset;
    const NodeId extent = graph.extent(static_cast<uint32_t>(dim.extent_id));
    return graph.make(Op::Add, {graph.make(Op::Mul, {extent, graph.i32(dim.multiplier)}), offset});
}

/// The position on one of the first two axes, which may have one element for all.
NodeId position(Graph& graph, const Dim& dim, NodeId index, ExtentVar own) {
    if (dim.extent_id < 0 && dim.offset == 1) return graph.i32(0);
    if (dim == Dim{1, static_cast<int32_t>(own), 0}) return index;
    return graph.make(Op::Select, {graph.make(Op::Eq, {value_of(graph, dim), graph.i32(1)}), graph.i32(0), index});
}

}  // namespace

void blocks_to_mask(Attention& attention) {
    if (!attention.blocks) return;
    Graph& graph = attention.graph;
    const uint32_t param = *attention.blocks;
    const std::vector<Dim> dims = attention.params[param].dims;
    const NodeId one = graph.i32(1), zero = graph.i32(0);
    const NodeId regions = value_of(graph, dims[2]);
    // ceil(Q / R) of the queries, and so of the keys.
    const auto region_of = [&](IndexVar index, ExtentVar extent) {
        const NodeId count = graph.extent(static_cast<uint32_t>(extent));
        const NodeId length = graph.make(Op::FloorDiv, {graph.make(Op::Sub, {graph.make(Op::Add, {count, regions}), one}), regions});
        return graph.make(Op::FloorDiv, {graph.index(index), length});
    };
    const NodeId b = position(graph, dims[0], graph.index(IndexVar::B), ExtentVar::B);
    const NodeId h = position(graph, dims[1], graph.index(IndexVar::H), ExtentVar::H);
    const NodeId entry = graph.loop_var(0, zero, value_of(graph, dims[3]));
    const NodeId indices[] = {b, h, region_of(IndexVar::Q, ExtentVar::Q), entry};
    const NodeId listed = graph.load(param, ElemType::I32, indices);
    NodeId allowed = graph.reduce(Op::ReduceAny, entry, graph.make(Op::Eq, {listed, region_of(IndexVar::K, ExtentVar::K)}));
    // A read out of range gives 0, which is a region.
    allowed = graph.make(Op::And, {allowed, graph.make(Op::Lt, {zero, regions})});
    for (const auto& [at, dim] : {std::pair{b, dims[0]}, std::pair{h, dims[1]}})
        if (graph[at].op == Op::Select) allowed = graph.make(Op::And, {allowed, graph.make(Op::Lt, {at, value_of(graph, dim)})});
    attention.mask = attention.mask.valid() ? graph.make(Op::And, {attention.mask, allowed}) : allowed;
    attention.blocks.reset();
}

}  // namespace flexc::ir

#include "ir/rewrite.h"

#include <vector>

namespace flexc::ir {

void rewrite(Attention& attention, const RewriteNode& rewrite_node) {
    const Graph& in = attention.graph;
    std::vector<bool> wanted(in.size(), false);
    for (const NodeId root : attention.roots()) wanted[root.value] = true;
    for (auto i = static_cast<uint32_t>(in.size()); i-- > 0;)
        if (wanted[i])
            for (const NodeId operand : in.operands(NodeId{i})) wanted[operand.value] = true;

    Graph out;
    std::vector<NodeId> moved(in.size());
    std::vector<NodeId> operands;
    for (uint32_t i = 0; i < in.size(); ++i) {
        if (!wanted[i]) continue;
        operands.clear();
        for (const NodeId operand : in.operands(NodeId{i})) operands.push_back(moved[operand.value]);
        moved[i] = rewrite_node(out, in[NodeId{i}], operands);
    }

    const auto move = [&](NodeId& root) {
        if (root.valid()) root = moved[root.value];
    };
    move(attention.scale);
    move(attention.score);
    move(attention.mask);
    move(attention.sink);
    move(attention.output);
    move(attention.query);
    move(attention.key);
    for (Emit& emit : attention.emits) move(emit.value);
    if (attention.gradient) {
        move(attention.gradient->score);
        for (auto* reads : {&attention.gradient->score_reads, &attention.gradient->scale_reads})
            for (GradientRead& read : *reads) {
                move(read.load);
                move(read.adjoint);
                for (NodeId& loop : read.loops) move(loop);
            }
    }
    attention.graph = std::move(out);
}

NodeId make_simplified(Graph& graph, Op op, std::initializer_list<NodeId> operands) {
    NodeId id = graph.make(op, operands);
    for (int step = 0; step < 8; ++step) {
        const Node node = graph[id];
        if (node.operand_count == 0 || info(node.op).kind == OpKind::Load || info(node.op).kind == OpKind::Leaf) break;
        const std::vector<NodeId> arguments(graph.operands(id).begin(), graph.operands(id).end());
        NodeId next = fold_node(graph, node, arguments);
        if (next == id) next = simplify_node(graph, node, arguments);
        if (next == id) break;
        id = next;
    }
    return id;
}

}  // namespace flexc::ir

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
        for (auto* reads : attention.gradient->reads())
            for (GradientRead& read : *reads) {
                move(read.load);
                move(read.adjoint);
                for (NodeId& loop : read.loops) move(loop);
            }
    }
    attention.graph = std::move(out);
}

NodeId replace_loops(Graph& graph, NodeId root, const std::unordered_map<uint32_t, NodeId>& replacements, uint32_t shift) {
    uint32_t bits = 0;
    for (const auto& [from, to] : replacements) bits |= uint32_t{1} << graph[NodeId{from}].payload;
    const auto changes = [&](NodeId id) { return (graph.free_loops(id) & bits) != 0; };
    const auto is_reduction = [&](NodeId id) { return info(graph[id].op).kind == OpKind::Reduce; };
    if (!changes(root)) return root;
    std::vector<bool> wanted(root.value + 1, false);
    wanted[root.value] = true;
    for (uint32_t i = root.value + 1; i-- > 0;)
        if (wanted[i] && changes(NodeId{i}) && !replacements.contains(i) && !is_reduction(NodeId{i}))
            for (const NodeId operand : graph.operands(NodeId{i})) wanted[operand.value] = true;
    std::unordered_map<uint32_t, NodeId> copies = replacements;
    std::vector<NodeId> operands;
    for (uint32_t i = 0; i <= root.value; ++i) {
        const NodeId id{i};
        if (!wanted[i] || !changes(id) || copies.contains(i)) continue;
        if (is_reduction(id)) {
            // One level of recursion for each level of nesting.
            const NodeId loop = graph.operand(id, 0), body = graph.operand(id, 1);
            const NodeId lo = replace_loops(graph, graph.operand(loop, 0), replacements, shift);
            const NodeId hi = replace_loops(graph, graph.operand(loop, 1), replacements, shift);
            std::unordered_map<uint32_t, NodeId> within = replacements;
            const NodeId moved = within[loop.value] = graph.loop_var(graph[loop].payload + shift, lo, hi);
            copies[i] = graph.reduce(graph[id].op, moved, replace_loops(graph, body, within, shift));
            continue;
        }
        operands.clear();
        for (const NodeId operand : graph.operands(id)) {
            const auto copy = copies.find(operand.value);
            operands.push_back(copy == copies.end() ? operand : copy->second);
        }
        copies[i] = graph.like(graph[id], operands);
    }
    return copies.at(root.value);
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

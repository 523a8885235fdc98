// Unrolling: the body is copied once a trip with the variable replaced by its value. Only nodes with the variable free are
// copied; where it is bound again by another reduction of the same depth, it is not free.
#include <algorithm>
#include <unordered_map>
#include <vector>

#include "ir/passes.h"
#include "ir/rewrite.h"

namespace flexc::ir {

namespace {

constexpr int64_t kMaxTrips = 8;
constexpr size_t kMaxCopiedNodes = 128;

/// The nodes of the body in which the variable is free, in order; nothing if there are more than `limit`.
std::optional<std::vector<uint32_t>> dependent_nodes(const Graph& graph, NodeId body, uint32_t bit, size_t limit) {
    std::vector<uint32_t> found;
    std::vector<NodeId> stack = {body};
    while (!stack.empty()) {
        const NodeId at = stack.back();
        stack.pop_back();
        if (!(graph.free_loops(at) & bit) || std::find(found.begin(), found.end(), at.value) != found.end()) continue;
        found.push_back(at.value);
        if (found.size() > limit) return std::nullopt;
        for (const NodeId operand : graph.operands(at)) stack.push_back(operand);
    }
    std::sort(found.begin(), found.end());
    return found;
}

NodeId with_value(Graph& graph, NodeId body, const std::vector<uint32_t>& dependent, NodeId variable, int32_t value) {
    std::unordered_map<uint32_t, NodeId> copies;
    std::vector<NodeId> operands;
    for (const uint32_t i : dependent) {
        const NodeId id{i};
        if (id == variable) {
            copies[i] = graph.i32(value);
            continue;
        }
        operands.clear();
        for (const NodeId operand : graph.operands(id)) {
            const auto copy = copies.find(operand.value);
            operands.push_back(copy == copies.end() ? operand : copy->second);
        }
        copies[i] = graph.like(graph[id], operands);
    }
    const auto copy = copies.find(body.value);
    return copy == copies.end() ? body : copy->second;
}

NodeId joined(Graph& graph, Op op, NodeId so_far, NodeId next) {
    switch (op) {
        case Op::ReduceSum: return graph.make(Op::Add, {so_far, next});
        case Op::ReduceAny: return graph.make(Op::Or, {so_far, next});
        case Op::ReduceAll: return graph.make(Op::And, {so_far, next});
        case Op::ReduceMin: return graph.make(Op::Min, {so_far, next});
        default: return graph.make(Op::Max, {so_far, next});
    }
}

NodeId unroll_node(Graph& out, const Node& node, std::span<const NodeId> operands) {
    if (info(node.op).kind != OpKind::Reduce) return out.like(node, operands);
    const NodeId variable = operands[0], body = operands[1];
    const auto lo = out.as_i32(out.operand(variable, 0)), hi = out.as_i32(out.operand(variable, 1));
    if (!lo || !hi) return out.like(node, operands);
    const int64_t trips = int64_t{*hi} - *lo;
    if (trips < 1 || trips > kMaxTrips) return out.like(node, operands);
    const auto dependent = dependent_nodes(out, body, uint32_t{1} << out[variable].payload, kMaxCopiedNodes / static_cast<size_t>(trips));
    if (!dependent) return out.like(node, operands);

    NodeId result;
    if (node.op == Op::ReduceSum && out.type(body) == Type::F32) result = out.f32(0.0f);  // 0 + -0 is +0
    for (int64_t trip = 0; trip < trips; ++trip) {
        const NodeId term = with_value(out, body, *dependent, variable, static_cast<int32_t>(*lo + trip));
        result = result.valid() ? joined(out, node.op, result, term) : term;
    }
    return result;
}

}  // namespace

void unroll(Attention& attention) {
    rewrite(attention, unroll_node);
}

}  // namespace flexc::ir

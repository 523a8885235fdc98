// How passes change an attention: its graph is rebuilt from the roots, operands first, each node through a function. What no root reaches is dropped.
#pragma once

#include <functional>
#include <span>
#include <unordered_map>

#include "ir/ir.h"

namespace flexc::ir {

/// Gives the node of `out` that stands for `node` of the old graph, whose operands are `operands` in `out`. It may add further nodes.
using RewriteNode = std::function<NodeId(Graph& out, const Node& node, std::span<const NodeId> operands)>;

void rewrite(Attention& attention, const RewriteNode& rewrite_node);

/// What the passes fold and simplify do to one node.
[[nodiscard]] NodeId fold_node(Graph& out, const Node& node, std::span<const NodeId> operands);
[[nodiscard]] NodeId simplify_node(Graph& out, const Node& node, std::span<const NodeId> operands);

/// A value with loop variables that are free in it replaced, by id. Reductions inside that contain one move `shift` deeper; a replacement that is itself a loop
/// variable must lie as much deeper.
[[nodiscard]] NodeId replace_loops(Graph& graph, NodeId root, const std::unordered_map<uint32_t, NodeId>& replacements, uint32_t shift = 0);

/// Graph::make, folded and simplified: for analyses that build IR outside of the roots, where passes do not reach.
[[nodiscard]] NodeId make_simplified(Graph& graph, Op op, std::initializer_list<NodeId> operands);

}  // namespace flexc::ir

#include "ir/congruence.h"

#include <algorithm>
#include <vector>

#include "ir/reads.h"

namespace flexc::ir {

namespace {

constexpr size_t kMaxGraph = 20000;     // nodes; beyond it the copies would not pay
constexpr int kMaxEqualities = 4;       // used in one conjunction

/// Rebuilds what `root` reaches, operands first. `change` gives the node that stands for an old one, given its new operands.
template <class Change>
NodeId rebuilt(Graph& graph, NodeId root, Change change) {
    std::vector<bool> wanted(root.value + 1, false);
    wanted[root.value] = true;
    for (uint32_t i = root.value + 1; i-- > 0;)
        if (wanted[i])
            for (const NodeId operand : graph.operands(NodeId{i})) wanted[operand.value] = true;
    std::vector<NodeId> moved(root.value + 1);
    std::vector<NodeId> operands;
    for (uint32_t i = 0; i <= root.value; ++i) {
        if (!wanted[i]) continue;
        bool same = true;
        operands.clear();
        for (const NodeId operand : graph.operands(NodeId{i})) {
            operands.push_back(moved[operand.value]);
            same = same && moved[operand.value] == operand;
        }
        moved[i] = change(NodeId{i}, same ? NodeId{i} : graph.like(graph[NodeId{i}], operands));
    }
    return moved[root.value];
}

NodeId substituted(Graph& graph, NodeId root, NodeId from, NodeId to) {
    return rebuilt(graph, root, [&](NodeId old, NodeId copy) { return old == from ? to : copy; });
}

std::vector<NodeId> conjuncts(const Graph& graph, NodeId root) {
    std::vector<NodeId> found, stack{root};
    while (!stack.empty()) {
        const NodeId id = stack.back();
        stack.pop_back();
        if (graph[id].op == Op::And) {
            stack.push_back(graph.operand(id, 1));
            stack.push_back(graph.operand(id, 0));
        } else if (std::find(found.begin(), found.end(), id) == found.end()) {
            found.push_back(id);
        }
    }
    return found;
}

bool varies(const Graph& graph, NodeId id) {
    const Reads both = reads_bit(IndexVar::Q) | reads_bit(IndexVar::K);
    std::vector<NodeId> stack{id};
    std::vector<bool> seen(id.value + 1, false);
    while (!stack.empty()) {
        const NodeId at = stack.back();
        stack.pop_back();
        if (seen[at.value]) continue;
        seen[at.value] = true;
        if (graph[at].op == Op::Index && (reads_bit(static_cast<IndexVar>(graph[at].payload)) & both)) return true;
        for (const NodeId operand : graph.operands(at)) stack.push_back(operand);
    }
    return false;
}

/// The conjunction with each of its equalities used in the other conjuncts.
NodeId refined(Graph& graph, NodeId conjunction) {
    std::vector<NodeId> terms = conjuncts(graph, conjunction);
    int used = 0;
    for (size_t i = 0; i < terms.size() && used < kMaxEqualities; ++i) {
        if (graph[terms[i]].op != Op::Eq || graph.type(graph.operand(terms[i], 0)) == Type::F32) continue;   // -0 == 0
        NodeId from = graph.operand(terms[i], 0), to = graph.operand(terms[i], 1);
        // Towards what is the same on the whole tile, else towards the smaller id, which cannot contain the other.
        const bool from_varies = varies(graph, from), to_varies = varies(graph, to);
        if (from_varies == to_varies ? from.value < to.value : to_varies) std::swap(from, to);
        if (!varies(graph, from)) continue;
        ++used;
        for (size_t j = 0; j < terms.size(); ++j)
            if (j != i) terms[j] = substituted(graph, terms[j], from, to);
    }
    if (used == 0) return conjunction;
    NodeId all = terms[0];
    for (size_t i = 1; i < terms.size(); ++i) all = graph.make(Op::And, {all, terms[i]});
    return all;
}

}  // namespace

NodeId use_equalities(Graph& graph, NodeId mask) {
    if (graph.size() > kMaxGraph) return mask;
    // Conjunctions that no other conjunction contains.
    std::vector<bool> inner(mask.value + 1, false);
    for (uint32_t i = 0; i <= mask.value; ++i)
        if (graph[NodeId{i}].op == Op::And)
            for (const NodeId operand : graph.operands(NodeId{i})) inner[operand.value] = true;
    return rebuilt(graph, mask, [&](NodeId old, NodeId copy) {
        return graph[old].op == Op::And && graph[copy].op == Op::And && !inner[old.value] ? refined(graph, copy) : copy;
    });
}

}  // namespace flexc::ir

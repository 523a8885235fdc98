#include "ir/congruence.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "ir/reads.h"

namespace flexc::ir {

namespace {

constexpr size_t kMaxGraph = 20000;  // nodes; beyond it the copies would not pay
constexpr int kMaxEqualities = 4;    // used in one conjunction

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

/// x // divisor == y // divisor
struct Quotients {
    NodeId x, y, divisor;
};

std::optional<Quotients> quotients_of(const Graph& graph, NodeId equality) {
    const NodeId a = graph.operand(equality, 0), b = graph.operand(equality, 1);
    if (graph[a].op != Op::FloorDiv || graph[b].op != Op::FloorDiv || graph.operand(a, 1) != graph.operand(b, 1)) return std::nullopt;
    const NodeId divisor = graph.operand(a, 1);
    if (varies(graph, divisor) || graph.as_i32(divisor) == 0) return std::nullopt;
    return Quotients{graph.operand(a, 0), graph.operand(b, 0), divisor};
}

/// x % n as x - x // n * n, and so for y: once the quotients are one value, x % n >= y % n is x >= y.
NodeId without_remainders(Graph& graph, NodeId root, const Quotients& quotients) {
    return rebuilt(graph, root, [&](NodeId old, NodeId copy) {
        if (graph[old].op != Op::Mod || graph.operand(old, 1) != quotients.divisor) return copy;
        const NodeId x = graph.operand(old, 0);
        if (x != quotients.x && x != quotients.y) return copy;
        return graph.make(Op::Sub, {x, graph.make(Op::Mul, {graph.make(Op::FloorDiv, {x, quotients.divisor}), quotients.divisor})});
    });
}

NodeId zero_remainders(Graph& graph, NodeId root, NodeId divisor) {
    return rebuilt(graph, root, [&](NodeId old, NodeId copy) {
        return graph[old].op == Op::Mod && graph.operand(old, 1) == divisor ? graph.i32(0) : copy;
    });
}

/// The conjunction with each of its equalities used in the other conjuncts.
NodeId refined(Graph& graph, NodeId conjunction) {
    std::vector<NodeId> terms = conjuncts(graph, conjunction);
    int used = 0;
    for (size_t i = 0; i < terms.size() && used < kMaxEqualities; ++i) {
        if (graph[terms[i]].op != Op::Eq || graph.type(graph.operand(terms[i], 0)) == Type::F32) continue;  // -0 == 0
        NodeId from = graph.operand(terms[i], 0), to = graph.operand(terms[i], 1);
        // Towards what is the same on the whole tile, else towards the smaller id, which cannot contain the other.
        const bool from_varies = varies(graph, from), to_varies = varies(graph, to);
        if (from_varies == to_varies ? from.value < to.value : to_varies) std::swap(from, to);
        if (!varies(graph, from)) continue;
        ++used;
        const auto quotients = quotients_of(graph, terms[i]);
        for (size_t j = 0; j < terms.size(); ++j) {
            if (j == i) continue;
            const NodeId whole = quotients ? without_remainders(graph, terms[j], *quotients) : terms[j];
            const NodeId term = substituted(graph, whole, from, to);
            if (whole == terms[j] || graph.as_i32(quotients->divisor)) {
                terms[j] = term;
                continue;
            }
            // Where the divisor is 0 a remainder is 0, and not what the quotient leaves.
            const NodeId is_zero = graph.make(Op::Eq, {quotients->divisor, graph.i32(0)});
            terms[j] =
                graph.make(Op::Select, {is_zero, substituted(graph, zero_remainders(graph, terms[j], quotients->divisor), from, to), term});
        }
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

// One order for the operands of commutative operations; interning does the rest.
#include <algorithm>
#include <array>

#include "ir/passes.h"
#include "ir/rewrite.h"

namespace flexc::ir {

namespace {

bool is_commutative(Op op) {
    switch (op) {
        case Op::Add:
        case Op::Mul:
        case Op::Min:
        case Op::Max:
        case Op::BitAnd:
        case Op::BitOr:
        case Op::BitXor:
        case Op::And:
        case Op::Or:
        case Op::Eq:
        case Op::Ne: return true;
        default: return false;
    }
}

/// Constants last, else in the order of definition.
bool before(const Graph& graph, NodeId a, NodeId b) {
    const auto is_const = [&](NodeId id) {
        const Op op = graph[id].op;
        return op == Op::ConstF32 || op == Op::ConstI32 || op == Op::ConstBool;
    };
    if (is_const(a) != is_const(b)) return is_const(b);
    return a.value < b.value;
}

}  // namespace

void cse(Attention& attention) {
    rewrite(attention, [](Graph& out, const Node& node, std::span<const NodeId> operands) {
        if (!is_commutative(node.op) || !before(out, operands[1], operands[0])) return out.like(node, operands);
        const std::array<NodeId, 2> swapped = {operands[1], operands[0]};
        return out.like(node, swapped);
    });
}

}  // namespace flexc::ir

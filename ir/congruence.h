// Congruence: in a conjunction that holds `a == b`, the other conjuncts may read `a` for `b`. The value of the mask is unchanged, but what differed
// only by name now cancels: under `doc[q] == doc[k]`, `q - off[doc[q]] >= k - off[doc[k]]` becomes `q >= k`, which interval
// arithmetic decides exactly.
#pragma once

#include "ir/ir.h"

namespace flexc::ir {

/// A bool with the value of `mask` for every element, in which equalities have been used. New nodes are added to the graph.
[[nodiscard]] NodeId use_equalities(Graph& graph, NodeId mask);

}  // namespace flexc::ir

// Which keys a mask can keep for a tile of queries, as bounds that are solved for k: `q - k <= window and q >= k` gives k in [q0 - window, q1]; and the
// transpose, which queries a tile of keys can matter to: q in [k0, k1 + window]. For people who read
// what a variant costs; launches use the tile state, which decides more. Solved are comparisons that hold k once, with a factor of 1 or -1,
// alone or inside of `//`, `>>`, `abs`, `min` and `max`; conjunctions and disjunctions of such. The text-book arithmetic of integers is
// meant: bounds hold where nothing wraps and divisors are positive.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "ir/ir.h"

namespace flexc::ir {

struct IndexBound {
    NodeId value;              // i32 over the ends of the tile on the other axis, b, h, extents and parameters; and that index in `rows`
    std::vector<NodeId> rows;  // parts that read it otherwise than in order: the least (greatest) over the tile's rows (columns) is meant
};

struct IndexRange {
    bool empty = false;                      // nothing, whatever the tile
    std::optional<IndexBound> lower, upper;  // inclusive; absent: 0, the extent - 1
    std::vector<NodeId> unsolved;            // conjuncts of the mask that read the index and give no bound
};

/// Of k, over q0 and q1. Adds nodes to the attention's graph.
[[nodiscard]] IndexRange key_range(Attention& attention);
/// Of q, over k0 and k1. Adds nodes to the attention's graph.
[[nodiscard]] IndexRange query_range(Attention& attention);

/// The change of an i32 value as `which` grows by one, if it is the same everywhere.
[[nodiscard]] std::optional<int64_t> step_along(const Graph& graph, NodeId value, IndexVar which);

}  // namespace flexc::ir

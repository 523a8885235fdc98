// Which keys a mask can keep, as bounds that are solved for k: `q - k <= window and q >= k` gives k in [q - window, q]. For people who read
// what a variant costs; launches use the tile state, which decides more. Solved are comparisons that hold k once, with a factor of 1 or -1,
// alone or inside of `//`, `>>`, `abs`, `min` and `max`; conjunctions and disjunctions of such. The text-book arithmetic of integers is
// meant: bounds hold where nothing wraps and divisors are positive.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "ir/ir.h"

namespace flexc::ir {

struct KeyBound {
    NodeId value;              // i32 over the ends of the tile's queries, b, h, extents and parameters; and q in `rows`
    std::vector<NodeId> rows;  // parts that read q otherwise than in order: the least (greatest) over the tile's rows is meant
};

struct KeyRange {
    bool empty = false;                    // no key, whatever the tile
    std::optional<KeyBound> lower, upper;  // inclusive; absent: 0, K - 1
    std::vector<NodeId> unsolved;          // conjuncts of the mask that read k and give no bound
};

/// Adds nodes to the attention's graph.
[[nodiscard]] KeyRange key_range(Attention& attention);

/// The change of an i32 value as `which` grows by one, if it is the same everywhere.
[[nodiscard]] std::optional<int64_t> step_along(const Graph& graph, NodeId value, IndexVar which);

}  // namespace flexc::ir

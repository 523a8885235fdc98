// What the analyses derive of an attention, collected for `flexc explain`: facts as text, before they are laid out as a page or as JSON.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "ir/ir.h"
#include "ir/tile_state.h"

namespace flexc::tools {

struct LoadFact {
    std::string clause;               // "mask", "score", ...
    std::string text;                 // "doc[k]"
    std::string access;               // "contiguous along k", "gather along k", "once a row", ...
    std::vector<std::string> guards;  // "q against N": of the indices that are not proven in range
};

struct Loose {
    ir::Loose::Why why;
    std::string text, reason;  // "x % 3", "is bounded exactly within ..."
};

struct ClauseFact {
    std::string clause, text;
    int64_t per_element = 0;                           // operations that depend on k (or on the score, or d)
    std::vector<std::string> per_row, per_head, once;  // values that are not computed for each element
};

/// A range of one index, both ends inclusive, for a tile on the other axis.
struct Visits {
    std::string from, to;
    std::vector<std::string> least_of, greatest_of;  // parts of from (to) that stand for their least (greatest) value over the tile
    std::vector<std::string> unsolved;
};

struct Explanation {
    std::string mask;
    bool everything = false, nothing = false;  // the mask keeps all, or none
    Visits keys, queries;                      // of a tile of queries q0..q1, and of a tile of keys k0..k1
    std::vector<std::string> tables;           // "range minima and maxima of doc[k]: one pass over K"
    std::vector<Loose> loose;
    int64_t tile_operations = 0, tile_lookups = 0;  // to decide one tile; lookups of tables among these
    std::vector<LoadFact> loads;
    std::vector<ClauseFact> clauses;
};

/// `attention` is lowered and optimised.
[[nodiscard]] Explanation explain(const ir::Attention& attention);

/// Which nodes the roots are made of, themselves among these; invalid roots are none.
[[nodiscard]] std::vector<bool> reached(const ir::Graph& graph, std::initializer_list<ir::NodeId> roots);

}  // namespace flexc::tools

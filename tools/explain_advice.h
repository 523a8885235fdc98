// The part of `flexc explain` on cost: what a variant adds to plain attention, and what to change.
#pragma once

#include <string>
#include <vector>

#include "ir/ir.h"
#include "tools/explain.h"

namespace flexc::tools {

struct Cost {
    int64_t tile_operations = 0;                            // to decide one tile
    int64_t tile_lookups = 0;                               // of tables, among these
    int64_t element_operations = 0, element_functions = 0;  // of the score clause; functions: exp, tanh and the like among the operations
};
[[nodiscard]] Cost cost(const ir::Attention& attention);

/// Sentences, most rewarding first.
[[nodiscard]] std::vector<std::string> advice(const ir::Attention& attention, const Explanation& facts);

/// "Cost" with what it is made of and what to change.
[[nodiscard]] std::string cost_text(const ir::Attention& attention, const Explanation& facts);

}  // namespace flexc::tools

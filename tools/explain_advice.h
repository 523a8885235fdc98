// The part of `flexc explain` on cost: what a variant adds to plain attention, and what to change.
#pragma once

#include <string>
#include <vector>

#include "ir/ir.h"
#include "tools/explain.h"

namespace flexc::tools {

/// Of the score clause, an element. Functions: exp, tanh and the like among the operations.
struct ScoreCost {
    int64_t operations = 0, functions = 0;
};
[[nodiscard]] ScoreCost score_cost(const ir::Attention& attention);

/// Sentences, most rewarding first.
[[nodiscard]] std::vector<std::string> advice(const ir::Attention& attention, const Explanation& facts);

/// "Cost" with what it is made of and what to change.
[[nodiscard]] std::string cost_text(const ir::Attention& attention, const Explanation& facts);

}  // namespace flexc::tools

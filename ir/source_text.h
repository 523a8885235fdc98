// IR expressions as source text: infix with as few parentheses as the language needs, parameters and extents by name. For people, in
// reports: what was inlined stays inlined, comparisons stand as the passes left them, and a text of more than kMaxSourceText bytes is cut
// with `...`. Ends of tiles are q0, q1, k0, k1; the variable of a reduction is j, or j1, j2, ... inside of others.
#pragma once

#include <string>

#include "ir/ir.h"

namespace flexc::ir {

inline constexpr size_t kMaxSourceText = 320;

[[nodiscard]] std::string source_text(const Attention& attention, NodeId id);

}  // namespace flexc::ir

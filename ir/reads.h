// Which leaves a value reads, one bit a leaf. Parameters, constants and extents have none. From it come variance, the clauses' scoping rules, and
// what the interpreter recomputes when a coordinate moves.
#pragma once

#include <cstdint>
#include <vector>

#include "ir/ir.h"

namespace flexc::ir {

using Reads = uint32_t;

[[nodiscard]] constexpr Reads reads_bit(IndexVar which) {
    return Reads{1} << static_cast<uint32_t>(which);
}
[[nodiscard]] constexpr Reads reads_bit(ClauseVar which) {
    return Reads{1} << (8 + static_cast<uint32_t>(which));
}
[[nodiscard]] constexpr Reads reads_bit(TileBound which) {
    return Reads{1} << (16 + static_cast<uint32_t>(which));
}

/// One mask a node, indexed by NodeId::value. A reduction reads what its bounds and body read.
[[nodiscard]] std::vector<Reads> reads(const Graph& graph);

/// "k", "score": the lowest leaf of the mask, which is not 0.
[[nodiscard]] std::string_view first_read(Reads mask);

}  // namespace flexc::ir

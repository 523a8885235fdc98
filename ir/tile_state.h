// From a mask to two conditions on a tile [q_lo, q_hi] x [k_lo, k_hi] (inclusive, non-empty): some element may be kept, and all elements
// are kept. Made by evaluating the mask in interval arithmetic, symbolically: the result is again IR, over the leaves
// tile_bound, b, h, extents and parameters, so the interpreter and every backend run it like any expression.
// The tile lies in the problem: 0 <= q_lo <= q_hi < Q, and so for k. f32 add, sub, mul and div must round as IEEE says, without contraction.
#pragma once

#include <cstdint>
#include <vector>

#include "ir/ir.h"

namespace flexc::ir {

/// A value of one axis whose least and greatest value on a tile cannot be computed from the ends of the tile: a captured index vector
/// (`doc[q]`, `off[doc[k]]`), a bool made of such, or bit tricks on one index. Before a launch it is evaluated once along its axis, for each b and h it
/// reads, and range minima and maxima are kept: O(Q + K) work and memory.
struct Summary {
    NodeId value;          // i32 or bool (0 or 1); reads q or k but not both
    bool of_keys = false;  // along k, else along q
    bool by_b = false, by_h = false;
};

/// A value whose bounds on a tile may be wider than the values it takes there: why a tile can be called partial that is not.
struct Loose {
    enum class Why : uint8_t {
        Unknown,     // nothing is known of it, whatever the tile
        OneValue,    // known where what it is computed from has one value on the tile
        FewIndices,  // a load that is read for each index; known where the tile touches few
        Remainder,   // known within one period; beyond, only that it is a remainder
    };
    NodeId value;
    Why why;
};

struct TileState {
    NodeId maybe;                    // bool: false proves that the tile is empty
    NodeId always;                   // bool: true proves that the tile is full
    std::vector<Summary> summaries;  // leaves graph.tile_summary(i, upper) of the two conditions
    std::vector<Loose> loose;        // by ascending value, in the graph of the attention
};

/// Adds the two conditions to the attention's graph. Sound for every tile; what cannot be decided gives maybe = true, always = false.
[[nodiscard]] TileState tile_state(Attention& attention);

}  // namespace flexc::ir

// From a mask to two conditions on a tile [q_lo, q_hi] x [k_lo, k_hi] (inclusive, non-empty): some element may be kept, and all elements
// are kept. Made by evaluating the mask in interval arithmetic, symbolically: the result is again IR, over the leaves
// tile_bound, b, h, extents and parameters, so the interpreter and every backend run it like any expression.
// The tile lies in the problem: 0 <= q_lo <= q_hi < Q, and so for k. f32 add, sub, mul and div must round as IEEE says, without contraction.
#pragma once

#include "ir/ir.h"

namespace flexc::ir {

struct TileState {
    NodeId maybe;    // bool: false proves that the tile is empty
    NodeId always;   // bool: true proves that the tile is full
};

/// Adds the two conditions to the attention's graph. Sound for every tile; what cannot be decided gives maybe = true, always = false.
[[nodiscard]] TileState tile_state(Attention& attention);

}  // namespace flexc::ir

// Interval analysis: a lower and an upper bound of each i32 value, symbolic in the extents (q <= Q - 1), and from it
// which loads are proven in range. A load that is not proven keeps its guard: it gives 0 or false out of range.
#pragma once

#include <cstdint>
#include <vector>

#include "ir/ir.h"

namespace flexc::ir {

/// For each Load node (indexed by NodeId::value), a bit a dimension: set if that index is proven within [0, extent). Other nodes: 0.
/// Sound for all positive values of the extents that satisfy H = n * HKV. Uses that i32 arithmetic wraps: a sum that might wrap has no bound.
[[nodiscard]] std::vector<uint8_t> proven_dims(const Attention& attention);

}  // namespace flexc::ir

// Interval arithmetic on f32, in f64: for each value the least and greatest number that it may be, infinities included; NaN is left out, since it
// poisons a row whatever else happens. Bounds are rounded outwards to f32, so an overflow shows as an infinite bound.
#pragma once

#include <limits>
#include <vector>

#include "ir/ir.h"

namespace flexc::ir {

struct FloatRange {
    double lo = -std::numeric_limits<double>::infinity(), hi = std::numeric_limits<double>::infinity();
};

/// What is taken for granted of a launch: magnitudes of scale * dot, and of captured floats and scalars.
struct FloatAssumptions {
    double score = 0x1p100;
    double captured = std::numeric_limits<double>::infinity();
};

/// One range a node, by NodeId::value; of nodes that are not f32, the whole line.
[[nodiscard]] std::vector<FloatRange> float_ranges(const Attention& attention, const FloatAssumptions& assumptions = {});

}  // namespace flexc::ir

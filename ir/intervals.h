// Interval analysis: a lower and an upper bound of each i32 value, symbolic in the extents (q <= Q - 1), and from it
// which loads are proven in range. A load that is not proven keeps its guard: it gives 0 or false out of range.
//
// Assumed of a launch: built-in extents are at least 1 (else nothing is evaluated), H = n * HKV, free extents are at least 0, and no extent exceeds
// INT_MAX; and of an evaluation, that loop variables are within their bounds. i32 arithmetic wraps: an operation that might has the bounds of
// its type only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ir/ir.h"

namespace flexc::ir {

/// For each Load node (indexed by NodeId::value), a bit a dimension: set if that index is proven within [0, extent). Other nodes: 0.
/// The proof of one dimension may rest on the guards of the others: if any guard of a load fails, it must not be executed at all.
[[nodiscard]] std::vector<uint8_t> proven_dims(const Attention& attention);

/// Inclusive; int64 so that sums of bounds do not wrap.
struct Range {
    int64_t lo, hi;
};

/// The numeric bounds of i32 values, whatever the extents. The graph may grow between calls.
class RangeAnalysis {
public:
    explicit RangeAnalysis(const Attention& attention);
    ~RangeAnalysis();
    [[nodiscard]] Range range(NodeId id);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace flexc::ir

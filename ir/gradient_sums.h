// How the adjoints of the reads of captured tensors are added up, chosen for each target by where the place of a read lies: backends follow it, and
// `flexc explain` says it.
//
// A read of the score clause has one adjoint for every attended pair of a query and a key. Where its indices do not depend on the key, say, all adjoints of a row
// belong to one element, and are summed before they are added.
#pragma once

#include <cstdint>
#include <vector>

#include "ir/ir.h"

namespace flexc::ir {

enum class GradientSum : uint8_t {
    Row,         // summed over the keys of a row (on a GPU: of a row in a tile), then added once
    Key,         // GPU: summed over the rows of a tile that meet a key, then added once
    Head,        // GPU: one place for a batch and head, or fewer: summed over a tile, then added once
    Vector,      // CPU: one place for all keys, but in a loop, or one of too many: summed over a vector of keys, then added
    Neighbours,  // CPU: neighbouring keys read neighbouring elements, upwards or downwards: vectors of keys are added
    Element,     // every pair adds its own
    Scale,       // of the scale and sink clauses: once a row
};

struct GradientSums {
    std::vector<GradientSum> score_reads, scale_reads;  // by position in ir::Gradient
};

inline constexpr int kCpuRowSums = 8;  // kRowSums of backend/skeletons/cpu/hooks.h
inline constexpr int kGpuSums = 4;     // kSummedReads of backend/skeletons/nvptx/hooks.h

/// `attention.gradient` must be set.
[[nodiscard]] GradientSums cpu_gradient_sums(const Attention& attention);
/// Of the reads that could be summed, those with the fewest places come first, since additions to one place wait for each other.
[[nodiscard]] GradientSums gpu_gradient_sums(const Attention& attention);

}  // namespace flexc::ir

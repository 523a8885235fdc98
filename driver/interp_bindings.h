// From a launch's arguments to what the float64 interpreter takes: one conversion for the device `interp` and for every test that has it as the oracle.
#pragma once

#include <cstdint>
#include <vector>

#include "ir/interpret.h"
#include "runtime/launch.h"

namespace flexc {

/// A tensor of any type and strides in row-major order, each element exactly.
[[nodiscard]] std::vector<double> widened(const flex::Tensor& tensor);

/// `args` have passed flex::bind with these extents; parameters that are absent take their defaults.
[[nodiscard]] ir::Bindings interp_bindings(const ir::Attention& attention, const std::vector<int32_t>& extents,
                                           const std::vector<flex::Argument>& args);

}  // namespace flexc

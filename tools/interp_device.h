// The device `interp`: the float64 interpreter behind the same arrays as a kernel launch.
#pragma once

#include "ir/interpret.h"
#include "tools/inputs.h"

namespace flexc::tools {

/// What a launch captured, as the interpreter takes it.
[[nodiscard]] ir::Bindings interp_bindings(const ir::Attention& attention, const flex::KernelDesc& desc, const Launch& launch);

/// o in the launch's type, lse and max_score in f32, and every emit in f32, by name.
[[nodiscard]] io::Arrays run_interpreter(const ir::Attention& attention, const flex::KernelDesc& desc, const Launch& launch);

}  // namespace flexc::tools

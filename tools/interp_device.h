// The device `interp`: the float64 interpreter behind the same arrays as a kernel launch.
#pragma once

#include "ir/interpret.h"
#include "tools/inputs.h"

namespace flexc::tools {

/// o in the launch's type, lse and max_score in f32, and every emit in f32, by name. `progress` counts rows, here and below.
[[nodiscard]] io::Arrays run_interpreter(const ir::Attention& attention, const Launch& launch, flex::CpuProgress* progress = nullptr);

/// dq, dk and dv in the launch's type, and d_NAME in f32 of every `grad` parameter. The attention has been differentiated.
[[nodiscard]] io::Arrays run_interpreter_backward(const ir::Attention& attention, const Launch& launch,
                                                  flex::CpuProgress* progress = nullptr);

}  // namespace flexc::tools

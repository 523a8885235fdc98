// The bitcode of backend/skeletons/cpu, embedded in the compiler by the build: one module a vector width.
#pragma once

#include <string_view>

#include "runtime/launch.h"

namespace flexc::cpu {

[[nodiscard]] std::string_view skeleton_bitcode(flex::CpuLevel level);

}  // namespace flexc::cpu

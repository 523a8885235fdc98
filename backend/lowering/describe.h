// What a launch of an attention takes, the same for every target, and which clauses no target lowers yet.
#pragma once

#include <string>
#include <vector>

#include "ir/ir.h"
#include "runtime/kernel.h"

namespace flexc::codegen {

[[nodiscard]] flex::KernelDesc describe(const ir::Attention& attention);

/// The clauses of an attention that cannot be lowered, as written (`sink`, `emit`, ...). Empty: it can be compiled.
[[nodiscard]] std::vector<std::string> unsupported_clauses(const ir::Attention& attention);

}  // namespace flexc::codegen

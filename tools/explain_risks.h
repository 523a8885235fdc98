// The part of `flexc explain` on numbers: where a clause can give NaN or infinity, and what to write instead.
#pragma once

#include <string>

#include "ir/ir.h"
#include "tools/report.h"

namespace flexc::tools {

/// Empty if there is no risk.
[[nodiscard]] std::string risks_text(const ir::Attention& attention);
/// [{"text": "log(score)", "risk": "...", "help": "..."}]
[[nodiscard]] Json risks_json(const ir::Attention& attention);

}  // namespace flexc::tools

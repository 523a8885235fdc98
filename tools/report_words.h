// A session has other words than the command line: `:shape Q=8` for `--shape Q=8`.
#pragma once

#include <string>

namespace flexc::tools {

/// From now on diagnostics that this process prints go through this; not those of --json.
void translate_diagnostics(std::string (*translate)(std::string));

}  // namespace flexc::tools

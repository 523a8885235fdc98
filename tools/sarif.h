// Diagnostics as a SARIF 2.1.0 log (OASIS), which editors and code review services read.
#pragma once

#include "tools/report.h"

namespace flexc::tools {

/// The results of one session's diagnostics; those without a place in a file name `path`.
[[nodiscard]] Json sarif_results(const Session& session, const std::string& path);
/// The log around results of any number of files.
[[nodiscard]] Json sarif_log(Json results);

}  // namespace flexc::tools

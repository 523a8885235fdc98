// `flexc explain E2003`: what a diagnostic means, with an example.
#pragma once

#include <filesystem>
#include <optional>

#include "diag/diagnostic.h"
#include "tools/report.h"

namespace flexc::tools {

/// The diagnostic that is asked for in place of a file: by its code in either case, or its name ("type-mismatch"). A file of that name comes first.
[[nodiscard]] std::optional<diag::KindInfo> diagnostic_of(const std::filesystem::path& file);
/// Whether it looks like a code, of a diagnostic that does not exist.
[[nodiscard]] bool is_unknown_code(const std::filesystem::path& file);

[[nodiscard]] std::string code_page(const diag::KindInfo& kind);
[[nodiscard]] Json code_json(const diag::KindInfo& kind);

}  // namespace flexc::tools

// The differences of two texts by lines, as `diff -u` shows them, for a person to read.
#pragma once

#include <string>
#include <string_view>

namespace flexc::tools {

/// At most `max_lines` lines; a last one says how many more there are. Empty if the texts are equal.
[[nodiscard]] std::string line_diff(std::string_view before, std::string_view after, size_t max_lines);

}  // namespace flexc::tools

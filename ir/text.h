// Spelling shared by the printer and the parser of the textual IR: names, strings and floats. What is written reads back exactly.
#pragma once

#include <string>
#include <string_view>

#include "ir/ir.h"

namespace flexc::ir::text {

/// The word itself if it is an identifier, else as `quoted`.
[[nodiscard]] std::string quoted_name(std::string_view name);
/// In double quotes, ASCII only: \" \\ \n and \xHH for every other byte outside printable ASCII.
[[nodiscard]] std::string quoted(std::string_view bytes);
/// Shortest decimal that reads back to the same bits; `inf`, `-inf`, and `nan:7fc00000` with the bits.
[[nodiscard]] std::string float_text(float value);

[[nodiscard]] std::string_view name(Normalize normalize);
[[nodiscard]] std::string_view name(Emit::Kind kind);

}  // namespace flexc::ir::text

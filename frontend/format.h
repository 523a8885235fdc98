// The canonical layout of a .flex file, as `flexc fmt` writes it.
//
// Comments stay where they are: behind the word they follow, or on lines of their own before what they precede. Parentheses stay as written,
// except `((x))`, which is `(x)`. Single blank lines between declarations, clauses and `let`s stay. Everything else follows from the words
// and signs alone, so that formatting twice changes nothing, and files that differ in layout only come out the same.
#pragma once

#include <optional>
#include <string>

#include "diag/diagnostic.h"

namespace flexc::frontend {

inline constexpr uint32_t kFormatWidth = 120;  // in columns; comments may be longer

struct Formatted {
    std::string text;
    /// The text was parsed again and gave the same tree. If not, that is a bug, and the text must not be used.
    bool faithful = false;
};

/// Nothing if the file has a syntax error; those are reported. Line ends are those of the file's first line.
[[nodiscard]] std::optional<Formatted> format(const diag::SourceManager& sources, diag::FileId file, diag::Sink& sink);

}  // namespace flexc::frontend

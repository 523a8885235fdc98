// Text -> syntax tree. The only header of the ANTLR side that others may include; it names nothing of ANTLR.
#pragma once

#include <memory>

#include "diag/diagnostic.h"
#include "frontend/ast.h"

namespace flexc::frontend {

/// Parses one file. Reports syntax errors (band 1) with recovery, so that several are found at once. Never null: after errors
/// the tree holds the declarations whose name could be read, those with errors marked `damaged`. Bounded: nesting beyond ast::kMaxNesting, files above 8 MiB
/// and invalid UTF-8 are diagnosed, not attempted.
[[nodiscard]] std::unique_ptr<ast::File> parse(const diag::SourceManager& sources, diag::FileId file, diag::Sink& sink);

}  // namespace flexc::frontend

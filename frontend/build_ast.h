// Parse tree -> AST, one declaration at a time; the parse tree may be dropped afterwards.
// What the grammar takes wider than the language (callees, pipe targets, names of reductions, reserved names) is
// diagnosed here. Depth of the result is bounded by ast::kMaxDepth.
#pragma once

#include "FlexParser.h"
#include "diag/diagnostic.h"
#include "frontend/ast.h"
#include "frontend/tokens.h"

namespace flexc::frontend {

/// Appends the declaration to `file`, damaged or not; nothing if not even its name could be read.
void build_declaration(FlexParser::DeclarationContext* tree, const TokenList& tokens, bool damaged, ast::File& file, diag::Sink& sink);

}  // namespace flexc::frontend

// Text -> tokens, both as ANTLR's stream for the parser and as a TokenList.
#pragma once

#include <memory>

#include "antlr4-runtime.h"
#include "frontend/tokens.h"

namespace flexc::frontend {

struct LexedFile {
    /// Stops after `max_tokens`, and is then `truncated` and has no stream.
    LexedFile(diag::FileId file, std::string_view text, size_t max_tokens);

    TokenList list;
    bool truncated = false;
    std::unique_ptr<antlr4::ListTokenSource> source;
    std::unique_ptr<antlr4::BufferedTokenStream> stream;
};

}  // namespace flexc::frontend

// What a syntax error says: from the token that did not fit and the rules being read to one diagnostic, with the mistake
// that a user of Python, C or PyTorch probably made.
#pragma once

#include "diag/diagnostic.h"
#include "frontend/tokens.h"

namespace flexc::frontend {

struct SyntaxError {
    const TokenList& tokens;
    size_t at;                   // the token that fits nowhere
    std::vector<size_t> rules;   // FlexParser::Rule..., innermost first
    std::vector<size_t> starts;  // their first tokens
};

/// Reports exactly one diagnostic. Returns the token at which the next statement begins if that is clear, else 0.
size_t explain_syntax_error(const SyntaxError& error, diag::Sink& sink);

}  // namespace flexc::frontend

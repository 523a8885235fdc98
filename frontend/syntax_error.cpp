#include "frontend/syntax_error.h"

#include "FlexParser.h"

namespace flexc::frontend {

size_t explain_syntax_error(const SyntaxError& error, diag::Sink& sink) {
    sink.report(diag::Kind::expected_token, error.tokens.span(error.at), "something else", fmt::format("`{}`", error.tokens.text(error.at)));
    return 0;
}

}  // namespace flexc::frontend

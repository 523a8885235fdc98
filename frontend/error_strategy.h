// How the generated parser meets an error: the error is explained once, the rules up to the statement give up, and
// parsing goes on behind the statement. No token is ever inserted or deleted to patch a parse.
#pragma once

#include "antlr4-runtime.h"
#include "diag/diagnostic.h"
#include "frontend/tokens.h"

namespace flexc::frontend {

/// One past the last token of the statement that starts at `start`: behind its `;` or the `}` that closes its block, or
/// before the `}` that closes what surrounds it. At least `minimum`.
[[nodiscard]] size_t statement_end(const TokenList& tokens, size_t start, size_t minimum);
/// The same for a declaration, which also ends before an unindented token that starts one.
[[nodiscard]] size_t declaration_end(const TokenList& tokens, size_t start, size_t minimum);
/// Whether a declaration seems to start here: in the first column, so that a missing `}` does not swallow the next one.
[[nodiscard]] bool starts_declaration(const TokenList& tokens, size_t i);

class StatementRecovery : public antlr4::DefaultErrorStrategy {
public:
    StatementRecovery(const TokenList& tokens, diag::Sink& sink) : tokens_(tokens), sink_(sink) {}

    void reportError(antlr4::Parser* parser, const antlr4::RecognitionException& error) override;
    void recover(antlr4::Parser* parser, std::exception_ptr error) override;
    antlr4::Token* recoverInline(antlr4::Parser* parser) override;
    void sync(antlr4::Parser* parser) override;
    void reportMatch(antlr4::Parser*) override {}
    bool inErrorRecoveryMode(antlr4::Parser*) override { return false; }

private:
    void explain(antlr4::Parser* parser, size_t offending, size_t rule);
    void note_recovery(size_t index);
    void skip_to(antlr4::Parser* parser, size_t index);

    const TokenList& tokens_;
    diag::Sink& sink_;
    bool reported_ = false;  // the error on its way up
    size_t resume_ = 0;      // where the explanation says that a statement begins; 0: not known
    size_t offending_ = 0;
    size_t recovered_ = SIZE_MAX;  // where the last recovery stopped, if within a statement: an error there is a consequence
};

}  // namespace flexc::frontend

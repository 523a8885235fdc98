#include "frontend/error_strategy.h"

#include <algorithm>

#include "FlexParser.h"
#include "frontend/syntax_error.h"

namespace flexc::frontend {

using P = FlexParser;

bool starts_declaration(const TokenList& tokens, size_t i) {
    if (!tokens.unindented(i)) return false;
    switch (tokens.type(i)) {
        case P::IMPORT:
        case P::CONST:
        case P::FN:
        case P::ATTENTION: return true;
        case P::MASK:
        case P::SCORE: return tokens.type(i + 1) != P::ASSIGN && tokens.type(i + 2) == P::LPAREN;
        default: return false;
    }
}

namespace {

size_t find_end(const TokenList& tokens, size_t start, size_t minimum, bool declaration) {
    size_t depth = 0;
    for (size_t i = start; i < tokens.size(); ++i) {
        const size_t type = tokens.type(i);
        if (type == P::EOF) return i;
        if (i > start && i >= minimum && starts_declaration(tokens, i)) return i;
        if (type == P::LBRACE) {
            ++depth;
        } else if (type == P::RBRACE) {
            if (depth == 0) {
                if (i >= minimum) return declaration ? i + 1 : i;
                continue;
            }
            --depth;
            if (depth == 0 && i >= minimum && tokens.type(i + 1) != P::SEMI && (declaration || tokens.first_on_line(i + 1))) return i + 1;
        } else if (type == P::SEMI && depth == 0 && i >= minimum) {
            return i + 1;
        }
    }
    return tokens.size() - 1;
}

}  // namespace

size_t statement_end(const TokenList& tokens, size_t start, size_t minimum) {
    return find_end(tokens, start, minimum, false);
}
size_t declaration_end(const TokenList& tokens, size_t start, size_t minimum) {
    return find_end(tokens, start, minimum, true);
}

void StatementRecovery::skip_to(antlr4::Parser* parser, size_t index) {
    antlr4::TokenStream* stream = parser->getTokenStream();
    // Not Parser::consume, which would put the tokens into the parse tree.
    while (stream->index() < index && stream->LA(1) != antlr4::Token::EOF) stream->consume();
}

void StatementRecovery::note_recovery(size_t index) {
    const bool clean = resume_ != 0 || (index > 0 && (tokens_.type(index - 1) == P::SEMI || tokens_.type(index - 1) == P::RBRACE));
    recovered_ = clean ? SIZE_MAX : index;
}

void StatementRecovery::explain(antlr4::Parser* parser, size_t offending, size_t rule) {
    offending_ = offending;
    resume_ = 0;
    if (offending == recovered_) return;
    std::vector<size_t> starts, rules;
    if (rule != SIZE_MAX) {  // an error that no rule has begun to read
        rules.push_back(rule);
        starts.push_back(offending);
    }
    for (auto* c = parser->getContext(); c != nullptr; c = static_cast<antlr4::ParserRuleContext*>(c->parent)) {
        rules.push_back(c->getRuleIndex());
        starts.push_back(c->start->getTokenIndex());
    }
    resume_ = explain_syntax_error({tokens_, offending, std::move(rules), std::move(starts)}, sink_);
}

void StatementRecovery::reportError(antlr4::Parser* parser, const antlr4::RecognitionException& error) {
    if (reported_) return;
    reported_ = true;
    explain(parser, error.getOffendingToken()->getTokenIndex(), SIZE_MAX);
}

void StatementRecovery::recover(antlr4::Parser* parser, std::exception_ptr error) {
    antlr4::ParserRuleContext* context = parser->getContext();
    const size_t rule = context->getRuleIndex();
    if (rule != P::RuleItem && rule != P::RuleLet && rule != P::RuleDeclaration) std::rethrow_exception(error);
    const size_t start = context->start->getTokenIndex();
    size_t end = resume_;
    if (end == 0 || end < parser->getTokenStream()->index())
        end = rule == P::RuleDeclaration ? declaration_end(tokens_, start, offending_) : statement_end(tokens_, start, offending_);
    if (rule == P::RuleDeclaration) end = std::max(end, start + 1);
    skip_to(parser, end);
    reported_ = false;
    note_recovery(parser->getTokenStream()->index());
}

antlr4::Token* StatementRecovery::recoverInline(antlr4::Parser* parser) {
    throw antlr4::InputMismatchException(parser);
}

void StatementRecovery::sync(antlr4::Parser* parser) {
    antlr4::ParserRuleContext* context = parser->getContext();
    if (context->getRuleIndex() != P::RuleAttentionDecl || reported_) return;
    const bool inside = std::any_of(context->children.begin(), context->children.end(), [](antlr4::tree::ParseTree* child) {
        return child->children.empty() && static_cast<antlr4::tree::TerminalNode*>(child)->getSymbol()->getType() == P::LBRACE;
    });
    if (!inside) return;
    // Within the braces: what starts no clause is reported and skipped, so that the next clause is still read.
    antlr4::TokenStream* stream = parser->getTokenStream();
    while (!sink_.full()) {
        const size_t at = stream->index();
        if (starts_declaration(tokens_, at)) return;
        switch (tokens_.type(at)) {
            case P::LET:
            case P::SCALE:
            case P::SCORE:
            case P::MASK:
            case P::NORMALIZE:
            case P::SINK:
            case P::BLOCKS:
            case P::QUERY:
            case P::KEY:
            case P::OUTPUT:
            case P::EMIT:
            case P::RBRACE:
            case P::EOF: return;
            default: break;
        }
        explain(parser, at, P::RuleItem);
        skip_to(parser, std::max(at + 1, resume_ != 0 ? resume_ : statement_end(tokens_, at, at)));
        note_recovery(stream->index());
    }
    skip_to(parser, tokens_.size());
}

}  // namespace flexc::frontend

// The explainer of a syntax error: what is known about its place, and one method for each family of mistakes.
// Its parts: syntax_error.cpp (signs, words, heads of declarations and clauses, parameters), syntax_expression.cpp (what stands in expressions).
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "FlexParser.h"
#include "diag/diagnostic.h"
#include "frontend/error_strategy.h"
#include "frontend/syntax_error.h"
#include "frontend/syntax_words.h"

namespace flexc::frontend {

inline constexpr size_t kNone = SIZE_MAX;

inline bool is_name(size_t type) {
    return type == FlexParser::NAME || (type >= FlexParser::SCALE && type <= FlexParser::NONE);
}

inline bool is_keyword(size_t type) {
    return type >= FlexParser::IMPORT && type <= FlexParser::FALSE;
}

inline bool is_clause_word(size_t type) {
    return (type >= FlexParser::SCALE && type <= FlexParser::EMIT) || type == FlexParser::SCORE || type == FlexParser::MASK;
}

inline bool ends_operand(size_t type) {
    return is_name(type) || type == FlexParser::SCORE || type == FlexParser::MASK || type == FlexParser::INT || type == FlexParser::FLOAT ||
           type == FlexParser::TRUE || type == FlexParser::FALSE || type == FlexParser::RPAREN || type == FlexParser::RBRACKET ||
           type == FlexParser::RBRACE || type == FlexParser::DOT;
}

inline std::string_view closer(size_t open) {
    return open == FlexParser::LPAREN ? ")" : open == FlexParser::LBRACKET ? "]" : "}";
}

class Explainer {
public:
    using P = FlexParser;
    using Kind = diag::Kind;
    using Span = diag::Span;
    using Diagnostic = diag::Diagnostic;

    Explainer(const SyntaxError& error, diag::Sink& sink)
        : t_(error.tokens), at_(error.at), before_(at_ == 0 ? kNone : at_ - 1), rules_(error.rules), starts_(error.starts), sink_(sink) {
        for (size_t i = starts_.back(); i < at_; ++i) {
            const size_t type = t_.type(i);
            // An earlier statement may have left brackets open.
            if (type == P::SEMI || type == P::RBRACE)
                while (!open_.empty() && t_.type(open_.back()) != P::LBRACE) open_.pop_back();
            if (type == P::LPAREN || type == P::LBRACKET || type == P::LBRACE) open_.push_back(i);
            if ((type == P::RPAREN || type == P::RBRACKET || type == P::RBRACE) && !open_.empty()) open_.pop_back();
        }
    }

    /// Reports; further_signs() alone reports more than one diagnostic. Returns where the next statement begins, if that is clear, else 0.
    size_t run();

private:
    size_t type() const { return t_.type(at_); }
    size_t type_before() const { return before_ == kNone ? SIZE_MAX : t_.type(before_); }
    bool after_operand() const { return before_ != kNone && ends_operand(type_before()); }
    size_t rule() const { return rules_[0]; }
    bool inside(size_t r) const { return std::find(rules_.begin(), rules_.end(), r) != rules_.end(); }
    std::string quoted(size_t i) const { return fmt::format("`{}`", shortened(t_.text(i))); }

    Diagnostic& expected(std::string_view what) { return sink_.report(Kind::expected_token, t_.span(at_), what, found(at_)); }

    /// The bracket that is open in the present statement, or kNone; a brace opens a new statement.
    size_t open_in_statement() const { return open_.empty() || t_.type(open_.back()) == P::LBRACE ? kNone : open_.back(); }

    bool at_declaration_start() const { return rule() == P::RuleDeclaration && starts_[0] == at_; }
    bool at_item_start() const { return rule() == P::RuleItem && starts_[0] == at_; }

    static std::string shortened(std::string_view text) {
        constexpr size_t kLongest = 40;
        if (text.size() <= kLongest) return std::string(text);
        size_t end = kLongest;
        while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
        return std::string(text.substr(0, end)) + "...";
    }

    std::string found(size_t i) const;
    void resume_on_next_line();
    bool lexical();
    /// Strings have no use; `float("-inf")` means a number.
    void string();
    bool assignment(Diagnostic& d);
    bool further_signs();
    bool comment();
    bool dotted();
    /// `lambda`, `def`, `return`...: the word itself, or what follows it where it could have been a name.
    bool words();
    bool end_of_input();
    bool semicolon();
    bool declaration_head();
    bool top_level();
    bool item_start();
    bool conditional();
    bool parameter();
    void untyped_parameter();
    std::string_view type_of_literal(size_t i) const;
    std::string constant(size_t name) const;
    std::string statement_text(size_t from) const;
    bool imported();
    bool brackets();
    /// Whether a statement seems to begin at the offending token.
    bool statement_here() const;
    bool missing_semicolon();
    bool equals();
    bool clause_values();
    bool colons();
    bool misspelled();
    /// `= let x = 1; x;`: what follows up to the next declaration belongs to it.
    void unbraced_let(Diagnostic& d);
    bool generic();

    const TokenList& t_;
    size_t at_;
    size_t before_;
    const std::vector<size_t>& rules_;
    const std::vector<size_t>& starts_;
    diag::Sink& sink_;
    std::vector<size_t> open_;  // brackets open at the place, from the start of the declaration
    size_t resume_ = 0;
};

}  // namespace flexc::frontend

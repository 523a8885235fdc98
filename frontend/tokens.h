// The tokens of a file, as the parser's own small records: for the checks before parsing and for explaining errors.
// Token indices are those of the ANTLR token stream; the last token is always the end of the file.
#pragma once

#include <string_view>
#include <vector>

#include "diag/source.h"

namespace flexc::frontend {

struct Token {
    size_t type;     // FlexLexer::NAME, ...
    uint32_t begin;  // bytes
    uint32_t end;
};

struct TokenList {
    diag::FileId file = 0;
    std::string_view source;
    std::vector<Token> tokens;

    [[nodiscard]] size_t size() const { return tokens.size(); }
    /// Past the end: the end-of-file token.
    [[nodiscard]] const Token& operator[](size_t i) const { return i < tokens.size() ? tokens[i] : tokens.back(); }
    [[nodiscard]] size_t type(size_t i) const { return (*this)[i].type; }
    [[nodiscard]] std::string_view text(size_t i) const { return source.substr((*this)[i].begin, (*this)[i].end - (*this)[i].begin); }
    [[nodiscard]] diag::Span span(size_t i) const { return {file, (*this)[i].begin, (*this)[i].end}; }
    /// The place just behind a token.
    [[nodiscard]] diag::Span after(size_t i) const { return {file, (*this)[i].end, (*this)[i].end}; }

    /// Whether only blanks stand before the token on its line.
    [[nodiscard]] bool first_on_line(size_t i) const {
        const size_t newline = source.find_last_not_of(" \t\r\f", (*this)[i].begin == 0 ? std::string_view::npos : (*this)[i].begin - 1);
        return (*this)[i].begin == 0 || newline == std::string_view::npos || source[newline] == '\n';
    }
    /// Whether the token stands in the first column.
    [[nodiscard]] bool unindented(size_t i) const { return (*this)[i].begin == 0 || source[(*this)[i].begin - 1] == '\n'; }
    [[nodiscard]] bool same_line(size_t a, size_t b) const {
        return source.substr((*this)[a].begin, (*this)[b].begin - (*this)[a].begin).find('\n') == std::string_view::npos;
    }
};

}  // namespace flexc::frontend

// The comments of a file, each with the token that it stands at.
#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

#include "frontend/tokens.h"

namespace flexc::frontend {

struct OwnLineComment {
    std::string_view text;
    bool blank_before = false;  // an empty line stands before it
};

/// What stands around one token.
struct TokenComments {
    std::vector<OwnLineComment> above;  // on lines of their own, after the token before
    std::string_view behind;            // on the same line, or empty
    bool blank_before = false;          // an empty line between the last of `above`, or the token before, and the token
    [[nodiscard]] bool any() const { return !above.empty() || !behind.empty(); }
    /// An empty line anywhere since the token before.
    [[nodiscard]] bool any_blank() const {
        bool found = blank_before;
        for (const OwnLineComment& c : above) found |= c.blank_before;
        return found;
    }
};

/// One entry a token; those at the end of the file are above the end-of-file token.
[[nodiscard]] inline std::vector<TokenComments> gather_comments(const TokenList& tokens) {
    std::vector<TokenComments> result(tokens.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
        const uint32_t begin = i == 0 ? 0 : tokens[i - 1].end;
        std::string_view gap = tokens.source.substr(begin, tokens[i].begin - begin);
        size_t newlines = 0;
        bool first_line = i != 0;
        while (!gap.empty()) {
            if (gap.front() != '#') {
                newlines += gap.front() == '\n';
                first_line &= newlines == 0;
                gap.remove_prefix(1);
                continue;
            }
            const size_t end = std::min(gap.find('\n'), gap.size());
            std::string_view text = gap.substr(0, end);
            text = text.substr(0, text.find_last_not_of(" \t\r\f") + 1);
            if (first_line)
                result[i - 1].behind = text;
            else
                result[i].above.push_back({text, newlines > 1});
            first_line = false;
            newlines = 0;
            gap.remove_prefix(end);
        }
        result[i].blank_before = newlines > 1;
    }
    return result;
}

}  // namespace flexc::frontend

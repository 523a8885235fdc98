// What stands where in a text: colours (semantic tokens) and what can be folded. Both work on programs with errors.
#pragma once

#include <string_view>
#include <vector>

#include "lsp/workspace.h"

namespace flexc::lsp {

/// A comment, string, number, word or bracket of a text; other signs and blanks are left out. Never across lines.
struct Piece {
    enum class Kind : uint8_t { Comment, String, Number, Word, Open, Close } kind;
    uint32_t begin, end;
};
[[nodiscard]] std::vector<Piece> pieces(std::string_view text);

/// {"tokenTypes": [...], "tokenModifiers": [...]}: what the numbers of semantic_tokens mean.
[[nodiscard]] Json token_legend();
/// {"data": [...]} of the bytes [begin, end], in the protocol's coding.
[[nodiscard]] Json semantic_tokens(Workspace& workspace, Document& document, uint32_t begin, uint32_t end);

/// Brackets over several lines, without the line of the closing one; comments and imports of several lines.
[[nodiscard]] Json folding_ranges(Workspace& workspace, Document& document);

}  // namespace flexc::lsp

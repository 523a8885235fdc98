// Typed text as pieces: for colours, for completion, and to know whether an input is finished. It takes any text, half-written as well, and
// reports nothing; what is wrong with a text is for the frontend to say.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flexc::repl {

enum class PieceKind : uint8_t { Comment, String, Number, Word, Open, Close, Sign };

struct Piece {
    PieceKind kind = PieceKind::Sign;
    size_t begin = 0, end = 0;  // bytes
};

/// Everything but blanks, in order.
[[nodiscard]] std::vector<Piece> scan(std::string_view text);

/// A line that begins with `:`.
[[nodiscard]] bool is_command(std::string_view text);
/// Whether the text means to declare something, not to be an expression: it begins with a word of a declaration, or with two words that no
/// expression has side by side (`atention foo`), or assigns (`mask = causal();`), so that the parser can say what is wrong.
[[nodiscard]] bool is_declaration(std::string_view text);
/// Whether nothing is left open: brackets are balanced, a declaration ends with `;` or `}`, an expression not with an operator.
[[nodiscard]] bool is_complete(std::string_view text);
/// Nothing but blanks and comments.
[[nodiscard]] bool is_blank(std::string_view text);
/// Brackets that are open at the end.
[[nodiscard]] int open_brackets(std::string_view text);

/// Where the word under the cursor begins: letters, digits and `_` before it.
[[nodiscard]] size_t word_begin(std::string_view text, size_t cursor);

/// The call whose arguments the cursor is in.
struct CallAt {
    std::string name;
    int argument = 0;  // which, from 0
};
[[nodiscard]] std::optional<CallAt> call_at(std::string_view text, size_t cursor);

/// The words that begin a declaration, and the others of the language.
[[nodiscard]] const std::vector<std::string>& declaration_words();
[[nodiscard]] const std::vector<std::string>& other_words();

/// "a b" -> {"a", "b"}; "..." and '...' hold blanks.
[[nodiscard]] std::vector<std::string> split_words(std::string_view text);
[[nodiscard]] std::string_view trim(std::string_view text);

}  // namespace flexc::repl

// What words, signs and characters of other languages are called here: the tables behind the help texts of syntax errors.
#pragma once

#include <string>
#include <string_view>

namespace flexc::frontend {

/// Help for a word of another language (`lambda`, `def`, `return`...); empty if the word is not known.
[[nodiscard]] std::string_view help_for_word(std::string_view word);

/// What to write in place of a function or value of PyTorch or Python that has no counterpart with a name; empty if it is not known.
[[nodiscard]] std::string_view help_for_idiom(std::string_view name);

/// The type that another name for it means (`float32`, `long`...); empty if it is none.
[[nodiscard]] std::string_view type_for(std::string_view name);

/// The clause that another name for it means (`score_mod`, `attn_mask`...); empty if it is none.
[[nodiscard]] std::string_view clause_for(std::string_view name);

/// What to do about an argument of FlexAttention that is no clause (`is_causal`, `enable_gqa`...); empty if it is none.
[[nodiscard]] std::string_view help_for_option(std::string_view name);

/// Whether the word begins a statement or declaration in its language, so that what follows it is of no interest.
[[nodiscard]] bool begins_foreign_statement(std::string_view word);

/// Help for an operator of another language, and what to put in its place if that is a plain substitution.
struct OperatorHelp {
    std::string_view help;
    std::string_view replacement;
};
[[nodiscard]] OperatorHelp help_for_operator(std::string_view op);

/// A character that is no part of the language, for a message: "`λ` (U+03BB)"; control characters by number alone.
[[nodiscard]] std::string describe_character(std::string_view utf8);
/// The ASCII text that a look-alike character stands for; empty if there is none.
[[nodiscard]] std::string_view ascii_for(std::string_view utf8);

/// Help for a dotted name of PyTorch, NumPy or math ("torch.where"), from its last part.
[[nodiscard]] std::string help_for_dotted(std::string_view dotted);

/// The plain form of a malformed number (`1.0f` -> `1.0`, `0b101` -> `5`); empty if there is none.
[[nodiscard]] std::string repaired_number(std::string_view number);

}  // namespace flexc::frontend

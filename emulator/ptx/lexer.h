// The words of PTX text. In: the whole text. Out: tokens with their lines, ended by one of kind End. Comments are dropped; `.name` is one token (Dot),
// with `::` inside (`.shared::cta`); literals are decoded. Throws ParseError, which stays inside emulator/ptx/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flexemu::ptx {

struct ParseError {
    int32_t line = 0;
    std::string text;
};

struct Token {
    enum class Kind : uint8_t {
        End,
        Identifier,  // text: name, with % or $
        Dot,         // text: what follows the dot
        Integer,     // bits; is_unsigned if it has a U or does not fit into 64 signed bits
        Float,       // bits of an f64
        Float32,     // bits of an f32 (0f...)
        String,      // text: between the quotes, escapes as written
        Punctuation,
    };
    Kind kind = Kind::End;
    bool is_unsigned = false;
    int32_t line = 0;
    std::string_view text;  // of the source, for messages also of literals
    uint64_t bits = 0;
};

/// The text must outlive the tokens. A zero byte ends it: drivers are given C strings.
[[nodiscard]] std::vector<Token> tokens_of(std::string_view text);

}  // namespace flexemu::ptx

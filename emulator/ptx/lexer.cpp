#include "emulator/ptx/lexer.h"

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <limits>

namespace flexemu::ptx {
namespace {

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_follow(char c) {
    return is_letter(c) || is_digit(c) || c == '_' || c == '$';
}
int digit_value(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'z') return c - 'a' + 10;
    if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
    return 99;
}

class Lexer {
public:
    explicit Lexer(std::string_view text) : text_(text.substr(0, text.find('\0'))) {}

    std::vector<Token> run() {
        tokens_.reserve(text_.size() / 4);
        while (skip_blanks(), at_ < text_.size()) next();
        add(Token::Kind::End, at_);
        tokens_.back().text = "the end of the text";
        return std::move(tokens_);
    }

private:
    [[nodiscard]] char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
    [[noreturn]] void fail(std::string text) const { throw ParseError{line_, std::move(text)}; }

    Token& add(Token::Kind kind, size_t from) {
        Token& token = tokens_.emplace_back();
        token.kind = kind;
        token.line = line_;
        token.text = text_.substr(from, at_ - from);
        return token;
    }

    void skip_blanks() {
        while (at_ < text_.size()) {
            const char c = text_[at_];
            if (c == '\n') {
                ++line_;
                ++at_;
            } else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v') {
                ++at_;
            } else if ((c == '/' && peek(1) == '/') || (c == '#' && at_line_start()) || (c == '@' && peek(1) == '@')) {
                // `#` lines are left by preprocessors; `@@DWARF` is the debug information of old compilers.
                while (at_ < text_.size() && text_[at_] != '\n') ++at_;
            } else if (c == '/' && peek(1) == '*') {
                skip_comment();
            } else {
                return;
            }
        }
    }

    [[nodiscard]] bool at_line_start() const {
        size_t i = at_;
        while (i > 0 && (text_[i - 1] == ' ' || text_[i - 1] == '\t')) --i;
        return i == 0 || text_[i - 1] == '\n';
    }

    void skip_comment() {
        const int32_t opened = line_;
        for (at_ += 2; at_ < text_.size(); ++at_) {
            if (text_[at_] == '\n') ++line_;
            if (text_[at_] == '*' && peek(1) == '/') {
                at_ += 2;
                return;
            }
        }
        throw ParseError{opened, "the comment `/*` is not closed"};
    }

    void next() {
        const size_t from = at_;
        const char c = text_[at_];
        if (is_digit(c) || (c == '.' && is_digit(peek(1)) && !follows_word())) return number();
        if (is_letter(c) || c == '_' || c == '$' || c == '%') {
            ++at_;
            while (is_follow(peek())) ++at_;
            if (c == '%' && at_ == from + 1) {
                add(Token::Kind::Punctuation, from);  // the remainder of constant expressions
                return;
            }
            add(Token::Kind::Identifier, from);
            return;
        }
        if (c == '.') {
            ++at_;
            while (is_follow(peek()) || (peek() == ':' && peek(1) == ':' && is_follow(peek(2)))) at_ += peek() == ':' ? 2 : 1;
            if (at_ == from + 1) fail("`.` stands alone");
            add(Token::Kind::Dot, from).text.remove_prefix(1);
            return;
        }
        if (c == '"') return string();
        if (std::string_view("{}()[],;:=+-*/<>|&^~!?@").find(c) == std::string_view::npos) {
            if (c >= 32 && c < 127) fail(fmt::format("`{}` is no character of PTX", c));
            fail(fmt::format("byte 0x{:02x} is no character of PTX", static_cast<unsigned char>(c)));
        }
        ++at_;
        const char d = peek();
        if (((c == '<' || c == '>' || c == '&' || c == '|') && d == c) || ((c == '<' || c == '>' || c == '=' || c == '!') && d == '='))
            ++at_;
        add(Token::Kind::Punctuation, from);
    }

    /// `x.5d` is a modifier, ` .5` a number.
    [[nodiscard]] bool follows_word() const { return at_ > 0 && is_follow(text_[at_ - 1]); }

    void string() {
        const size_t from = at_++;
        while (at_ < text_.size() && text_[at_] != '"') {
            if (text_[at_] == '\n') fail("the string is not closed on its line");
            at_ += text_[at_] == '\\' && at_ + 1 < text_.size() && text_[at_ + 1] != '\n' ? 2 : 1;
        }
        if (at_ >= text_.size()) fail("the string is not closed");
        ++at_;
        Token& token = add(Token::Kind::String, from);
        token.text = token.text.substr(1, token.text.size() - 2);
    }

    void number() {
        const size_t from = at_;
        const char second = peek() == '0' ? peek(1) : '\0';
        if (second == 'f' || second == 'F' || second == 'd' || second == 'D')
            return exact_float(from, second == 'f' || second == 'F' ? 8 : 16);
        if (second == 'x' || second == 'X') {
            at_ += 2;
            return integer(from, at_, 16);
        }
        if (second == 'b' || second == 'B') {
            at_ += 2;
            return integer(from, at_, 2);
        }
        size_t end = at_;
        while (end < text_.size() && is_digit(text_[end])) ++end;
        const char c = end < text_.size() ? text_[end] : '\0';
        const bool exponent = (c == 'e' || c == 'E') && end + 1 < text_.size() &&
                              (is_digit(text_[end + 1]) ||
                               ((text_[end + 1] == '+' || text_[end + 1] == '-') && end + 2 < text_.size() && is_digit(text_[end + 2])));
        if (c == '.' || exponent) return decimal_float(from);
        const bool octal = peek() == '0' && end - at_ > 1;
        return integer(from, at_, octal ? 8 : 10);
    }

    void integer(size_t from, size_t digits, unsigned base) {
        at_ = digits;
        uint64_t value = 0;
        for (; at_ < text_.size() && digit_value(text_[at_]) < static_cast<int>(base); ++at_) {
            const auto digit = static_cast<uint64_t>(digit_value(text_[at_]));
            if (value > (std::numeric_limits<uint64_t>::max() - digit) / base) fail("the number does not fit into 64 bits");
            value = value * base + digit;
        }
        if (at_ == digits) fail("a number without digits");
        bool is_unsigned = value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
        if (peek() == 'U' || peek() == 'u') {
            is_unsigned = true;
            ++at_;
        }
        if (is_follow(peek())) fail(fmt::format("`{}` does not belong into the number `{}`", peek(), text_.substr(from, at_ - from)));
        Token& token = add(Token::Kind::Integer, from);
        token.bits = value;
        token.is_unsigned = is_unsigned;
    }

    void exact_float(size_t from, size_t digits) {
        at_ += 2;
        uint64_t value = 0;
        size_t count = 0;
        for (; digit_value(peek()) < 16; ++at_, ++count) value = value << 4 | static_cast<uint64_t>(digit_value(text_[at_]));
        if (count != digits || is_follow(peek())) {
            fail(fmt::format("`{}` and {} hexadecimal digits make a float, found {}", text_.substr(from, 2), digits, count));
        }
        add(digits == 8 ? Token::Kind::Float32 : Token::Kind::Float, from).bits = value;
    }

    void decimal_float(size_t from) {
        const auto skip_digits = [&] {
            while (is_digit(peek())) ++at_;
        };
        skip_digits();
        if (peek() == '.') {
            ++at_;
            skip_digits();
        }
        if ((peek() == 'e' || peek() == 'E') && (is_digit(peek(1)) || ((peek(1) == '+' || peek(1) == '-') && is_digit(peek(2))))) {
            at_ += 2;
            skip_digits();
        }
        if (is_follow(peek())) fail(fmt::format("`{}` does not belong into the number `{}`", peek(), text_.substr(from, at_ - from)));
        const std::string_view digits = text_.substr(from, at_ - from);
        double value = 0;
        const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
        if (result.ec == std::errc::result_out_of_range) fail(fmt::format("`{}` is out of the range of f64", digits));
        if (result.ec != std::errc{}) fail(fmt::format("`{}` is no number", digits));
        add(Token::Kind::Float, from).bits = std::bit_cast<uint64_t>(value);
    }

    std::string_view text_;
    size_t at_ = 0;
    int32_t line_ = 1;
    std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokens_of(std::string_view text) {
    return Lexer(text).run();
}

}  // namespace flexemu::ptx

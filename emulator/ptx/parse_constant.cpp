// Constant expressions: integers of 64 bits, signed or unsigned, floats of f64, with the operators and precedences of C.
#include <fmt/format.h>

#include <bit>
#include <limits>

#include "emulator/ptx/parser.h"

namespace flexemu::ptx {
namespace {

struct Operator {
    std::string_view text;
    int precedence;
};
constexpr Operator kOperators[] = {
    {"||", 1}, {"&&", 2}, {"|", 3},  {"^", 4},  {"&", 5}, {"==", 6}, {"!=", 6}, {"<", 7},  {"<=", 7},
    {">", 7},  {">=", 7}, {"<<", 8}, {">>", 8}, {"+", 9}, {"-", 9},  {"*", 10}, {"/", 10}, {"%", 10},
};

int precedence(const Token& token) {
    if (token.kind != Token::Kind::Punctuation) return 0;
    for (const Operator& each : kOperators)
        if (each.text == token.text) return each.precedence;
    return 0;
}

Constant integer(uint64_t bits, bool is_unsigned = false) {
    return {Constant::Kind::Integer, is_unsigned, bits};
}

Constant real(double value) {
    return {Constant::Kind::Float, false, std::bit_cast<uint64_t>(value)};
}

}  // namespace

double Constant::as_double() const {
    switch (kind) {
        case Kind::Float: return std::bit_cast<double>(bits);
        case Kind::Float32: return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits)));
        case Kind::Integer: return is_unsigned ? static_cast<double>(bits) : static_cast<double>(static_cast<int64_t>(bits));
    }
    return 0;
}

bool Parser::starts_constant() const {
    switch (peek().kind) {
        case Token::Kind::Integer:
        case Token::Kind::Float:
        case Token::Kind::Float32: return true;
        case Token::Kind::Identifier: return peek().text == "WARP_SZ";
        case Token::Kind::Punctuation:
            return is_punctuation("-") || is_punctuation("+") || is_punctuation("~") || is_punctuation("!") || is_punctuation("(");
        default: return false;
    }
}

Constant Parser::constant() {
    const Nesting nesting(this);
    const Constant condition = binary(1);
    if (!is_punctuation("?")) return condition;
    if (!condition.is_integer()) fail("the condition of `?` must be an integer");
    take();
    const Constant yes = constant();
    expect(":", "the first choice of `?`");
    const Constant no = constant();
    return condition.bits != 0 ? yes : no;
}

int64_t Parser::integer_constant(std::string_view what) {
    const Constant value = constant();
    if (!value.is_integer()) fail(fmt::format("{} must be an integer", what));
    return value.as_signed();
}

Constant Parser::binary(int least_precedence) {
    const Nesting nesting(this);
    Constant left = unary();
    for (int level = precedence(peek()); level >= least_precedence && level > 0; level = precedence(peek())) {
        const Token& op = take();
        left = combine(op.text, left, binary(level + 1), op.line);
    }
    return left;
}

Constant Parser::unary() {
    const Nesting nesting(this);
    if (accept("+")) return unary();
    if (accept("-")) {
        Constant value = unary();
        switch (value.kind) {
            case Constant::Kind::Integer: value.bits = 0 - value.bits; break;
            case Constant::Kind::Float: value.bits ^= uint64_t{1} << 63; break;
            case Constant::Kind::Float32: value.bits ^= uint64_t{1} << 31; break;
        }
        return value;
    }
    if (is_punctuation("~") || is_punctuation("!")) {
        const Token& op = take();
        Constant value = unary();
        if (!value.is_integer()) fail_at(op.line, fmt::format("`{}` needs an integer", op.text));
        value.bits = op.text == "~" ? ~value.bits : static_cast<uint64_t>(value.bits == 0);
        return value;
    }
    if (is_punctuation("(") && peek(1).kind == Token::Kind::Dot) {
        take();
        const std::string_view type = take().text;
        if (type != "s64" && type != "u64") fail(fmt::format("a constant can be cast to `.s64` or `.u64`, not to `.{}`", type));
        expect(")", "the type of a cast");
        Constant value = unary();
        if (!value.is_integer()) {
            const double real_value = value.as_double();
            // Out of range: the nearest end, as cvt does.
            const bool is_signed = type == "s64";
            const double least = is_signed ? -0x1p63 : 0.0, above = is_signed ? 0x1p63 : 0x1p64;
            if (!(real_value >= least)) {
                value.bits = is_signed && real_value < least ? uint64_t{1} << 63 : 0;
            } else if (real_value >= above) {
                value.bits = std::numeric_limits<uint64_t>::max() >> (is_signed ? 1 : 0);
            } else {
                value.bits = is_signed ? static_cast<uint64_t>(static_cast<int64_t>(real_value)) : static_cast<uint64_t>(real_value);
            }
        }
        return integer(value.bits, type == "u64");
    }
    return primary();
}

Constant Parser::primary() {
    if (accept("(")) {
        const Constant value = constant();
        expect(")", "a constant in parentheses");
        return value;
    }
    const Token& token = peek();
    switch (token.kind) {
        case Token::Kind::Integer: take(); return integer(token.bits, token.is_unsigned);
        case Token::Kind::Float: take(); return {Constant::Kind::Float, false, token.bits};
        case Token::Kind::Float32: take(); return {Constant::Kind::Float32, false, token.bits};
        case Token::Kind::Identifier:
            if (token.text == "WARP_SZ") {
                take();
                return integer(32);
            }
            [[fallthrough]];
        default: fail(fmt::format("expected a constant, found {}", found()));
    }
}

Constant Parser::combine(std::string_view op, Constant a, Constant b, int32_t line) {
    if (!a.is_integer() || !b.is_integer()) {
        const double x = a.as_double(), y = b.as_double();
        if (op == "+") return real(x + y);
        if (op == "-") return real(x - y);
        if (op == "*") return real(x * y);
        if (op == "/") return real(x / y);
        if (op == "==") return integer(x == y);
        if (op == "!=") return integer(x != y);
        if (op == "<") return integer(x < y);
        if (op == "<=") return integer(x <= y);
        if (op == ">") return integer(x > y);
        if (op == ">=") return integer(x >= y);
        fail_at(line, fmt::format("`{}` needs integers", op));
    }
    const uint64_t x = a.bits, y = b.bits;
    const bool is_unsigned = a.is_unsigned || b.is_unsigned;
    const int64_t sx = a.as_signed(), sy = b.as_signed();
    if (op == "+") return integer(x + y, is_unsigned);
    if (op == "-") return integer(x - y, is_unsigned);
    if (op == "*") return integer(x * y, is_unsigned);
    if (op == "/" || op == "%") {
        if (y == 0) fail_at(line, fmt::format("`{}` by zero", op));
        if (is_unsigned) return integer(op == "/" ? x / y : x % y, true);
        if (sy == -1) return integer(op == "/" ? 0 - x : 0);
        return integer(static_cast<uint64_t>(op == "/" ? sx / sy : sx % sy));
    }
    if (op == "<<") return integer(y > 63 ? 0 : x << y, a.is_unsigned);
    if (op == ">>") {
        if (a.is_unsigned) return integer(y > 63 ? 0 : x >> y, true);
        return integer(static_cast<uint64_t>(sx >> (y > 63 ? 63 : y)));
    }
    if (op == "&") return integer(x & y, is_unsigned);
    if (op == "|") return integer(x | y, is_unsigned);
    if (op == "^") return integer(x ^ y, is_unsigned);
    if (op == "&&") return integer(x != 0 && y != 0);
    if (op == "||") return integer(x != 0 || y != 0);
    if (op == "==") return integer(x == y);
    if (op == "!=") return integer(x != y);
    if (op == "<") return integer(is_unsigned ? x < y : sx < sy);
    if (op == "<=") return integer(is_unsigned ? x <= y : sx <= sy);
    if (op == ">") return integer(is_unsigned ? x > y : sx > sy);
    return integer(is_unsigned ? x >= y : sx >= sy);
}

}  // namespace flexemu::ptx

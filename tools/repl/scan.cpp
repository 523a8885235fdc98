#include "tools/repl/scan.h"

#include <algorithm>
#include <cctype>

namespace flexc::repl {
namespace {

bool is_letter(char c) {
    return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_';
}
bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_word(char c) {
    return is_letter(c) || is_digit(c);
}

bool contains(const std::vector<std::string>& words, std::string_view word) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

/// Words that stand beside another word inside of an expression.
bool joins(std::string_view word) {
    for (const char* each : {"and", "or", "not", "if", "then", "else", "in"})
        if (word == each) return true;
    return false;
}

}  // namespace

const std::vector<std::string>& declaration_words() {
    static const std::vector<std::string> words = {"attention", "const", "fn", "import", "mask", "score"};
    return words;
}

const std::vector<std::string>& other_words() {
    static const std::vector<std::string> words = {"and",   "blocks", "bool",    "bf16", "column_sum", "else", "emit",   "f16",
                                                   "f32",   "false",  "grad",    "i16",  "i32",        "i8",   "if",     "in",
                                                   "key",   "let",    "mean",    "none", "not",        "or",   "output", "normalize",
                                                   "query", "scale",  "sigmoid", "sink", "softmax",    "then", "true",   "u8"};
    return words;
}

std::vector<Piece> scan(std::string_view text) {
    std::vector<Piece> out;
    size_t at = 0;
    const auto peek = [&](size_t ahead) { return at + ahead < text.size() ? text[at + ahead] : '\0'; };
    while (at < text.size()) {
        const char c = text[at];
        const size_t begin = at;
        if (std::isspace(static_cast<unsigned char>(c))) {
            ++at;
            continue;
        }
        PieceKind kind = PieceKind::Sign;
        if (c == '#') {
            kind = PieceKind::Comment;
            at = std::min(text.find('\n', at), text.size());
        } else if (c == '"') {
            kind = PieceKind::String;
            const size_t close = text.find_first_of("\"\n", at + 1);
            at = close == std::string_view::npos ? text.size() : text[close] == '"' ? close + 1 : close;
        } else if (is_letter(c)) {
            kind = PieceKind::Word;
            while (at < text.size() && is_word(text[at])) ++at;
        } else if (is_digit(c) || (c == '.' && is_digit(peek(1)))) {
            kind = PieceKind::Number;
            while (at < text.size() && (is_word(text[at]) || (text[at] == '.' && peek(1) != '.') ||
                                        ((text[at] == '-' || text[at] == '+') && (text[at - 1] == 'e' || text[at - 1] == 'E') &&
                                         text.substr(begin, 2) != "0x")))
                ++at;
        } else {
            if (std::string_view("([{").find(c) != std::string_view::npos) kind = PieceKind::Open;
            if (std::string_view(")]}").find(c) != std::string_view::npos) kind = PieceKind::Close;
            ++at;
            if (kind == PieceKind::Sign)
                for (const char* two : {"//", "|>", "..", "->", "==", "!=", "<=", ">=", "<<", ">>"})
                    if (text.substr(begin, 2) == two) at = begin + 2;
        }
        out.push_back({kind, begin, at});
    }
    return out;
}

bool is_command(std::string_view text) {
    const size_t first = text.find_first_not_of(" \t\r\n");
    return first != std::string_view::npos && text[first] == ':';
}

bool is_blank(std::string_view text) {
    const auto pieces = scan(text);
    return std::all_of(pieces.begin(), pieces.end(), [](const Piece& piece) { return piece.kind == PieceKind::Comment; });
}

bool is_declaration(std::string_view text) {
    std::vector<Piece> pieces = scan(text);
    std::erase_if(pieces, [](const Piece& piece) { return piece.kind == PieceKind::Comment; });
    if (pieces.empty() || pieces[0].kind != PieceKind::Word) return false;
    const auto word = [&](size_t i) {
        return i < pieces.size() ? text.substr(pieces[i].begin, pieces[i].end - pieces[i].begin) : std::string_view();
    };
    const std::string_view first = word(0);
    if (first == "attention" || first == "const" || first == "fn" || first == "import" || first == "mask" || first == "let") return true;
    if (pieces.size() == 1) return false;
    if (word(1) == "=") return true;
    return pieces[1].kind == PieceKind::Word && !joins(first) && !joins(word(1));
}

int open_brackets(std::string_view text) {
    int depth = 0;
    for (const Piece& piece : scan(text)) {
        depth += piece.kind == PieceKind::Open;
        depth -= piece.kind == PieceKind::Close;
    }
    return depth;
}

bool is_complete(std::string_view text) {
    if (is_command(text)) return true;
    std::vector<Piece> pieces = scan(text);
    int depth = 0;
    for (const Piece& piece : pieces) {
        depth += piece.kind == PieceKind::Open;
        depth -= piece.kind == PieceKind::Close;
        if (depth < 0) return true;  // for the parser to complain of
    }
    if (depth > 0) return false;
    // A doc comment waits for its declaration.
    const bool doc = !pieces.empty() && pieces.back().kind == PieceKind::Comment && text.substr(pieces.back().begin, 2) == "##";
    std::erase_if(pieces, [](const Piece& piece) { return piece.kind == PieceKind::Comment; });
    if (pieces.empty()) return !doc;
    const std::string_view last = text.substr(pieces.back().begin, pieces.back().end - pieces.back().begin);
    if (is_declaration(text)) return last == ";" || last == "}";
    if (last == ";") return true;
    if (pieces.back().kind == PieceKind::Word) return !joins(last);
    return pieces.back().kind != PieceKind::Sign || last == ":";
}

size_t word_begin(std::string_view text, size_t cursor) {
    cursor = std::min(cursor, text.size());
    while (cursor > 0 && is_word(text[cursor - 1])) --cursor;
    return cursor;
}

std::optional<CallAt> call_at(std::string_view text, size_t cursor) {
    struct Bracket {
        std::string name;
        int commas = 0;
    };
    std::vector<Bracket> open;
    std::string_view before;
    for (const Piece& piece : scan(text.substr(0, cursor))) {
        const std::string_view here = text.substr(piece.begin, piece.end - piece.begin);
        if (piece.kind == PieceKind::Open) open.push_back({here == "(" ? std::string(before) : std::string(), 0});
        if (piece.kind == PieceKind::Close && !open.empty()) open.pop_back();
        if (here == "," && !open.empty()) ++open.back().commas;
        before = piece.kind == PieceKind::Word ? here : std::string_view();
    }
    if (open.empty() || open.back().name.empty() || contains(declaration_words(), open.back().name) ||
        contains(other_words(), open.back().name))
        return std::nullopt;
    return CallAt{open.back().name, open.back().commas};
}

std::vector<std::string> split_words(std::string_view text) {
    std::vector<std::string> out;
    size_t at = 0;
    while (true) {
        while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at]))) ++at;
        if (at >= text.size()) return out;
        std::string word;
        char quote = '\0';
        for (; at < text.size() && (quote || !std::isspace(static_cast<unsigned char>(text[at]))); ++at) {
            if (quote && text[at] == quote)
                quote = '\0';
            else if (!quote && (text[at] == '"' || text[at] == '\''))
                quote = text[at];
            else
                word += text[at];
        }
        out.push_back(word);
    }
}

std::string_view trim(std::string_view text) {
    const size_t first = text.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

}  // namespace flexc::repl

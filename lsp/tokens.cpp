#include "lsp/tokens.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

namespace flexc::lsp {

using frontend::LanguageWord;
using frontend::Symbol;
using frontend::SymbolKind;
using frontend::Use;

namespace {

enum Type : uint32_t { kComment, kString, kNumber, kKeyword, kType, kClass, kFunction, kParameter, kVariable, kProperty, kNamespace };
constexpr const char* kTypes[] = {"comment",  "string",    "number",   "keyword",  "type",     "class",
                                  "function", "parameter", "variable", "property", "namespace"};
enum Modifier : uint32_t { kDeclaration = 1, kReadonly = 2, kDefaultLibrary = 4, kDocumentation = 8 };
constexpr const char* kModifiers[] = {"declaration", "readonly", "defaultLibrary", "documentation"};

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_word_byte(char c) {
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c);
}

struct Class {
    Type type;
    uint32_t modifiers = 0;
};

Class of_word(const LanguageWord& word, bool is_value) {
    using Kind = LanguageWord::Kind;
    switch (word.kind) {
        case Kind::Index:
        case Kind::Extent:
        case Kind::Constant: return {kVariable, kReadonly | kDefaultLibrary};
        case Kind::Function:
        case Kind::Reduction: return {kFunction, kDefaultLibrary};
        case Kind::Type: return {kType, kDefaultLibrary};
        case Kind::Clause:
        case Kind::ClauseName:
        case Kind::Word: break;
    }
    return is_value ? Class{kVariable, kDefaultLibrary} : Class{kKeyword};
}

std::optional<Class> of_use(const Use& use) {
    const uint32_t declared = use.is_declaration ? kDeclaration : 0;
    switch (use.symbol->kind) {
        case SymbolKind::Import: return Class{kNamespace, declared};
        case SymbolKind::Const:
        case SymbolKind::FreeExtent: return Class{kVariable, declared | kReadonly};
        case SymbolKind::Fn:
        case SymbolKind::Mask:
        case SymbolKind::Score: return Class{kFunction, declared};
        case SymbolKind::Attention: return Class{kClass, declared};
        case SymbolKind::Param: return Class{kParameter, declared};
        case SymbolKind::Let:
        case SymbolKind::Loop: return Class{kVariable, declared};
        case SymbolKind::Emit: return Class{kProperty, declared};
        case SymbolKind::Language: break;
    }
    const LanguageWord* word = frontend::language_word(use.symbol->name);
    return word ? std::optional(of_word(*word, true)) : std::nullopt;
}

}  // namespace

std::vector<Piece> pieces(std::string_view text) {
    std::vector<Piece> out;
    const auto size = static_cast<uint32_t>(text.size());
    const auto line_end = [&](uint32_t at) {
        while (at < size && text[at] != '\n' && text[at] != '\r') ++at;
        return at;
    };
    for (uint32_t at = 0; at < size;) {
        const char c = text[at];
        uint32_t end = at + 1;
        if (c == '#') {
            out.push_back({Piece::Kind::Comment, at, end = line_end(at)});
        } else if (c == '"') {
            while (end < line_end(at) && text[end] != '"') ++end;
            if (end < size && text[end] == '"') ++end;
            out.push_back({Piece::Kind::String, at, end});
        } else if (is_digit(c)) {
            // `1.5e-3`, `0x1f`; of `1..n` the first alone.
            const bool hex = end < size && c == '0' && (text[end] == 'x' || text[end] == 'X');
            while (end < size && (is_word_byte(text[end]) || (text[end] == '.' && !(end + 1 < size && text[end + 1] == '.')) ||
                                  (!hex && (text[end] == '-' || text[end] == '+') && (text[end - 1] == 'e' || text[end - 1] == 'E'))))
                ++end;
            out.push_back({Piece::Kind::Number, at, end});
        } else if (is_word_byte(c)) {
            while (end < size && is_word_byte(text[end])) ++end;
            out.push_back({Piece::Kind::Word, at, end});
        } else if (c == '(' || c == '[' || c == '{') {
            out.push_back({Piece::Kind::Open, at, end});
        } else if (c == ')' || c == ']' || c == '}') {
            out.push_back({Piece::Kind::Close, at, end});
        }
        at = end;
    }
    return out;
}

Json token_legend() {
    return {{"tokenTypes", kTypes}, {"tokenModifiers", kModifiers}};
}

Json semantic_tokens(Workspace& workspace, Document& document, uint32_t begin, uint32_t end) {
    const Analysis& a = workspace.analysis(document);
    const std::string_view text = document.text;
    std::set<uint32_t> clauses;  // where their names begin: `score = score + 1` has one and a value
    for (const ast::Decl* decl : a.names->syntax(a.main)->decls)
        for (const ast::Clause& clause : decl->clauses) clauses.insert(clause.keyword.begin);
    Json data = Json::array();
    uint64_t line = 0, column = 0;
    for (const Piece& piece : pieces(text)) {
        if (piece.end < begin || piece.begin > end || piece.kind == Piece::Kind::Open || piece.kind == Piece::Kind::Close) continue;
        std::optional<Class> found;
        switch (piece.kind) {
            case Piece::Kind::Comment: found = Class{kComment, text.substr(piece.begin, 2) == "##" ? kDocumentation : 0u}; break;
            case Piece::Kind::String: found = Class{kString}; break;
            case Piece::Kind::Number: found = Class{kNumber}; break;
            default: {
                const Use* use = a.names->at(a.main, piece.begin);
                if (clauses.contains(piece.begin)) {
                    found = Class{kKeyword};
                } else if (use && use->span.begin == piece.begin) {
                    found = of_use(*use);
                } else if (const LanguageWord* word = frontend::language_word(text.substr(piece.begin, piece.end - piece.begin))) {
                    found = of_word(*word, false);
                }
            }
        }
        if (!found) continue;
        const Json from = document.lines.position(text, piece.begin, workspace.encoding),
                   to = document.lines.position(text, piece.end, workspace.encoding);
        const uint64_t at_line = from["line"], at = from["character"], to_column = to["character"];
        if (to_column <= at) continue;
        for (const uint64_t each :
             {at_line - line, at_line == line ? at - column : at, to_column - at, uint64_t{found->type}, uint64_t{found->modifiers}})
            data.push_back(each);
        line = at_line;
        column = at;
    }
    return {{"data", std::move(data)}};
}

Json folding_ranges(Workspace& workspace, Document& document) {
    const Analysis& a = workspace.analysis(document);
    const std::string_view text = document.text;
    const auto line_of = [&](uint32_t at) { return document.lines.position(text, at, workspace.encoding)["line"].get<int64_t>(); };
    struct Fold {
        int64_t last;
        const char* kind;
    };
    std::map<int64_t, Fold> folds;  // by first line; of those that begin together the longest
    const auto fold = [&](int64_t first, int64_t last, const char* kind) {
        if (last <= first) return;
        const auto [there, is_new] = folds.try_emplace(first, Fold{last, kind});
        if (!is_new && there->second.last < last) there->second = {last, kind};
    };
    std::vector<uint32_t> open;
    int64_t comment = -1, comment_end = -2, seen = -1;  // lines; `seen`: of the last that is no comment
    for (const Piece& piece : pieces(text)) {
        const int64_t line = line_of(piece.begin);
        if (piece.kind == Piece::Kind::Comment && line != seen) {
            if (line != comment_end + 1) {
                fold(comment, comment_end, "comment");
                comment = line;
            }
            comment_end = line;
            continue;
        }
        if (piece.kind == Piece::Kind::Comment) continue;
        seen = line;
        if (piece.kind == Piece::Kind::Open) open.push_back(piece.begin);
        if (piece.kind != Piece::Kind::Close || open.empty()) continue;
        const char closing = text[open.back()] == '(' ? ')' : text[open.back()] == '[' ? ']' : '}';
        if (text[piece.begin] == closing) fold(line_of(open.back()), line - 1, "region");
        open.pop_back();
    }
    fold(comment, comment_end, "comment");
    int64_t import = -1, import_end = -1;
    for (const ast::Decl* decl : a.names->syntax(a.main)->decls) {
        if (decl->kind != ast::DeclKind::Import) {
            fold(import, import_end, "imports");
            import = -1;
            continue;
        }
        if (import < 0) import = line_of(decl->span.begin);
        import_end = line_of(decl->span.begin);
    }
    if (import >= 0) fold(import, import_end, "imports");
    Json out = Json::array();
    for (const auto& [first, each] : folds) {
        Json range = {{"startLine", first}, {"endLine", each.last}};
        if (std::string_view(each.kind) != "region") range["kind"] = each.kind;  // brackets are of no kind of the protocol
        out.push_back(std::move(range));
    }
    return out;
}

}  // namespace flexc::lsp

// Drives the generated parser: the checks before it (size, UTF-8, nesting), one declaration at a time, SLL prediction
// only, and recovery at the ends of statements. What an error says is decided in syntax_error.cpp.
#include "frontend/parse.h"

#include "frontend/build_ast.h"
#include "frontend/error_strategy.h"
#include "frontend/lex.h"
#include "frontend/tokens.h"

namespace flexc::frontend {

namespace {

constexpr size_t kMaxBytes = size_t{8} << 20;
constexpr size_t kMaxTokens = 1'000'000;          // in a file; about 160 bytes each
constexpr size_t kMaxDeclarationTokens = 50'000;  // a parse tree takes 1 to 2 KiB a token, and lives for one declaration

using diag::Kind;
using diag::Span;
using P = FlexParser;

/// Index of the first byte that is not part of well-formed UTF-8, or npos.
size_t find_invalid_utf8(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
        const auto lead = static_cast<unsigned char>(text[i]);
        if (lead < 0x80) {
            ++i;
            continue;
        }
        const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
        if (lead < 0xC2 || lead > 0xF4 || i + length > text.size()) return i;
        const auto second = static_cast<unsigned char>(text[i + 1]);
        // Overlong forms, surrogates, and points beyond U+10FFFF.
        if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) || (lead == 0xF0 && second < 0x90) ||
            (lead == 0xF4 && second > 0x8F))
            return i;
        for (size_t j = 1; j < length; ++j)
            if ((static_cast<unsigned char>(text[i + j]) & 0xC0) != 0x80) return i;
        i += length;
    }
    return std::string_view::npos;
}

/// Reports the first bracket or `if` that nests deeper than kMaxNesting. An `if` counts until the next `;` or `,` of its
/// bracket, which is more than its real extent.
bool nesting_is_bounded(const TokenList& tokens, diag::Sink& sink) {
    std::vector<uint32_t> ifs{0};  // for each open bracket
    size_t open_ifs = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
        switch (tokens.type(i)) {
            case P::LPAREN:
            case P::LBRACKET:
            case P::LBRACE: ifs.push_back(0); break;
            case P::RPAREN:
            case P::RBRACKET:
            case P::RBRACE:
                open_ifs -= ifs.back();
                ifs.back() = 0;
                if (ifs.size() > 1) ifs.pop_back();
                break;
            case P::SEMI:
            case P::COMMA:
                open_ifs -= ifs.back();
                ifs.back() = 0;
                break;
            case P::IF:
                ++ifs.back();
                ++open_ifs;
                break;
            default: break;
        }
        if (ifs.size() - 1 + open_ifs > ast::kMaxNesting) {
            sink.report(Kind::nesting_too_deep, tokens.span(i), ast::kMaxNesting).help("name the inner parts with `let`");
            return false;
        }
    }
    return true;
}

/// Whether what stands there is the rest of a declaration that broke off: a clause that is indented, or a `}`.
bool continues_declaration(const TokenList& tokens, size_t i) {
    const size_t type = tokens.type(i);
    if (type == P::RBRACE) return true;
    if (tokens.unindented(i)) return false;
    const bool word = (type >= P::SCALE && type <= P::EMIT) || type == P::SCORE || type == P::MASK;
    return type == P::LET || (word && (tokens.type(i + 1) == P::ASSIGN || type == P::NORMALIZE || type == P::EMIT));
}

/// What a declaration would have declared if it could be read: its names before the first bracket or value.
void note_unread(const TokenList& tokens, size_t begin, size_t end, ast::File& file) {
    const std::string_view first = tokens.text(begin);
    file.unread_import |= first == "import" || first == "from" || first == "include" || first == "use";
    for (size_t i = begin; i < end && i < begin + 64; ++i) {
        const size_t type = tokens.type(i);
        if (type == P::ASSIGN || type == P::LBRACE || type == P::LPAREN) break;
        if (type == P::NAME) file.unread.emplace(tokens.text(i));
    }
}

class DeclarationParser : public FlexParser {
public:
    explicit DeclarationParser(antlr4::TokenStream* stream) : FlexParser(stream) {}
    void drop_trees() {
        _ctx = nullptr;
        _tracker.reset();
    }
};

}  // namespace

std::unique_ptr<ast::File> parse(const diag::SourceManager& sources, diag::FileId id, diag::Sink& sink) {
    auto file = std::make_unique<ast::File>();
    file->id = id;
    const std::string_view text = sources.file(id).text();
    if (text.size() > kMaxBytes) {
        sink.report(Kind::file_too_large, Span{id, 0, 0}, "8 MiB").help("split it, and `import` the parts");
        return file;
    }
    if (const size_t bad = find_invalid_utf8(text); bad != std::string_view::npos) {
        const auto at = static_cast<uint32_t>(bad);
        sink.report(Kind::invalid_utf8, Span{id, at, at + 1}).help("save the file as UTF-8");
        return file;
    }

    LexedFile lexed(id, text, kMaxTokens);
    if (lexed.truncated) {
        sink.report(Kind::file_too_large, Span{id, 0, 0}, fmt::format("{} words and signs", kMaxTokens))
            .help("split it, and `import` the parts");
        return file;
    }
    if (!nesting_is_bounded(lexed.list, sink)) return file;

    DeclarationParser parser(lexed.stream.get());
    parser.removeErrorListeners();
    parser.getInterpreter<antlr4::atn::ParserATNSimulator>()->setPredictionMode(antlr4::atn::PredictionMode::SLL);
    const auto strategy = std::make_shared<StatementRecovery>(lexed.list, sink);
    parser.setErrorHandler(strategy);
    bool broken = false;  // the declaration before has an error
    while (!sink.full()) {
        const size_t start = lexed.stream->index();
        if (lexed.list.type(start) == P::EOF) break;
        const size_t end = declaration_end(lexed.list, start, start);
        if (broken && continues_declaration(lexed.list, start)) {
            while (lexed.stream->index() < end) lexed.stream->consume();
            continue;
        }
        if (end - start > kMaxDeclarationTokens) {
            sink.report(Kind::declaration_too_large, lexed.list.span(start), kMaxDeclarationTokens).help("split it into functions");
            break;
        }
        const size_t reports = sink.all().size();
        FlexParser::DeclarationContext* tree = parser.declaration();
        broken = sink.all().size() != reports;
        const size_t declarations = file->decls.size();
        build_declaration(tree, lexed.list, sink.all().size() != reports, *file, sink);
        if (file->decls.size() == declarations) note_unread(lexed.list, start, lexed.stream->index(), *file);
        parser.drop_trees();
    }
    return file;
}

}  // namespace flexc::frontend

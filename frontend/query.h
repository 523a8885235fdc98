// What the names of a program mean, by place: for editors. Works on programs with errors, with whatever of them could be read.
//
//   std::unique_ptr<Program> program = analyse(sources, file, imports, sink);
//   NameIndex names(*program);
//   if (const Use* use = names.at(file, offset)) show(use->symbol->signature, use->symbol->doc);
//
// Names are resolved on the syntax tree, by the same rules as in sema (no name hides another, so a name means one thing where it
// stands); types come from sema's tables.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "diag/diagnostic.h"
#include "frontend/ast.h"
#include "frontend/frontend.h"

namespace flexc::frontend {

/// check() that gives a program even after errors. lower() must not be called on one with errors.
[[nodiscard]] std::unique_ptr<Program> analyse(diag::SourceManager& sources, diag::FileId main_file, const ImportResolver& imports,
                                               diag::Sink& sink);

enum class SymbolKind : uint8_t { Import, Const, Fn, Mask, Score, Attention, Param, Let, Loop, FreeExtent, Emit, Language };

struct Symbol {
    SymbolKind kind = SymbolKind::Language;
    std::string name;
    /// The name where it is declared; of an import, the start of the file. None for names of the language.
    std::optional<diag::Span> declared;
    std::string signature;                // "mask causal()", "let d: i32", "exp(x)"
    std::string doc;                      // Markdown
    std::vector<std::string> parameters;  // of what can be called, as written in the signature
    std::vector<std::string> parameter_names;
    const ast::Decl* decl = nullptr;        // of a declaration
    const ast::ParamDecl* param = nullptr;  // of a parameter
};

struct Use {
    diag::Span span;
    const Symbol* symbol = nullptr;
    bool is_declaration = false;
};

class NameIndex {
public:
    explicit NameIndex(const Program& program);
    NameIndex(const NameIndex&) = delete;
    NameIndex& operator=(const NameIndex&) = delete;

    /// The name at a place, or ending there.
    [[nodiscard]] const Use* at(diag::FileId file, uint32_t offset) const;
    /// Every place of a symbol in all files of the program, its declaration included, in order.
    [[nodiscard]] std::vector<Use> all(const Symbol& symbol) const;
    /// What an expression of a file may name: its own declarations and imported ones (attentions left out).
    [[nodiscard]] std::vector<const Symbol*> visible(diag::FileId file) const;
    [[nodiscard]] const Symbol* visible(diag::FileId file, std::string_view name) const;
    /// The parameters of the declaration of that name in the file (damaged ones have none).
    [[nodiscard]] const ast::File* syntax(diag::FileId file) const;

    struct Typed {
        diag::Span span;
        std::string_view type;  // "f32"
    };
    /// The innermost expression around a place whose type is known.
    [[nodiscard]] std::optional<Typed> type_at(diag::FileId file, uint32_t offset) const;

private:
    friend class IndexBuilder;
    const Program& program_;
    std::deque<Symbol> symbols_;
    std::unordered_map<const ast::Decl*, const Symbol*> decls_;
    std::map<std::string, const Symbol*, std::less<>> language_;
    std::vector<Use> uses_;  // by file and place
};

/// What the language means by a name or word: "q", "exp", "score", "then". Null if it owns none of that name.
struct LanguageWord {
    std::string_view name;
    enum class Kind : uint8_t { Index, Extent, Function, Reduction, Constant, Type, Clause, ClauseName, Word } kind;
    std::string_view signature;
    std::string_view doc;
};
[[nodiscard]] const LanguageWord* language_word(std::string_view name);
[[nodiscard]] const std::vector<LanguageWord>& language_words();

}  // namespace flexc::frontend

// Hover, definition, outline, formatting, and diagnostics with their fixes.
#include "lsp/features.h"

#include <algorithm>

#include "frontend/format.h"

namespace flexc::lsp {

using frontend::Symbol;
using frontend::SymbolKind;
using frontend::Use;

namespace {

std::string fenced(const std::string& code) {
    return "```flex\n" + code + "\n```";
}

bool is_name_byte(char c) {
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool in_comment(std::string_view text, uint32_t offset) {
    const size_t newline = text.substr(0, offset).rfind('\n');
    bool quoted = false;
    for (size_t i = newline == std::string_view::npos ? 0 : newline + 1; i < offset; ++i) {
        if (text[i] == '"') quoted = !quoted;
        if (text[i] == '#' && !quoted) return true;
    }
    return false;
}

/// The word around a place: [begin, end).
std::pair<uint32_t, uint32_t> word_at(std::string_view text, uint32_t offset) {
    uint32_t begin = offset, end = offset;
    while (begin > 0 && is_name_byte(text[begin - 1])) --begin;
    while (end < text.size() && is_name_byte(text[end])) ++end;
    return {begin, end};
}

/// The import of the main file through which a file came in.
diag::Span import_of(const Analysis& a, diag::FileId file) {
    diag::Span first{a.main, 0, 0};
    const ast::File* syntax = a.names->syntax(a.main);
    for (const ast::Decl* d : syntax->decls) {
        if (d->kind != ast::DeclKind::Import) continue;
        const Use* use = a.names->at(a.main, d->name.span.begin + (d->import_is_path ? 1 : 0));
        if (first.end == 0) first = d->span;
        if (use && use->symbol->declared && use->symbol->declared->file == file) return d->span;
    }
    return first;
}

}  // namespace

Json hover(Workspace& workspace, Document& document, uint32_t offset, const AttentionFacts& facts) {
    const Analysis& a = workspace.analysis(document);
    if (in_comment(document.text, offset)) return nullptr;
    std::string markdown;
    diag::Span span{a.main, offset, offset};
    if (const Use* use = a.names->at(a.main, offset)) {
        const Symbol& s = *use->symbol;
        span = use->span;
        markdown = fenced(s.signature);
        if (!s.doc.empty()) markdown += "\n\n" + s.doc;
        if (s.kind == SymbolKind::Attention && facts && !a.sink.has_errors() && s.declared->file == a.main)
            if (const std::string more = facts(*a.program, s.name); !more.empty()) markdown += "\n\n" + more;
    } else {
        const auto [begin, end] = word_at(document.text, offset);
        const frontend::LanguageWord* word = frontend::language_word(std::string_view(document.text).substr(begin, end - begin));
        if (word) {
            span = {a.main, begin, end};
            markdown = fenced(std::string(word->signature)) + "\n\n" + std::string(word->doc);
        } else if (const auto typed = a.names->type_at(a.main, offset)) {
            span = typed->span;
            std::string text(a.sources.text(span));
            if (text.size() > 200 || text.find('\n') != std::string::npos) text = "...";
            markdown = fenced(text + ": " + std::string(typed->type));
        } else {
            return nullptr;
        }
    }
    return {{"contents", {{"kind", "markdown"}, {"value", markdown}}}, {"range", workspace.range(a, span)}};
}

Json definition(Workspace& workspace, Document& document, uint32_t offset) {
    const Analysis& a = workspace.analysis(document);
    const Use* use = a.names->at(a.main, offset);
    if (!use || !use->symbol->declared) return nullptr;
    return workspace.location(a, *use->symbol->declared);
}

Json symbols(Workspace& workspace, Document& document) {
    // The protocol's numbers of kinds.
    constexpr int kClass = 5, kFunction = 12, kVariable = 13, kConstant = 14, kProperty = 7;
    const Analysis& a = workspace.analysis(document);
    Json list = Json::array();
    for (const ast::Decl* d : a.names->syntax(a.main)->decls) {
        if (d->kind == ast::DeclKind::Import || d->name.text.empty()) continue;
        const Use* use = a.names->at(a.main, d->name.span.begin);
        const int kind = d->kind == ast::DeclKind::Attention ? kClass : d->kind == ast::DeclKind::Const ? kConstant : kFunction;
        Json entry = {{"name", d->name.text},
                      {"kind", kind},
                      {"range", workspace.range(a, d->span.to(d->name.span))},
                      {"selectionRange", workspace.range(a, d->name.span)},
                      {"detail", use ? use->symbol->signature.substr(0, use->symbol->signature.find(' ')) : ""}};
        std::vector<std::pair<diag::Span, Json>> children;
        for (const ast::Let& l : d->lets)
            children.push_back({l.span, {{"name", l.name.text}, {"kind", kVariable}, {"selectionRange", workspace.range(a, l.name.span)}}});
        for (const ast::Clause& c : d->clauses) {
            const std::string name = std::string(ast::text(c.kind)) + (c.emit_name.text.empty() ? "" : " " + c.emit_name.text);
            children.push_back({c.span, {{"name", name}, {"kind", kProperty}, {"selectionRange", workspace.range(a, c.keyword)}}});
        }
        std::sort(children.begin(), children.end(), [](const auto& x, const auto& y) { return x.first.begin < y.first.begin; });
        for (auto& [span, child] : children) {
            child["range"] = workspace.range(a, span);
            entry["children"].push_back(std::move(child));
        }
        list.push_back(std::move(entry));
    }
    return list;
}

Json formatting(Workspace& workspace, Document& document) {
    diag::SourceManager sources;
    diag::Sink sink;
    const auto formatted = frontend::format(sources, sources.add(document.name, document.text), sink);
    Json edits = Json::array();
    if (!formatted || !formatted->faithful || formatted->text == document.text) return edits;
    // One edit, without the lines at both ends that stay: the cursor keeps its place there.
    const std::string_view before = document.text, after = formatted->text;
    size_t head = 0;
    for (size_t i = 0; i < std::min(before.size(), after.size()) && before[i] == after[i]; ++i)
        if (before[i] == '\n') head = i + 1;
    size_t tail = 0;
    for (size_t i = 1; i <= std::min(before.size(), after.size()) - head && before[before.size() - i] == after[after.size() - i]; ++i)
        if (before[before.size() - i] == '\n') tail = i - 1;
    edits.push_back({{"range",
                      {{"start", document.lines.position(before, static_cast<uint32_t>(head), workspace.encoding)},
                       {"end", document.lines.position(before, static_cast<uint32_t>(before.size() - tail), workspace.encoding)}}},
                     {"newText", after.substr(head, after.size() - tail - head)}});
    return edits;
}

// ---- diagnostics ----

namespace {

Json fixes_of(const Workspace& workspace, const Analysis& a, const diag::Diagnostic& d) {
    Json fixes = Json::array();
    size_t next = 0;
    std::vector<std::string> titles;
    for (const diag::Note& n : d.notes)
        if (n.is_help) titles.push_back(n.text);
    for (const diag::Fix& f : d.fixes) {
        if (f.span.file != a.main) continue;
        const std::string title = next < titles.size() ? titles[next] : "replace by `" + f.replacement + "`";
        ++next;
        fixes.push_back({{"title", title}, {"range", workspace.range(a, f.span)}, {"newText", f.replacement}});
    }
    return fixes;
}

Json one_diagnostic(Workspace& workspace, const Analysis& a, const diag::Diagnostic& d) {
    const diag::KindInfo& info = diag::info(d.kind);
    const bool elsewhere = d.span && d.span->file != a.main;
    const diag::Span span = !d.span ? diag::Span{a.main, 0, 0} : elsewhere ? import_of(a, d.span->file) : *d.span;
    std::string message = d.message;
    Json related = Json::array();
    const auto relate = [&](diag::Span where, const std::string& text) {
        Json location = workspace.location(a, where);
        if (!location.is_null()) related.push_back({{"location", std::move(location)}, {"message", valid_utf8(text)}});
    };
    if (elsewhere) {
        relate(*d.span, d.message);
        message = "in `" + a.sources.file(d.span->file).name() + "`: " + message;
    }
    for (const diag::Note& n : d.notes) {
        if (n.span)
            relate(*n.span, n.text);
        else
            message += std::string("\n") + (n.is_help ? "help: " : "note: ") + n.text;
    }
    Json out = {{"range", workspace.range(a, span)},
                {"severity", d.level == diag::Level::Error ? 1 : 2},
                {"code", info.code},
                {"source", "flexc"},
                {"message", valid_utf8(message)},
                {"data", {{"name", info.name}, {"fixes", fixes_of(workspace, a, d)}}}};
    if (workspace.links_codes)
        if (const std::string page = workspace.explanation_uri(info); !page.empty()) out["codeDescription"] = {{"href", page}};
    if (!related.empty()) out["relatedInformation"] = std::move(related);
    if (info.name.starts_with("unused")) out["tags"] = {1};  // shown faded
    return out;
}

}  // namespace

Json diagnostics(Workspace& workspace, Document& document) {
    const Analysis& a = workspace.analysis(document);
    Json list = Json::array();
    for (const diag::Sink* sink : {&a.sink, &a.lowering})
        for (const diag::Diagnostic& d : sink->all()) list.push_back(one_diagnostic(workspace, a, d));
    return list;
}

Json code_actions(Workspace& workspace, Document& document, uint32_t begin, uint32_t end) {
    const Analysis& a = workspace.analysis(document);
    Json actions = Json::array();
    for (const diag::Sink* sink : {&a.sink, &a.lowering})
        for (const diag::Diagnostic& d : sink->all()) {
            if (!d.span || d.span->file != a.main || d.span->end < begin || d.span->begin > end) continue;
            const Json fixes = fixes_of(workspace, a, d);
            for (const Json& fix : fixes)
                actions.push_back({{"title", fix["title"]},
                                   {"kind", "quickfix"},
                                   {"isPreferred", fixes.size() == 1},
                                   {"diagnostics", {one_diagnostic(workspace, a, d)}},
                                   {"edit", {{"changes", {{document.uri, {{{"range", fix["range"]}, {"newText", fix["newText"]}}}}}}}}});
        }
    return actions;
}

// ---- uses ----

namespace {

struct Place {
    std::string uri;
    Json range;
    bool is_declaration;
    bool operator<(const Place& other) const {
        const auto key = [](const Place& p) {
            return std::make_tuple(std::cref(p.uri), p.range["start"]["line"].get<uint64_t>(),
                                   p.range["start"]["character"].get<uint64_t>());
        };
        return key(*this) < key(other);
    }
};

/// Every place of a symbol in the open documents and the files that they import.
std::vector<Place> places(Workspace& workspace, Document& document, const Symbol& symbol) {
    const Analysis& home = workspace.analysis(document);
    const bool local = !symbol.declared || symbol.kind == SymbolKind::Import;
    const std::string file = local ? "" : home.sources.file(symbol.declared->file).name();
    std::vector<Place> found;
    const auto collect = [&](const Analysis& a, const Symbol& s) {
        for (const Use& u : a.names->all(s))
            if (const std::string uri = workspace.uri(a, u.span.file); !uri.empty() && (!local || u.span.file == a.main))
                found.push_back({uri, workspace.range(a, u.span), u.is_declaration});
    };
    collect(home, symbol);
    if (!local)
        for (auto& [uri, other] : workspace.all()) {
            if (&other == &document) continue;
            const Analysis& a = workspace.analysis(other);
            for (diag::FileId id = 0; id < a.sources.size(); ++id) {
                if (a.sources.file(id).name() != file) continue;
                const Use* use = a.names->at(id, symbol.declared->begin);
                if (use && use->symbol->name == symbol.name && use->is_declaration) collect(a, *use->symbol);
            }
        }
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end(), [](const Place& a, const Place& b) { return !(a < b) && !(b < a); }), found.end());
    return found;
}

}  // namespace

Json references(Workspace& workspace, Document& document, uint32_t offset, bool with_declaration) {
    const Analysis& a = workspace.analysis(document);
    const Use* use = a.names->at(a.main, offset);
    if (!use) return nullptr;
    Json list = Json::array();
    for (const Place& p : places(workspace, document, *use->symbol))
        if (with_declaration || !p.is_declaration) list.push_back({{"uri", p.uri}, {"range", p.range}});
    return list;
}

Json highlights(Workspace& workspace, Document& document, uint32_t offset) {
    const Analysis& a = workspace.analysis(document);
    const Use* use = a.names->at(a.main, offset);
    if (!use) return nullptr;
    Json list = Json::array();
    for (const Use& u : a.names->all(*use->symbol))
        if (u.span.file == a.main) list.push_back({{"range", workspace.range(a, u.span)}, {"kind", u.is_declaration ? 3 : 2}});
    return list;
}

namespace {

const Use& renamable(Workspace& workspace, Document& document, uint32_t offset) {
    const Analysis& a = workspace.analysis(document);
    const Use* use = a.names->at(a.main, offset);
    if (!use) throw Refused("there is no name here");
    const Symbol& s = *use->symbol;
    if (s.kind == SymbolKind::Language) throw Refused("`" + s.name + "` belongs to the language");
    if (s.kind == SymbolKind::Import) throw Refused("an import is renamed by renaming the file");
    if (a.sources.file(s.declared->file).name().starts_with("<")) throw Refused("`" + s.name + "` belongs to the standard library");
    return *use;
}

}  // namespace

Json prepare_rename(Workspace& workspace, Document& document, uint32_t offset) {
    const Use& use = renamable(workspace, document, offset);
    return {{"range", workspace.range(workspace.analysis(document), use.span)}, {"placeholder", use.symbol->name}};
}

Json rename(Workspace& workspace, Document& document, uint32_t offset, const std::string& name) {
    const Use& use = renamable(workspace, document, offset);
    if (name.empty() || (name[0] >= '0' && name[0] <= '9') || !std::all_of(name.begin(), name.end(), is_name_byte))
        throw Refused("`" + name + "` is no name");
    std::map<std::string, std::vector<Place>> by_file;
    for (Place& p : places(workspace, document, *use.symbol)) by_file[p.uri].push_back(p);

    // The document with the new name must be as right as before: no clash, no word of the language.
    const auto& own = by_file[document.uri];
    std::string text = document.text;
    for (auto p = own.rbegin(); p != own.rend(); ++p) {
        const auto at = [&](const char* end) {
            return document.lines.offset(document.text, p->range[end]["line"], p->range[end]["character"], workspace.encoding);
        };
        text.replace(at("start"), at("end") - at("start"), name);
    }
    const Analysis& before = workspace.analysis(document);
    const bool only_here = by_file.size() == 1;
    if (only_here && name != use.symbol->name && !before.sink.has_errors()) {
        const auto after = workspace.analyse(document.name, text);
        for (const diag::Diagnostic& d : after->sink.all())
            if (d.level == diag::Level::Error) throw Refused("with the name `" + name + "`, " + d.message);
    }
    Json changes = Json::object();
    for (const auto& [uri, list] : by_file)
        for (const Place& p : list) changes[uri].push_back({{"range", p.range}, {"newText", name}});
    return {{"changes", changes}};
}

}  // namespace flexc::lsp

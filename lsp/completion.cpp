// Completion and the signature of the call being typed: both from the tokens before the place, with the declarations of the last analysis.
#include <algorithm>
#include <array>

#include "frontend/query_context.h"
#include "lsp/features.h"

namespace flexc::lsp {

using frontend::CursorContext;
using frontend::LanguageWord;
using frontend::Symbol;
using frontend::SymbolKind;
using Place = CursorContext::Place;

namespace {

// The protocol's numbers of kinds.
enum ItemKind : int {
    kText = 1,
    kFunction = 3,
    kField = 5,
    kVariable = 6,
    kProperty = 10,
    kValue = 12,
    kKeyword = 14,
    kSnippet = 15,
    kFile = 17,
    kConstant = 21,
    kTypeParameter = 25
};

class Items {
public:
    Items(Json edit_range, bool snippets) : range_(std::move(edit_range)), snippets_(snippets) {}

    /// `rank` orders: what is near comes first. `snippet`: inserted instead of the label where the editor has snippets.
    void add(std::string_view label, ItemKind kind, std::string_view detail, std::string_view doc, int rank,
             const std::string& snippet = {}) {
        if (std::any_of(list_.begin(), list_.end(), [&](const Json& i) { return i["label"] == label; })) return;
        Json item = {{"label", label}, {"kind", kind}, {"sortText", std::to_string(rank) + std::string(label)}};
        if (!detail.empty()) item["detail"] = detail;
        if (!doc.empty()) item["documentation"] = {{"kind", "markdown"}, {"value", doc}};
        const bool use_snippet = snippets_ && !snippet.empty();
        item["insertTextFormat"] = use_snippet ? 2 : 1;
        item["textEdit"] = {{"range", range_}, {"newText", use_snippet ? snippet : std::string(label)}};
        list_.push_back(std::move(item));
    }
    void word(std::string_view name, ItemKind kind, int rank, const std::string& snippet = {}) {
        const LanguageWord* w = frontend::language_word(name);
        add(name, kind, w ? w->signature : "", w ? w->doc : "", rank, snippet);
    }
    [[nodiscard]] Json take() { return std::move(list_); }

private:
    Json range_;
    bool snippets_;
    Json list_ = Json::array();
};

/// `name(` with a place to type for each argument that has no default.
std::string call_snippet(const Symbol& s) {
    std::string arguments;
    size_t next = 1;
    for (size_t i = 0; i < s.parameters.size(); ++i) {
        if (s.decl && s.parameters[i].find('=') != std::string::npos) continue;
        const std::string name = s.decl ? s.parameter_names[i] : s.parameters[i].substr(0, s.parameters[i].find(':'));
        arguments += (arguments.empty() ? "${" : ", ${") + std::to_string(next++) + ":" + name + "}";
    }
    return s.name + "(" + arguments + ")$0";
}

bool reads_score(const CursorContext& c) {
    if (c.decl == ast::DeclKind::Score) return true;
    return c.decl == ast::DeclKind::Attention && (!c.clause || c.clause == ast::ClauseKind::Score || c.clause == ast::ClauseKind::Emit);
}

void add_expression(Items& items, const CursorContext& c, const frontend::NameIndex& names, diag::FileId file) {
    const bool indices = c.decl != ast::DeclKind::Const && c.decl != ast::DeclKind::Fn;
    for (const CursorContext::Local& l : c.locals) {
        using Kind = CursorContext::Local::Kind;
        const std::string snippet = l.kind == Kind::Mask ? l.name + "($1)$0" : l.kind == Kind::Tensor ? l.name + "[$1]$0" : "";
        items.add(l.name, l.kind == Kind::Extent ? kTypeParameter : kVariable, l.detail, "", 1, snippet);
    }
    if (c.clause) {
        using K = ast::ClauseKind;
        if (c.clause == K::Query || c.clause == K::Key || c.clause == K::Output) items.word("d", kVariable, 1);
        if (c.clause == K::Query) items.word("query", kVariable, 1, "query[$1]$0");
        if (c.clause == K::Key) items.word("key", kVariable, 1, "key[$1]$0");
        if (c.clause == K::Output) items.word("o", kVariable, 1);
        if (c.clause == K::Emit) items.word("weight", kVariable, 1);
    }
    if (indices) {
        if (reads_score(c)) items.word("score", kVariable, 2);
        for (const std::string_view name : {"q", "k", "b", "h", "hkv"}) {
            const bool row_only = c.clause == ast::ClauseKind::Scale || c.clause == ast::ClauseKind::Sink ||
                                  c.clause == ast::ClauseKind::Query || c.clause == ast::ClauseKind::Output;
            if (row_only && name == "k") continue;
            if (c.clause == ast::ClauseKind::Key && (name == "q" || name == "h")) continue;
            items.word(name, kVariable, 2);
        }
    }
    for (const Symbol* s : names.visible(file)) {
        const bool callable = s->kind != SymbolKind::Const;
        if (!indices && (s->kind == SymbolKind::Mask || s->kind == SymbolKind::Score)) continue;
        if (s->kind == SymbolKind::Score && !reads_score(c)) continue;
        const int rank = s->declared && s->declared->file == file ? 3 : 4;
        items.add(s->name, callable ? kFunction : kConstant, s->signature, s->doc, rank, callable ? call_snippet(*s) : "");
    }
    for (const LanguageWord& w : frontend::language_words()) {
        using K = LanguageWord::Kind;
        const std::string name(w.name);
        if (w.kind == K::Function)
            items.word(w.name, kFunction, 5, name == "dot" ? "dot(${1:x}[$2, :], ${3:y}[$4, :])$0" : name + "($1)$0");
        if (w.kind == K::Reduction) items.word(w.name, kFunction, 5, name + "(${1:j} in ${2:0}..${3:n}: $0)");
        if (w.kind == K::Type && (name == "f32" || name == "i32")) items.word(w.name, kFunction, 5, name + "($1)$0");
        if (w.kind == K::Extent && indices) items.word(w.name, kConstant, 5);
        if (w.kind == K::Constant) items.word(w.name, kConstant, 6);
    }
    items.word("if", kKeyword, 7, "if ${1:condition} then ${2:a} else ${3:b}$0");
    items.word("not", kKeyword, 7);
    if (c.block_start) items.word("let", kKeyword, 7, "let ${1:name} = $0;");
}

/// The parameters of the callee and the indices it may be called at, as `name = `.
void add_named_arguments(Items& items, const CursorContext& c, const frontend::NameIndex& names, diag::FileId file) {
    if (!c.call || !c.call->argument_start) return;
    const Symbol* callee = names.visible(file, c.call->name);
    const bool mask_parameter = std::any_of(c.locals.begin(), c.locals.end(), [&](const auto& l) {
        return l.kind == CursorContext::Local::Kind::Mask && l.name == c.call->name;
    });
    if (callee && c.call->argument > 0)
        for (size_t i = c.call->argument; i < callee->parameter_names.size(); ++i)
            items.add(callee->parameter_names[i] + " = ", kField, callee->parameters[i], "Argument of `" + callee->name + "`, by name.", 0);
    const bool replaces = mask_parameter || (callee && (callee->kind == SymbolKind::Mask || callee->kind == SymbolKind::Score));
    if (replaces)
        for (const char* name : {"q", "k", "b", "h"})
            items.add(std::string(name) + " = ", kField, "", "Calls `" + c.call->name + "` at another `" + name + "`.",
                      mask_parameter ? 0 : 8);
}

}  // namespace

Json completion(Workspace& workspace, Document& document, uint32_t offset, bool snippets) {
    const CursorContext c = frontend::context_at(document.text, offset);
    Json result = {{"isIncomplete", false}, {"items", Json::array()}};
    if (c.place == Place::Nothing) return result;
    const Analysis& a = workspace.analysis(document);
    Items items({{"start", document.lines.position(document.text, c.word_begin, workspace.encoding)},
                 {"end", document.lines.position(document.text, offset, workspace.encoding)}},
                snippets);
    switch (c.place) {
        case Place::Nothing: break;
        case Place::Declaration:
            items.word("import", kKeyword, 1, "import ${1:std};$0");
            items.word("attention", kKeyword, 1, "attention ${1:name}($2) {\n    $0\n}");
            items.add("mask", kKeyword, "mask name(parameters) = e;", "A condition over the indices, for masks of attentions.", 1,
                      "mask ${1:name}($2) = $0;");
            items.add("score", kKeyword, "score name(parameters) = e;", "A function of the score and the indices.", 1,
                      "score ${1:name}($2) = $0;");
            items.word("fn", kKeyword, 1, "fn ${1:name}(${2:x}: ${3:f32}) -> ${4:f32} = $0;");
            items.word("const", kKeyword, 1, "const ${1:NAME}: ${2:i32} = $0;");
            break;
        case Place::Import: items.add("std", kFile, "import std;", "The standard library: masks and scores of the literature.", 1); break;
        case Place::Type:
            for (const char* name : {"f32", "i32", "bool", "f16", "bf16", "i16", "i8", "u8"}) items.word(name, kValue, 1);
            if (c.decl == ast::DeclKind::Mask || c.decl == ast::DeclKind::Score)
                items.add("mask", kValue, "mask", "A condition over the indices, passed by name.", 1);
            if (c.decl == ast::DeclKind::Attention) items.word("grad", kKeyword, 2);
            break;
        case Place::Extent:
            for (const CursorContext::Local& l : c.locals)
                if (l.kind == CursorContext::Local::Kind::Extent) items.add(l.name, kTypeParameter, l.detail, "", 1);
            for (const LanguageWord& w : frontend::language_words())
                if (w.kind == LanguageWord::Kind::Extent) items.word(w.name, kConstant, 2);
            for (const Symbol* s : a.names->visible(a.main))
                if (s->kind == SymbolKind::Const) items.add(s->name, kConstant, s->signature, s->doc, 3);
            break;
        case Place::Parameter:
            if (c.decl == ast::DeclKind::Attention) items.word("const", kKeyword, 1);
            break;
        case Place::Clause:
            for (const char* name : {"score", "mask", "scale", "sink", "query", "key", "output", "blocks"}) {
                if (std::find(c.clauses_given.begin(), c.clauses_given.end(), name) != c.clauses_given.end()) continue;
                const LanguageWord* w = frontend::language_word(name);
                const bool is_score = std::string_view(name) == "score";
                items.add(name, kProperty, is_score ? "score = e" : w->signature, w->doc, 1, std::string(name) + " = $0;");
            }
            if (std::find(c.clauses_given.begin(), c.clauses_given.end(), "normalize") == c.clauses_given.end())
                items.word("normalize", kProperty, 1, "normalize ${1|softmax,sigmoid,none|};$0");
            items.word("emit", kProperty, 1, "emit ${1:name} = ${2|mean,column_sum|}($0);");
            items.word("let", kKeyword, 2, "let ${1:name} = $0;");
            break;
        case Place::Normalize:
            for (const char* name : {"softmax", "sigmoid", "none"}) items.word(name, kValue, 1);
            break;
        case Place::Emission:
            for (const char* name : {"mean", "column_sum"}) items.word(name, kFunction, 1, std::string(name) + "($0);");
            break;
        case Place::Blocks:
            for (const CursorContext::Local& l : c.locals)
                if (l.kind == CursorContext::Local::Kind::Tensor) items.add(l.name, kVariable, l.detail, "", 1);
            break;
        case Place::Pipe:
            for (const Symbol* s : a.names->visible(a.main))
                if (s->kind == SymbolKind::Score)
                    items.add(s->name, kFunction, s->signature, s->doc, s->declared->file == a.main ? 1 : 2, call_snippet(*s));
            break;
        case Place::Operator:
            for (const char* name : {"and", "or", "then", "else", "in"}) items.word(name, kKeyword, 1);
            break;
        case Place::Expression:
            add_named_arguments(items, c, *a.names, a.main);
            add_expression(items, c, *a.names, a.main);
            break;
    }
    result["items"] = items.take();
    return result;
}

Json signature_help(Workspace& workspace, Document& document, uint32_t offset) {
    const CursorContext c = frontend::context_at(document.text, offset);
    if (!c.call) return nullptr;
    const Analysis& a = workspace.analysis(document);
    std::string label, doc;
    std::vector<std::string> parameters, names;
    const auto local = std::find_if(c.locals.begin(), c.locals.end(),
                                    [&](const auto& l) { return l.name == c.call->name && l.kind == CursorContext::Local::Kind::Mask; });
    const Symbol* s = a.names->visible(a.main, c.call->name);
    if (local != c.locals.end()) {
        parameters = {"q = ...", "k = ...", "b = ...", "h = ..."};
        names = {"q", "k", "b", "h"};
        label = local->name + "(q = ..., k = ..., b = ..., h = ...)";
        doc = "A mask parameter, called at the present indices or at others.";
    } else if (const LanguageWord* w = frontend::language_word(c.call->name); w && w->signature.find('(') != std::string_view::npos) {
        label = w->signature;
        doc = w->doc;
        const size_t open = label.find('('), close = label.rfind(')') == std::string::npos ? label.size() : label.rfind(')');
        int depth = 0;
        for (size_t i = open + 1, begin = i; i <= close && i < label.size(); ++i) {
            if ((label[i] == ',' && depth == 0) || i == close) {
                parameters.push_back(label.substr(begin, i - begin));
                begin = i + 2;
            }
            depth += (label[i] == '[') - (label[i] == ']');
        }
    } else if (s && s->decl && s->kind != SymbolKind::Const) {
        label = s->signature;
        doc = s->doc;
        parameters = s->parameters;
        names = s->parameter_names;
    } else {
        return nullptr;
    }
    size_t active = c.call->argument;
    if (!c.call->named.empty()) active = static_cast<size_t>(std::find(names.begin(), names.end(), c.call->named) - names.begin());
    Json list = Json::array();
    for (const std::string& p : parameters) list.push_back({{"label", p}});
    Json signature = {{"label", label}, {"parameters", list}};
    if (!doc.empty()) signature["documentation"] = {{"kind", "markdown"}, {"value", doc}};
    return {{"signatures", {signature}}, {"activeSignature", 0}, {"activeParameter", active}};
}

}  // namespace flexc::lsp

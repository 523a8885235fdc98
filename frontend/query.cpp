#include "frontend/query.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "frontend/sema_names.h"
#include "frontend/sema_tree.h"

namespace flexc::frontend {

using ast::Expr;
using ast::ExprKind;
using diag::Span;

/// Resolves the names of one program.
class IndexBuilder {
public:
    IndexBuilder(NameIndex& index, const Program::Impl& program) : index_(index), program_(program) {
        for (const sema::Let& l : program.lets)
            if (l.value) let_types_.emplace(key(l.span), sema::name(l.value->type));
    }

    void run() {
        for (const LanguageWord& w : language_words()) {
            Symbol& s = make(SymbolKind::Language, std::string(w.name), std::nullopt);
            s.signature = w.signature;
            s.doc = w.doc;
            if (const size_t open = s.signature.find('('); open != std::string::npos && s.signature.starts_with(s.name + "("))
                split_parameters(s, open);
            index_.language_.emplace(s.name, &s);
        }
        for (const sema::Module& m : program_.modules)
            for (const ast::Decl* d : m.syntax->decls) declare(m, *d);
        for (const sema::Module& m : program_.modules) {
            module_ = &m;
            for (const ast::Decl* d : m.syntax->decls) declaration(*d);
        }
        std::sort(index_.uses_.begin(), index_.uses_.end(), [](const Use& a, const Use& b) {
            return std::tie(a.span.file, a.span.begin, b.span.end) < std::tie(b.span.file, b.span.begin, a.span.end);
        });
    }

private:
    static uint64_t key(Span s) { return uint64_t{s.file} << 32 | s.begin; }

    Symbol& make(SymbolKind kind, std::string name, std::optional<Span> declared) {
        Symbol& s = index_.symbols_.emplace_back();
        s.kind = kind;
        s.name = std::move(name);
        s.declared = declared;
        return s;
    }
    void use(Span span, const Symbol* symbol, bool is_declaration = false) {
        if (symbol) index_.uses_.push_back({span, symbol, is_declaration});
    }
    const Symbol* language(std::string_view name) const {
        const auto found = index_.language_.find(name);
        return found == index_.language_.end() ? nullptr : found->second;
    }
    /// Source text on one line.
    std::string text(Span span) const {
        std::string out;
        bool comment = false;
        for (const char c : program_.sources->text(span)) {
            comment = c == '#' || (comment && c != '\n');
            if (comment) continue;
            const bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
            if (!blank)
                out += c;
            else if (!out.empty() && out.back() != ' ')
                out += ' ';
        }
        return out;
    }

    static void split_parameters(Symbol& s, size_t open) {
        int depth = 0;
        size_t begin = open + 1;
        for (size_t i = open; i < s.signature.size(); ++i) {
            const char c = s.signature[i];
            depth += (c == '(' || c == '[') - (c == ')' || c == ']');
            if ((c == ',' && depth == 1) || depth == 0) {
                while (begin < i && s.signature[begin] == ' ') ++begin;
                if (begin < i) s.parameters.push_back(s.signature.substr(begin, i - begin));
                begin = i + 1;
            }
            if (depth == 0) break;
        }
        for (const std::string& p : s.parameters) s.parameter_names.push_back(p.substr(0, p.find_first_of(":[ ")));
    }

    // ---- declarations ----

    void declare(const sema::Module& m, const ast::Decl& d) {
        if (d.kind == ast::DeclKind::Import) {
            Symbol& s = make(SymbolKind::Import, d.name.text, std::nullopt);
            s.signature = d.import_is_path ? "import \"" + d.name.text + "\"" : "import " + d.name.text;
            for (const sema::Module::Import& i : m.imports)
                if (i.span.begin == d.span.begin) s.declared = Span{i.module->file, 0, 0};
            index_.decls_.emplace(&d, &s);
            return;
        }
        static constexpr std::array kKinds = {SymbolKind::Import, SymbolKind::Const, SymbolKind::Fn,
                                              SymbolKind::Mask,   SymbolKind::Score, SymbolKind::Attention};
        static constexpr std::array<std::string_view, 6> kWords = {"import", "const", "fn", "mask", "score", "attention"};
        const auto kind = static_cast<size_t>(d.kind);
        Symbol& s = make(kKinds[kind], d.name.text, d.name.span);
        s.decl = &d;
        s.doc = d.doc;
        s.signature = std::string(kWords[kind]) + " " + s.name;
        if (d.kind == ast::DeclKind::Const) {
            if (d.body) s.signature += ": " + text(d.type.span) + " = " + text(d.body->span);
        } else if (!d.damaged || !d.params.empty()) {
            s.signature += "(";
            for (const ast::ParamDecl& p : d.params) {
                s.parameters.push_back(text(p.span));
                s.parameter_names.push_back(p.name.text);
                s.signature += (s.parameters.size() > 1 ? ", " : "") + s.parameters.back();
            }
            s.signature += ")";
            if (d.kind == ast::DeclKind::Fn && d.type.span.end > 0) s.signature += " -> " + text(d.type.span);
        }
        index_.decls_.emplace(&d, &s);
        for (const ast::ParamDecl& p : d.params) {
            Symbol& symbol = make(SymbolKind::Param, p.name.text, p.name.span);
            symbol.param = &p;
            symbol.decl = &d;
            symbol.signature = text(p.span);
            symbol.doc = "Parameter of `" + d.name.text + "`.";
            params_.emplace(&p, &symbol);
        }
    }

    const Symbol* visible(std::string_view name) const {
        const auto found = module_->visible.find(name);
        if (found == module_->visible.end()) return nullptr;
        const auto symbol = index_.decls_.find(found->second->syntax);
        return symbol == index_.decls_.end() ? nullptr : symbol->second;
    }

    struct Local {
        std::string_view name;
        const Symbol* symbol;
    };

    void declaration(const ast::Decl& d) {
        use(d.name.span, index_.decls_.at(&d), d.kind != ast::DeclKind::Import);
        locals_.clear();
        for (const ast::ParamDecl& p : d.params) {
            use(p.name.span, params_.at(&p), true);
            locals_.push_back({p.name.text, params_.at(&p)});
        }
        for (const ast::ParamDecl& p : d.params) {
            type(p.type);
            in_extents_ = true;
            for (const Expr* dim : p.type.dims) expr(*dim);
            in_extents_ = false;
            if (p.default_value) expr(*p.default_value);
        }
        type(d.type);
        if (d.body) expr(*d.body);
        size_t next = 0;
        const auto lets_before = [&](uint32_t position) {
            for (; next < d.lets.size() && d.lets[next].span.begin < position; ++next) let(d.lets[next]);
        };
        for (const ast::Clause& c : d.clauses) {
            lets_before(c.span.begin);
            clause(c);
        }
        lets_before(UINT32_MAX);
    }

    void type(const ast::TypeRef& t) {
        if (!t.name.text.empty()) use(t.name.span, language(t.name.text));
    }

    void clause(const ast::Clause& c) {
        use(c.keyword, language(ast::text(c.kind)));
        if (c.kind == ast::ClauseKind::Normalize) use(c.normalize.span, language(c.normalize.text));
        if (c.kind == ast::ClauseKind::Emit) {
            Symbol& s = make(SymbolKind::Emit, c.emit_name.text, c.emit_name.span);
            s.signature = "emit " + s.name;
            s.doc = c.emit_kind.text == "column_sum" ? "Output `f32[B, H, K]`." : "Output `f32[B, H, Q]`.";
            use(c.emit_name.span, &s, true);
            use(c.emit_kind.span, language(c.emit_kind.text));
        }
        clause_ = c.kind;
        if (c.value) expr(*c.value);
        clause_.reset();
    }

    void let(const ast::Let& l) {
        if (l.value) expr(*l.value);
        Symbol& s = make(SymbolKind::Let, l.name.text, l.name.span);
        const auto found = let_types_.find(key(l.name.span));
        s.signature = "let " + s.name + (found == let_types_.end() || found->second == "?" ? "" : ": " + std::string(found->second));
        if (l.value && l.value->span.end - l.value->span.begin < 200) s.signature += " = " + text(l.value->span);
        use(l.name.span, &s, true);
        locals_.push_back({l.name.text, &s});
    }

    // ---- expressions ----

    const Symbol* local(std::string_view name) const {
        const auto found = std::find_if(locals_.rbegin(), locals_.rend(), [&](const Local& l) { return l.name == name; });
        return found == locals_.rend() ? nullptr : found->symbol;
    }
    bool clause_name(std::string_view name) const {
        if (!clause_) return false;
        switch (*clause_) {
            case ast::ClauseKind::Output: return name == "o" || name == "d";
            case ast::ClauseKind::Query: return name == "query" || name == "d";
            case ast::ClauseKind::Key: return name == "key" || name == "d";
            case ast::ClauseKind::Emit: return name == "weight";
            default: return false;
        }
    }

    const Symbol* value(std::string_view name) {
        if (clause_name(name)) return language(name);
        if (const Symbol* s = local(name)) return s;
        if (sema::slot_named(name) || sema::extent_named(name) || sema::constant_named(name)) return language(name);
        if (const Symbol* s = visible(name)) return s;
        if (sema::builtin_named(name)) return language(name);
        return nullptr;
    }

    const Symbol* callee(std::string_view name) const {
        if (const Symbol* s = local(name); s && s->param && s->param->type.name.text == "mask") return s;
        if (sema::builtin_named(name) || name == "sum" || name == "any" || name == "all") return language(name);
        return visible(name);
    }

    void name(const Expr& e) {
        const Symbol* s = value(e.text);
        if (!s && in_extents_) {
            Symbol& extent = make(SymbolKind::FreeExtent, e.text, e.span);
            extent.signature = extent.name + ": i32";
            extent.doc = "An extent, bound by the tensor that is given.";
            locals_.push_back({e.text, &extent});
            use(e.span, &extent, true);
            return;
        }
        use(e.span, s);
    }

    void expr(const Expr& e) {
        switch (e.kind) {
            case ExprKind::Name: name(e); return;
            case ExprKind::BoolLiteral:
                if (!e.parenthesised) use(e.span, language(e.value ? "true" : "false"));
                return;
            case ExprKind::Call: call(e); return;
            case ExprKind::Reduce: {
                use(e.operator_span, language(e.text));
                expr(*e.args[0]);
                expr(*e.args[1]);
                const size_t before = locals_.size();
                Symbol& s = make(SymbolKind::Loop, e.variable.text, e.variable.span);
                s.signature = s.name + ": i32";
                s.doc = "In [" + text(e.args[0]->span) + ", " + text(e.args[1]->span) + ").";
                use(e.variable.span, &s, true);
                locals_.push_back({e.variable.text, &s});
                expr(*e.args[2]);
                locals_.resize(before);
                return;
            }
            case ExprKind::Block: {
                const size_t before = locals_.size();
                for (const ast::Let& l : e.lets) let(l);
                for (const Expr* a : e.args) expr(*a);
                locals_.resize(before);
                return;
            }
            case ExprKind::Pipe:
                expr(*e.args[0]);
                if (e.args[1]->kind == ExprKind::Name)
                    use(e.args[1]->span, callee(e.args[1]->text));
                else
                    expr(*e.args[1]);
                return;
            default: break;
        }
        if (e.kind == ExprKind::Unary && e.unary == ast::UnaryOp::Not) use(e.operator_span, language("not"));
        if (e.kind == ExprKind::Binary && (e.binary == ast::BinaryOp::And || e.binary == ast::BinaryOp::Or))
            use(e.operator_span, language(ast::text(e.binary)));
        if (e.kind == ExprKind::If) use(e.operator_span, language("if"));
        for (const Expr* a : e.args) expr(*a);
    }

    void call(const Expr& e) {
        const Symbol* target = callee(e.text);
        use(e.operator_span, target);
        for (const Expr* a : e.args) expr(*a);
        for (const ast::NamedArg& a : e.named) {
            const Symbol* parameter = nullptr;
            if (target && target->decl && target->kind != SymbolKind::Param)
                for (const ast::ParamDecl& p : target->decl->params)
                    if (p.name.text == a.name.text) parameter = params_.at(&p);
            if (!parameter && sema::slot_named(a.name.text)) parameter = language(a.name.text);
            use(a.name.span, parameter);
            expr(*a.value);
        }
    }

    NameIndex& index_;
    const Program::Impl& program_;
    const sema::Module* module_ = nullptr;
    std::unordered_map<uint64_t, std::string_view> let_types_;
    std::unordered_map<const ast::ParamDecl*, const Symbol*> params_;
    std::vector<Local> locals_;
    std::optional<ast::ClauseKind> clause_;
    bool in_extents_ = false;
};

NameIndex::NameIndex(const Program& program) : program_(program) {
    IndexBuilder(*this, program.impl()).run();
}

const Use* NameIndex::at(diag::FileId file, uint32_t offset) const {
    // Names do not overlap.
    auto next = std::partition_point(uses_.begin(), uses_.end(),
                                     [&](const Use& u) { return std::tie(u.span.file, u.span.begin) <= std::tie(file, offset); });
    while (next != uses_.begin()) {
        --next;
        if (next->span.file != file || next->span.end < offset) return nullptr;
        if (next->span.end > next->span.begin) return &*next;
    }
    return nullptr;
}

std::vector<Use> NameIndex::all(const Symbol& symbol) const {
    std::vector<Use> found;
    for (const Use& u : uses_)
        if (u.symbol == &symbol) found.push_back(u);
    return found;
}

namespace {

const sema::Module* module_of(const Program& program, diag::FileId file) {
    for (const sema::Module& m : program.impl().modules)
        if (m.file == file) return &m;
    return nullptr;
}

}  // namespace

std::vector<const Symbol*> NameIndex::visible(diag::FileId file) const {
    std::vector<const Symbol*> found;
    if (const sema::Module* m = module_of(program_, file))
        for (const auto& [name, decl] : m->visible)
            if (const auto s = decls_.find(decl->syntax); s != decls_.end()) found.push_back(s->second);
    std::sort(found.begin(), found.end(), [](const Symbol* a, const Symbol* b) { return a->name < b->name; });
    return found;
}

const Symbol* NameIndex::visible(diag::FileId file, std::string_view name) const {
    const sema::Module* m = module_of(program_, file);
    if (!m) return nullptr;
    const auto found = m->visible.find(name);
    if (found == m->visible.end()) return nullptr;
    const auto s = decls_.find(found->second->syntax);
    return s == decls_.end() ? nullptr : s->second;
}

const ast::File* NameIndex::syntax(diag::FileId file) const {
    const sema::Module* m = module_of(program_, file);
    return m ? m->syntax.get() : nullptr;
}

std::optional<NameIndex::Typed> NameIndex::type_at(diag::FileId file, uint32_t offset) const {
    const sema::Node* best = nullptr;
    for (const sema::Node& n : program_.impl().nodes) {
        if (n.span.file != file || offset < n.span.begin || offset >= n.span.end || n.type == sema::Type::Error) continue;
        // A default argument is a literal with the place of its call; a literal that has adapted stands behind what it was.
        if (best) {
            const uint32_t width = n.span.end - n.span.begin, least = best->span.end - best->span.begin;
            const bool call = best->kind == sema::NodeKind::Call || best->kind == sema::NodeKind::CallMask;
            if (width > least || (width == least && call)) continue;
        }
        best = &n;
    }
    if (!best) return std::nullopt;
    return Typed{best->span, sema::name(best->type)};
}

}  // namespace flexc::frontend

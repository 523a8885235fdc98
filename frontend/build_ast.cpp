#include "frontend/build_ast.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "diag/check.h"

namespace flexc::frontend {

namespace {

using antlr4::ParserRuleContext;
using ast::Expr;
using ast::ExprKind;
using ast::Identifier;
using diag::Kind;
using diag::Span;
using P = FlexParser;

bool is_rule(const antlr4::tree::ParseTree* node) {
    return !node->children.empty();  // a rule that matched nothing does not occur in the grammar
}

const antlr4::Token& token_of(antlr4::tree::ParseTree* node) {
    return *static_cast<antlr4::tree::TerminalNode*>(node)->getSymbol();
}

ast::BinaryOp binary_op(size_t token) {
    switch (token) {
        case P::OR: return ast::BinaryOp::Or;
        case P::AND: return ast::BinaryOp::And;
        case P::BAR: return ast::BinaryOp::BitOr;
        case P::CARET: return ast::BinaryOp::BitXor;
        case P::AMP: return ast::BinaryOp::BitAnd;
        case P::SHL: return ast::BinaryOp::Shl;
        case P::SHR: return ast::BinaryOp::Shr;
        case P::PLUS: return ast::BinaryOp::Add;
        case P::MINUS: return ast::BinaryOp::Sub;
        case P::STAR: return ast::BinaryOp::Mul;
        case P::SLASH: return ast::BinaryOp::Div;
        case P::FLOORDIV: return ast::BinaryOp::FloorDiv;
        default: return ast::BinaryOp::Mod;
    }
}

ast::CompareOp compare_op(size_t token) {
    switch (token) {
        case P::EQ: return ast::CompareOp::Eq;
        case P::NE: return ast::CompareOp::Ne;
        case P::LT: return ast::CompareOp::Lt;
        case P::LE: return ast::CompareOp::Le;
        case P::GT: return ast::CompareOp::Gt;
        default: return ast::CompareOp::Ge;
    }
}

uint64_t integer_value(std::string_view literal) {
    std::string digits;
    std::copy_if(literal.begin(), literal.end(), std::back_inserter(digits), [](char c) { return c != '_'; });
    const bool hex = digits.size() > 1 && (digits[1] == 'x' || digits[1] == 'X');
    uint64_t value = 0;
    const auto result = std::from_chars(digits.data() + (hex ? 2 : 0), digits.data() + digits.size(), value, hex ? 16 : 10);
    return result.ec == std::errc::result_out_of_range ? UINT64_MAX : value;
}

class Builder {
public:
    Builder(const TokenList& tokens, ast::File& file, diag::Sink& sink) : tokens_(tokens), file_(file), sink_(sink) {}

    void declaration(ParserRuleContext* tree, bool damaged);

private:
    Span span(const antlr4::Token& t) const {
        return {file_.id, static_cast<uint32_t>(t.getStartIndex()), static_cast<uint32_t>(t.getStopIndex() + 1)};
    }
    Span span(const ParserRuleContext* c) const { return span(*c->start).to(span(*c->stop)); }
    std::string text(Span s) const { return std::string(tokens_.source.substr(s.begin, s.end - s.begin)); }

    Identifier identifier(const ParserRuleContext* c) const {
        const Span where = span(c);
        return {text(where), where};
    }
    Identifier identifier(const antlr4::Token& t) const {
        const Span where = span(t);
        return {text(where), where};
    }

    Expr* make(ExprKind kind, Span where) {
        Expr& e = file_.exprs.emplace_back();
        e.kind = kind;
        e.span = where;
        return &e;
    }
    /// Sets the depth from the children. Past the limit the node becomes a leaf, so that walks stay bounded.
    Expr* finish(Expr* e);

    Expr* expr(antlr4::tree::ParseTree* node);
    Expr* binary(ParserRuleContext* c);
    Expr* chain(ParserRuleContext* c);
    Expr* prefixed(ParserRuleContext* c);
    Expr* piped(ParserRuleContext* c);
    Expr* postfix(ParserRuleContext* c);
    Expr* suffixed(Expr* base, ParserRuleContext* suffix);
    Expr* primary(ParserRuleContext* c);
    Expr* block(ParserRuleContext* c);
    void arguments(Expr* call, ParserRuleContext* c);

    ast::Let let(P::LetContext* c);
    ast::TypeRef type(P::TypeContext* c);
    std::vector<ast::ParamDecl> parameters(P::ParametersContext* c);
    void item(ast::Decl& decl, P::ItemContext* c);
    std::string doc_above(const antlr4::Token& first) const;
    void remains(ast::DeclKind kind, ParserRuleContext* c);
    Identifier import_path(const antlr4::Token& t) const;

    const TokenList& tokens_;
    ast::File& file_;
    diag::Sink& sink_;
    bool too_large_ = false;
};

Expr* Builder::finish(Expr* e) {
    uint32_t below = 0;
    for (const Expr* a : e->args) below = std::max(below, a->depth);
    for (const ast::NamedArg& a : e->named) below = std::max(below, a.value->depth);
    for (const ast::Let& l : e->lets) below = std::max(below, l.value->depth);
    if (below < ast::kMaxDepth) {
        e->depth = below + 1;
        return e;
    }
    if (!too_large_)
        sink_.report(Kind::expression_too_large, Span{e->span.file, e->span.begin, e->span.begin}, ast::kMaxDepth)
            .help("name parts of it with `let`, or read the values from a captured tensor");
    too_large_ = true;
    return make(ExprKind::BoolLiteral, e->span);
}

Expr* Builder::expr(antlr4::tree::ParseTree* node) {
    auto* c = static_cast<ParserRuleContext*>(node);
    // Most levels of precedence have nothing to say.
    while (c->children.size() == 1 && is_rule(c->children[0])) c = static_cast<ParserRuleContext*>(c->children[0]);
    switch (c->getRuleIndex()) {
        case P::RuleExpr: return piped(c);
        case P::RuleConditional: {
            Expr* e = make(ExprKind::If, span(c));
            e->operator_span = span(*c->start);
            e->args = {expr(c->children[1]), expr(c->children[3]), expr(c->children[5])};
            return finish(e);
        }
        case P::RuleComparison: return chain(c);
        case P::RuleNegation:
        case P::RuleUnary: return prefixed(c);
        case P::RulePostfix: return postfix(c);
        case P::RuleBlock: return block(c);
        case P::RuleIndex:
            if (!is_rule(c->children[0])) return finish(make(ExprKind::Slice, span(c)));
            return expr(c->children[0]);
        case P::RuleBody:  // an expression or block, then `;`
            return expr(c->children[0]);
        case P::RulePrimary:
        case P::RuleName: return primary(c);
        default: return binary(c);
    }
}

Expr* Builder::binary(ParserRuleContext* c) {
    Expr* left = expr(c->children[0]);
    for (size_t i = 1; i + 1 < c->children.size(); i += 2) {
        Expr* right = expr(c->children[i + 1]);
        Expr* e = make(ExprKind::Binary, left->span.to(right->span));
        e->operator_span = span(token_of(c->children[i]));
        e->binary = binary_op(token_of(c->children[i]).getType());
        e->args = {left, right};
        left = finish(e);
    }
    return left;
}

Expr* Builder::chain(ParserRuleContext* c) {
    Expr* e = make(ExprKind::Chain, span(c));
    e->operator_span = span(token_of(c->children[1]));
    for (size_t i = 0; i < c->children.size(); ++i) {
        if (i % 2 == 0)
            e->args.push_back(expr(c->children[i]));
        else
            e->chain.push_back(compare_op(token_of(c->children[i]).getType()));
    }
    return finish(e);
}

Expr* Builder::prefixed(ParserRuleContext* c) {
    Expr* operand = expr(c->children.back());
    for (size_t i = c->children.size() - 1; i-- > 0;) {
        const antlr4::Token& op = token_of(c->children[i]);
        Expr* e = make(ExprKind::Unary, span(op).to(operand->span));
        e->operator_span = span(op);
        e->unary = op.getType() == P::MINUS ? ast::UnaryOp::Neg : op.getType() == P::TILDE ? ast::UnaryOp::BitNot : ast::UnaryOp::Not;
        e->args = {operand};
        operand = finish(e);
    }
    return operand;
}

Expr* Builder::piped(ParserRuleContext* c) {
    Expr* left = expr(c->children[0]);
    for (size_t i = 1; i + 1 < c->children.size(); i += 2) {
        Expr* right = expr(c->children[i + 1]);
        if (right->kind != ExprKind::Call && right->kind != ExprKind::Name)
            sink_.report(Kind::bad_pipe_target, right->span).help("`|>` passes the score on to a score function: `score |> softcap(30.0)`");
        Expr* e = make(ExprKind::Pipe, left->span.to(right->span));
        e->operator_span = span(token_of(c->children[i]));
        e->args = {left, right};
        left = finish(e);
    }
    return left;
}

Expr* Builder::postfix(ParserRuleContext* c) {
    Expr* base = expr(c->children[0]);
    for (size_t i = 1; i < c->children.size(); ++i) base = suffixed(base, static_cast<ParserRuleContext*>(c->children[i]));
    return base;
}

Expr* Builder::suffixed(Expr* base, ParserRuleContext* suffix) {
    const Span where = base->span.to(span(suffix));
    if (token_of(suffix->children[0]).getType() == P::LBRACKET) {
        Expr* e = make(ExprKind::Index, where);
        e->args.push_back(base);
        for (size_t i = 1; i < suffix->children.size(); i += 2) e->args.push_back(expr(suffix->children[i]));
        return finish(e);
    }
    if (base->kind != ExprKind::Name || base->parenthesised) {
        auto& d = sink_.report(Kind::not_callable, base->span);
        if (base->kind == ExprKind::Name && (base->text == "f32" || base->text == "float" || base->text == "i32" || base->text == "int"))
            d.fix(base->span, base->text[0] == 'f' ? "f32" : "i32",
                  fmt::format("a conversion is written `{}(x)`", base->text[0] == 'f' ? "f32" : "i32"));
        else
            d.help("a function is called by its name; write `*` if a product is meant");
        return base;
    }
    const bool reduces = suffix->children.size() > 3;
    Expr* e = make(reduces ? ExprKind::Reduce : ExprKind::Call, where);
    e->text = base->text;
    e->operator_span = base->span;
    if (reduces) {
        // `(` name `in` lo `..` hi `:` body `)`
        static constexpr std::array<std::string_view, 5> kReductions{"sum", "any", "all", "min", "max"};
        if (std::find(kReductions.begin(), kReductions.end(), e->text) == kReductions.end()) {
            auto& d = sink_.report(Kind::unknown_reduction, base->span, e->text);
            const std::string near = diag::nearest(e->text, {kReductions.begin(), kReductions.end()});
            if (near.empty())
                d.help("the reductions are `sum any all min max`");
            else
                d.fix(base->span, near, fmt::format("did you mean `{}`?", near));
        }
        e->variable = identifier(static_cast<ParserRuleContext*>(suffix->children[1]));
        e->args = {expr(suffix->children[3]), expr(suffix->children[5]), expr(suffix->children[7])};
    } else if (suffix->children.size() == 3) {
        arguments(e, static_cast<ParserRuleContext*>(suffix->children[1]));
    }
    return finish(e);
}

void Builder::arguments(Expr* call, ParserRuleContext* c) {
    for (auto* child : c->children) {
        if (!is_rule(child)) continue;  // a comma
        if (child->children.size() == 3) {
            auto* name = child->children[0];
            const Identifier id = is_rule(name) ? identifier(static_cast<ParserRuleContext*>(name)) : identifier(token_of(name));
            call->named.push_back({id, expr(child->children[2])});
        } else {
            Expr* value = expr(child->children[0]);
            if (!call->named.empty())
                sink_.report(Kind::positional_after_named, value->span).help("positional arguments come first, then `name = value`");
            call->args.push_back(value);
        }
    }
}

Expr* Builder::primary(ParserRuleContext* c) {
    const antlr4::Token& first = *c->start;
    const Span where = span(c);
    Expr* e = nullptr;
    switch (first.getType()) {
        case P::LPAREN:
            e = expr(c->children[1]);
            e->span = where;
            e->parenthesised = true;
            return e;
        case P::INT:
            if (c->children.size() == 1) {
                e = make(ExprKind::IntLiteral, where);
                e->value = integer_value(text(where));
                break;
            }
            e = make(ExprKind::FloatLiteral, where);
            if (const std::string literal = text(where); literal.find_first_of(" \t\r\n#xX") != std::string::npos)
                sink_.report(Kind::bad_number, where, literal).help("a float is written `1.0`");
            break;
        case P::FLOAT: e = make(ExprKind::FloatLiteral, where); break;
        case P::TRUE:
        case P::FALSE:
            e = make(ExprKind::BoolLiteral, where);
            e->value = first.getType() == P::TRUE;
            break;
        default: e = make(ExprKind::Name, where); break;
    }
    e->text = text(where);
    return finish(e);
}

Expr* Builder::block(ParserRuleContext* c) {
    Expr* e = make(ExprKind::Block, span(c));
    for (size_t i = 1; i + 1 < c->children.size(); ++i) {
        auto* child = static_cast<ParserRuleContext*>(c->children[i]);
        if (child->getRuleIndex() != P::RuleLet)
            e->args.push_back(expr(child));
        else if (!child->exception)
            e->lets.push_back(let(static_cast<P::LetContext*>(child)));
    }
    return finish(e);
}

ast::Let Builder::let(P::LetContext* c) {
    return {identifier(c->name()), expr(c->body()), span(c)};
}

ast::TypeRef Builder::type(P::TypeContext* c) {
    ast::TypeRef t;
    t.name = identifier(c->typeName());
    t.is_tensor = c->LBRACKET() != nullptr;
    t.span = span(c);
    for (auto* dim : c->expr()) t.dims.push_back(expr(dim));
    return t;
}

std::vector<ast::ParamDecl> Builder::parameters(P::ParametersContext* c) {
    std::vector<ast::ParamDecl> result;
    for (auto* p : c->parameter()) {
        ast::ParamDecl param;
        param.name = identifier(p->declaredName());
        // Names that mean something in the bodies of an attention; other clause words are free.
        static constexpr std::array<std::string_view, 6> kReserved{"scale", "score", "mask", "query", "key", "output"};
        if (std::find(kReserved.begin(), kReserved.end(), param.name.text) != kReserved.end())
            sink_.report(Kind::reserved_name, param.name.span, param.name.text, "parameter")
                .fix(param.name.span, param.name.text + "_", fmt::format("call it `{}_`, or by what it holds", param.name.text));
        param.type = type(p->type());
        param.is_const = p->CONST() != nullptr;
        param.is_grad = p->GRAD() != nullptr;
        if (p->expr()) param.default_value = expr(p->expr());
        param.span = span(p);
        result.push_back(std::move(param));
    }
    return result;
}

void Builder::item(ast::Decl& decl, P::ItemContext* c) {
    if (c->let()) {
        if (!c->let()->exception) decl.lets.push_back(let(c->let()));
        return;
    }
    static constexpr std::array<std::pair<size_t, ast::ClauseKind>, 10> kClauses{{{P::SCALE, ast::ClauseKind::Scale},
                                                                                  {P::SCORE, ast::ClauseKind::Score},
                                                                                  {P::MASK, ast::ClauseKind::Mask},
                                                                                  {P::NORMALIZE, ast::ClauseKind::Normalize},
                                                                                  {P::SINK, ast::ClauseKind::Sink},
                                                                                  {P::BLOCKS, ast::ClauseKind::Blocks},
                                                                                  {P::QUERY, ast::ClauseKind::Query},
                                                                                  {P::KEY, ast::ClauseKind::Key},
                                                                                  {P::OUTPUT, ast::ClauseKind::Output},
                                                                                  {P::EMIT, ast::ClauseKind::Emit}}};
    ast::Clause clause;
    const auto* known = std::find_if(kClauses.begin(), kClauses.end(), [&](const auto& k) { return k.first == c->start->getType(); });
    FLEX_CHECK(known != kClauses.end(), "a clause starts with its keyword");
    clause.kind = known->second;
    clause.keyword = span(*c->start);
    clause.span = span(c);
    if (c->normalization()) clause.normalize = identifier(c->normalization());
    if (c->body()) clause.value = expr(c->body());
    if (P::EmissionContext* emission = c->emission()) {
        clause.emit_name = identifier(c->name());
        clause.emit_kind = identifier(*emission->start);
        clause.value = expr(emission->value());
    }
    decl.clauses.push_back(std::move(clause));
}

/// The last run of `##` lines between the previous token and a declaration. A comment behind the previous token,
/// on its line, belongs to that one.
std::string Builder::doc_above(const antlr4::Token& first) const {
    const size_t index = first.getTokenIndex();
    const size_t floor = index == 0 ? 0 : tokens_[index - 1].end;
    std::string_view before = tokens_.source.substr(floor, first.getStartIndex() - floor);
    std::vector<std::string_view> lines;
    for (size_t newline = before.rfind('\n'); newline != std::string_view::npos;) {
        before = before.substr(0, newline);
        newline = before.rfind('\n');
        if (newline == std::string_view::npos && floor != 0) break;
        std::string_view line = newline == std::string_view::npos ? before : before.substr(newline + 1);
        line = line.substr(std::min(line.find_first_not_of(" \t\r\f"), line.size()));
        if (line.starts_with("##")) {
            line.remove_prefix(2);
            if (line.starts_with(' ')) line.remove_prefix(1);
            while (!line.empty() && std::string_view(" \t\r\f").find(line.back()) != std::string_view::npos) line.remove_suffix(1);
            lines.push_back(line);
        } else if (!lines.empty()) {
            break;
        }
    }
    std::string doc;
    for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
        if (line != lines.rbegin()) doc += '\n';
        doc += *line;
    }
    return doc;
}

void Builder::declaration(ParserRuleContext* tree, bool damaged) {
    if (tree->children.empty()) return;
    auto* c = static_cast<ParserRuleContext*>(tree->children[0]);
    if (!is_rule(c)) return;
    static constexpr std::array<std::pair<size_t, ast::DeclKind>, 6> kKinds{{{P::RuleImportDecl, ast::DeclKind::Import},
                                                                             {P::RuleConstDecl, ast::DeclKind::Const},
                                                                             {P::RuleFnDecl, ast::DeclKind::Fn},
                                                                             {P::RuleMaskDecl, ast::DeclKind::Mask},
                                                                             {P::RuleScoreDecl, ast::DeclKind::Score},
                                                                             {P::RuleAttentionDecl, ast::DeclKind::Attention}}};
    const auto* kind = std::find_if(kKinds.begin(), kKinds.end(), [&](const auto& k) { return k.first == c->getRuleIndex(); });
    FLEX_CHECK(kind != kKinds.end(), "the children of a declaration are the kinds of declarations");
    if (tree->exception || c->exception) {
        remains(kind->second, c);
        return;
    }
    const size_t before = sink_.all().size();
    ast::Decl& decl = file_.decl_arena.emplace_back();
    decl.kind = kind->second;
    decl.span = span(c);
    decl.doc = doc_above(*c->start);
    switch (c->getRuleIndex()) {
        case P::RuleImportDecl: {
            auto* d = static_cast<P::ImportDeclContext*>(c);
            decl.import_is_path = d->STRING() != nullptr;
            decl.name = decl.import_is_path ? import_path(*d->STRING()->getSymbol()) : identifier(d->name());
            break;
        }
        case P::RuleConstDecl: {
            auto* d = static_cast<P::ConstDeclContext*>(c);
            decl.name = identifier(d->name());
            decl.type = type(d->type());
            decl.body = expr(d->body());
            break;
        }
        case P::RuleFnDecl: {
            auto* d = static_cast<P::FnDeclContext*>(c);
            decl.name = identifier(d->name());
            decl.params = parameters(d->parameters());
            decl.type = type(d->type());
            decl.body = expr(d->body());
            break;
        }
        case P::RuleMaskDecl: {
            auto* d = static_cast<P::MaskDeclContext*>(c);
            decl.name = identifier(d->name());
            decl.params = parameters(d->parameters());
            decl.body = expr(d->body());
            break;
        }
        case P::RuleScoreDecl: {
            auto* d = static_cast<P::ScoreDeclContext*>(c);
            decl.name = identifier(d->name());
            decl.params = parameters(d->parameters());
            decl.body = expr(d->body());
            break;
        }
        default: {
            auto* d = static_cast<P::AttentionDeclContext*>(c);
            decl.name = identifier(d->name());
            if (d->parameters()) decl.params = parameters(d->parameters());
            for (auto* i : d->item())
                if (!i->exception) item(decl, i);
            break;
        }
    }
    decl.damaged = damaged || sink_.all().size() != before;
    file_.decls.push_back(&decl);
}

/// Of a declaration that broke off: its name, so that uses of it are not reported as well.
void Builder::remains(ast::DeclKind kind, ParserRuleContext* c) {
    if (c->children.size() < 2) return;
    // In a broken tree a rule may have no children, so the kinds of nodes are asked for.
    auto* terminal = dynamic_cast<antlr4::tree::TerminalNode*>(c->children[1]);
    auto* name = dynamic_cast<P::NameContext*>(c->children[1]);
    const bool path = terminal && terminal->getSymbol()->getType() == P::STRING;
    if (!path && !(name && !name->exception)) return;
    if (name && tokens_.type(name->stop->getTokenIndex() + 1) == P::DOT) return;  // `import torch.nn`: not the name
    ast::Decl& decl = file_.decl_arena.emplace_back();
    decl.kind = kind;
    decl.damaged = true;
    decl.name = path ? import_path(*terminal->getSymbol()) : identifier(name);
    decl.import_is_path = path;
    decl.span = decl.name.span;
    file_.decls.push_back(&decl);
}

/// The path of an import, without its quotes.
Identifier Builder::import_path(const antlr4::Token& t) const {
    Identifier id = identifier(t);
    id.text = id.text.substr(1, id.text.size() - 2);
    return id;
}

}  // namespace

void build_declaration(FlexParser::DeclarationContext* tree, const TokenList& tokens, bool damaged, ast::File& file, diag::Sink& sink) {
    Builder(tokens, file, sink).declaration(tree, damaged);
}

}  // namespace flexc::frontend

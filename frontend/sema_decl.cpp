#include "frontend/sema_decl.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include <fmt/format.h>

#include "frontend/sema_const.h"

namespace flexc::sema {

// ---- names of a file ----

void collect_declarations(const Context& context, Module& module, Clashes& clashes) {
    std::unordered_map<std::string_view, Decl*> own;
    for (const ast::Decl* syntax : module.syntax->decls) {
        if (syntax->kind == ast::DeclKind::Import || syntax->name.text.empty()) continue;
        Decl& decl = context.program.decls.emplace_back();
        decl.kind = syntax->kind;
        decl.name = syntax->name.text;
        decl.syntax = syntax;
        decl.module = &module;
        decl.broken = syntax->damaged;
        module.decls.push_back(&decl);
        // Nothing in an expression can mean an attention, so it may have any name that is not used twice.
        if (decl.kind != ast::DeclKind::Attention) {
            if (const std::string_view owner = owner_of(decl.name); !owner.empty())
                context.sink.report(Kind::name_taken, syntax->name.span, decl.name, owner).help("choose another name");
        }
        const auto [other, is_new] = own.try_emplace(decl.name, &decl);
        if (!is_new) {
            context.sink.report(Kind::duplicate_name, syntax->name.span, decl.name)
                .note("it is declared here first", other->second->syntax->name.span);
            other->second->ambiguous = true;
            continue;
        }
        if (decl.kind != ast::DeclKind::Attention) module.visible.emplace(decl.name, &decl);
    }

    const auto quoted = [](const Module& m) { return "`" + m.display + "`"; };
    for (const Module::Import& import : module.imports) {
        for (const auto& [text, theirs] : import.module->visible) {
            const auto [mine, is_new] = module.visible.try_emplace(text, theirs);
            if (is_new || mine->second == theirs) continue;
            const std::pair<const Decl*, const Decl*> pair = std::minmax<const Decl*>(mine->second, theirs);
            if (std::find(clashes.begin(), clashes.end(), pair) != clashes.end()) continue;
            if (clashes.size() < diag::Sink::kMaxErrors) clashes.push_back(pair);
            const bool is_own = mine->second->module == &module;
            auto& d = context.sink
                          .report(Kind::import_clash, is_own ? mine->second->syntax->name.span : import.span, std::string(text),
                                  is_own ? "this file" : quoted(*mine->second->module), quoted(*theirs->module))
                          .note(is_own ? "the other declaration" : "one declaration",
                                is_own ? theirs->syntax->name.span : mine->second->syntax->name.span)
                          .help(is_own ? "choose another name" : "rename one of them");
            if (!is_own) d.note("the other declaration", theirs->syntax->name.span);
        }
    }
}

// ---- order ----

namespace {

struct Edge {
    Decl* to;
    Span span;
};

/// The declarations that an expression names.
struct NameWalk {
    const Module& module;
    std::vector<Edge>& edges;

    void name(const std::string& text, Span span) {
        const auto found = module.visible.find(text);
        if (found != module.visible.end()) edges.push_back({found->second, span});
    }

    void walk(const ast::Expr* e) {
        if (!e) return;
        if (e->kind == ast::ExprKind::Name) name(e->text, e->span);
        if (e->kind == ast::ExprKind::Call) name(e->text, e->operator_span);
        for (const ast::Expr* a : e->args) walk(a);
        for (const ast::NamedArg& a : e->named) walk(a.value);
        for (const ast::Let& l : e->lets) walk(l.value);
    }

    void walk(const ast::Decl& d) {
        for (const ast::ParamDecl& p : d.params) {
            for (const ast::Expr* dim : p.type.dims) walk(dim);
            walk(p.default_value);
        }
        walk(d.body);
        for (const ast::Let& l : d.lets) walk(l.value);
        for (const ast::Clause& c : d.clauses) walk(c.value);
    }
};

struct OrderBuilder {
    const Context& context;
    std::vector<Decl*> order;
    enum class State : uint8_t { New, Open, Done };
    struct Info {
        State state = State::New;
        std::vector<Edge> edges;
        size_t next = 0;
    };
    std::unordered_map<const Decl*, Info> info;
    std::vector<Decl*> stack;

    void open(Decl* d) {
        Info& i = info[d];
        i.state = State::Open;
        NameWalk{*d->module, i.edges}.walk(*d->syntax);
        stack.push_back(d);
    }

    void run(Decl* root) {
        if (info[root].state != State::New) return;
        open(root);
        while (!stack.empty()) {
            Decl* d = stack.back();
            Info& i = info[d];
            if (i.next == i.edges.size()) {
                i.state = State::Done;
                i.edges = {};
                order.push_back(d);
                stack.pop_back();
                continue;
            }
            const Edge edge = i.edges[i.next++];
            Info& target = info[edge.to];
            if (target.state == State::New)
                open(edge.to);
            else if (target.state == State::Open)
                cycle(edge);
        }
    }

    void cycle(const Edge& closing) {
        const auto first = std::find(stack.begin(), stack.end(), closing.to);
        std::string chain;
        const auto length = static_cast<size_t>(stack.end() - first);
        for (size_t k = 0; k < length; ++k) {
            first[static_cast<std::ptrdiff_t>(k)]->broken = true;
            if (k < 8) chain += fmt::format("`{}` -> ", first[static_cast<std::ptrdiff_t>(k)]->name);
            if (k == 8) chain += "... -> ";
        }
        chain += fmt::format("`{}`", closing.to->name);
        auto& d = context.sink.report(Kind::recursion, closing.to->syntax->name.span, closing.to->name, chain);
        for (size_t k = 0; k < std::min<size_t>(length, 4); ++k) {
            const Info& i = info[first[static_cast<std::ptrdiff_t>(k)]];
            const Edge& via = i.edges[i.next - 1];
            d.note(fmt::format("`{}` names `{}` here", first[static_cast<std::ptrdiff_t>(k)]->name, via.to->name), via.span);
        }
        d.help("there is no recursion; a bounded loop is `sum (j in lo..n: ...)`, and likewise `any all min max`");
    }
};

}  // namespace

std::vector<Decl*> dependency_order(const Context& context) {
    OrderBuilder builder{context, {}, {}, {}};
    for (Decl& d : context.program.decls) builder.run(&d);
    return std::move(builder.order);
}

// ---- signatures ----

namespace {

std::optional<ir::ElemType> element_named(std::string_view text) {
    using ir::ElemType;
    static constexpr std::array<std::pair<std::string_view, ElemType>, 8> kElements = {{{"f32", ElemType::F32},
                                                                                        {"f16", ElemType::F16},
                                                                                        {"bf16", ElemType::BF16},
                                                                                        {"i32", ElemType::I32},
                                                                                        {"i16", ElemType::I16},
                                                                                        {"i8", ElemType::I8},
                                                                                        {"u8", ElemType::U8},
                                                                                        {"bool", ElemType::Bool}}};
    for (const auto& [name, elem] : kElements)
        if (name == text) return elem;
    return std::nullopt;
}

/// A scalar type, or Error after reporting.
Type scalar_type(const Context& context, const ast::TypeRef& type, std::string_view where) {
    if (type.is_tensor) {
        context.sink.report(Kind::scalar_wanted, type.span, where, context.text(type.span)).help("it is one of `f32 i32 bool`");
        return Type::Error;
    }
    if (type.name.text == "f32") return Type::F32;
    if (type.name.text == "i32") return Type::I32;
    if (type.name.text == "bool") return Type::Bool;
    auto& d = context.sink.report(Kind::unknown_type, type.name.span, type.name.text);
    std::string_view ours = foreign_type(type.name.text);
    if (const auto elem = element_named(type.name.text)) ours = from_ir(ir::widened(*elem)) == Type::F32 ? "f32" : "i32";
    if (ours == "f16" || ours == "bf16") ours = "f32";
    if (ours == "i16" || ours == "i8" || ours == "u8") ours = "i32";
    const bool tensor = ours == "f32[N]";
    std::string near(tensor ? std::string_view() : ours);
    if (near.empty() && !tensor) near = diag::nearest(type.name.text, {"f32", "i32", "bool"});
    if (!near.empty())
        d.fix(type.name.span, near, fmt::format("a scalar is `f32`, `i32` or `bool`: write `{}`", near));
    else
        d.help(type.name.text == "score"
                   ? "only masks are passed by name; score functions are chained by `|>`: `score |> alibi() |> softcap(30.0)`"
               : tensor ? "a captured tensor is written with its extents: `f32[H, N]`"
                        : "a scalar is `f32`, `i32` or `bool`");
    return Type::Error;
}

struct SignatureBuilder {
    const Context& context;
    Decl& decl;
    bool index_reported = false;  // one message for `b, h, q, k`

    void bad_name(const ast::Identifier& id) {
        if (const std::string_view owner = owner_of(id.text);
            !owner.empty() && id.text != "score" && id.text != "mask") {  // the parser reports those
            const bool index = slot_named(id.text).has_value();
            const std::string_view kind = describe(decl.kind);
            if (index && std::exchange(index_reported, true)) return;
            auto& d = context.sink.report(Kind::name_taken, id.span, id.text, owner);
            if (index && decl.kind == ast::DeclKind::Fn)
                d.help(fmt::format("call the parameter otherwise, `{0}_pos`, and pass `{0}`; a `mask` sees the indices without parameters",
                                   id.text));
            else if (index && decl.kind == ast::DeclKind::Attention)
                d.help("q, k and v belong to every launch and are not declared; their product is `score`, and `b h q k` are positions");
            else if (index)
                d.help(fmt::format("{} sees `b h q k hkv` without parameters: leave them out", kind));
            else
                d.help("choose another name for this parameter");
        }
        // What an attention captures is given by name, beside the arrays that every attention takes.
        if (const std::string_view array = launch_array_named(id.text); !array.empty() && decl.kind == ast::DeclKind::Attention)
            context.sink.report(Kind::name_taken, id.span, id.text, array).help("choose another name for this parameter");
        const auto global = decl.module->visible.find(id.text);
        if (global != decl.module->visible.end() && global->second->module == decl.module)
            context.sink.report(Kind::shadowing, id.span, id.text, describe(global->second->kind))
                .note(fmt::format("`{}` is declared here", id.text), global->second->syntax->name.span)
                .help("choose another name for this parameter");
    }

    void names() {
        const std::vector<ast::ParamDecl>& list = decl.syntax->params;
        decl.params.reserve(list.size());
        for (const ast::ParamDecl& syntax : list) {
            Param p;
            p.name = syntax.name.text;
            p.span = syntax.name.span;
            p.syntax = &syntax;
            p.is_const = syntax.is_const;
            p.grad = syntax.is_grad;
            decl.params.push_back(std::move(p));
        }
        for (uint32_t i = 0; i < decl.params.size(); ++i) {
            const ast::Identifier& id = list[i].name;
            bad_name(id);
            const auto [other, is_new] = decl.param_index.try_emplace(decl.params[i].name, i);
            if (!is_new)
                context.sink.report(Kind::duplicate_name, id.span, id.text)
                    .note("it is declared here first", decl.params[other->second].span);
        }
    }

    void parameter(Param& p) {
        const ast::ParamDecl& syntax = *p.syntax;
        const std::string_view owner = describe(decl.kind);
        const bool is_attention = decl.kind == ast::DeclKind::Attention;
        if (syntax.type.name.text == "mask" && !syntax.type.is_tensor) {
            if (is_attention || decl.kind == ast::DeclKind::Fn) {
                context.sink.report(Kind::bad_parameter, syntax.type.span, "a mask", owner)
                    .help(is_attention ? "what an attention captures are scalars and tensors" : "only a `mask` or a `score` takes masks");
                return;
            }
            p.kind = Param::Kind::Mask;
            p.type = Type::Bool;
        } else if (syntax.type.is_tensor) {
            tensor(p);
        } else {
            p.type = scalar_type(context, syntax.type, owner);
            if (p.type == Type::Error) return;
            p.kind = Param::Kind::Scalar;
        }

        if (p.is_const && (p.kind != Param::Kind::Scalar || !is_attention)) {
            context.sink.report(Kind::bad_parameter, p.span, fmt::format("a `const` {}", describe(p).substr(2)), owner)
                .help(is_attention ? "only scalars can be `const`"
                                   : "`const` stands at a parameter of an attention; this one may be passed a constant as it is");
            p.is_const = false;
        }
        if (p.grad) {
            std::string_view why;
            if (!is_attention)
                why = "a parameter of another declaration";
            else if (p.kind == Param::Kind::Mask)
                why = "a mask";
            else if (p.kind == Param::Kind::Scalar)
                why = "a scalar";
            else if (p.type == Type::I32)
                why = "a tensor of integers";
            else if (p.type == Type::Bool)
                why = "a tensor of `bool`";
            if (p.kind != Param::Kind::Error && !why.empty()) {
                auto& d = context.sink.report(Kind::bad_grad, p.span, p.name, why);
                if (!is_attention)
                    d.help("write `grad` at the attention's parameter; it follows the tensor");
                else if (p.kind == Param::Kind::Scalar)
                    d.help(fmt::format("make it a tensor of one element: `{}: grad f32[1]`, read as `{}[0]`", p.name, p.name));
                p.grad = false;
            }
        }
        if (syntax.default_value) default_value(p);
    }

    void default_value(Param& p) {
        if (p.kind == Param::Kind::Error) return;
        if (p.kind != Param::Kind::Scalar) {
            context.sink
                .report(Kind::bad_parameter, syntax_span(p), fmt::format("{} with a default value", describe(p)), describe(decl.kind))
                .help("only scalars have defaults");
            return;
        }
        Decl scratch;  // a default sees constants only
        scratch.module = decl.module;
        scratch.syntax = decl.syntax;
        scratch.kind = ast::DeclKind::Const;
        BodyChecker checker(context, scratch, Surroundings::Constant);
        // A mention of a parameter is the likely mistake here; it has a better answer than "unknown name".
        if (mentions_parameter(p.syntax->default_value)) return;
        p.default_value = evaluate_constant(checker.constant(*p.syntax->default_value, p.type), context.sink);
        if (p.default_value && p.default_value->type != p.type) p.default_value.reset();
    }

    [[nodiscard]] static Span syntax_span(const Param& p) { return p.syntax->default_value->span; }

    bool mentions_parameter(const ast::Expr* e) {
        if (e->kind == ast::ExprKind::Name && decl.param_index.contains(e->text)) {
            context.sink.report(Kind::not_constant, e->span, "a parameter").note("a default value sees constants only");
            return true;
        }
        bool found = false;
        for (const ast::Expr* a : e->args) found |= mentions_parameter(a);
        for (const ast::NamedArg& a : e->named) found |= mentions_parameter(a.value);
        for (const ast::Let& l : e->lets) found |= mentions_parameter(l.value);
        return found;
    }

    /// A constant parameter in an extent is used there.
    void mark_names(const ast::Expr* e) {
        if (e->kind == ast::ExprKind::Name)
            if (const auto found = decl.param_index.find(e->text); found != decl.param_index.end()) decl.params[found->second].used = true;
        for (const ast::Expr* a : e->args) mark_names(a);
    }

    void tensor(Param& p) {
        const ast::TypeRef& type = p.syntax->type;
        if (type.dims.size() > ir::kMaxRank) {
            context.sink
                .report(Kind::bad_parameter, type.span, fmt::format("a tensor of {} dimensions", type.dims.size()), describe(decl.kind))
                .help(fmt::format("a tensor has at most {} dimensions", ir::kMaxRank));
            return;
        }
        for (const ast::Expr* dim : type.dims) mark_names(dim);
        const auto elem = element_named(type.name.text);
        if (!elem) {
            auto& d = context.sink.report(Kind::unknown_type, type.name.span, type.name.text);
            std::string near(foreign_type(type.name.text));
            if (near == "f32[N]") near = "f32";
            if (near.empty()) near = diag::nearest(type.name.text, {"f32", "f16", "bf16", "i32", "i16", "i8", "u8", "bool"});
            if (!near.empty())
                d.fix(type.name.span, near, fmt::format("write `{}`", near));
            else
                d.help(type.name.text == "Optional" || type.name.text == "Union"
                           ? "a scalar is optional by its default value: `window: i32 = 128`"
                           : "tensors hold `f32 f16 bf16 i32 i16 i8 u8 bool`");
        }
        const auto dims = read_dims(
            decl, type,
            [](const Param& c) { return c.default_value ? std::optional(static_cast<int32_t>(c.default_value->bits)) : std::nullopt; },
            decl.free_extents, context.sink, &p.has_const_dims);
        if (!elem || !dims) return;
        p.kind = Param::Kind::Tensor;
        p.elem = *elem;
        p.type = from_ir(ir::widened(*elem));
        p.dims = *dims;
    }
};

}  // namespace

std::optional<std::vector<ir::Dim>> read_dims(const Decl& decl, const ast::TypeRef& type,
                                              const std::function<std::optional<int32_t>(const Param&)>& const_value,
                                              std::vector<std::string>& free_extents, diag::Sink& sink, bool* names_const) {
    const auto names = [&](const ast::Expr& e) -> ExtentName {
        ExtentName result;
        if (const auto extent = extent_named(e.text)) {
            result.extent = static_cast<int32_t>(*extent);
            return result;
        }
        if (const auto p = decl.param_index.find(e.text); p != decl.param_index.end()) {
            const Param& param = decl.params[p->second];
            if (param.syntax->is_const && param.syntax->type.name.text == "i32" && !param.syntax->type.is_tensor) {
                if (names_const) *names_const = true;
                const auto value = const_value(param);
                result.constant = value ? *value : 1;  // without a value yet: any, to check the form
            } else {
                result.error = fmt::format("`{}` is a parameter, known only at launch", e.text);
                result.help = fmt::format(
                    "leave out the parameter: the tensor that is given binds `{}`, which is then an `i32` in expressions", e.text);
                result.error_span = param.span;
            }
            return result;
        }
        if (const auto global = decl.module->visible.find(e.text); global != decl.module->visible.end()) {
            const Decl& other = *global->second;
            if (other.kind == ast::DeclKind::Const) {
                if (other.constant && other.constant->type == Type::I32)
                    result.constant = static_cast<int32_t>(other.constant->bits);
                else if (other.constant)
                    result.error = fmt::format("`{}` is of type `{}`", e.text, name(other.constant->type));
                return result;
            }
            if (other.module == decl.module) {
                result.error = fmt::format("`{}` is {}", e.text, describe(other.kind));
                result.error_span = other.syntax->name.span;
                return result;
            }
        }
        if (const std::string_view owner = owner_of(e.text); !owner.empty()) {
            result.error = fmt::format("`{}` is {}", e.text, owner);
            if (const auto slot = slot_named(e.text); slot && *slot != Slot::Score) {
                static constexpr std::array<std::string_view, 5> kExtents = {"B", "H", "Q", "K", "HKV"};
                result.help = fmt::format("the number of its values is `{}`", kExtents[static_cast<size_t>(*slot)]);
            }
            return result;
        }
        const auto found = std::find(free_extents.begin(), free_extents.end(), e.text);
        result.extent = static_cast<int32_t>(ir::kBuiltinExtents + (found - free_extents.begin()));
        if (found == free_extents.end()) free_extents.push_back(e.text);
        return result;
    };
    std::vector<ir::Dim> dims;
    bool ok = true;
    for (const ast::Expr* e : type.dims) {
        const auto dim = read_dim(*e, names, sink);
        ok &= dim.has_value();
        if (dim) dims.push_back(*dim);
    }
    if (!ok) return std::nullopt;
    return dims;
}

void resolve_signature(const Context& context, Decl& decl) {
    SignatureBuilder builder{context, decl};
    switch (decl.kind) {
        case ast::DeclKind::Const: decl.result = scalar_type(context, decl.syntax->type, "a constant"); return;
        case ast::DeclKind::Fn: decl.result = scalar_type(context, decl.syntax->type, "the result of a function"); break;
        case ast::DeclKind::Mask: decl.result = Type::Bool; break;
        case ast::DeclKind::Score: decl.result = Type::F32; break;
        default: break;
    }
    if (decl.syntax->params.size() > kMaxParams) {
        context.sink.report(Kind::too_many_parameters, decl.syntax->name.span, decl.name, std::to_string(decl.syntax->params.size()),
                            std::to_string(kMaxParams));
        decl.broken = true;
        return;
    }
    builder.names();
    // Constant parameters first: extents may name them.
    for (Param& p : decl.params)
        if (p.is_const) builder.parameter(p);
    for (Param& p : decl.params)
        if (!p.syntax->is_const) builder.parameter(p);
    decl.extent_used.resize(decl.free_extents.size());
}

}  // namespace flexc::sema

// Calls: builtin functions, and functions, masks and scores with their arguments and replacements.
#include <algorithm>

#include <fmt/format.h>

#include "frontend/sema_body.h"
#include "frontend/sema_dims.h"

namespace flexc::sema {

using ir::Op;

Reads hidden_by(const std::vector<Replacement>& replacements) {
    Reads hidden = 0;
    for (const Replacement& r : replacements) {
        hidden |= bit(r.slot);
        if (r.slot == Slot::H) hidden |= bit(Slot::Hkv);
    }
    return hidden;
}

/// What evaluating the node reads. Ordinary arguments are evaluated by the caller; a mask argument is evaluated by the callee, and
/// sees of the caller's slots what the callee lets through.
void BodyChecker::gather_reads(Node* n) const {
    for (const Replacement& r : n->replacements) {
        n->reads |= r.value->reads;
        n->passes |= r.value->passes;
    }
    const Reads hidden = hidden_by(n->replacements);
    if (n->kind == NodeKind::CallMask) {
        n->passes |= kAllSlots & ~hidden;
        return;
    }
    if (n->kind == NodeKind::Call && n->callee->kind != ast::DeclKind::Fn) {
        const Node* body = n->callee->body;
        const Reads callee_reads = body ? body->reads : Reads{0};
        const Reads let_through = (body ? body->passes : Reads{0}) & ~hidden;
        n->reads |= callee_reads & ~hidden;
        for (size_t i = 0; i < n->args.size(); ++i) {
            const bool by_name = n->callee->params[i].kind == Param::Kind::Mask;
            n->reads |= by_name ? n->args[i]->reads & let_through : n->args[i]->reads;
            n->passes |= by_name ? n->args[i]->passes & let_through : n->args[i]->passes;
        }
        return;
    }
    const auto add = [n](const Node* part) {
        n->reads |= part->reads;
        n->passes |= part->passes;
    };
    for (const Node* a : n->args) add(a);
    for (const Link& l : n->links) add(l.left), add(l.right);
    for (const Slice& s : n->sides)
        for (const Node* i : s.indices) add(i);
}

bool BodyChecker::arity(const ast::Expr& e, std::string_view name, size_t wanted, std::string_view usage) {
    if (e.args.size() == wanted) return true;
    sink_.report(Kind::wrong_arity, e.span, name, count_text(wanted, "argument", "arguments"), std::to_string(e.args.size()))
        .help(fmt::format("write `{}`", usage));
    return false;
}

/// The reduction that a call of `sum`, `max`... with a tensor or without a range means.
std::string BodyChecker::reduction_of(const ast::Expr& e) {
    if (e.args.size() == 1 && e.args[0]->kind == ast::ExprKind::Name)
        if (const Local* local = find_local(e.args[0]->text); local && local->kind == Local::Kind::Param) {
            Param& p = decl_.params[local->index];
            p.used = true;
            if (p.kind == Param::Kind::Tensor && p.dims.size() == 1)
                return fmt::format("{} (j in 0..{}: {}[j])", e.text, dim_text(p.dims[0], decl_.free_extents), p.name);
        }
    return fmt::format("{} (j in 0..n: ...)", e.text);
}

Node* BodyChecker::builtin(const ast::Expr& e, const Builtin& b) {
    if (b.shape == Shape::Dot) return dot(e);
    if ((b.op == Op::Min || b.op == Op::Max) && e.args.size() == 1 && e.named.empty()) {
        sink_.report(Kind::wrong_arity, e.span, b.name, "2 arguments", "1")
            .help(fmt::format("of two numbers it is `{}`, over a range `{}`", b.usage, reduction_of(e)));
        return context_.error(e.span);
    }
    if ((b.op == Op::Min || b.op == Op::Max) && e.args.size() > 2 && e.args.size() <= 6 && e.named.empty()) {
        std::string nested = short_text(e.args[0]->span);
        for (size_t i = 1; i < e.args.size(); ++i) nested = fmt::format("{}({}, {})", b.name, nested, short_text(e.args[i]->span));
        for (const ast::Expr* a : e.args) expr(*a);
        sink_.report(Kind::wrong_arity, e.span, b.name, "2 arguments", std::to_string(e.args.size()))
            .help(nested.size() > 80 || nested.find("...") != std::string::npos ? fmt::format("write `{}`", b.usage)
                                                                                : fmt::format("write `{}`", nested));
        return context_.error(e.span);
    }
    std::vector<Node*> args;
    for (const ast::Expr* a : e.args) args.push_back(expr(*a));
    for (const ast::NamedArg& n : e.named) expr(*n.value);
    if (!e.named.empty()) {
        const ast::Identifier& first = e.named.front().name;
        sink_.report(Kind::unknown_argument, first.span, b.name, first.text)
            .help(fmt::format("builtin functions take their arguments by position: `{}`", b.usage));
        return context_.error(e.span);
    }
    static constexpr std::array<size_t, 8> kArity = {1, 2, 1, 2, 3, 3, 1, 1};
    if (!arity(e, b.name, kArity[static_cast<size_t>(b.shape)], b.usage)) return context_.error(e.span);
    for (const Node* a : args)
        if (a->type == Type::Error) return context_.error(e.span);

    switch (b.shape) {
        case Shape::Float: return op(b.op, Type::F32, e.span, {want(args[0], Type::F32)});
        case Shape::Float2: return op(b.op, Type::F32, e.span, {want(args[0], Type::F32), want(args[1], Type::F32)});
        case Shape::SelectShape: return select(args[0], args[1], args[2], e.span, "select");
        case Shape::ToF32:
            if (args[0]->adapts) return adapt(args[0]);
            return op(Op::ToF32, Type::F32, e.span, {args[0]});
        case Shape::ToI32: return op(Op::ToI32, Type::I32, e.span, {settle(args[0])});
        default: break;
    }
    for (const Node* a : args)
        if (a->type == Type::Bool) {
            sink_.report(Kind::bad_operand, a->span, b.name, "numbers", name(a->type)).help("`i32(...)` of a condition is 0 or 1");
            return context_.error(e.span);
        }
    if (Node* n = literal_op(b.op, e.span, args)) return n;
    // Literals adapt to whichever argument is f32.
    const std::string what = fmt::format("`{}` takes", b.name);
    for (size_t i = 1; i < args.size(); ++i)
        if (!unify(args[0], args[i], what)) return context_.error(e.span);
    for (size_t i = 1; i < args.size(); ++i)
        if (!unify(args[0], args[i], what)) return context_.error(e.span);
    for (Node*& a : args) a = settle(a);
    const Type type = args[0]->type;
    return op(b.op, type, e.span, std::move(args));
}

bool BodyChecker::replace(std::vector<Replacement>& list, const ast::NamedArg& arg) {
    const auto slot = slot_named(arg.name.text);
    if (!slot) return false;
    Node* value = expr(*arg.value, *slot == Slot::Score ? Type::F32 : Type::I32);
    for (const Replacement& r : list)
        if (r.slot == *slot) {
            sink_.report(Kind::duplicate_argument, arg.name.span, arg.name.text);
            return true;
        }
    list.push_back({*slot, value});
    return true;
}

Node* BodyChecker::call_mask(const ast::Expr& e, uint32_t param) {
    Param& p = decl_.params[param];
    p.used = true;
    Node* n = context_.node(NodeKind::CallMask, Type::Bool, e.span);
    n->index = param;
    if (!e.args.empty()) {
        sink_.report(Kind::wrong_arity, e.span, p.name, "no arguments", std::to_string(e.args.size()))
            .help(fmt::format("a mask parameter may be called at other indices: `{}(q = ..., k = ...)`", p.name));
        for (const ast::Expr* a : e.args) expr(*a);
        n->type = Type::Error;
    }
    for (const ast::NamedArg& arg : e.named) {
        if (replace(n->replacements, arg)) continue;
        expr(*arg.value);
        sink_.report(Kind::unknown_argument, arg.name.span, p.name, arg.name.text)
            .help("a mask parameter takes `b h q k hkv score` by name");
        n->type = Type::Error;
    }
    for (const Replacement& r : n->replacements)
        if (r.value->type == Type::Error) return context_.error(e.span);
    if (n->type == Type::Error) return context_.error(e.span);
    gather_reads(n);
    return n;
}

Node* BodyChecker::argument(const ast::Expr& e, const Decl& callee, const Param& param) {
    if (param.kind == Param::Kind::Error) {
        return context_.error(e.span);
    }
    const auto declared = [&](diag::Diagnostic& d) -> diag::Diagnostic& {
        return d.note(fmt::format("the parameter `{}` of `{}`", param.name, callee.name), param.span);
    };
    if (param.kind == Param::Kind::Tensor) {
        const std::string wanted = "a tensor `" + context_.text(param.syntax->type.span) + "`";
        const auto wrong = [&](const std::string& found) {
            declared(sink_.report(Kind::bad_tensor_argument, e.span, param.name, wanted, found));
            return context_.error(e.span);
        };
        TensorRef ref;
        if (!tensor(e, ref, true)) {
            if (e.kind != ast::ExprKind::Name) return wrong("an expression");
            const Local* local = find_local(e.text);
            if (local && local->kind == Local::Kind::Param) {
                decl_.params[local->index].used = true;
                if (decl_.params[local->index].kind == Param::Kind::Error) return context_.error(e.span);
                return wrong(std::string(describe(decl_.params[local->index])));
            }
            if (local) return wrong("a scalar");
            Node* value = expr(e);
            return value->type == Type::Error ? value : wrong("a scalar");
        }
        if (ref.is_row) return wrong("the row `" + e.text + "`, which only its own clause can index");
        const std::string found = "`" + context_.text(ref.param->syntax->type.span) + "`";
        if (ref.param->type != param.type || ref.param->dims.size() != param.dims.size()) return wrong(found);
        Node* n = context_.node(NodeKind::Param, param.type, e.span);
        n->index = ref.index;
        return n;
    }
    Node* n = expr(e);
    const Type wanted = param.kind == Param::Kind::Mask ? Type::Bool : param.type;
    if (n->type == Type::Error || n->type == wanted || (wanted == Type::F32 && n->adapts)) return want(n, wanted);
    declared(mismatch(wanted, n));
    return context_.error(e.span);
}

void BodyChecker::check_extents(const ast::Expr& e, const Decl& callee, const std::vector<Node*>& args) {
    std::vector<const std::vector<ir::Dim>*> passed(args.size(), nullptr);
    bool any = false;
    for (size_t i = 0; i < args.size(); ++i)
        if (callee.params[i].kind == Param::Kind::Tensor) {
            passed[i] = &decl_.params[args[i]->index].dims;
            any = true;
        }
    if (!any) return;
    for (size_t i = 0; i < args.size(); ++i)
        if (callee.params[i].has_const_dims || (passed[i] && decl_.params[args[i]->index].has_const_dims)) return;  // known when lowered
    const BoundExtents bound = bind_extents(callee, passed);
    if (bound.unsolved) {
        sink_.report(Kind::extent_unbound, e.span, callee.free_extents[*bound.unsolved], callee.name)
            .note(fmt::format("`{}` is declared here", callee.name), callee.syntax->name.span);
        return;
    }
    for (const BoundExtents::Pair& p : bound.conflicts) {
        const Node* arg = args[p.param];
        sink_
            .report(Kind::extent_mismatch, arg->span, fmt::format("`{}`", context_.text(arg->span)), dim_text(p.passed, decl_.free_extents),
                    dim_text(p.wanted, decl_.free_extents))
            .note(fmt::format("the parameter `{}` of `{}`", callee.params[p.param].name, callee.name), callee.params[p.param].span)
            .note("the tensor is declared here", decl_.params[arg->index].span);
    }
}

Node* BodyChecker::call_decl(const ast::Expr& e, const Decl& callee, Node* piped) {
    if (callee.broken || callee.ambiguous) return context_.error(e.span);
    Node* n = context_.node(NodeKind::Call, callee.result, e.span);
    n->callee = &callee;
    if (piped) n->replacements.push_back({Slot::Score, piped});
    const size_t size = callee.params.size();
    std::vector<const ast::Expr*> given(size, nullptr);
    bool error = false;

    if (e.args.size() > size) {
        const bool one = size == 1;
        auto& d =
            sink_.report(Kind::wrong_arity, e.span, callee.name,
                         size == 0 ? "no arguments" : fmt::format("{} argument{}", size, one ? "" : "s"), std::to_string(e.args.size()));
        d.note(fmt::format("`{}` is declared here", callee.name), callee.syntax->name.span);
        if (callee.kind == ast::DeclKind::Score)
            d.help(fmt::format("it reads the present score; another is passed by name or by a pipe: `score = x`, `x |> {}(...)`",
                               callee.name));
        else if (callee.kind == ast::DeclKind::Mask)
            d.help("other indices are given by name: `q = ..., k = ...`");
        error = true;
    }
    for (size_t i = 0; i < e.args.size(); ++i) {
        if (i < size)
            given[i] = e.args[i];
        else
            expr(*e.args[i]);
    }
    for (const ast::NamedArg& arg : e.named) {
        if (const auto found = callee.param_index.find(arg.name.text); found != callee.param_index.end()) {
            if (given[found->second]) {
                sink_.report(Kind::duplicate_argument, arg.name.span, arg.name.text);
                error = true;
            } else {
                given[found->second] = arg.value;
            }
            continue;
        }
        if (slot_named(arg.name.text)) {
            if (callee.kind != ast::DeclKind::Fn) {
                replace(n->replacements, arg);
                continue;
            }
            sink_.report(Kind::bad_replacement, arg.name.span, arg.name.text, callee.name)
                .help("a `fn` sees its parameters and constants only")
                .note(fmt::format("`{}` is declared here", callee.name), callee.syntax->name.span);
        } else {
            auto& d = sink_.report(Kind::unknown_argument, arg.name.span, callee.name, arg.name.text);
            std::vector<std::string> names;
            for (const Param& p : callee.params) names.push_back(p.name);
            if (callee.kind != ast::DeclKind::Fn) names.insert(names.end(), kSlotNames.begin(), kSlotNames.end());
            std::string near(foreign_name(arg.name.text));
            if (near.empty() || !slot_named(near)) near = diag::nearest(arg.name.text, names);
            if (!near.empty()) {
                d.fix(arg.name.span, near, fmt::format("did you mean `{}`?", near));
            } else if (callee.params.size() <= 6) {
                std::string list;
                for (const Param& p : callee.params) list += fmt::format("{}`{}`", list.empty() ? "" : ", ", p.name);
                d.help(list.empty() ? fmt::format("`{}` has no parameters", callee.name) : fmt::format("its parameters are {}", list));
            }
            d.note(fmt::format("`{}` is declared here", callee.name), callee.syntax->name.span);
        }
        expr(*arg.value);
        error = true;
    }

    std::string missing;
    size_t missing_count = 0;
    for (size_t i = 0; i < size; ++i) {
        const Param& p = callee.params[i];
        if (given[i]) {
            n->args.push_back(argument(*given[i], callee, p));
        } else if (p.default_value) {
            n->args.push_back(literal(p.default_value->type, p.default_value->bits, e.span));
        } else {
            n->args.push_back(context_.error(e.span));
            if (p.kind == Param::Kind::Error) continue;
            if (++missing_count <= 4) missing += fmt::format("{}`{}`", missing.empty() ? "" : ", ", p.name);
        }
    }
    if (missing_count > 0 && !error) {
        if (missing_count > 4) missing += fmt::format(" and {} more", missing_count - 4);
        sink_.report(Kind::missing_argument, e.span, callee.name, (missing_count == 1 ? "the argument " : "the arguments ") + missing)
            .note(fmt::format("`{}` is declared here", callee.name), callee.syntax->name.span);
    }
    for (const Node* a : n->args) error |= a->type == Type::Error;
    for (const Replacement& r : n->replacements) error |= r.value->type == Type::Error;
    if (error) return context_.error(e.span);
    check_extents(e, callee, n->args);
    gather_reads(n);
    // A `fn` sees nothing, so what it calls must not read anything either.
    if (surroundings_ != Surroundings::Indices && n->reads != 0 && callee.kind != ast::DeclKind::Fn) {
        check_reads(n, 0, surroundings_ == Surroundings::Function ? "a `fn`" : "a constant");
        return context_.error(e.span);
    }
    return n;
}

Node* BodyChecker::call(const ast::Expr& e) {
    const Local* local = find_local(e.text);
    const auto global = decl_.module->visible.find(e.text);
    if (local && local->kind == Local::Kind::Param && decl_.params[local->index].kind == Param::Kind::Mask)
        return call_mask(e, local->index);
    if (const Builtin* b = builtin_named(e.text)) return builtin(e, *b);
    if (global != decl_.module->visible.end() && global->second->kind != ast::DeclKind::Const)
        return call_decl(e, *global->second, nullptr);

    // Nothing that can be called. Its arguments are checked for mistakes of their own.
    const bool reduction = !local && (e.text == "sum" || e.text == "any" || e.text == "all");
    for (const ast::Expr* a : e.args)
        if (a->kind != ast::ExprKind::Slice && a->kind != ast::ExprKind::Name && !reduction) expr(*a);
    if (local) {
        const bool is_param = local->kind == Local::Kind::Param;
        if (is_param) decl_.params[local->index].used = true;
        if (is_param && decl_.params[local->index].kind == Param::Kind::Error) return context_.error(e.span);
        const bool is_tensor = is_param && decl_.params[local->index].kind == Param::Kind::Tensor;
        if (local->kind == Local::Kind::Let) ++local->let->used;
        auto& d = sink_.report(Kind::not_a_function, e.operator_span, e.text, is_tensor ? "a tensor" : "a value");
        if (is_tensor) {
            std::string indices;
            for (const ast::Expr* a : e.args) indices += (indices.empty() ? "" : ", ") + short_text(a->span);
            const std::string access = fmt::format("{}[{}]", e.text, indices.empty() ? "..." : indices);
            if (!indices.empty() && e.named.empty() && access.find("...") == std::string::npos)
                d.fix(e.span, access, fmt::format("a tensor is indexed in brackets: `{}`", access));
            else
                d.help(fmt::format("a tensor is indexed in brackets: `{}`", access));
        }
        d.note(fmt::format("`{}` is declared here", e.text), local->span);
    } else if (global != decl_.module->visible.end()) {
        sink_.report(Kind::not_a_function, e.operator_span, e.text, "a constant")
            .note(fmt::format("`{}` is declared here", e.text), global->second->syntax->name.span);
    } else if (e.text == "sum" || e.text == "any" || e.text == "all") {
        sink_.report(Kind::wrong_arity, e.span, e.text, "a range", count_text(e.args.size(), "argument", "arguments"))
            .help(e.args.size() > 1 && e.text != "sum" ? fmt::format("conditions are joined by `{}`; over a range, write `{}`",
                                                                     e.text == "any" ? "or" : "and", reduction_of(e))
                                                       : fmt::format("write `{}`", reduction_of(e)));
    } else if (const std::string_view owner = owner_of(e.text); !owner.empty()) {
        sink_.report(Kind::not_a_function, e.operator_span, e.text, owner);
    } else {
        unknown(e.text, e.operator_span, true);
    }
    return context_.error(e.span);
}

Node* BodyChecker::pipe(const ast::Expr& e) {
    Node* left = expr(*e.args[0]);
    if (left->type == Type::Bool) {
        sink_.report(Kind::type_mismatch, left->span, name(Type::F32), name(Type::Bool))
            .help("`|>` passes a score; masks are joined by `and` and `or`");
        return context_.error(e.span);
    }
    left = want(left, Type::F32);
    const ast::Expr& target = *e.args[1];
    if (target.kind != ast::ExprKind::Call && target.kind != ast::ExprKind::Name)
        return context_.error(e.span);  // the parser has reported it
    const Span name_span = target.kind == ast::ExprKind::Call ? target.operator_span : target.span;
    const auto global = decl_.module->visible.find(target.text);
    const Local* local = find_local(target.text);
    if (global == decl_.module->visible.end() || global->second->kind != ast::DeclKind::Score) {
        std::string_view what;
        if (local)
            what = local->kind == Local::Kind::Param ? describe(decl_.params[local->index]) : "a value";
        else if (global != decl_.module->visible.end())
            what = describe(global->second->kind);
        else
            what = owner_of(target.text);
        if (what.empty()) return unknown(target.text, name_span, true);
        auto& d = sink_.report(Kind::bad_pipe, name_span, target.text, what);
        if (what == "a function" || what == "a builtin function") d.help(fmt::format("call it on the value: `{}(...)`", target.text));
        return context_.error(e.span);
    }
    if (left->type == Type::Error) {
        if (target.kind == ast::ExprKind::Call) call_decl(target, *global->second, nullptr);  // for its own mistakes
        return context_.error(e.span);
    }
    return call_decl(target, *global->second, left);
}

}  // namespace flexc::sema

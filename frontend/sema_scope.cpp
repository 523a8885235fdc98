// Scopes: what a name means where it stands.
#include <algorithm>
#include <array>
#include <bit>

#include <fmt/format.h>

#include "frontend/sema_body.h"
#include "frontend/syntax_words.h"

namespace flexc::sema {

std::string count_text(size_t n, std::string_view one, std::string_view many) {
    return fmt::format("{} {}", n, n == 1 ? one : many);
}

std::string_view describe(const Param& param) {
    switch (param.kind) {
        case Param::Kind::Tensor: return "a tensor";
        case Param::Kind::Mask: return "a mask";
        default: return "a scalar";
    }
}

std::string usual_access(const Param& param) {
    static constexpr std::array<std::string_view, 5> kIndices = {"b", "h", "hkv", "q", "k"};
    std::string text = param.name + "[";
    for (size_t i = 0; i < param.dims.size(); ++i) {
        const ir::Dim& dim = param.dims[i];
        const bool known =
            dim.multiplier == 1 && dim.offset == 0 && dim.extent_id >= 0 && static_cast<size_t>(dim.extent_id) < kIndices.size();
        if (!known) return param.name + "[...]";
        text += (i > 0 ? ", " : "") + std::string(kIndices[static_cast<size_t>(dim.extent_id)]);
    }
    return text + "]";
}

BodyChecker::BodyChecker(const Context& context, Decl& decl, Surroundings surroundings)
    : context_(context), sink_(context.sink), decl_(decl), surroundings_(surroundings) {
    // Clashes within the signature were reported when it was resolved.
    for (uint32_t i = 0; i < decl.params.size(); ++i)
        locals_.try_emplace(decl.params[i].name, Local{Local::Kind::Param, i, nullptr, decl.params[i].span});
    for (uint32_t i = 0; i < decl.free_extents.size(); ++i)
        locals_.try_emplace(decl.free_extents[i], Local{Local::Kind::Extent, i, nullptr, decl.syntax->name.span});
}

Node* BodyChecker::body(const ast::Expr& e, Type wanted) {
    return expr(e, wanted);
}
Node* BodyChecker::constant(const ast::Expr& e, Type wanted) {
    return expr(e, wanted);
}

void report_unused(const Decl& decl, diag::Sink& sink) {
    if (decl.module->embedded) return;
    const auto silent = [](std::string_view name) { return name.starts_with('_'); };
    for (const Param& p : decl.params) {
        if (p.used || p.kind == Param::Kind::Error || silent(p.name)) continue;
        // A tensor may be there only to bind an extent that is used.
        bool binds = false;
        for (const ir::Dim& d : p.dims)
            binds |= d.extent_id >= ir::kBuiltinExtents && decl.extent_used[static_cast<size_t>(d.extent_id - ir::kBuiltinExtents)];
        if (!binds) sink.report(Kind::unused_parameter, p.span, p.name).help("a name that begins with `_` is not warned about");
    }
    for (const Let* l : decl.lets)
        if (l->used == 0 && !silent(l->name)) sink.report(Kind::unused_let, l->span, l->name);
}

// ---- names ----

const Local* BodyChecker::find_local(std::string_view text) const {
    const auto found = locals_.find(text);
    return found == locals_.end() ? nullptr : &found->second;
}

bool BodyChecker::is_clause_name(std::string_view text) const {
    if (!clause_) return false;
    switch (*clause_) {
        case ast::ClauseKind::Output: return text == "o" || text == "d";
        case ast::ClauseKind::Query: return text == "query" || text == "d";
        case ast::ClauseKind::Key: return text == "key" || text == "d";
        case ast::ClauseKind::Emit: return text == "weight";
        default: return false;
    }
}

bool BodyChecker::declare(const ast::Identifier& id, const Local& local, std::string_view what) {
    if (const std::string_view owner = owner_of(id.text); !owner.empty()) {
        sink_.report(Kind::name_taken, id.span, id.text, owner).help(fmt::format("choose another name for this {}", what));
        return false;
    }
    if (is_clause_name(id.text)) {
        sink_.report(Kind::shadowing, id.span, id.text, "a name that this clause provides")
            .help(fmt::format("choose another name for this {}", what));
        return false;
    }
    if (const Local* other = find_local(id.text)) {
        static constexpr std::array<std::string_view, 4> kWhat = {"the parameter", "the `let`", "the reduction variable", "the extent"};
        if (!other->poisoned)
            sink_.report(Kind::shadowing, id.span, id.text, kWhat[static_cast<size_t>(other->kind)])
                .note(fmt::format("`{}` is declared here", id.text), other->span)
                .help(fmt::format("choose another name for this {}", what));
        // Which of the two is meant from here on is not known.
        scope_.emplace_back(id.text, *other);
        locals_.at(id.text).poisoned = true;
        return false;
    }
    if (const auto global = decl_.module->visible.find(id.text);
        global != decl_.module->visible.end() && global->second->module == decl_.module) {
        const Decl& d = *global->second;
        sink_.report(Kind::shadowing, id.span, id.text, describe(d.kind))
            .note(fmt::format("`{}` is declared here", id.text), d.syntax->name.span)
            .help(fmt::format("choose another name for this {}", what));
    }
    locals_.emplace(id.text, local);
    scope_.emplace_back(id.text, std::nullopt);
    return true;
}

void BodyChecker::forget(size_t count) {
    for (; scope_.size() > count; scope_.pop_back()) {
        const auto& [text, hidden] = scope_.back();
        if (hidden)
            locals_.insert_or_assign(text, *hidden);
        else
            locals_.erase(text);
    }
}

Node* BodyChecker::unknown(const std::string& name, Span span, bool called) {
    if (const auto later = later_lets_.find(name); later != later_lets_.end() && !called) {
        sink_.report(Kind::use_before_let, span, name)
            .note("it is defined here", later->second)
            .help("move the `let` up: it stands before what uses it");
        return context_.error(span);
    }
    if (decl_.module->import_failed || decl_.module->syntax->unread.contains(name)) return context_.error(span);
    auto& d = sink_.report(Kind::unknown_name, span, name);
    if (sink_.full()) return context_.error(span);
    if (const std::string_view ours = foreign_name(name); !ours.empty()) {
        d.fix(span, std::string(ours), fmt::format("it is called `{}` here", ours));
        return context_.error(span);
    }
    if (name == "None") {
        d.help(surroundings_ == Surroundings::Constant ? "a parameter is optional by its default value: `window: i32 = 128`"
               : clause_                               ? "leave the clause out: every clause has a default"
                                                       : "every value is a number or a `bool`");
        return context_.error(span);
    }
    if (context_.program.sources->file(span.file).text().find("#define " + name + " ") != std::string_view::npos) {
        d.help(fmt::format("`#define` is a comment here; a constant is written `const {}: i32 = ...;`", name));
        return context_.error(span);
    }
    if (const std::string_view help = frontend::help_for_idiom(name); !help.empty()) {
        d.help(std::string(help));
        return context_.error(span);
    }
    if (name == "o" || name == "d" || name == "weight") {
        d.help(name == "o"   ? "the output element `o` exists only in an `output` clause"
               : name == "d" ? "the element index `d` exists only in the clauses `query`, `key` and `output`"
                             : "the attention weight `weight` exists only in an `emit`");
        return context_.error(span);
    }
    std::vector<std::string> candidates = language_names();
    if (!called || surroundings_ != Surroundings::Constant)
        for (const auto& [text, local] : locals_) {
            const bool is_mask = local.kind == Local::Kind::Param && decl_.params[local.index].kind == Param::Kind::Mask;
            if (is_mask == called) candidates.emplace_back(text);
        }
    for (const auto& [text, other] : decl_.module->visible)
        if ((other->kind == ast::DeclKind::Const) != called) candidates.emplace_back(text);
    const std::string near = diag::nearest(name, candidates);
    if (!near.empty()) d.fix(span, near, fmt::format("did you mean `{}`?", near));
    for (const Decl& other : context_.program.decls)
        if (other.name == name && other.module != decl_.module && other.kind != ast::DeclKind::Attention) {
            d.note("a file that this one does not import declares it", other.syntax->name.span);
            return context_.error(span);
        }
    const bool include = context_.program.sources->file(span.file).text().find("#include") != std::string_view::npos;
    if (near.empty() && !decl_.module->visible.contains("causal") && called && !include) {
        static constexpr std::array<std::string_view, 8> kCommon = {"causal",   "sliding_window", "softcap",   "alibi",
                                                                    "document", "prefix_lm",      "natten_2d", "padding"};
        for (const std::string_view common : kCommon)
            if (common == name) {
                d.help("the standard library has it: `import std;` at the top of the file");
                return context_.error(span);
            }
    }
    if (near.empty() && called && include)
        d.help("`#include` is a comment here; write `import std;`, or `import \"masks.flex\";`");
    else if (near.empty() && called)
        d.help(
            "declare it in this file, by `fn`, `mask` or `score`, or import the file that does; `import std;` brings the usual masks and "
            "scores");
    if (near.empty() && !called && surroundings_ != Surroundings::Constant && name.size() <= 40)
        d.help(fmt::format("a value given at launch is a parameter: declare `{0}: i32`, `{0}: f32[H]` or the like between the parentheses",
                           name));
    return context_.error(span);
}

Node* BodyChecker::local_value(const Local& local, const ast::Expr& e) {
    if (local.poisoned) return context_.error(e.span);
    switch (local.kind) {
        case Local::Kind::Loop: {
            Node* n = context_.node(NodeKind::LoopVar, Type::I32, e.span);
            n->index = local.index;
            return n;
        }
        case Local::Kind::Extent: {
            Node* n = context_.node(NodeKind::FreeExtent, Type::I32, e.span);
            n->index = local.index;
            decl_.extent_used[local.index] = true;
            return n;
        }
        case Local::Kind::Let: {
            ++local.let->used;
            if (local.let->value->type == Type::Error) return context_.error(e.span);
            Node* n = context_.node(NodeKind::LetRef, local.let->value->type, e.span);
            n->let = local.let;
            n->reads = local.let->value->reads;
            n->passes = local.let->value->passes;
            return n;
        }
        case Local::Kind::Param: break;
    }
    Param& p = decl_.params[local.index];
    p.used = true;
    switch (p.kind) {
        case Param::Kind::Scalar: {
            Node* n = context_.node(NodeKind::Param, p.type, e.span);
            n->index = local.index;
            return n;
        }
        case Param::Kind::Tensor:
            sink_.report(Kind::tensor_without_index, e.span, p.name)
                .help(fmt::format("give {}: `{}`", count_text(p.dims.size(), "index", "indices"), usual_access(p)))
                .note(fmt::format("`{}` is declared here", p.name), p.span);
            break;
        case Param::Kind::Mask:
            sink_.report(Kind::function_as_value, e.span, p.name, "a mask").fix(e.span, p.name + "()", fmt::format("write `{}()`", p.name));
            break;
        case Param::Kind::Error: break;
    }
    return context_.error(e.span);
}

Node* BodyChecker::name_value(const ast::Expr& e) {
    const std::string& text = e.text;
    if (const Local* local = find_local(text); local && local->poisoned) return context_.error(e.span);
    if (is_clause_name(text)) {
        if (text == "o") return context_.node(NodeKind::Out, Type::F32, e.span);
        if (text == "weight") return context_.node(NodeKind::Weight, Type::F32, e.span);
        if (text == "d") return context_.node(NodeKind::ElementIndex, Type::I32, e.span);
        sink_.report(Kind::tensor_without_index, e.span, text)
            .help(fmt::format("an element of the row is `{}[i]`, this one is `{}[d]`", text, text));
        return context_.error(e.span);
    }
    if (const Local* local = find_local(text)) return local_value(*local, e);
    if (const auto slot = slot_named(text)) {
        if (surroundings_ != Surroundings::Indices) {
            auto& d = sink_.report(Kind::not_available, e.span, text, surroundings_ == Surroundings::Function ? "a `fn`" : "a constant");
            if (surroundings_ == Surroundings::Function)
                d.help(fmt::format("a `fn` sees its parameters and constants only: pass it as an argument, or make this a `{}`",
                                   *slot == Slot::Score ? "score" : "mask"));
            return context_.error(e.span);
        }
        Node* n = context_.node(NodeKind::Slot, *slot == Slot::Score ? Type::F32 : Type::I32, e.span);
        n->index = static_cast<uint32_t>(*slot);
        n->reads = bit(*slot);
        return n;
    }
    if (const auto extent = extent_named(text)) {
        if (surroundings_ != Surroundings::Indices) {
            auto& d = sink_.report(Kind::not_available, e.span, text, surroundings_ == Surroundings::Function ? "a `fn`" : "a constant");
            d.help(
                surroundings_ == Surroundings::Function
                    ? "a `fn` sees its parameters and constants only: pass it as an argument"
                    : fmt::format(
                          "it is known at launch only, a constant when compiling: write `{}` where it is used, or name it by a `let` there",
                          text));
            return context_.error(e.span);
        }
        Node* n = context_.node(NodeKind::Extent, Type::I32, e.span);
        n->index = *extent;
        return n;
    }
    if (const auto value = constant_named(text)) return literal(Type::F32, std::bit_cast<uint32_t>(*value), e.span);
    if (const auto found = decl_.module->visible.find(text); found != decl_.module->visible.end()) {
        const Decl& d = *found->second;
        if (d.ambiguous) return context_.error(e.span);
        if (d.kind == ast::DeclKind::Const)
            return d.constant ? literal(d.constant->type, d.constant->bits, e.span) : context_.error(e.span);
        auto& report = sink_.report(Kind::function_as_value, e.span, text, describe(d.kind));
        if (d.params.empty())
            report.fix(e.span, text + "()", fmt::format("write `{}()`", text));
        else
            report.help(fmt::format("write `{}(...)` with its {}", text, count_text(d.params.size(), "argument", "arguments")));
        report.note(fmt::format("`{}` is declared here", text), d.syntax->name.span);
        return context_.error(e.span);
    }
    if (const Builtin* b = builtin_named(text)) {
        sink_.report(Kind::function_as_value, e.span, text, "a builtin function").help(fmt::format("write `{}`", b->usage));
        return context_.error(e.span);
    }
    return unknown(text, e.span, false);
}

}  // namespace flexc::sema

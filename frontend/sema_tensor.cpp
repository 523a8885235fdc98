// Captured tensors: loads, dot products, and the bounded reductions.
#include <array>

#include <fmt/format.h>

#include "frontend/sema_body.h"
#include "frontend/sema_dims.h"

namespace flexc::sema {

using ir::Op;

namespace {

/// The index that goes with an extent: "b" with B. Empty: none does.
std::string_view index_of_extent(const ir::Dim& dim) {
    if (dim.multiplier != 1 || dim.offset != 0) return {};
    switch (dim.extent_id) {
        case int(ir::ExtentVar::B): return "b";
        case int(ir::ExtentVar::H): return "h";
        case int(ir::ExtentVar::HKV): return "hkv";
        default: return {};
    }
}

}  // namespace

bool BodyChecker::tensor(const ast::Expr& base, TensorRef& out, bool quiet) {
    if (base.kind == ast::ExprKind::Name) {
        if (is_clause_name(base.text) && (base.text == "query" || base.text == "key")) {
            out.is_row = true;
            out.row = base.text == "query" ? ir::ClauseVar::QueryRow : ir::ClauseVar::KeyRow;
            return true;
        }
        const Local* local = is_clause_name(base.text) ? nullptr : find_local(base.text);
        if (local && local->kind == Local::Kind::Param) {
            Param& p = decl_.params[local->index];
            if (p.kind == Param::Kind::Tensor) {
                p.used = true;
                out.param = &p;
                out.index = local->index;
                return true;
            }
            if (quiet) return false;
            p.used = true;
            if (p.kind == Param::Kind::Error) return false;
            auto& d = sink_.report(Kind::index_of_scalar, base.span, fmt::format("`{}` is {}", base.text, describe(p)))
                          .note(fmt::format("`{}` is declared here", base.text), p.span);
            if (p.kind == Param::Kind::Scalar)
                d.help(fmt::format("a tensor is declared with its extents: `{}: {}[N]`", p.name, name(p.type)));
            return false;
        }
    }
    if (quiet) return false;
    if (base.kind == ast::ExprKind::Name && !find_local(base.text) && !decl_.module->visible.contains(base.text) &&
        owner_of(base.text).empty() && !is_clause_name(base.text)) {
        unknown(base.text, base.span, false);
        return false;
    }
    if (base.kind == ast::ExprKind::Index) {
        Node* inner = index(base);
        if (inner->type != Type::Error)
            sink_.report(Kind::index_of_scalar, base.span, "an element of a tensor is a scalar")
                .help("the indices of a tensor stand in one pair of brackets: `x[i, j]`");
        return false;
    }
    if (base.kind == ast::ExprKind::Name) {
        if (const Local* local = find_local(base.text); local && local->kind == Local::Kind::Let) ++local->let->used;
        auto& d = sink_.report(Kind::index_of_scalar, base.span, fmt::format("`{}` is not one", base.text));
        if (base.text == "q" || base.text == "k")
            d.help(fmt::format("`{}` is a number, the position of the {}; the product of their rows is `score`", base.text,
                               base.text == "q" ? "query" : "key"));
        else if (base.text == "score")
            d.help("`score` is a number, the product of one query and one key");
        return false;
    }
    if (expr(base)->type != Type::Error) sink_.report(Kind::index_of_scalar, base.span, "this is a value");
    return false;
}

Node* BodyChecker::index_value(const ast::Expr& e) {
    if (e.kind == ast::ExprKind::Slice) {
        sink_.report(Kind::slice_outside_dot, e.span).help("a sum over it is `sum (j in 0..n: x[i, j])`");
        return context_.error(e.span);
    }
    Node* n = expr(e);
    if (n->type == Type::Error || n->type == Type::I32) return settle(n);
    sink_.report(Kind::bad_index, e.span, name(n->type))
        .help(n->type == Type::F32 ? "write `i32(...)`, which truncates" : "write `i32(...)`, which is 0 or 1");
    return context_.error(e.span);
}

/// `x[i][j]` for `x[i, j]`: reported as such, where the number of indices is right.
bool BodyChecker::chained_indices(const ast::Expr& whole) {
    std::vector<const ast::Expr*> links{&whole};
    while (links.back()->args[0]->kind == ast::ExprKind::Index) links.push_back(links.back()->args[0]);
    const ast::Expr& name = *links.back()->args[0];
    const Local* local = name.kind == ast::ExprKind::Name ? find_local(name.text) : nullptr;
    if (!local || local->poisoned || local->kind != Local::Kind::Param) return false;
    Param& param = decl_.params[local->index];
    std::string indices;
    size_t count = 0;
    for (size_t i = links.size(); i-- > 0;)
        for (size_t j = 1; j < links[i]->args.size(); ++j, ++count)
            indices += (count > 0 ? ", " : "") + context_.text(links[i]->args[j]->span);
    if (param.kind != Param::Kind::Tensor || count != param.dims.size()) return false;
    param.used = true;
    sink_.report(Kind::index_of_scalar, whole.span, "an element of a tensor is a scalar")
        .fix(whole.span, fmt::format("{}[{}]", param.name, indices),
             fmt::format("all indices stand in one pair of brackets: `{}[{}]`", param.name, indices));
    return true;
}

void BodyChecker::check_rank(const ast::Expr& e, size_t rank, size_t found, const Param* param) {
    if (rank == found) return;
    auto& d = sink_.report(Kind::wrong_rank, e.span, e.args[0]->text, count_text(rank, "dimension", "dimensions"),
                           count_text(found, "index", "indices"));
    if (!param) return;
    d.note(fmt::format("`{}` is declared here", param->name), param->span);
    // The batch or the head is what is left out most often.
    if (found >= rank || found + 1 != e.args.size()) return;
    std::string whole;
    for (size_t i = 0, given = 0; i < rank; ++i) {
        const std::string_view usual = index_of_extent(param->dims[i]);
        const std::string next = given < found ? context_.text(e.args[given + 1]->span) : std::string();
        const bool is_given = given < found && (found - given == rank - i || next == usual);
        if (!is_given && usual.empty()) return;
        whole += (i > 0 ? ", " : "") + (is_given ? next : std::string(usual));
        given += is_given ? 1 : 0;
    }
    d.fix(e.span, fmt::format("{}[{}]", param->name, whole), fmt::format("write `{}[{}]`", param->name, whole));
}

/// Reads that are well-formed and rarely meant: `t[-1]`, and the head where the tensor has another dimension for it.
void BodyChecker::warn_of_indices(const ast::Expr& e, const Param& p, const std::vector<Node*>& indices) {
    for (size_t i = 0; i < indices.size(); ++i) {
        if (indices[i]->kind != NodeKind::Literal || p.has_const_dims) continue;
        const auto value = static_cast<int32_t>(indices[i]->bits);
        const bool beyond = p.dims[i].extent_id < 0 && value >= p.dims[i].offset;
        if (value >= 0 && !beyond) continue;
        auto& d = sink_.report(Kind::index_outside, indices[i]->span, std::to_string(value), p.name, p.type == Type::Bool ? "false" : "0");
        if (value < 0)
            d.help(fmt::format("nothing wraps around: the last of `{0}` is `{0} - 1`", dim_text(p.dims[i], decl_.free_extents)));
        else
            d.help(fmt::format("`{}` is `{}`, whose last index is {}", p.name, context_.text(p.syntax->type.span), p.dims[i].offset - 1));
    }
    for (size_t i = 0; i < indices.size(); ++i) {
        // As NumPy would broadcast: `m[b, h, q, k]` of a `[B, 1, Q, K]`.
        if (indices[i]->kind != NodeKind::Slot || p.has_const_dims || p.dims[i].extent_id >= 0 || p.dims[i].offset != 1) continue;
        const std::string text = context_.text(indices[i]->span);
        sink_.report(Kind::index_outside, indices[i]->span, text + " > 0", p.name, p.type == Type::Bool ? "false" : "0")
            .fix(indices[i]->span, "0", fmt::format("this dimension of `{}` is 1, and nothing is broadcast: write `0`", p.name));
    }
    static constexpr std::array<std::pair<Slot, ir::ExtentVar>, 3> kOwn = {
        {{Slot::B, ir::ExtentVar::B}, {Slot::H, ir::ExtentVar::H}, {Slot::Hkv, ir::ExtentVar::HKV}}};
    for (size_t i = 0; i < indices.size(); ++i)
        for (const auto& [slot, extent] : kOwn) {
            if (indices[i]->kind != NodeKind::Slot || indices[i]->index != static_cast<uint32_t>(slot)) continue;
            const ir::Dim own{1, static_cast<int32_t>(extent), 0};
            if (p.dims[i] == own || p.dims[i].extent_id < 0) continue;
            for (size_t j = 0; j < indices.size(); ++j) {
                if (j == i || !(p.dims[j] == own) || (indices[j]->reads & bit(slot)) != 0 || indices[j]->reads == 0) continue;
                std::string whole;
                for (size_t m = 0; m < indices.size(); ++m)
                    whole += (m > 0 ? ", " : "") + context_.text(e.args[1 + (m == i ? j : m == j ? i : m)]->span);
                sink_
                    .report(Kind::indices_exchanged, e.span, short_text(e.args[i + 1]->span), dim_text(p.dims[i], decl_.free_extents),
                            p.name, short_text(e.args[j + 1]->span), dim_text(p.dims[j], decl_.free_extents))
                    .fix(e.span, fmt::format("{}[{}]", p.name, whole),
                         fmt::format("`{}` is `{}`: is `{}[{}]` meant?", p.name, context_.text(p.syntax->type.span), p.name, whole));
                return;
            }
        }
}

Node* BodyChecker::index(const ast::Expr& e) {
    if (e.args[0]->kind == ast::ExprKind::Index && chained_indices(e)) return context_.error(e.span);
    TensorRef ref;
    const bool found = tensor(*e.args[0], ref);
    std::vector<Node*> indices;
    bool error = !found;
    for (size_t i = 1; i < e.args.size(); ++i) {
        if (!found && e.args[i]->kind == ast::ExprKind::Slice) continue;
        indices.push_back(index_value(*e.args[i]));
        error |= indices.back()->type == Type::Error;
    }
    if (!found) return context_.error(e.span);
    const size_t rank = ref.is_row ? 1 : ref.param->dims.size();
    check_rank(e, rank, indices.size(), ref.param);
    if (error || indices.size() != rank) return context_.error(e.span);
    if (!ref.is_row) warn_of_indices(e, *ref.param, indices);
    Node* n = context_.node(ref.is_row ? NodeKind::RowLoad : NodeKind::Load, ref.is_row ? Type::F32 : ref.param->type, e.span);
    n->row = ref.row;
    n->index = ref.index;
    n->args = std::move(indices);
    gather_reads(n);
    return n;
}

bool BodyChecker::slice(const ast::Expr& e, Slice& out, Type& type, ir::Dim& last) {
    if (e.kind != ast::ExprKind::Index || e.args.back()->kind != ast::ExprKind::Slice) {
        const bool name = e.kind == ast::ExprKind::Name;
        const Local* local = name ? find_local(e.text) : nullptr;
        if (local && local->kind == Local::Kind::Param) decl_.params[local->index].used = true;
        if (name && (e.text == "q" || e.text == "k"))
            sink_.report(Kind::bad_dot, e.span)
                .help(fmt::format("`{}` is the position of the {}; the product of their rows is `score`", e.text,
                                  e.text == "q" ? "query" : "key"));
        else if (local && local->kind == Local::Kind::Param && decl_.params[local->index].kind == Param::Kind::Tensor)
            sink_.report(Kind::bad_dot, e.span).help(fmt::format("give all indices but the last, and `:` for it: `{}[..., :]`", e.text));
        else if (name || e.kind == ast::ExprKind::Index || expr(e)->type != Type::Error)
            sink_.report(Kind::bad_dot, e.span).help("write `dot(x[b, h, q, :], y[b, hkv, k, :])`");
        return false;
    }
    TensorRef ref;
    if (!tensor(*e.args[0], ref)) return false;
    bool error = false;
    for (size_t i = 1; i + 1 < e.args.size(); ++i) {
        out.indices.push_back(index_value(*e.args[i]));
        error |= out.indices.back()->type == Type::Error;
    }
    const size_t rank = ref.is_row ? 1 : ref.param->dims.size();
    check_rank(e, rank, e.args.size() - 1, ref.param);
    if (error || e.args.size() - 1 != rank) return false;
    out.is_row = ref.is_row;
    out.row = ref.row;
    out.param = ref.index;
    type = ref.is_row ? Type::F32 : ref.param->type;
    last = ref.is_row ? ir::Dim{1, static_cast<int32_t>(ir::ExtentVar::D), 0} : ref.param->dims.back();
    return true;
}

Node* BodyChecker::dot(const ast::Expr& e) {
    if (!e.named.empty()) {
        sink_.report(Kind::unknown_argument, e.named[0].name.span, "dot", e.named[0].name.text);
        return context_.error(e.span);
    }
    if (!arity(e, "dot", 2, "dot(x[b, h, q, :], y[b, hkv, k, :])")) return context_.error(e.span);
    Node* n = context_.node(NodeKind::Dot, Type::F32, e.span);
    n->sides.resize(2);
    std::array<Type, 2> types{};
    std::array<ir::Dim, 2> lasts{};
    bool ok = true;
    for (size_t i = 0; i < 2; ++i) ok &= slice(*e.args[i], n->sides[i], types[i], lasts[i]);
    if (!ok) return context_.error(e.span);
    for (size_t i = 0; i < 2; ++i)
        if (types[i] == Type::Bool) {
            sink_.report(Kind::bad_operand, e.args[i]->span, "dot", "tensors of numbers", "bool");
            return context_.error(e.span);
        }
    if (types[0] != types[1]) {
        const size_t integer = types[0] == Type::I32 ? 0 : 1;
        sink_.report(Kind::type_mismatch, e.args[integer]->span, "f32", "i32")
            .help("`dot` takes tensors of one kind; else write the sum: `sum (i in 0..n: f32(x[i]) * y[i])`")
            .note("this side is `f32`", e.args[1 - integer]->span);
        return context_.error(e.span);
    }
    const bool later = (!n->sides[0].is_row && decl_.params[n->sides[0].param].has_const_dims) ||
                       (!n->sides[1].is_row && decl_.params[n->sides[1].param].has_const_dims);
    if (!later && compare(lasts[0], lasts[1]) == Agreement::Different) {
        sink_
            .report(Kind::extent_mismatch, e.args[1]->span, fmt::format("the last dimension of `{}`", e.args[1]->args[0]->text),
                    dim_text(lasts[1], decl_.free_extents), dim_text(lasts[0], decl_.free_extents))
            .note("`dot` takes two rows of one length; this is the other", e.args[0]->span);
        return context_.error(e.span);
    }
    n->type = types[0];
    gather_reads(n);
    return n;
}

Node* BodyChecker::reduce(const ast::Expr& e) {
    const bool is_any = e.text == "any";
    const bool is_all = e.text == "all";
    const bool is_sum = e.text == "sum";
    const bool is_min = e.text == "min";
    Node* lo = expr(*e.args[0]);
    Node* hi = expr(*e.args[1]);
    for (Node** bound : {&lo, &hi}) {
        if ((*bound)->type == Type::F32 || (*bound)->type == Type::Bool) {
            sink_.report(Kind::bad_operand, (*bound)->span, e.text, "bounds of type `i32`", name((*bound)->type)).help("write `i32(...)`");
            *bound = context_.error((*bound)->span);
        }
        *bound = settle(*bound);
    }
    const size_t before = scope_.size();
    declare(e.variable, Local{Local::Kind::Loop, loops_, nullptr, e.variable.span}, "reduction variable");
    ++loops_;
    Node* body = settle(expr(*e.args[2]));
    --loops_;
    forget(before);

    if (lo->type == Type::Error || hi->type == Type::Error || body->type == Type::Error) return context_.error(e.span);
    if ((is_any || is_all) && body->type != Type::Bool) {
        sink_.report(Kind::bad_operand, body->span, e.text, "`bool`", name(body->type)).help("compare it, or use `sum`");
        return context_.error(e.span);
    }
    if (!is_any && !is_all && body->type == Type::Bool) {
        auto& d = sink_.report(Kind::bad_operand, body->span, e.text, "numbers", name(body->type));
        d.help(is_sum ? "to count, write `i32(...)`" : is_min ? "on conditions it is `all`" : "on conditions it is `any`");
        return context_.error(e.span);
    }
    Node* n = context_.node(NodeKind::Reduce, body->type, e.span);
    n->op = is_any ? Op::ReduceAny : is_all ? Op::ReduceAll : is_sum ? Op::ReduceSum : is_min ? Op::ReduceMin : Op::ReduceMax;
    n->args = {lo, hi, body};
    gather_reads(n);
    return n;
}

}  // namespace flexc::sema

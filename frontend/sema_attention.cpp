// The clauses of an attention, and what each of them may read.
#include <algorithm>

#include <fmt/format.h>

#include "frontend/sema_body.h"

namespace flexc::sema {

namespace {

constexpr Reads kRow = bit(Slot::B) | bit(Slot::H) | bit(Slot::Hkv) | bit(Slot::Q);
constexpr Reads kKey = bit(Slot::B) | bit(Slot::Hkv) | bit(Slot::K);

struct ClauseRule {
    ast::ClauseKind kind;
    Type type;
    Reads reads;
};
constexpr std::array kRules = {
    ClauseRule{ast::ClauseKind::Scale, Type::F32, kRow},        ClauseRule{ast::ClauseKind::Score, Type::F32, kAllSlots},
    ClauseRule{ast::ClauseKind::Mask, Type::Bool, kAllIndices}, ClauseRule{ast::ClauseKind::Sink, Type::F32, kRow},
    ClauseRule{ast::ClauseKind::Query, Type::F32, kRow},        ClauseRule{ast::ClauseKind::Key, Type::F32, kKey},
    ClauseRule{ast::ClauseKind::Output, Type::F32, kRow},       ClauseRule{ast::ClauseKind::Emit, Type::F32, kAllSlots},
};

std::string_view first_slot(Reads reads) {
    for (size_t i = 0; i < kSlots; ++i)
        if (reads & (1u << i)) return kSlotNames[i];
    return {};
}

/// The parts of a node that are evaluated where it stands.
template <class F>
void for_each_part(const Node* n, const F& visit) {
    const auto part = [&](const Node* p) {
        if (p) visit(p);
    };
    for (const Node* a : n->args) part(a);
    for (const Link& l : n->links) part(l.left), part(l.right);
    for (const Slice& s : n->sides)
        for (const Node* i : s.indices) part(i);
    for (const Replacement& r : n->replacements) part(r.value);
}

}  // namespace

bool BodyChecker::check_reads(const Node* root, Reads allowed, const std::string& where) {
    const Reads excess = root->reads & ~allowed;
    if (excess == 0) return true;
    // Down to the innermost node that reads too much.
    const Reads slot = static_cast<Reads>(excess & ~(excess - 1));
    const Node* at = root;
    while (true) {
        const Node* next = nullptr;
        for_each_part(at, [&](const Node* part) {
            if (!next && (part->reads & slot) != 0) next = part;
        });
        if (!next) break;
        at = next;
    }
    const std::string_view name = first_slot(slot);
    auto& d = sink_.report(Kind::not_available, at->span, name, where);
    if (at->kind == NodeKind::Slot && name == "score" && where.find("mask") != std::string::npos)
        d.help(
            "a mask depends on positions alone; by its value a score is hidden in the score clause: `score = if c then score else -inf`");
    if (at->kind == NodeKind::Slot && where == "the clause `scale`")
        d.help(fmt::format("a scale is the same for all keys; what depends on `{}` belongs into the clause `score`", name));
    if (at->kind == NodeKind::LetRef) d.note(fmt::format("`{}` reads `{}`", at->let->name, name), at->let->span);
    if (at->kind == NodeKind::Call)
        d.help(fmt::format("`{}` reads `{}`: give it by name, `{}(..., {} = ...)`", at->callee->name, name, at->callee->name, name));
    return false;
}

Node* BodyChecker::clause_value(const ast::Clause& clause) {
    const auto* rule = std::find_if(kRules.begin(), kRules.end(), [&](const ClauseRule& r) { return r.kind == clause.kind; });
    clause_ = clause.kind;
    Node* value = expr(*clause.value, rule->type);
    clause_.reset();
    if (value->type == Type::Error || !check_reads(value, rule->reads, fmt::format("the clause `{}`", ast::text(clause.kind))))
        return nullptr;
    const auto is_extent = [](const Node* n) { return n->kind == NodeKind::Extent; };
    if (clause.kind == ast::ClauseKind::Mask && value->kind == NodeKind::Chain &&
        std::all_of(value->links.begin(), value->links.end(), [&](const Link& l) { return is_extent(l.left) && is_extent(l.right); }))
        sink_.report(Kind::extents_compared, value->span).help("the position of the query is `q`, that of the key `k`");
    return value;
}

void BodyChecker::blocks_clause(const ast::Clause& clause) {
    const ast::Expr& e = *clause.value;
    if (e.kind != ast::ExprKind::Name) {
        sink_.report(Kind::bad_blocks, e.span, "this is an expression");
        return;
    }
    const Local* local = find_local(e.text);
    if (!local) {
        unknown(e.text, e.span, false);
        return;
    }
    if (local->kind != Local::Kind::Param) {
        if (local->kind == Local::Kind::Let) ++local->let->used;
        sink_.report(Kind::bad_blocks, e.span, fmt::format("`{}` is no parameter", e.text)).note("it is declared here", local->span);
        return;
    }
    Param& p = decl_.params[local->index];
    p.used = true;
    if (p.kind == Param::Kind::Error) return;
    if (p.kind != Param::Kind::Tensor || p.elem != ir::ElemType::I32 || p.dims.size() != 4) {
        sink_.report(Kind::bad_blocks, e.span, fmt::format("`{}` is `{}`", e.text, context_.text(p.syntax->type.span)))
            .help(fmt::format("declare it as `{}: i32[B, H, R, J]`: for each row of queries, the J blocks of keys to visit", e.text))
            .note(fmt::format("`{}` is declared here", e.text), p.span);
        return;
    }
    decl_.attention.blocks = local->index;
}

void BodyChecker::normalize_clause(const ast::Clause& clause) {
    const std::string& text = clause.normalize.text;
    decl_.attention.normalize = text == "sigmoid" ? ir::Normalize::Sigmoid : text == "none" ? ir::Normalize::None : ir::Normalize::Softmax;
}

void BodyChecker::emit_clause(const ast::Clause& clause) {
    const std::string& id = clause.emit_name.text;
    static constexpr std::array<std::string_view, 12> kOutputs = {"o",  "lse",  "max_score", "q",  "k",  "v",
                                                                  "do", "dlse", "dq",        "dk", "dv", "out"};
    bool ok = true;
    if (std::find(kOutputs.begin(), kOutputs.end(), id) != kOutputs.end()) {
        sink_.report(Kind::bad_emit_name, clause.emit_name.span, id, "an attention has an array of this name already");
        ok = false;
    }
    for (const AttentionBody::Emit& other : decl_.attention.emits)
        if (other.name == id) {
            sink_.report(Kind::bad_emit_name, clause.emit_name.span, id, "another `emit` has this name");
            ok = false;
            break;
        }
    for (const Param& p : decl_.params)
        if (p.name == id) {
            sink_.report(Kind::bad_emit_name, clause.emit_name.span, id, "a parameter has this name").note("it is declared here", p.span);
            ok = false;
            break;
        }
    Node* value = clause_value(clause);
    if (!value || !ok) return;
    const auto kind = clause.emit_kind.text == "column_sum" ? ir::Emit::Kind::ColumnSum : ir::Emit::Kind::Mean;
    decl_.attention.emits.push_back({id, kind, value});
}

/// A clause that provides names takes them from the parameters and lets of the attention.
void BodyChecker::check_clause_names() {
    static constexpr std::array<std::string_view, 5> kNames = {"o", "d", "weight", "query", "key"};
    for (const ast::Clause& clause : decl_.syntax->clauses) {
        clause_ = clause.kind;
        for (const std::string_view id : kNames) {
            if (!is_clause_name(id)) continue;
            std::optional<Span> at;
            if (const auto p = decl_.param_index.find(id); p != decl_.param_index.end()) at = decl_.params[p->second].span;
            for (const ast::Let& l : decl_.syntax->lets)
                if (l.name.text == id) at = l.name.span;
            if (at)
                sink_.report(Kind::shadowing, *at, id, fmt::format("a name that the clause `{}` provides", ast::text(clause.kind)))
                    .note("this clause provides it", clause.keyword);
            if (at) locals_.try_emplace(id, Local{}).first->second.poisoned = true;
        }
    }
    clause_.reset();
}

void BodyChecker::attention() {
    const ast::Decl& syntax = *decl_.syntax;
    AttentionBody& body = decl_.attention;
    check_clause_names();
    for (const ast::Let& l : syntax.lets) later_lets_.try_emplace(l.name.text, l.name.span);

    std::array<const ast::Clause*, 10> seen{};
    size_t next_let = 0;
    const auto lets_before = [&](uint32_t position) {
        for (; next_let < syntax.lets.size() && syntax.lets[next_let].span.begin < position; ++next_let) {
            const ast::Let& l = syntax.lets[next_let];
            let(l);
            later_lets_.erase(l.name.text);
        }
    };
    for (const ast::Clause& clause : syntax.clauses) {
        lets_before(clause.span.begin);
        const ast::Clause*& first = seen[static_cast<size_t>(clause.kind)];
        if (first && clause.kind != ast::ClauseKind::Emit) {
            auto& d =
                sink_.report(Kind::duplicate_clause, clause.keyword, ast::text(clause.kind)).note("it is given here first", first->keyword);
            if (clause.kind == ast::ClauseKind::Mask)
                d.help("join the conditions: `mask = a and b;`");
            else if (clause.kind == ast::ClauseKind::Score)
                d.help("the steps stand in one clause: name the first by `let s = ...;`, and write `score = ...;` of `s`");
            if (clause.value && clause.kind != ast::ClauseKind::Blocks) clause_value(clause);
            continue;
        }
        first = &clause;
        if (!clause.value && clause.kind != ast::ClauseKind::Normalize) continue;  // damaged; the parser has reported it
        switch (clause.kind) {
            case ast::ClauseKind::Scale: body.scale = clause_value(clause); break;
            case ast::ClauseKind::Score: body.score = clause_value(clause); break;
            case ast::ClauseKind::Mask: body.mask = clause_value(clause); break;
            case ast::ClauseKind::Sink: body.sink = clause_value(clause); break;
            case ast::ClauseKind::Output: body.output = clause_value(clause); break;
            case ast::ClauseKind::Query: body.query = clause_value(clause); break;
            case ast::ClauseKind::Key: body.key = clause_value(clause); break;
            case ast::ClauseKind::Normalize: normalize_clause(clause); break;
            case ast::ClauseKind::Blocks: blocks_clause(clause); break;
            case ast::ClauseKind::Emit: emit_clause(clause); break;
        }
    }
    lets_before(UINT32_MAX);
}

}  // namespace flexc::sema

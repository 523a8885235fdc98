#include "frontend/sema_dims.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

namespace flexc::sema {

namespace {

using diag::Kind;

constexpr int64_t kMax = std::numeric_limits<int32_t>::max();

/// A value m * extent + c while it is read; c alone if extent < 0.
struct Linear {
    int64_t multiplier = 0;
    int32_t extent = -1;
    int64_t offset = 0;
};

bool fits(const Linear& l) {
    return std::abs(l.multiplier) <= kMax && std::abs(l.offset) <= kMax;
}

Linear normal(Linear l) {
    if (l.multiplier == 0) l.extent = -1;
    return l;
}

struct Reader {
    const ExtentNames& names;
    diag::Sink& sink;

    std::optional<Linear> bad(Span span, const std::string& why) const {
        sink.report(Kind::bad_extent, span, why).help("an extent is a constant, a name, or `a * NAME + c` with constants");
        return std::nullopt;
    }

    std::optional<Linear> checked(Span span, Linear l) const {
        if (fits(l)) return normal(l);
        sink.report(Kind::constant_overflow, span);
        return std::nullopt;
    }

    std::optional<Linear> read(const ast::Expr& e) const {
        switch (e.kind) {
            case ast::ExprKind::IntLiteral:
                if (e.value > static_cast<uint64_t>(kMax)) {
                    sink.report(Kind::literal_range, e.span, e.text, "i32");
                    return std::nullopt;
                }
                return Linear{0, -1, static_cast<int64_t>(e.value)};
            case ast::ExprKind::Name: {
                const ExtentName found = names(e);
                if (found.constant) return checked(e.span, Linear{0, -1, *found.constant});
                if (found.extent) return Linear{1, *found.extent, 0};
                if (found.error.empty()) return std::nullopt;  // reported elsewhere
                auto& d = sink.report(Kind::bad_extent, e.span, found.error);
                if (!found.help.empty()) d.help(found.help);
                if (found.error_span) d.note("`" + e.text + "` is declared here", *found.error_span);
                return std::nullopt;
            }
            case ast::ExprKind::Unary: {
                if (e.unary != ast::UnaryOp::Neg) break;
                const auto a = read(*e.args[0]);
                if (!a) return std::nullopt;
                return checked(e.span, Linear{-a->multiplier, a->extent, -a->offset});
            }
            case ast::ExprKind::Binary: return binary(e);
            case ast::ExprKind::FloatLiteral: return bad(e.span, "`" + e.text + "` is not an integer");
            case ast::ExprKind::Slice: return bad(e.span, "`:` leaves it open");
            default: break;
        }
        return bad(e.span, "this expression is not of the form `a * NAME + c`");
    }

    std::optional<Linear> binary(const ast::Expr& e) const {
        const auto a = read(*e.args[0]);
        const auto b = read(*e.args[1]);
        if (!a || !b) return std::nullopt;
        const bool constants = a->extent < 0 && b->extent < 0;
        switch (e.binary) {
            case ast::BinaryOp::Add:
            case ast::BinaryOp::Sub: {
                const int64_t sign = e.binary == ast::BinaryOp::Add ? 1 : -1;
                if (a->extent >= 0 && b->extent >= 0 && a->extent != b->extent) return bad(e.span, "it has more than one name");
                return checked(e.span,
                               Linear{a->multiplier + sign * b->multiplier, std::max(a->extent, b->extent), a->offset + sign * b->offset});
            }
            case ast::BinaryOp::Mul: {
                if (a->extent >= 0 && b->extent >= 0) return bad(e.span, "names are multiplied");
                const Linear& l = a->extent >= 0 ? *a : *b;
                const int64_t c = a->extent >= 0 ? b->offset : a->offset;
                return checked(e.span, Linear{l.multiplier * c, l.extent, l.offset * c});  // factors below 2^31: no overflow of int64
            }
            case ast::BinaryOp::FloorDiv:
            case ast::BinaryOp::Mod: {
                if (!constants) return bad(e.span, "a name is divided");
                int64_t quotient = 0;
                int64_t rest = 0;
                if (b->offset != 0) {
                    quotient = a->offset / b->offset;
                    rest = a->offset % b->offset;
                    if (rest != 0 && (rest < 0) != (b->offset < 0)) {
                        --quotient;
                        rest += b->offset;
                    }
                }
                return checked(e.span, Linear{0, -1, e.binary == ast::BinaryOp::FloorDiv ? quotient : rest});
            }
            case ast::BinaryOp::Div: return bad(e.span, "`/` divides `f32`; `//` divides integers");
            default: return bad(e.span, "this operator is not possible here");
        }
    }
};

bool in_range(const ir::Dim& d) {
    return std::abs(d.offset) <= kMax;
}

}  // namespace

std::optional<ir::Dim> read_dim(const ast::Expr& e, const ExtentNames& names, diag::Sink& sink) {
    const Reader reader{names, sink};
    const auto l = reader.read(e);
    if (!l) return std::nullopt;
    if (l->extent < 0 && l->offset < 0) {
        reader.bad(e.span, fmt::format("{} is negative", l->offset));
        return std::nullopt;
    }
    if (l->multiplier < 0) {
        reader.bad(e.span, "it falls as the name grows");
        return std::nullopt;
    }
    return ir::Dim{static_cast<int32_t>(l->multiplier), l->extent, l->offset};
}

Agreement compare(const ir::Dim& a, const ir::Dim& b) {
    if (a == b) return Agreement::Same;
    if (a.extent_id < 0 && b.extent_id < 0) return Agreement::Different;
    if (a.extent_id == b.extent_id && a.multiplier == b.multiplier) return Agreement::Different;  // N and N + 1
    return Agreement::Unknown;
}

std::optional<ir::Dim> substitute(const ir::Dim& dim, const std::vector<std::optional<ir::Dim>>& bound) {
    if (dim.extent_id < ir::kBuiltinExtents) return dim;
    const auto& value = bound[static_cast<size_t>(dim.extent_id - ir::kBuiltinExtents)];
    if (!value) return std::nullopt;
    const int64_t multiplier = int64_t{dim.multiplier} * value->multiplier;
    const ir::Dim result{static_cast<int32_t>(multiplier), multiplier == 0 ? -1 : value->extent_id,
                         dim.multiplier * value->offset + dim.offset};
    if (multiplier > kMax || !in_range(result)) return std::nullopt;
    return result;
}

BoundExtents bind_extents(const Decl& callee, const std::vector<const std::vector<ir::Dim>*>& passed) {
    BoundExtents result;
    result.free.resize(callee.free_extents.size());
    // N from the first dimension that gives it exactly: passed = a * N + c with a dividing what is left.
    for (uint32_t p = 0; p < callee.params.size(); ++p) {
        if (!passed[p]) continue;
        for (size_t i = 0; i < passed[p]->size(); ++i) {
            const ir::Dim& wanted = callee.params[p].dims[i];
            const ir::Dim& given = (*passed[p])[i];
            if (wanted.extent_id < ir::kBuiltinExtents || wanted.multiplier == 0) continue;
            auto& slot = result.free[static_cast<size_t>(wanted.extent_id - ir::kBuiltinExtents)];
            const int64_t rest = given.offset - wanted.offset;
            if (slot || given.multiplier % wanted.multiplier != 0 || rest % wanted.multiplier != 0) continue;
            if (given.extent_id < 0 && rest < 0) continue;
            slot = ir::Dim{given.multiplier / wanted.multiplier, given.extent_id, rest / wanted.multiplier};
        }
    }
    for (uint32_t i = 0; i < result.free.size() && !result.unsolved; ++i)
        if (!result.free[i]) result.unsolved = i;
    for (uint32_t p = 0; p < callee.params.size(); ++p) {
        if (!passed[p]) continue;
        for (uint32_t i = 0; i < passed[p]->size(); ++i) {
            const std::optional<ir::Dim> wanted = substitute(callee.params[p].dims[i], result.free);
            if (!wanted) continue;
            const BoundExtents::Pair pair{p, i, (*passed[p])[i], *wanted};
            const Agreement agreement = compare(pair.passed, pair.wanted);
            if (agreement == Agreement::Different) result.conflicts.push_back(pair);
            if (agreement == Agreement::Unknown) result.constraints.push_back(pair);
        }
    }
    return result;
}

std::string dim_text(const ir::Dim& dim, const std::vector<std::string>& free_extents) {
    if (dim.extent_id < 0) return fmt::format("{}", dim.offset);
    std::string text = dim.extent_id < ir::kBuiltinExtents ? std::string(kExtentNames[static_cast<size_t>(dim.extent_id)])
                                                           : free_extents[static_cast<size_t>(dim.extent_id - ir::kBuiltinExtents)];
    if (dim.multiplier != 1) text = fmt::format("{} * {}", dim.multiplier, text);
    if (dim.offset != 0) text += fmt::format(" {} {}", dim.offset > 0 ? '+' : '-', std::abs(dim.offset));
    return text;
}

}  // namespace flexc::sema

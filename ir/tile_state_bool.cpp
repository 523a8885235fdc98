// The tile state's f32 intervals and the truth of bools; ir/tile_state.cpp has the method.
#include "ir/tile_state_builder.h"

namespace flexc::ir::tile_state_detail {

// ---- f32

/// Rounding is monotone, so bounds of exact results bound rounded ones; finite bounds rule out inf - inf and 0 * inf inside.
Interval TileStateBuilder::f32_between(NodeId x, NodeId y, NodeId ok) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    const NodeId lo = min(x, y), hi = max(x, y);
    ok = and_(ok, and_(lt(graph_.f32(-kInf), lo), lt(hi, graph_.f32(kInf))));
    return {lo, hi, ok};
}

Interval TileStateBuilder::f32_interval(NodeId id) {
    const auto operand = [&](size_t i) -> const Interval& { return interval(arg(id, i)); };
    const auto is_number = [&](const Interval& x) { return and_(x.ok, and_(make(Op::Eq, {x.lo, x.lo}), make(Op::Eq, {x.hi, x.hi}))); };
    const Op op = graph_[id].op;
    switch (op) {
        case Op::ToF32:
            if (graph_.type(arg(id, 0)) == Type::Bool) {
                const Truth& t = truth_of(arg(id, 0));
                return {make(Op::ToF32, {t.always}), make(Op::ToF32, {t.maybe}), true_};
            }
            return monotone(id);
        case Op::Neg: return {make(Op::Neg, {operand(0).hi}), make(Op::Neg, {operand(0).lo}), is_number(operand(0))};
        case Op::Abs: {
            const Interval x = operand(0);
            return {max(max(x.lo, make(Op::Neg, {x.hi})), graph_.f32(0)), max(make(Op::Abs, {x.lo}), make(Op::Abs, {x.hi})), is_number(x)};
        }
        case Op::Add:
            return f32_between(make(op, {operand(0).lo, operand(1).lo}), make(op, {operand(0).hi, operand(1).hi}),
                               and_(operand(0).ok, operand(1).ok));
        case Op::Sub:
            return f32_between(make(op, {operand(0).lo, operand(1).hi}), make(op, {operand(0).hi, operand(1).lo}),
                               and_(operand(0).ok, operand(1).ok));
        case Op::Mul:
            for (const size_t i : {0u, 1u})
                if (const NodeId factor = arg(id, i); uniform(factor))
                    return f32_between(make(op, {operand(1 - i).lo, factor}), make(op, {operand(1 - i).hi, factor}), operand(1 - i).ok);
            return unknown_f32();
        case Op::Div:
            if (!uniform(arg(id, 1))) return unknown_f32();
            return f32_between(make(op, {operand(0).lo, arg(id, 1)}), make(op, {operand(0).hi, arg(id, 1)}), operand(0).ok);
        case Op::Sign:
        case Op::Floor:
        case Op::Ceil:
        case Op::Round:
        case Op::Min:
        case Op::Max:
        case Op::Clamp: {
            Interval result = monotone(id);
            for (size_t i = 0; i < graph_[id].operand_count; ++i) result.ok = and_(result.ok, is_number(operand(i)));
            return result;
        }
        case Op::Select: {
            const Interval a = operand(1), b = operand(2);
            return chosen(truth_of(arg(id, 0)), {a.lo, a.hi, is_number(a)}, {b.lo, b.hi, is_number(b)});
        }
        case Op::Load: note(Loose::Why::OneValue); return at_single_operands(id);
        case Op::ReduceMin:
        case Op::ReduceMax: return reduced(id);
        default: return unknown_f32();  // functions need not be monotone to the last bit, nor the same in scalars and vectors
    }
}

// ---- bool

Truth TileStateBuilder::compared(Op op, const Interval& a, const Interval& b) {
    const NodeId ok = and_(a.ok, b.ok);
    NodeId maybe, always;
    if (op == Op::Eq || op == Op::Ne) {
        maybe = and_(le(a.lo, b.hi), le(b.lo, a.hi));
        always = and_(le(a.hi, b.lo), le(b.hi, a.lo));
        if (op == Op::Ne) {
            std::swap(maybe, always);
            maybe = not_(maybe);
            always = not_(always);
        }
    } else {
        maybe = make(op, {a.lo, b.hi});
        always = make(op, {a.hi, b.lo});
    }
    return {or_(not_(ok), maybe), and_(ok, always)};
}

/// A comparison with a load that is read for each index the tile touches: one by one, which says more than the least and greatest of them.
std::optional<Truth> TileStateBuilder::compared_each(Op op, NodeId load, NodeId other, bool load_first) {
    // Another load in `other` might be read in a loop of the same depth.
    if (graph_[load].op != Op::Load || uniform(load) || summary_[load.value] >= 0 || loads_[other.value]) return std::nullopt;
    const auto few = enumerated(load);
    if (!few) return std::nullopt;
    const Interval one = exactly(few->element);
    Truth each = load_first ? compared(op, one, interval(other)) : compared(op, interval(other), one);
    for (size_t i = few->variables.size(); i-- > 0;)
        each = {graph_.reduce(Op::ReduceAny, few->variables[i], each.maybe), graph_.reduce(Op::ReduceAll, few->variables[i], each.always)};
    return Truth{or_(not_(few->ok), each.maybe), and_(few->ok, each.always)};
}

/// a - b, exact: what both have in common cancels. Rests on neither wrapping.
std::optional<Interval> TileStateBuilder::difference(NodeId a, NodeId b) {
    const Form& x = forms_[a.value];
    const Form& y = forms_[b.value];
    std::vector<Term> terms;
    bool shared = false;
    for (size_t i = 0, j = 0; i < x.terms.size() || j < y.terms.size();) {
        const bool left = j == y.terms.size() || (i < x.terms.size() && x.terms[i].atom.value <= y.terms[j].atom.value);
        const bool right = i == x.terms.size() || (j < y.terms.size() && y.terms[j].atom.value <= x.terms[i].atom.value);
        shared |= left && right;
        const NodeId atom = left ? x.terms[i].atom : y.terms[j].atom;
        const int64_t factor = (left ? int64_t{x.terms[i++].factor} : 0) - (right ? int64_t{y.terms[j++].factor} : 0);
        if (factor != scalar::wrap(factor)) return std::nullopt;
        if (factor != 0) terms.push_back({atom, scalar::wrap(factor)});
    }
    if (!shared) return std::nullopt;
    Interval sum = plus(exactly(x.uniform), times_constant(exactly(y.uniform), -1));
    if (!terms.empty()) sum = plus(bound({terms, constant(0)}), sum);
    sum.ok = and_(sum.ok, and_(interval(a).ok, interval(b).ok));
    return sum;
}

Truth TileStateBuilder::compared(NodeId id) {
    const Op op = graph_[id].op;
    const NodeId a = arg(id, 0), b = arg(id, 1);
    Truth apart = compared(op, interval(a), interval(b));
    if (graph_.type(a) != Type::I32) return apart;
    for (const bool left : {true, false})
        if (const auto each = compared_each(op, left ? a : b, left ? b : a, left))
            apart = {and_(apart.maybe, each->maybe), or_(apart.always, each->always)};
    const auto gap = difference(a, b);
    if (!gap) return apart;
    const Truth together = compared(op, *gap, exactly(constant(0)));
    return {and_(apart.maybe, together.maybe), or_(apart.always, together.always)};
}

/// Of two bools that may differ over the tile.
Truth TileStateBuilder::same_truth(const Truth& a, const Truth& b) {
    return {or_(and_(a.maybe, b.maybe), not_(or_(a.always, b.always))), or_(and_(a.always, b.always), not_(or_(a.maybe, b.maybe)))};
}

Truth TileStateBuilder::chosen_truth(const Truth& condition, const Truth& a, const Truth& b) {
    const NodeId maybe = or_(and_(condition.maybe, a.maybe), and_(not_(condition.always), b.maybe));
    const NodeId always = or_(and_(a.always, b.always), or_(and_(condition.always, a.always), and_(not_(condition.maybe), b.always)));
    return {maybe, always};
}

Truth TileStateBuilder::truth(NodeId id) {
    if (summary_[id.value] >= 0) {
        const Interval x = summarised(id);
        return {lt(constant(0), x.hi), lt(constant(0), x.lo)};
    }
    const Op op = graph_[id].op;
    const auto operand = [&](size_t i) -> const Truth& { return truth_of(arg(id, i)); };
    switch (op) {
        case Op::Not: return {not_(operand(0).always), not_(operand(0).maybe)};
        case Op::And: return {and_(operand(0).maybe, operand(1).maybe), and_(operand(0).always, operand(1).always)};
        case Op::Or: return {or_(operand(0).maybe, operand(1).maybe), or_(operand(0).always, operand(1).always)};
        case Op::Eq:
        case Op::Ne:
            if (graph_.type(arg(id, 0)) == Type::Bool) {
                const Truth same = same_truth(operand(0), operand(1));
                return op == Op::Eq ? same : Truth{not_(same.always), not_(same.maybe)};
            }
            return compared(id);
        case Op::Lt:
        case Op::Le: return compared(id);
        case Op::Select: return chosen_truth(operand(0), operand(1), operand(2));
        case Op::Load: {
            const auto few = enumerated(id);
            if (!few) return unknown_truth();
            note(Loose::Why::FewIndices);
            const Interval all = extremes(*few);
            return {or_(not_(all.ok), all.hi), and_(all.ok, all.lo)};
        }
        case Op::ReduceAny:
        case Op::ReduceAll: {
            const NodeId variable = arg(id, 0);
            if (!uniform(variable)) return unknown_truth();
            const Truth body = operand(1);
            return {make(op, {variable, body.maybe}), make(op, {variable, body.always})};
        }
        default: return unknown_truth();
    }
}

}  // namespace flexc::ir::tile_state_detail

// Interval arithmetic over IR.
//
// An i32 value on a tile is kept in two ways. As a linear form, sum of factor * atom + uniform, exact modulo 2^32 whatever wraps on the way: atoms are q, k and
// what is not linear (q // n, loads, ...), so that q - k on a tile is [q_lo - k_hi, q_hi - k_lo] wherever it occurs, and q - k against q
// cancels. And as an interval, two uniform IR values lo and hi and a uniform condition ok: if ok holds on the tile, every element
// lies in [lo, hi]. ok collects what is not known at compile time: that computing lo and hi does not wrap, that a divisor is
// positive. An f32 value has an interval too; ok implies that no element is NaN, unless lo and hi are the value itself.
//
// A bool is a pair: may some element be true, are all elements true. Values that depend on neither q nor k are themselves.
//
// What arithmetic on the ends of the tile cannot bound is looked up. A value of q alone, or of k alone, gets a summary: its least
// and greatest value over the tile, from tables made before the launch. A load indexed by both (a block table such as map[q // t, k // t]) is read for every
// index that the tile touches, if those are few.
#include "ir/tile_state_builder.h"

namespace flexc::ir {

namespace tile_state_detail {

// ---- summaries

void TileStateBuilder::find_loads(uint32_t count) {
    loads_.assign(count, false);
    for (uint32_t i = 0; i < count; ++i) {
        loads_[i] = graph_[NodeId{i}].op == Op::Load && !uniform(NodeId{i});
        for (const NodeId operand : graph_.operands(NodeId{i})) loads_[i] = loads_[i] || loads_[operand.value];
    }
}

/// Depends on q or on k, not on both, and stands outside of every reduction.
bool TileStateBuilder::one_axis(NodeId id) const {
    const Reads axes = reads_[id.value] & kTileReads;
    return axes != 0 && axes != kTileReads && graph_.free_loops(id) == 0;
}

/// Bools are looked up whole if they hold a load; of integers only what interval arithmetic would lose, so that sums still cancel.
bool TileStateBuilder::needs_summary(NodeId id) const {
    if (!one_axis(id)) return false;
    const Node& node = graph_[id];
    if (node.type == Type::Bool) return loads_[id.value];
    if (node.type != Type::I32) return false;
    const auto constant_arg = [&](size_t i) { return graph_.as_i32(arg(id, i)); };
    switch (node.op) {
        case Op::Load:
        case Op::BitOr:
        case Op::BitXor:
        case Op::ReduceSum:
        case Op::ReduceMin:
        case Op::ReduceMax: return true;
        case Op::BitAnd:
            for (const size_t i : {0u, 1u})
                if (const auto mask = constant_arg(i); mask && *mask >= 0 && *mask < kHigh && (*mask & (*mask + 1)) == 0) return false;
            return true;
        case Op::Shl:
        case Op::Shr: return !constant_arg(1);
        case Op::Mul: return !uniform(arg(id, 0)) && !uniform(arg(id, 1));
        case Op::FloorDiv:
        case Op::Mod: return !uniform(arg(id, 1));
        case Op::ToI32: return graph_.type(arg(id, 0)) == Type::F32;
        default: return false;
    }
}

Interval TileStateBuilder::summarised(NodeId id) {
    const auto index = static_cast<uint32_t>(summary_[id.value]);
    return {graph_.tile_summary(index, false), graph_.tile_summary(index, true), true_};
}

// ---- linear forms

void TileStateBuilder::i32_value(NodeId id) {
    if (uniform(id)) {
        forms_[id.value] = {{}, id};
        intervals_[id.value] = exactly(id);
        return;
    }
    if (summary_[id.value] >= 0) {
        intervals_[id.value] = summarised(id);
        forms_[id.value] = {{{id, 1}}, constant(0)};
        return;
    }
    if (auto form = linear(id)) {
        intervals_[id.value] = bound(*form);
        forms_[id.value] = std::move(*form);
        return;
    }
    intervals_[id.value] = i32_atom(id);
    forms_[id.value] = {{{id, 1}}, constant(0)};
}

/// The form of an operation that is linear modulo 2^32.
std::optional<Form> TileStateBuilder::linear(NodeId id) {
    const auto form = [&](size_t i) -> const Form& { return forms_[arg(id, i).value]; };
    switch (graph_[id].op) {
        case Op::Neg: return scaled(form(0), -1);
        case Op::BitNot: return combined(Form{{}, constant(-1)}, form(0), -1);
        case Op::Add: return combined(form(0), form(1), 1);
        case Op::Sub: return combined(form(0), form(1), -1);
        case Op::Mul:
            for (const size_t i : {0u, 1u})
                if (const auto factor = graph_.as_i32(arg(id, i))) return scaled(form(1 - i), *factor);
            return std::nullopt;
        case Op::Shl:
            if (const auto count = graph_.as_i32(arg(id, 1)); count && *count >= 0 && *count <= 31)
                return scaled(form(0), scalar::shl(1, *count));
            return std::nullopt;
        default: return std::nullopt;
    }
}

/// a + factor_b * b, for a factor of 1 or -1.
std::optional<Form> TileStateBuilder::combined(const Form& a, const Form& b, int64_t factor_b) {
    Form result;
    result.uniform = make(factor_b > 0 ? Op::Add : Op::Sub, {a.uniform, b.uniform});
    size_t i = 0, j = 0;
    while (i < a.terms.size() || j < b.terms.size()) {
        const bool left = j == b.terms.size() || (i < a.terms.size() && a.terms[i].atom.value <= b.terms[j].atom.value);
        const NodeId atom = left ? a.terms[i].atom : b.terms[j].atom;
        int64_t factor = 0;
        if (i < a.terms.size() && a.terms[i].atom == atom) factor += a.terms[i++].factor;
        if (j < b.terms.size() && b.terms[j].atom == atom) factor += factor_b * b.terms[j++].factor;
        if (const int32_t wrapped = scalar::wrap(factor); wrapped != 0) result.terms.push_back({atom, wrapped});
    }
    if (result.terms.size() > kMaxTerms) return std::nullopt;
    return result;
}

std::optional<Form> TileStateBuilder::scaled(const Form& a, int32_t factor) {
    Form result;
    result.uniform = make(Op::Mul, {a.uniform, constant(factor)});
    for (const Term& term : a.terms)
        if (const int32_t wrapped = scalar::mul(term.factor, factor); wrapped != 0) result.terms.push_back({term.atom, wrapped});
    return result;
}

/// If the sum of the bounds does not wrap, the value is that sum and not only congruent to it.
Interval TileStateBuilder::bound(const Form& form) {
    std::optional<Interval> sum;
    // The indices first: their ranges are known best, so that their sums are proven without conditions.
    for (const bool indices : {true, false})
        for (const Term& term : form.terms) {
            if ((graph_[term.atom].op == Op::Index) != indices) continue;
            const Interval part = times_constant(interval(term.atom), term.factor);
            sum = sum ? plus(*sum, part) : part;
        }
    if (!sum) return exactly(form.uniform);
    return plus(*sum, exactly(form.uniform));
}

// ---- checked arithmetic

NodeId TileStateBuilder::checked_add(NodeId a, NodeId b, NodeId& ok) {
    const Range x = ranges_.range(a), y = ranges_.range(b);
    if (x.hi + y.hi > kHigh) ok = and_(ok, le(a, make(Op::Sub, {constant(kHigh), max(b, constant(0))})));
    if (x.lo + y.lo < kLow) ok = and_(ok, le(make(Op::Sub, {constant(kLow), min(b, constant(0))}), a));
    return make(Op::Add, {a, b});
}

Interval TileStateBuilder::plus(const Interval& a, const Interval& b) {
    NodeId ok = and_(a.ok, b.ok);
    const NodeId lo = checked_add(a.lo, b.lo, ok);
    const NodeId hi = checked_add(a.hi, b.hi, ok);
    return {lo, hi, ok};
}

Interval TileStateBuilder::times_constant(const Interval& x, int32_t factor) {
    if (factor == 1) return x;
    // The least and the largest value whose product fits.
    const auto divided = [&](int64_t n, bool up) {
        const int64_t quotient = n / factor, rest = n % factor;
        const bool below = rest != 0 && (rest < 0) != (factor < 0);  // truncation rounded up
        return up ? quotient + (rest != 0 && !below ? 1 : 0) : quotient - (below ? 1 : 0);
    };
    const int64_t least = divided(factor > 0 ? kLow : kHigh, true), most = divided(factor > 0 ? kHigh : kLow, false);
    NodeId ok = x.ok;
    if (ranges_.range(x.lo).lo < least) ok = and_(ok, le(constant(least), x.lo));
    if (ranges_.range(x.hi).hi > most) ok = and_(ok, le(x.hi, constant(most)));
    const NodeId lo = make(Op::Mul, {x.lo, constant(factor)}), hi = make(Op::Mul, {x.hi, constant(factor)});
    return factor > 0 ? Interval{lo, hi, ok} : Interval{hi, lo, ok};
}

// ---- i32, by operation

Interval TileStateBuilder::i32_atom(NodeId id) {
    const Node node = graph_[id];
    const auto operand = [&](size_t i) -> const Interval& { return interval(arg(id, i)); };
    const auto constant_arg = [&](size_t i) { return graph_.as_i32(arg(id, i)); };
    switch (node.op) {
        case Op::Index:
            if (static_cast<IndexVar>(node.payload) == IndexVar::Q)
                return {graph_.tile_bound(TileBound::QLo), graph_.tile_bound(TileBound::QHi), true_};
            return {graph_.tile_bound(TileBound::KLo), graph_.tile_bound(TileBound::KHi), true_};
        case Op::Add: return plus(operand(0), operand(1));  // a form with too many terms
        case Op::Sub: return plus(operand(0), times_constant(operand(1), -1));
        case Op::Mul:
            for (const size_t i : {0u, 1u})
                if (uniform(arg(id, i))) return times_uniform(operand(1 - i), arg(id, i));
            return if_single(id);
        case Op::FloorDiv: return uniform(arg(id, 1)) ? floordiv(operand(0), arg(id, 1)) : if_single(id);
        case Op::Mod: return uniform(arg(id, 1)) ? mod(operand(0), arg(id, 1)) : if_single(id);
        case Op::Shr:
            if (const auto count = constant_arg(1); count && *count >= 0 && *count < 31)
                return floordiv(operand(0), constant(int64_t{1} << *count));
            return if_single(id);
        case Op::BitAnd:
            for (const size_t i : {0u, 1u})  // x & (2^s - 1) is x % 2^s
                if (const auto mask = constant_arg(i); mask && *mask >= 0 && *mask < kHigh && (*mask & (*mask + 1)) == 0)
                    return mod(operand(1 - i), constant(int64_t{*mask} + 1));
            return if_single(id);
        case Op::Abs: return absolute(operand(0));
        case Op::Sign:
        case Op::Min:
        case Op::Max:
        case Op::Clamp: return monotone(id);
        case Op::Select: return chosen(truth_of(arg(id, 0)), operand(1), operand(2));
        case Op::ToI32:
            if (graph_.type(arg(id, 0)) == Type::Bool) {
                const Truth& t = truth_of(arg(id, 0));
                return {make(Op::ToI32, {t.always}), make(Op::ToI32, {t.maybe}), true_};
            }
            return monotone(id);
        case Op::Load: return loaded(id);
        case Op::LoopVar: return unknown_i32();  // its bounds differ over the tile
        case Op::ReduceSum:
        case Op::ReduceMin:
        case Op::ReduceMax: return reduced(id);
        default: return if_single(id);
    }
}

Interval TileStateBuilder::times_uniform(const Interval& x, NodeId factor) {
    const Range a = ranges_.range(x.lo), b = ranges_.range(x.hi), f = ranges_.range(factor);
    const int64_t size_x = std::max(std::abs(a.lo), std::abs(b.hi)), size_f = std::max(std::abs(f.lo), std::abs(f.hi));
    NodeId ok = x.ok;
    if (size_x * size_f > kHigh) {
        const NodeId size = max(make(Op::Abs, {x.lo}), make(Op::Abs, {x.hi}));
        const NodeId factor_size = make(Op::Abs, {factor});
        const NodeId fits = or_(make(Op::Eq, {factor, constant(0)}), le(size, make(Op::FloorDiv, {constant(kHigh), factor_size})));
        ok = and_(ok, and_(and_(lt(constant(kLow), x.lo), lt(constant(kLow), factor)), fits));
    }
    const NodeId lo = make(Op::Mul, {x.lo, factor}), hi = make(Op::Mul, {x.hi, factor});
    return {min(lo, hi), max(lo, hi), ok};
}

Interval TileStateBuilder::floordiv(const Interval& x, NodeId divisor) {
    return {make(Op::FloorDiv, {x.lo, divisor}), make(Op::FloorDiv, {x.hi, divisor}), and_(x.ok, lt(constant(0), divisor))};
}

/// Within one period the remainders are in order; else nothing but [0, divisor) is known, which needs no bounds of x.
Interval TileStateBuilder::mod(const Interval& x, NodeId divisor) {
    note(Loose::Why::Remainder);
    const Interval quotient = floordiv(x, divisor);
    const NodeId one_period = single(quotient);
    return {select(one_period, make(Op::Mod, {x.lo, divisor}), constant(0)),
            select(one_period, make(Op::Mod, {x.hi, divisor}), make(Op::Sub, {divisor, constant(1)})), lt(constant(0), divisor)};
}

Interval TileStateBuilder::absolute(const Interval& x) {
    NodeId ok = x.ok;
    if (ranges_.range(x.lo).lo == kLow) ok = and_(ok, lt(constant(kLow), x.lo));  // abs(INT_MIN) wraps
    const NodeId lo = max(max(x.lo, make(Op::Neg, {x.hi})), constant(0));
    return {lo, max(make(Op::Abs, {x.lo}), make(Op::Abs, {x.hi})), ok};
}

/// An operation that grows with each operand (or does not change).
Interval TileStateBuilder::monotone(NodeId id) {
    const std::vector<NodeId> operands(graph_.operands(id).begin(), graph_.operands(id).end());
    std::vector<NodeId> lo, hi;
    NodeId ok = true_;
    for (const NodeId operand : operands) {
        lo.push_back(interval(operand).lo);
        hi.push_back(interval(operand).hi);
        ok = and_(ok, interval(operand).ok);
    }
    return {graph_.like(graph_[id], lo), graph_.like(graph_[id], hi), ok};
}

Interval TileStateBuilder::chosen(const Truth& condition, const Interval& a, const Interval& b) {
    const auto pick = [&](NodeId x, NodeId y, NodeId both) { return select(condition.always, x, select(condition.maybe, both, y)); };
    return {pick(a.lo, b.lo, min(a.lo, b.lo)), pick(a.hi, b.hi, max(a.hi, b.hi)), pick(a.ok, b.ok, and_(a.ok, b.ok))};
}

std::optional<Elements> TileStateBuilder::enumerated(NodeId id) {
    constexpr int32_t kMaxSpan = 8;  // indices of one dimension
    std::vector<NodeId> indices(graph_.operands(id).begin(), graph_.operands(id).end());
    std::vector<NodeId> variables;
    NodeId few = true_;
    for (NodeId& index : indices) {
        if (uniform(index)) continue;
        if (variables.size() == 2) return std::nullopt;
        const Interval span = interval(index);
        const NodeId width = make(Op::Sub, {span.hi, span.lo});  // mod 2^32: small only if the difference is
        few = and_(few, and_(span.ok, and_(le(constant(0), width), lt(width, constant(kMaxSpan)))));
        // Deeper than any reduction of the user, so that the variable is nobody else's. An end that wraps gives an empty loop and few = false.
        const auto depth = kMaxLoopDepth - 2 + static_cast<uint32_t>(variables.size());
        if (graph_.free_loops(id) >> (kMaxLoopDepth - 2)) return std::nullopt;
        const NodeId end =
            make(Op::Add, {span.lo, make(Op::Add, {make(Op::Clamp, {width, constant(0), constant(kMaxSpan - 1)}), constant(1)})});
        few = and_(few, lt(span.lo, end));
        variables.push_back(graph_.loop_var(depth, span.lo, end));
        index = variables.back();
    }
    return Elements{graph_.like(graph_[id], indices), variables, few};
}

/// The least and greatest element; of bools: all, any.
Interval TileStateBuilder::extremes(const Elements& elements) {
    const bool is_bool = graph_.type(elements.element) == Type::Bool;
    NodeId lo = elements.element, hi = lo;
    for (size_t i = elements.variables.size(); i-- > 0;) {
        lo = graph_.reduce(is_bool ? Op::ReduceAll : Op::ReduceMin, elements.variables[i], lo);
        hi = graph_.reduce(is_bool ? Op::ReduceAny : Op::ReduceMax, elements.variables[i], hi);
    }
    return {lo, hi, elements.ok};
}

/// Over all indices that the tile touches if they are few, else what its type holds.
Interval TileStateBuilder::loaded(NodeId id) {
    Interval exact = any_i32();
    const auto few = enumerated(id);
    note(few ? Loose::Why::FewIndices : Loose::Why::Unknown);
    if (few) {
        const Interval all = extremes(*few);
        exact = {select(all.ok, all.lo, constant(kLow)), select(all.ok, all.hi, constant(kHigh)), true_};
    }
    const auto limited = [&](int64_t lo, int64_t hi) { return Interval{max(exact.lo, constant(lo)), min(exact.hi, constant(hi)), true_}; };
    switch (attention_.params[graph_[id].payload].elem) {
        case ElemType::I16: return limited(-32768, 32767);
        case ElemType::I8: return limited(-128, 127);
        case ElemType::U8: return limited(0, 255);
        default: return exact;
    }
}

/// The operation on the operands' lower bounds, which is the value if each operand has one value on the tile. All operands are i32.
Interval TileStateBuilder::at_single_operands(NodeId id) {
    const std::vector<NodeId> operands(graph_.operands(id).begin(), graph_.operands(id).end());
    std::vector<NodeId> values;
    NodeId all_single = true_;
    for (const NodeId operand : operands) {
        all_single = and_(all_single, single(interval(operand)));
        values.push_back(interval(operand).lo);
    }
    const NodeId value = graph_.like(graph_[id], values);
    return {value, value, all_single};
}

/// The operation itself where all operands have one value, else anything.
Interval TileStateBuilder::if_single(NodeId id) {
    for (const NodeId operand : graph_.operands(id))
        if (graph_.type(operand) != Type::I32) return unknown_i32();
    note(Loose::Why::OneValue);
    const Interval exact = at_single_operands(id);
    return {select(exact.ok, exact.lo, constant(kLow)), select(exact.ok, exact.hi, constant(kHigh)), true_};
}

/// A reduction over a range that is the same for all elements; sum must be proven not to wrap.
Interval TileStateBuilder::reduced(NodeId id) {
    const NodeId variable = arg(id, 0);
    const bool is_f32 = graph_.type(id) == Type::F32;
    if (!uniform(variable)) return is_f32 ? unknown_f32() : unknown_i32();
    const Op op = graph_[id].op;
    const Interval body = interval(arg(id, 1));
    const NodeId lo = make(op, {variable, body.lo}), hi = make(op, {variable, body.hi});
    const NodeId ok = make(Op::ReduceAll, {variable, body.ok});
    if (op == Op::ReduceSum) {
        if (is_f32) return unknown_f32();
        for (const NodeId sum : {lo, hi})
            if (const Range range = ranges_.range(sum); range.lo == kLow || range.hi == kHigh) return unknown_i32();
    }
    return {lo, hi, ok};
}

}  // namespace tile_state_detail

TileState tile_state(Attention& attention) {
    return tile_state_detail::TileStateBuilder(attention).run();
}

}  // namespace flexc::ir

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
#include "ir/tile_state.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "ir/congruence.h"
#include "ir/intervals.h"
#include "ir/reads.h"
#include "ir/rewrite.h"
#include "ir/scalar_ops.h"

namespace flexc::ir {

namespace {

constexpr int64_t kLow = scalar::kIntMin, kHigh = scalar::kIntMax;
constexpr size_t kMaxTerms = 8;
constexpr Reads kTileReads = reads_bit(IndexVar::Q) | reads_bit(IndexVar::K);

struct Interval {
    NodeId lo, hi, ok;
};

struct Truth {
    NodeId maybe, always;
};

/// A load at each of the few indices that a tile touches. Where `ok` fails they are too many.
struct Elements {
    NodeId element;                   // one of them, under the variables of the loops over the indices
    std::vector<NodeId> variables;    // outermost first
    NodeId ok;
};

struct Term {
    NodeId atom;
    int32_t factor;
};

struct Form {
    std::vector<Term> terms;   // by ascending atom, factors not 0
    NodeId uniform;            // i32
};

class TileStateBuilder {
public:
    explicit TileStateBuilder(Attention& attention)
        : attention_(attention), graph_(attention.graph), mask_(use_equalities(graph_, attention.mask)), reads_(reads(graph_)), ranges_(attention),
          true_(graph_.boolean(true)), false_(graph_.boolean(false)) {}

    TileState run() {
        const uint32_t count = mask_.value + 1;   // the graph grows behind it
        find_loads(count);
        std::vector<bool> wanted(count, false);
        summary_.assign(count, -1);
        wanted[mask_.value] = true;
        for (uint32_t i = count; i-- > 0;) {
            const NodeId id{i};
            if (!wanted[i] || uniform(id)) continue;
            if (needs_summary(id) && summaries_.size() < kMaxSummaries) {
                summary_[i] = static_cast<int>(summaries_.size());
                const Reads read = reads_[i];
                summaries_.push_back({id, (read & reads_bit(IndexVar::K)) != 0, (read & reads_bit(IndexVar::B)) != 0,
                                      (read & (reads_bit(IndexVar::H) | reads_bit(IndexVar::Hkv))) != 0});
                continue;
            }
            for (const NodeId operand : graph_.operands(id)) wanted[operand.value] = true;
        }
        forms_.resize(count);
        intervals_.resize(count);
        truths_.resize(count);
        for (uint32_t i = 0; i < count; ++i) {
            if (!wanted[i]) continue;
            const NodeId id{i};
            current_ = id;
            switch (graph_.type(id)) {
                case Type::I32: i32_value(id); break;
                case Type::F32: intervals_[i] = uniform(id) ? exactly(id) : f32_interval(id); break;
                case Type::Bool: truths_[i] = uniform(id) ? Truth{id, id} : truth(id); break;
            }
        }
        const Truth state = truths_[mask_.value];
        return {state.maybe, state.always, summaries_, loose_};
    }

private:
    // The values below are built simplified; nothing else reaches them.
    NodeId make(Op op, std::initializer_list<NodeId> operands) { return make_simplified(graph_, op, operands); }
    NodeId and_(NodeId a, NodeId b) { return make(Op::And, {a, b}); }
    NodeId or_(NodeId a, NodeId b) { return make(Op::Or, {a, b}); }
    NodeId not_(NodeId a) { return make(Op::Not, {a}); }
    NodeId le(NodeId a, NodeId b) { return make(Op::Le, {a, b}); }
    NodeId lt(NodeId a, NodeId b) { return make(Op::Lt, {a, b}); }
    NodeId min(NodeId a, NodeId b) { return make(Op::Min, {a, b}); }
    NodeId max(NodeId a, NodeId b) { return make(Op::Max, {a, b}); }
    NodeId select(NodeId c, NodeId a, NodeId b) { return make(Op::Select, {c, a, b}); }
    NodeId constant(int64_t value) { return graph_.i32(static_cast<int32_t>(value)); }

    bool uniform(NodeId id) const { return !(reads_[id.value] & kTileReads); }
    NodeId arg(NodeId id, size_t i) const { return graph_.operand(id, i); }
    const Interval& interval(NodeId id) const { return intervals_[id.value]; }
    const Truth& truth_of(NodeId id) const { return truths_[id.value]; }

    Interval exactly(NodeId id) const { return {id, id, true_}; }
    Interval any_i32() { return {constant(kLow), constant(kHigh), true_}; }
    Interval unknown_i32() {
        note(Loose::Why::Unknown);
        return any_i32();
    }
    Interval unknown_f32() {
        note(Loose::Why::Unknown);
        constexpr float kInf = std::numeric_limits<float>::infinity();
        return {graph_.f32(-kInf), graph_.f32(kInf), false_};
    }
    Truth unknown_truth() {
        note(Loose::Why::Unknown);
        return {true_, false_};
    }
    void note(Loose::Why why) {
        if (loose_.empty() || loose_.back().value != current_) loose_.push_back({current_, why});
    }
    NodeId single(const Interval& x) { return and_(x.ok, le(x.hi, x.lo)); }

    // Summaries.
    void find_loads(uint32_t count);
    bool one_axis(NodeId id) const;
    bool needs_summary(NodeId id) const;
    Interval summarised(NodeId id);

    // Linear forms.
    void i32_value(NodeId id);
    std::optional<Form> linear(NodeId id);
    std::optional<Form> combined(const Form& a, const Form& b, int64_t factor_b);
    std::optional<Form> scaled(const Form& a, int32_t factor);
    Interval bound(const Form& form);

    // Checked arithmetic on bounds: what cannot be proven now becomes a condition.
    NodeId checked_add(NodeId a, NodeId b, NodeId& ok);
    Interval plus(const Interval& a, const Interval& b);
    Interval times_constant(const Interval& x, int32_t factor);

    // By operation.
    Interval i32_atom(NodeId id);
    Interval times_uniform(const Interval& x, NodeId factor);
    Interval floordiv(const Interval& x, NodeId divisor);
    Interval mod(const Interval& x, NodeId divisor);
    Interval absolute(const Interval& x);
    Interval monotone(NodeId id);
    Interval chosen(const Truth& condition, const Interval& a, const Interval& b);
    Interval loaded(NodeId id);
    std::optional<Elements> enumerated(NodeId id);
    Interval extremes(const Elements& elements);
    Interval at_single_operands(NodeId id);
    Interval if_single(NodeId id);
    Interval reduced(NodeId id);
    Interval f32_interval(NodeId id);
    Interval f32_between(NodeId x, NodeId y, NodeId ok);
    Truth truth(NodeId id);
    std::optional<Interval> difference(NodeId a, NodeId b);
    std::optional<Truth> compared_each(Op op, NodeId load, NodeId other, bool load_first);
    Truth compared(NodeId id);
    Truth compared(Op op, const Interval& a, const Interval& b);
    Truth same_truth(const Truth& a, const Truth& b);
    Truth chosen_truth(const Truth& condition, const Truth& a, const Truth& b);

    Attention& attention_;
    Graph& graph_;
    const NodeId mask_;                 // the attention's, with its equalities used
    const std::vector<Reads> reads_;
    RangeAnalysis ranges_;
    const NodeId true_, false_;
    std::vector<Form> forms_;           // of i32 values
    std::vector<Interval> intervals_;   // of i32 and f32 values
    std::vector<Truth> truths_;         // of bools
    std::vector<bool> loads_;           // a load that varies on the tile is in it
    std::vector<int> summary_;          // which, or -1
    std::vector<Summary> summaries_;
    std::vector<Loose> loose_;
    NodeId current_;                    // whose bounds are being made
};

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
        const bool below = rest != 0 && (rest < 0) != (factor < 0);   // truncation rounded up
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
        case Op::Add: return plus(operand(0), operand(1));   // a form with too many terms
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
            for (const size_t i : {0u, 1u})   // x & (2^s - 1) is x % 2^s
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
        case Op::LoopVar: return unknown_i32();   // its bounds differ over the tile
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
    if (ranges_.range(x.lo).lo == kLow) ok = and_(ok, lt(constant(kLow), x.lo));   // abs(INT_MIN) wraps
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
    constexpr int32_t kMaxSpan = 8;   // indices of one dimension
    std::vector<NodeId> indices(graph_.operands(id).begin(), graph_.operands(id).end());
    std::vector<NodeId> variables;
    NodeId few = true_;
    for (NodeId& index : indices) {
        if (uniform(index)) continue;
        if (variables.size() == 2) return std::nullopt;
        const Interval span = interval(index);
        const NodeId width = make(Op::Sub, {span.hi, span.lo});   // mod 2^32: small only if the difference is
        few = and_(few, and_(span.ok, and_(le(constant(0), width), lt(width, constant(kMaxSpan)))));
        // Deeper than any reduction of the user, so that the variable is nobody else's. An end that wraps gives an empty loop and few = false.
        const auto depth = kMaxLoopDepth - 2 + static_cast<uint32_t>(variables.size());
        if (graph_.free_loops(id) >> (kMaxLoopDepth - 2)) return std::nullopt;
        const NodeId end = make(Op::Add, {span.lo, make(Op::Add, {make(Op::Clamp, {width, constant(0), constant(kMaxSpan - 1)}), constant(1)})});
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
        case Op::Add: return f32_between(make(op, {operand(0).lo, operand(1).lo}), make(op, {operand(0).hi, operand(1).hi}),
                                         and_(operand(0).ok, operand(1).ok));
        case Op::Sub: return f32_between(make(op, {operand(0).lo, operand(1).hi}), make(op, {operand(0).hi, operand(1).lo}),
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
        default: return unknown_f32();   // functions need not be monotone to the last bit, nor the same in scalars and vectors
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
        if (const auto each = compared_each(op, left ? a : b, left ? b : a, left)) apart = {and_(apart.maybe, each->maybe), or_(apart.always, each->always)};
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

}  // namespace

TileState tile_state(Attention& attention) { return TileStateBuilder(attention).run(); }

}  // namespace flexc::ir

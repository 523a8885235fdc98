// Every value has up to kMaxForms affine forms below it and as many above it; the first of each is a constant. Operations combine forms
// exactly; a result is kept only if its constant bounds prove that the operation does not wrap.
#include "ir/intervals.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "ir/affine.h"
#include "ir/reads.h"
#include "ir/scalar_ops.h"

namespace flexc::ir {

namespace {

constexpr size_t kMaxForms = 4;
constexpr int64_t kLow = scalar::kIntMin, kHigh = scalar::kIntMax;

using Forms = std::vector<Affine>;  // [0] is a constant

struct Bounds {
    Forms lower, upper;
    [[nodiscard]] int64_t lo() const { return lower[0].constant; }
    [[nodiscard]] int64_t hi() const { return upper[0].constant; }
};

int64_t floor_div(int64_t a, int64_t b) {
    return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

class Analysis {
public:
    Analysis(const Attention& attention, ExtentFacts facts) : attention_(attention), graph_(attention.graph), facts_(std::move(facts)) {}

    /// Bounds of the values that `wanted` marks; operands of a marked i32 operation must be marked.
    void run(const std::vector<bool>& wanted) {
        bounds_.assign(graph_.size(), Bounds{});
        find_element_extents();
        for (uint32_t i = 0; i < graph_.size(); ++i)
            if (wanted[i] && graph_.type(NodeId{i}) == Type::I32) bounds_[i] = clipped(of_node(NodeId{i}));
    }
    /// Bounds of the values that were added to the graph since.
    void extend() {
        if (bounds_.empty()) find_element_extents();
        for (auto i = static_cast<uint32_t>(bounds_.size()); i < graph_.size(); ++i) {
            bounds_.emplace_back();
            if (graph_.type(NodeId{i}) == Type::I32) bounds_[i] = clipped(of_node(NodeId{i}));
        }
    }
    [[nodiscard]] const Bounds& operator[](NodeId id) const { return bounds_[id.value]; }

    [[nodiscard]] bool in_range(NodeId index, const Dim& dim) const {
        const Bounds& bounds = bounds_[index.value];
        if (bounds.lo() < 0) return false;
        const Affine last = dim.extent_id < 0 ? affine_constant(dim.offset - 1)
                                              : affine_extent(static_cast<uint32_t>(dim.extent_id), dim.multiplier, dim.offset - 1);
        return std::any_of(bounds.upper.begin(), bounds.upper.end(), [&](const Affine& form) { return facts_.at_most(form, last); });
    }

private:
    static Bounds between(int64_t lo, int64_t hi) { return {{affine_constant(lo)}, {affine_constant(hi)}}; }
    static Bounds unknown() { return between(kLow, kHigh); }

    /// Adds a form to a side, and sharpens the side's constant by it.
    void put_lower(Bounds& bounds, const std::optional<Affine>& form) const {
        if (!form) return;
        bounds.lower[0].constant = std::max(bounds.lo(), facts_.min(*form));
        put(bounds.lower, *form);
    }
    void put_upper(Bounds& bounds, const std::optional<Affine>& form) const {
        if (!form) return;
        bounds.upper[0].constant = std::min(bounds.hi(), facts_.max(*form));
        put(bounds.upper, *form);
    }
    static void put(Forms& side, const Affine& form) {
        if (form.count != 0 && side.size() < kMaxForms && std::find(side.begin(), side.end(), form) == side.end()) side.push_back(form);
    }

    /// Bounds of an exact result, or the bounds of the type if that may not fit an i32. Bounds that cross are of a value that never exists, in
    /// the body of an empty loop: any number does.
    static Bounds clipped(Bounds bounds) {
        if (bounds.lo() > bounds.hi()) return between(0, 0);
        return bounds.lo() < kLow || bounds.hi() > kHigh ? unknown() : bounds;
    }

    void find_element_extents();
    Bounds of_node(NodeId id) const;
    Bounds of_index(IndexVar which) const;
    Bounds up_to_extent(uint32_t extent) const;
    Bounds of_extent(uint32_t extent) const;
    Bounds of_load(const Node& node) const;
    Bounds sum(const Bounds& a, const Bounds& b) const;
    Bounds negated(const Bounds& a) const;
    Bounds product(const Bounds& a, const Bounds& b) const;
    Bounds times(const Bounds& a, int64_t factor) const;
    Bounds floordiv(const Bounds& a, const Bounds& b) const;
    Bounds mod(const Bounds& a, const Bounds& b) const;
    Bounds smaller(const Bounds& a, const Bounds& b) const;
    Bounds larger(const Bounds& a, const Bounds& b) const;
    Bounds either(const Bounds& a, const Bounds& b) const;
    Bounds absolute(const Bounds& a) const;
    Bounds bit_and(const Bounds& a, const Bounds& b) const;
    Bounds bit_or(const Bounds& a, const Bounds& b) const;
    Bounds shift(Op op, const Bounds& a, const Bounds& count) const;
    Bounds loop(const Bounds& lo, const Bounds& hi) const;
    Bounds reduction(NodeId id) const;

    const Attention& attention_;
    const Graph& graph_;
    ExtentFacts facts_;
    std::vector<uint32_t> element_extents_;  // what bounds the index d
    std::vector<Bounds> bounds_;
};

/// d runs over D in the clauses query and key, and over DV in output.
void Analysis::find_element_extents() {
    const std::vector<Reads> read = reads(graph_);
    const auto reads_d = [&](NodeId root) { return root.valid() && (read[root.value] & reads_bit(IndexVar::D)); };
    element_extents_.clear();
    if (reads_d(attention_.query) || reads_d(attention_.key)) element_extents_.push_back(static_cast<uint32_t>(ExtentVar::D));
    if (reads_d(attention_.output)) element_extents_.push_back(static_cast<uint32_t>(ExtentVar::DV));
}

Bounds Analysis::of_extent(uint32_t extent) const {
    Bounds bounds = between(facts_.least(extent), kHigh);
    put_lower(bounds, affine_extent(extent));
    put_upper(bounds, affine_extent(extent));
    return bounds;
}

Bounds Analysis::up_to_extent(uint32_t extent) const {
    Bounds bounds = between(0, kHigh - 1);
    put_upper(bounds, affine_extent(extent, 1, -1));
    return bounds;
}

Bounds Analysis::of_index(IndexVar which) const {
    switch (which) {
        case IndexVar::B: return up_to_extent(static_cast<uint32_t>(ExtentVar::B));
        case IndexVar::H: return up_to_extent(static_cast<uint32_t>(ExtentVar::H));
        case IndexVar::Q: return up_to_extent(static_cast<uint32_t>(ExtentVar::Q));
        case IndexVar::K: return up_to_extent(static_cast<uint32_t>(ExtentVar::K));
        case IndexVar::Hkv: return up_to_extent(static_cast<uint32_t>(ExtentVar::HKV));
        case IndexVar::D: break;
    }
    return element_extents_.size() == 1 ? up_to_extent(element_extents_[0]) : between(0, kHigh - 1);
}

Bounds Analysis::of_load(const Node& node) const {
    switch (attention_.params[node.payload].elem) {
        case ElemType::I16: return between(-32768, 32767);
        case ElemType::I8: return between(-128, 127);
        case ElemType::U8: return between(0, 255);
        default: return unknown();
    }
}

Bounds Analysis::sum(const Bounds& a, const Bounds& b) const {
    Bounds result = between(a.lo() + b.lo(), a.hi() + b.hi());
    for (const Affine& x : a.lower)
        for (const Affine& y : b.lower) put_lower(result, add(x, y));
    for (const Affine& x : a.upper)
        for (const Affine& y : b.upper) put_upper(result, add(x, y));
    return result;
}

Bounds Analysis::negated(const Bounds& a) const {
    Bounds result = between(-a.hi(), -a.lo());
    for (const Affine& form : a.upper) put_lower(result, scaled(form, -1));
    for (const Affine& form : a.lower) put_upper(result, scaled(form, -1));
    return result;
}

Bounds Analysis::times(const Bounds& a, int64_t factor) const {
    if (factor < 0) return negated(times(a, -factor));
    Bounds result = between(a.lo() * factor, a.hi() * factor);
    for (const Affine& form : a.lower) put_lower(result, scaled(form, factor));
    for (const Affine& form : a.upper) put_upper(result, scaled(form, factor));
    return result;
}

Bounds Analysis::product(const Bounds& a, const Bounds& b) const {
    if (a.lo() == a.hi()) return times(b, a.lo());
    if (b.lo() == b.hi()) return times(a, b.lo());
    const std::array<int64_t, 4> corners = {a.lo() * b.lo(), a.lo() * b.hi(), a.hi() * b.lo(), a.hi() * b.hi()};
    const auto [least, most] = std::minmax_element(corners.begin(), corners.end());
    return between(*least, *most);
}

Bounds Analysis::floordiv(const Bounds& a, const Bounds& b) const {
    if (b.lo() < 1) return unknown();
    const std::array<int64_t, 4> corners = {floor_div(a.lo(), b.lo()), floor_div(a.lo(), b.hi()), floor_div(a.hi(), b.lo()),
                                            floor_div(a.hi(), b.hi())};
    const auto [least, most] = std::minmax_element(corners.begin(), corners.end());
    Bounds result = between(*least, *most);
    if (a.lo() >= 0)
        for (const Affine& form : a.upper) put_upper(result, form);
    if (b.lo() != b.hi()) return result;
    // (n E + c) // n = E + c // n
    const auto quotient = [&](Affine form) -> std::optional<Affine> {
        for (size_t i = 0; i < form.count; ++i) {
            if (form.terms[i].factor % b.lo() != 0) return std::nullopt;
            form.terms[i].factor /= b.lo();
        }
        form.constant = floor_div(form.constant, b.lo());
        return form;
    };
    for (const Affine& form : a.lower) put_lower(result, quotient(form));
    for (const Affine& form : a.upper) put_upper(result, quotient(form));
    return result;
}

Bounds Analysis::mod(const Bounds& a, const Bounds& b) const {
    if (b.lo() < 0) return unknown();
    Bounds result = between(0, std::max<int64_t>(b.hi() - 1, 0));
    if (a.lo() >= 0)
        for (const Affine& form : a.upper) put_upper(result, form);
    if (b.lo() >= 1)  // x % 0 is 0, which is not below 0
        for (const Affine& form : b.upper) put_upper(result, add(form, affine_constant(-1)));
    return result;
}

Bounds Analysis::smaller(const Bounds& a, const Bounds& b) const {
    Bounds result = either(a, b);
    result.upper[0].constant = std::min(a.hi(), b.hi());
    for (const Bounds* side : {&a, &b})
        for (const Affine& form : side->upper) put_upper(result, form);
    return result;
}

Bounds Analysis::larger(const Bounds& a, const Bounds& b) const {
    Bounds result = either(a, b);
    result.lower[0].constant = std::max(a.lo(), b.lo());
    for (const Bounds* side : {&a, &b})
        for (const Affine& form : side->lower) put_lower(result, form);
    return result;
}

/// What bounds both: a form of one that is proven not to cut off the other.
Bounds Analysis::either(const Bounds& a, const Bounds& b) const {
    Bounds result = between(std::min(a.lo(), b.lo()), std::max(a.hi(), b.hi()));
    for (const auto& [x, y] : {std::pair(&a, &b), std::pair(&b, &a)}) {
        for (const Affine& form : x->lower)
            if (std::any_of(y->lower.begin(), y->lower.end(), [&](const Affine& other) { return facts_.at_most(form, other); }))
                put_lower(result, form);
        for (const Affine& form : x->upper)
            if (std::any_of(y->upper.begin(), y->upper.end(), [&](const Affine& other) { return facts_.at_most(other, form); }))
                put_upper(result, form);
    }
    return result;
}

Bounds Analysis::absolute(const Bounds& a) const {
    if (a.lo() >= 0) return a;
    if (a.lo() == kLow) return unknown();  // abs(INT_MIN) is negative
    Bounds result = larger(a, negated(a));
    put_lower(result, affine_constant(0));
    return result;
}

Bounds Analysis::bit_and(const Bounds& a, const Bounds& b) const {
    if (a.lo() < 0 && b.lo() < 0) return unknown();
    Bounds result = between(0, kHigh);
    for (const Bounds* side : {&a, &b})
        if (side->lo() >= 0) {
            result.upper[0].constant = std::min(result.hi(), side->hi());
            for (const Affine& form : side->upper) put_upper(result, form);
        }
    return result;
}

/// bitor and bitxor: no bit above the highest of the operands.
Bounds Analysis::bit_or(const Bounds& a, const Bounds& b) const {
    if (a.lo() < 0 || b.lo() < 0) return unknown();
    int64_t most = 1;
    while (most <= std::max(a.hi(), b.hi())) most *= 2;
    return between(0, most - 1);
}

Bounds Analysis::shift(Op op, const Bounds& a, const Bounds& count) const {
    const bool constant = count.lo() == count.hi() && count.lo() >= 0 && count.lo() <= 31;
    if (constant) {
        const int64_t factor = int64_t{1} << count.lo();
        return op == Op::Shl ? times(a, factor) : floordiv(a, between(factor, factor));
    }
    if (op == Op::Shl) return unknown();
    Bounds result = between(std::min<int64_t>(a.lo(), 0), std::max<int64_t>(a.hi(), -1));
    if (a.lo() >= 0)
        for (const Affine& form : a.upper) put_upper(result, form);
    return result;
}

/// Where the body is evaluated the loop is not empty, so hi - 1 does not wrap.
Bounds Analysis::loop(const Bounds& lo, const Bounds& hi) const {
    Bounds result = between(lo.lo(), std::max(hi.hi() - 1, lo.lo()));
    for (const Affine& form : lo.lower) put_lower(result, form);
    for (const Affine& form : hi.upper) put_upper(result, add(form, affine_constant(-1)));
    return result;
}

Bounds Analysis::reduction(NodeId id) const {
    const NodeId variable = graph_.operand(id, 0);
    const Bounds& body = bounds_[graph_.operand(id, 1).value];
    switch (graph_[id].op) {
        case Op::ReduceMin: {
            Bounds result = body;
            result.upper = {affine_constant(kHigh)};  // empty
            return result;
        }
        case Op::ReduceMax: {
            Bounds result = body;
            result.lower = {affine_constant(kLow)};
            return result;
        }
        default: break;
    }
    const Bounds& lo = bounds_[graph_.operand(variable, 0).value];
    const Bounds& hi = bounds_[graph_.operand(variable, 1).value];
    const int64_t trips = std::max<int64_t>(hi.hi() - lo.lo(), 0);  // below 2^32: the products fit an int64
    return between(std::min<int64_t>(body.lo() * trips, 0), std::max<int64_t>(body.hi() * trips, 0));
}

Bounds Analysis::of_node(NodeId id) const {
    const Node& node = graph_[id];
    const std::span<const NodeId> operands = graph_.operands(id);
    const auto arg = [&](size_t i) -> const Bounds& { return bounds_[operands[i].value]; };
    switch (node.op) {
        case Op::ConstI32: return between(static_cast<int32_t>(node.payload), static_cast<int32_t>(node.payload));
        case Op::Index: return of_index(static_cast<IndexVar>(node.payload));
        case Op::TileBound:
            if (node.payload >= kFirstSummary) return unknown();
            return of_index(node.payload <= static_cast<uint32_t>(TileBound::QHi) ? IndexVar::Q : IndexVar::K);
        case Op::Extent: return of_extent(node.payload);
        case Op::LoopVar: return loop(arg(0), arg(1));
        case Op::Neg: return negated(arg(0));
        case Op::Abs: return absolute(arg(0));
        case Op::Sign: return between(arg(0).lo() > 0 ? 1 : arg(0).lo() == 0 ? 0 : -1, arg(0).hi() < 0 ? -1 : arg(0).hi() == 0 ? 0 : 1);
        case Op::BitNot: return sum(negated(arg(0)), between(-1, -1));
        case Op::Add: return sum(arg(0), arg(1));
        case Op::Sub: return sum(arg(0), negated(arg(1)));
        case Op::Mul: return product(arg(0), arg(1));
        case Op::FloorDiv: return floordiv(arg(0), arg(1));
        case Op::Mod: return mod(arg(0), arg(1));
        case Op::Min: return smaller(arg(0), arg(1));
        case Op::Max: return larger(arg(0), arg(1));
        case Op::Clamp: return smaller(larger(arg(0), arg(1)), arg(2));
        case Op::BitAnd: return bit_and(arg(0), arg(1));
        case Op::BitOr:
        case Op::BitXor: return bit_or(arg(0), arg(1));
        case Op::Shl:
        case Op::Shr: return shift(node.op, arg(0), arg(1));
        case Op::Select: return either(arg(1), arg(2));
        case Op::ToI32: return graph_.type(operands[0]) == Type::Bool ? between(0, 1) : unknown();
        case Op::Load: return of_load(node);
        case Op::ReduceSum:
        case Op::ReduceMin:
        case Op::ReduceMax: return reduction(id);
        default: return unknown();
    }
}

/// Marks what the marked values are computed from.
void close_over_operands(const Graph& graph, std::vector<bool>& wanted) {
    for (auto i = static_cast<uint32_t>(graph.size()); i-- > 0;)
        if (wanted[i])
            for (const NodeId operand : graph.operands(NodeId{i})) wanted[operand.value] = true;
}

/// Does an index inside [0, dim) imply that the extent of dim is at least 1? (Of built-in ones it is known.)
bool is_positive_inside(const Dim& dim) {
    return dim.extent_id >= kBuiltinExtents && dim.multiplier > 0 && dim.offset <= 0;
}

/// The analysis under assumptions, each set of them analysed once; beyond a few sets nothing is assumed.
class Analyses {
public:
    Analyses(const Attention& attention, const std::vector<bool>& wanted) : attention_(attention), wanted_(wanted) {}

    const Analysis& assuming(const std::set<uint32_t>& positive) {
        auto found = done_.find(positive);
        if (found != done_.end()) return found->second;
        if (done_.size() == kMaxSets) return assuming({});
        ExtentFacts facts(attention_.extents.size());
        for (const uint32_t extent : positive) facts.assume_positive(extent);
        found = done_.emplace(positive, Analysis(attention_, std::move(facts))).first;
        found->second.run(wanted_);
        return found->second;
    }

private:
    static constexpr size_t kMaxSets = 8;
    const Attention& attention_;
    const std::vector<bool>& wanted_;
    std::map<std::set<uint32_t>, Analysis> done_;
};

}  // namespace

std::vector<uint8_t> proven_dims(const Attention& attention) {
    const Graph& graph = attention.graph;
    std::vector<uint8_t> proven(graph.size(), 0);
    std::vector<bool> wanted(graph.size(), false);
    std::vector<uint32_t> loads;
    for (uint32_t i = 0; i < graph.size(); ++i)
        if (graph[NodeId{i}].op == Op::Load) {
            loads.push_back(i);
            for (const NodeId index : graph.operands(NodeId{i})) wanted[index.value] = true;
        }
    if (loads.empty()) return proven;
    close_over_operands(graph, wanted);

    Analyses analyses(attention, wanted);
    for (const uint32_t load : loads) {
        const std::span<const NodeId> indices = graph.operands(NodeId{load});
        const std::vector<Dim>& dims = attention.params[graph[NodeId{load}].payload].dims;
        const auto prove = [&](const Analysis& analysis, size_t i) {
            if (analysis.in_range(indices[i], dims[i])) proven[load] |= static_cast<uint8_t>(1u << i);
        };
        for (size_t i = 0; i < indices.size(); ++i) prove(analyses.assuming({}), i);
        // Where a guard that stays holds, the free extent that it compares with is not 0. One dimension at a time: a guard that has just
        // been dropped tells nothing about the next.
        for (size_t i = 0; i < indices.size(); ++i) {
            if (proven[load] >> i & 1) continue;
            std::set<uint32_t> positive;
            for (size_t other = 0; other < dims.size(); ++other)
                if (other != i && !(proven[load] >> other & 1) && is_positive_inside(dims[other]))
                    positive.insert(static_cast<uint32_t>(dims[other].extent_id));
            if (!positive.empty()) prove(analyses.assuming(positive), i);
        }
    }
    return proven;
}

struct RangeAnalysis::Impl {
    Analysis analysis;
    explicit Impl(const Attention& attention) : analysis(attention, ExtentFacts(attention.extents.size())) {}
};

RangeAnalysis::RangeAnalysis(const Attention& attention) : impl_(std::make_unique<Impl>(attention)) {}
RangeAnalysis::~RangeAnalysis() = default;

Range RangeAnalysis::range(NodeId id) {
    impl_->analysis.extend();
    return {impl_->analysis[id].lo(), impl_->analysis[id].hi()};
}

}  // namespace flexc::ir

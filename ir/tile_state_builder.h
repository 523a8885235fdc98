// The builder behind tile_state(): what it knows of each value, and its operations. ir/tile_state.cpp opens with the method and has the
// integers; ir/tile_state_bool.cpp has f32 and bool. Private to these two.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "ir/congruence.h"
#include "ir/intervals.h"
#include "ir/reads.h"
#include "ir/rewrite.h"
#include "ir/scalar_ops.h"
#include "ir/tile_state.h"

namespace flexc::ir::tile_state_detail {

inline constexpr int64_t kLow = scalar::kIntMin, kHigh = scalar::kIntMax;
inline constexpr size_t kMaxTerms = 8;
inline constexpr Reads kTileReads = reads_bit(IndexVar::Q) | reads_bit(IndexVar::K);

struct Interval {
    NodeId lo, hi, ok;
};

struct Truth {
    NodeId maybe, always;
};

/// A load at each of the few indices that a tile touches. Where `ok` fails they are too many.
struct Elements {
    NodeId element;                 // one of them, under the variables of the loops over the indices
    std::vector<NodeId> variables;  // outermost first
    NodeId ok;
};

struct Term {
    NodeId atom;
    int32_t factor;
};

struct Form {
    std::vector<Term> terms;  // by ascending atom, factors not 0
    NodeId uniform;           // i32
};

class TileStateBuilder {
public:
    explicit TileStateBuilder(Attention& attention)
        : attention_(attention),
          graph_(attention.graph),
          mask_(use_equalities(graph_, attention.mask)),
          reads_(reads(graph_)),
          ranges_(attention),
          true_(graph_.boolean(true)),
          false_(graph_.boolean(false)) {}

    TileState run() {
        const uint32_t count = mask_.value + 1;  // the graph grows behind it
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
    const NodeId mask_;  // the attention's, with its equalities used
    const std::vector<Reads> reads_;
    RangeAnalysis ranges_;
    const NodeId true_, false_;
    std::vector<Form> forms_;          // of i32 values
    std::vector<Interval> intervals_;  // of i32 and f32 values
    std::vector<Truth> truths_;        // of bools
    std::vector<bool> loads_;          // a load that varies on the tile is in it
    std::vector<int> summary_;         // which, or -1
    std::vector<Summary> summaries_;
    std::vector<Loose> loose_;
    NodeId current_;  // whose bounds are being made
};

}  // namespace flexc::ir::tile_state_detail

#include "ir/index_range.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "ir/congruence.h"
#include "ir/reads.h"
#include "ir/rewrite.h"

namespace flexc::ir {

namespace {

constexpr int64_t kLow = INT32_MIN, kHigh = INT32_MAX;
constexpr size_t kMaxSteps = 4096;  // of taking one sum apart; shared operands could make it exponential

/// constant + sum of factor * atom.
struct Sum {
    std::map<uint32_t, int64_t> factors;
    int64_t constant = 0;
};

/// Nothing if a number leaves the range of an i32.
std::optional<Sum> linear(const Graph& graph, NodeId root, int64_t sign = 1) {
    Sum sum;
    std::vector<std::pair<NodeId, int64_t>> stack{{root, sign}};
    size_t steps = 0;
    while (!stack.empty()) {
        const auto [id, factor] = stack.back();
        stack.pop_back();
        if (++steps > kMaxSteps || factor < kLow || factor > kHigh) return std::nullopt;
        const auto operand = [&](size_t i) { return graph.operand(id, i); };
        switch (graph[id].op) {
            case Op::ConstI32: sum.constant += factor * *graph.as_i32(id); break;
            case Op::Neg: stack.push_back({operand(0), -factor}); break;
            case Op::Add:
                stack.push_back({operand(1), factor});
                stack.push_back({operand(0), factor});
                break;
            case Op::Sub:
                stack.push_back({operand(1), -factor});
                stack.push_back({operand(0), factor});
                break;
            case Op::Mul: {
                const auto left = graph.as_i32(operand(0)), right = graph.as_i32(operand(1));
                if (right)
                    stack.push_back({operand(0), factor * *right});
                else if (left)
                    stack.push_back({operand(1), factor * *left});
                else
                    sum.factors[id.value] += factor;
                break;
            }
            default: sum.factors[id.value] += factor; break;
        }
    }
    std::erase_if(sum.factors, [](const auto& term) { return term.second == 0; });
    for (const auto& [atom, factor] : sum.factors)
        if (factor < kLow || factor > kHigh) return std::nullopt;
    if (sum.constant < kLow || sum.constant > kHigh) return std::nullopt;
    return sum;
}

/// Bounds of the index in one row (or column); absent: none.
struct Bounds {
    std::optional<NodeId> lower, upper;
    bool empty = false;
    [[nodiscard]] bool solved() const { return empty || lower || upper; }
};

class Solver {
public:
    /// Solves for `index`, Q or K; the other one is given as a range.
    Solver(Attention& attention, IndexVar index)
        : graph_(attention.graph),
          mask_(use_equalities(graph_, attention.mask)),
          reads_(reads(graph_)),
          of_keys_(index == IndexVar::K),
          solved_(reads_bit(index)),
          given_(reads_bit(of_keys_ ? IndexVar::Q : IndexVar::K)) {}

    IndexRange run() {
        const uint32_t count = mask_.value + 1;
        std::vector<bool> wanted(count, false);
        wanted[mask_.value] = true;
        for (uint32_t i = count; i-- > 0;)
            if (wanted[i])
                for (const NodeId operand : graph_.operands(NodeId{i})) wanted[operand.value] = true;
        for (uint32_t i = 0; i < count; ++i)
            if (const Op op = graph_[NodeId{i}].op; wanted[i] && (op == Op::FloorDiv || op == Op::Mod))
                divisors_.insert(graph_.operand(NodeId{i}, 1).value);
        bounds_.resize(count);
        for (uint32_t i = 0; i < count; ++i)
            if (wanted[i] && graph_.type(NodeId{i}) == Type::Bool && graph_.free_loops(NodeId{i}) == 0)
                for (const bool negated : {false, true}) bounds_[i][negated] = of(NodeId{i}, negated);

        IndexRange range;
        const Bounds& whole = bounds_[mask_.value][0];
        range.empty = whole.empty;
        if (whole.lower) range.lower = over_tile(*whole.lower, false);
        if (whole.upper) range.upper = over_tile(*whole.upper, true);
        std::vector<NodeId> stack{mask_};
        std::vector<bool> seen(count, false);
        while (!stack.empty()) {
            const NodeId id = stack.back();
            stack.pop_back();
            if (seen[id.value]) continue;
            seen[id.value] = true;
            if (graph_[id].op == Op::And) {
                stack.push_back(graph_.operand(id, 1));
                stack.push_back(graph_.operand(id, 0));
            } else if ((reads_[id.value] & solved_) && !bounds_[id.value][0].solved()) {
                range.unsolved.push_back(id);
            }
        }
        return range;
    }

private:
    NodeId make(Op op, std::initializer_list<NodeId> operands) { return make_simplified(graph_, op, operands); }
    NodeId constant(int64_t value) { return graph_.i32(static_cast<int32_t>(value)); }
    bool reads_solved(NodeId id) const { return (reads_[id.value] & solved_) != 0; }

    NodeId plus(NodeId a, int64_t value) {
        const auto sum = linear(graph_, a);
        return sum && sum->constant + value >= kLow && sum->constant + value <= kHigh ? built(*sum, value)
                                                                                      : make(Op::Add, {a, constant(value)});
    }

    /// What adds stands first, the constant last.
    NodeId built(const Sum& sum, int64_t more = 0) {
        std::optional<NodeId> all;
        for (const bool negative : {false, true})
            for (const auto& [atom, factor] : sum.factors) {
                if ((factor < 0) != negative) continue;
                // The first term of all carries its sign itself.
                const int64_t size = negative && all ? -factor : factor;
                const NodeId term = size == 1    ? NodeId{atom}
                                    : size == -1 ? make(Op::Neg, {NodeId{atom}})
                                                 : make(Op::Mul, {NodeId{atom}, constant(size)});
                all = all ? make(negative ? Op::Sub : Op::Add, {*all, term}) : term;
            }
        const int64_t last = sum.constant + more;
        if (!all) return constant(last);
        return last == 0 ? *all : make(Op::Add, {*all, constant(last)});
    }

    NodeId combined(Op op, NodeId a, NodeId b) {
        const auto difference = linear(graph_, graph_.make(Op::Sub, {a, b}));
        if (difference && difference->factors.empty()) return ((difference->constant >= 0) == (op == Op::Max)) ? a : b;
        return make(op, {a, b});
    }

    Bounds both(const Bounds& a, const Bounds& b) {
        Bounds result;
        result.empty = a.empty || b.empty;
        if (result.empty) return result;
        result.lower = a.lower && b.lower ? combined(Op::Max, *a.lower, *b.lower) : a.lower ? a.lower : b.lower;
        result.upper = a.upper && b.upper ? combined(Op::Min, *a.upper, *b.upper) : a.upper ? a.upper : b.upper;
        return result;
    }

    Bounds either(const Bounds& a, const Bounds& b) {
        if (a.empty) return b;
        if (b.empty) return a;
        Bounds result;
        if (a.lower && b.lower) result.lower = combined(Op::Min, *a.lower, *b.lower);
        if (a.upper && b.upper) result.upper = combined(Op::Max, *a.upper, *b.upper);
        return result;
    }

    Bounds of(NodeId id, bool negated) {
        const auto operand = [&](size_t i, bool turned) -> const Bounds& { return bounds_[graph_.operand(id, i).value][turned]; };
        switch (graph_[id].op) {
            case Op::ConstBool: return {{}, {}, *graph_.as_bool(id) == negated};
            case Op::Not: return operand(0, !negated);
            case Op::And: return negated ? either(operand(0, true), operand(1, true)) : both(operand(0, false), operand(1, false));
            case Op::Or: return negated ? both(operand(0, true), operand(1, true)) : either(operand(0, false), operand(1, false));
            case Op::Select:
                if (is_zero_divisor(graph_.operand(id, 0))) return operand(2, negated);
                return either(both(operand(0, false), operand(1, negated)), both(operand(0, true), operand(2, negated)));
            case Op::Eq:
            case Op::Ne:
            case Op::Lt:
            case Op::Le: return compared(id, negated);
            default: return {};
        }
    }

    bool is_zero_divisor(NodeId condition) const {
        if (graph_[condition].op != Op::Eq) return false;
        const NodeId a = graph_.operand(condition, 0), b = graph_.operand(condition, 1);
        return (graph_.as_i32(b) == 0 && divisors_.contains(a.value)) || (graph_.as_i32(a) == 0 && divisors_.contains(b.value));
    }

    Bounds compared(NodeId id, bool negated) {
        NodeId a = graph_.operand(id, 0), b = graph_.operand(id, 1);
        if (graph_.type(a) != Type::I32 || (graph_.free_loops(id) != 0)) return {};
        Op op = graph_[id].op;
        if (op == Op::Ne) op = Op::Eq, negated = !negated;
        if (op == Op::Eq && negated) return {};
        if (negated) {
            std::swap(a, b);
            op = op == Op::Lt ? Op::Le : Op::Lt;
        }
        // a - b in [.., 0], [.., -1] or [0, 0].
        const NodeId zero = constant(0);
        return solved(graph_.make(Op::Sub, {a, b}), op == Op::Eq ? std::optional(zero) : std::nullopt, op == Op::Lt ? constant(-1) : zero);
    }

    /// The index from lower <= value <= upper.
    Bounds solved(NodeId value, std::optional<NodeId> lower, std::optional<NodeId> upper) {
        for (size_t depth = 0; depth < 32 && (lower || upper); ++depth) {
            const auto sum = linear(graph_, value);
            if (!sum) return {};
            std::optional<NodeId> atom;
            Sum rest;  // lower <= factor * atom - rest <= upper
            int64_t factor = 0;
            rest.constant = -sum->constant;
            for (const auto& [term, times] : sum->factors) {
                if (!reads_solved(NodeId{term})) {
                    rest.factors[term] = -times;
                } else {
                    if (atom) return {};
                    atom = NodeId{term};
                    factor = times;
                }
            }
            if (!atom || (factor != 1 && factor != -1)) return {};
            const auto moved = [&](const std::optional<NodeId>& bound) -> std::optional<NodeId> {
                if (!bound) return {};
                const auto parts = linear(graph_, *bound);
                if (!parts) return {};
                Sum total = rest;
                total.constant += parts->constant;
                for (const auto& [term, times] : parts->factors)
                    if ((total.factors[term] += times) == 0) total.factors.erase(term);
                if (factor < 0) {
                    total.constant = -total.constant;
                    for (auto& [term, times] : total.factors) times = -times;
                }
                if (total.constant < kLow || total.constant > kHigh) return {};
                return built(total);
            };
            lower = moved(lower);
            upper = moved(upper);
            if (factor < 0) std::swap(lower, upper);
            const Node node = graph_[*atom];
            const auto operand = [&](size_t i) { return graph_.operand(*atom, i); };
            switch (node.op) {
                case Op::Index: return {lower, upper, false};
                case Op::FloorDiv:
                case Op::Shr: {
                    NodeId divisor = operand(1);
                    if (reads_[divisor.value] & (given_ | solved_)) return {};
                    const auto number = graph_.as_i32(divisor);
                    if (node.op == Op::Shr) {
                        if (!number || *number < 0 || *number > 30) return {};
                        divisor = constant(int64_t{1} << *number);
                    } else if (number && *number <= 0) {
                        return {};
                    }
                    if (lower) lower = make(Op::Mul, {*lower, divisor});
                    if (upper) upper = plus(make(Op::Mul, {plus(*upper, 1), divisor}), -1);
                    value = operand(0);
                    break;
                }
                case Op::Abs:
                    if (!upper) return {};
                    lower = make(Op::Neg, {*upper});
                    value = operand(0);
                    break;
                case Op::Min:
                case Op::Max: {
                    // min(x, y) >= l bounds both, min(x, y) <= u neither.
                    (node.op == Op::Min ? upper : lower).reset();
                    const bool first = reads_solved(operand(0));
                    if (first && reads_solved(operand(1))) return {};
                    value = operand(first ? 0 : 1);
                    break;
                }
                default: return {};
            }
            extend_reads();
        }
        return {};
    }

    void extend_reads() {
        if (reads_.size() < graph_.size()) reads_ = reads(graph_);
    }

    /// The least or greatest value over the given range of the other index, operand by operand: parts that are not in its order stay as they are.
    IndexBound over_tile(NodeId root, bool greatest) {
        extend_reads();
        IndexBound result;
        // Two ends of each node, made on demand without recursion.
        std::map<std::pair<uint32_t, bool>, NodeId> done;
        std::vector<std::pair<NodeId, bool>> stack{{root, greatest}};
        const auto varies = [&](NodeId id) { return id.value < reads_.size() && (reads_[id.value] & given_); };
        while (!stack.empty()) {
            const auto [id, high] = stack.back();
            if (done.contains({id.value, high})) {
                stack.pop_back();
                continue;
            }
            std::vector<std::pair<NodeId, bool>> parts;
            const Node node = graph_[id];
            const auto operand = [&](size_t i) { return graph_.operand(id, i); };
            const auto positive = [&](NodeId other) { return graph_.as_i32(other).value_or(1) > 0 && !varies(other); };
            bool in_order = true;
            if (!varies(id)) {
                done[{id.value, high}] = id;
                stack.pop_back();
                continue;
            }
            switch (node.op) {
                case Op::Index: break;
                case Op::Add:
                case Op::Min:
                case Op::Max: parts = {{operand(0), high}, {operand(1), high}}; break;
                case Op::Sub: parts = {{operand(0), high}, {operand(1), !high}}; break;
                case Op::Neg: parts = {{operand(0), !high}}; break;
                case Op::FloorDiv:
                    if (positive(operand(1)))
                        parts = {{operand(0), high}, {operand(1), high}};
                    else
                        in_order = false;
                    break;
                case Op::Mul:
                    in_order = false;
                    for (const size_t i : {0u, 1u}) {
                        const NodeId factor = operand(1 - i);
                        const auto number = graph_.as_i32(factor);
                        if (in_order || (!number && !divisors_.contains(factor.value))) continue;
                        const bool turned = high != (number && *number < 0);
                        parts = {{operand(0), i == 0 ? turned : high}, {operand(1), i == 1 ? turned : high}};
                        in_order = true;
                    }
                    break;
                default: in_order = false; break;
            }
            const bool ready =
                std::all_of(parts.begin(), parts.end(), [&](const auto& part) { return done.contains({part.first.value, part.second}); });
            if (!ready) {
                for (const auto& part : parts)
                    if (!done.contains({part.first.value, part.second})) stack.push_back(part);
                continue;
            }
            NodeId& value = done[{id.value, high}];
            if (node.op == Op::Index) {
                value = graph_.tile_bound(of_keys_ ? (high ? TileBound::QHi : TileBound::QLo) : (high ? TileBound::KHi : TileBound::KLo));
            } else if (!in_order) {
                value = id;
                if (std::find(result.rows.begin(), result.rows.end(), id) == result.rows.end()) result.rows.push_back(id);
            } else {
                std::vector<NodeId> operands;
                for (const auto& [part, end] : parts) operands.push_back(done[{part.value, end}]);
                value = graph_.like(node, operands);
            }
        }
        result.value = done[{root.value, greatest}];
        return result;
    }

    Graph& graph_;
    const NodeId mask_;
    std::vector<Reads> reads_;
    const bool of_keys_;
    const Reads solved_, given_;
    std::vector<std::array<Bounds, 2>> bounds_;  // as it is, negated
    std::set<uint32_t> divisors_;                // taken to be positive
};

}  // namespace

IndexRange key_range(Attention& attention) {
    if (!attention.mask.valid()) return {};
    return Solver(attention, IndexVar::K).run();
}

IndexRange query_range(Attention& attention) {
    if (!attention.mask.valid()) return {};
    return Solver(attention, IndexVar::Q).run();
}

std::optional<int64_t> step_along(const Graph& graph, NodeId value, IndexVar which) {
    const auto sum = linear(graph, value);
    if (!sum) return std::nullopt;
    const std::vector<Reads> read = reads(graph);
    int64_t step = 0;
    for (const auto& [atom, factor] : sum->factors) {
        if (!(read[atom] & reads_bit(which))) continue;
        if (graph[NodeId{atom}].op != Op::Index) return std::nullopt;
        step += factor;
    }
    return step;
}

}  // namespace flexc::ir

#include "ir/float_range.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "ir/intervals.h"

namespace flexc::ir {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

/// The f32 nearest to `x`, or one beyond it: results of several roundings stay within.
double outwards(double x, bool up) {
    if (std::isnan(x)) return up ? kInf : -kInf;
    const auto rounded = float(x);
    if (std::isinf(rounded)) return rounded;
    return double(x == 0 ? rounded
                         : std::nextafter(rounded, up ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity()));
}

/// Of what the operands' four corners give; a corner without a value (inf - inf, 0 * inf) may be anything near it.
FloatRange hull(std::initializer_list<double> corners) {
    FloatRange result{kInf, -kInf};
    for (const double corner : corners) {
        result.lo = std::min(result.lo, outwards(corner, false));
        result.hi = std::max(result.hi, outwards(corner, true));
    }
    return result;
}

/// Of a function that is not correctly rounded.
FloatRange approximately(double lo, double hi) {
    constexpr double kError = 1e-6;
    return {outwards(lo - kError * std::max(1.0, std::fabs(lo)), false), outwards(hi + kError * std::max(1.0, std::fabs(hi)), true)};
}

FloatRange join(FloatRange a, FloatRange b) {
    return {std::min(a.lo, b.lo), std::max(a.hi, b.hi)};
}

class Analysis {
public:
    Analysis(const Attention& attention, const FloatAssumptions& assumptions)
        : graph_(attention.graph), assumptions_(assumptions), integers_(attention), bounds_(attention.graph.size()) {
        for (uint32_t i = 0; i < graph_.size(); i++)
            if (graph_.type(NodeId{i}) == Type::F32) bounds_[i] = compute(NodeId{i});
    }
    [[nodiscard]] std::vector<FloatRange> take() { return std::move(bounds_); }

private:
    FloatRange compute(NodeId id) {
        const Node& node = graph_[id];
        const auto operand = [&](size_t i) { return bounds_[graph_.operand(id, i).value]; };
        switch (node.op) {
            case Op::ConstF32: {
                const double value = std::bit_cast<float>(node.payload);
                return std::isnan(value) ? FloatRange{0, 0} : FloatRange{value, value};
            }
            case Op::ClauseVar: return {-assumptions_.score, assumptions_.score};
            case Op::Scalar:
            case Op::Load: return {-assumptions_.captured, assumptions_.captured};
            case Op::ToF32: return from_integer(graph_.operand(id, 0));
            case Op::Neg: return {-operand(0).hi, -operand(0).lo};
            case Op::Abs: {
                const auto [lo, hi] = operand(0);
                return {lo <= 0 && hi >= 0 ? 0 : std::min(std::abs(lo), std::abs(hi)), std::max(std::abs(lo), std::abs(hi))};
            }
            case Op::Sign: return {-1, 1};
            case Op::Add: return hull({operand(0).lo + operand(1).lo, operand(0).hi + operand(1).hi});
            case Op::Sub: return hull({operand(0).lo - operand(1).hi, operand(0).hi - operand(1).lo});
            case Op::Mul: return multiply(id);
            case Op::Div: {
                const FloatRange a = operand(0), b = operand(1);
                if (b.lo <= 0 && b.hi >= 0) return {};
                return hull({a.lo / b.lo, a.lo / b.hi, a.hi / b.lo, a.hi / b.hi});
            }
            case Op::Min: return {std::min(operand(0).lo, operand(1).lo), std::min(operand(0).hi, operand(1).hi)};
            case Op::Max: return {std::max(operand(0).lo, operand(1).lo), std::max(operand(0).hi, operand(1).hi)};
            case Op::Clamp: {
                const FloatRange low = {std::max(operand(0).lo, operand(1).lo), std::max(operand(0).hi, operand(1).hi)};
                return {std::min(low.lo, operand(2).lo), std::min(low.hi, operand(2).hi)};
            }
            case Op::Select: return join(operand(1), operand(2));
            case Op::Exp: return hull({std::exp(operand(0).lo), std::exp(operand(0).hi), 0});
            case Op::Exp2: return hull({std::exp2(operand(0).lo), std::exp2(operand(0).hi), 0});
            case Op::Log:
            case Op::Log2: {
                if (operand(0).lo <= 0x1p-149) return {};
                const double unit = graph_[id].op == Op::Log ? std::log(2.0) : 1;
                return approximately(std::log2(operand(0).lo) * unit, std::log2(operand(0).hi) * unit);
            }
            case Op::Sqrt:
                return {outwards(std::sqrt(std::max(0.0, operand(0).lo)), false), outwards(std::sqrt(std::max(0.0, operand(0).hi)), true)};
            case Op::Rsqrt: return {operand(0).lo <= 0 ? -kInf : 0, kInf};  // of -0: -inf
            case Op::Tanh:
            case Op::TanhApprox:
            case Op::Sin:
            case Op::Cos:
            case Op::Erf: return {-1.5, 1.5};
            case Op::Sigmoid: return {0, 1.5};
            case Op::Floor:
            case Op::Ceil:
            case Op::Round: return hull({operand(0).lo - 1, operand(0).hi + 1});
            case Op::Pow: return {operand(0).lo <= 0 ? -kInf : 0, kInf};
            case Op::ReduceMin: return {operand(1).lo, kInf};
            case Op::ReduceSum: return {operand(1).lo < 0 ? -kInf : 0, kInf};
            default: return {};  // tan, max over nothing
        }
    }

    FloatRange from_integer(NodeId operand) {
        if (graph_.type(operand) == Type::Bool) return {0, 1};
        const Range range = integers_.range(operand);
        return hull({double(range.lo), double(range.hi)});
    }

    FloatRange multiply(NodeId id) {
        const NodeId x = graph_.operand(id, 0), y = graph_.operand(id, 1);
        const FloatRange a = bounds_[x.value], b = bounds_[y.value];
        if (x == y) return {0, outwards(std::max(a.lo * a.lo, a.hi * a.hi), true)};
        return hull({a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi});
    }

    const Graph& graph_;
    const FloatAssumptions& assumptions_;
    RangeAnalysis integers_;
    std::vector<FloatRange> bounds_;
};

}  // namespace

std::vector<FloatRange> float_ranges(const Attention& attention, const FloatAssumptions& assumptions) {
    return Analysis(attention, assumptions).take();
}

}  // namespace flexc::ir

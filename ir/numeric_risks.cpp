#include "ir/numeric_risks.h"

#include <bit>
#include <cmath>
#include <optional>

#include "ir/float_range.h"

namespace flexc::ir {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kExpLimit = 88.72, kExp2Limit = 128;

class Search {
public:
    explicit Search(const Attention& attention)
        : graph_(attention.graph), ranges_(float_ranges(attention, {kOrdinary, kOrdinary})), used_(graph_.size(), false) {
        for (const NodeId root : {attention.scale, attention.score, attention.output})
            if (root.valid()) use(root);
    }

    std::vector<NumericRisk> run() {
        std::vector<NumericRisk> out;
        for (uint32_t i = 0; i < graph_.size(); ++i) {
            const NodeId id{i};
            if (!used_[i] || graph_.type(id) != Type::F32) continue;
            const std::optional<NumericRisk> found = risk(id);
            if (found && !is_guarded(*found)) out.push_back(*found);
        }
        return out;
    }

private:
    void use(NodeId id) {
        if (used_[id.value]) return;
        used_[id.value] = true;
        for (const NodeId operand : graph_.operands(id)) use(operand);
    }

    [[nodiscard]] const FloatRange& range(NodeId id) const { return ranges_[id.value]; }
    [[nodiscard]] bool reaches_zero(NodeId id) const { return range(id).lo <= 0 && range(id).hi >= 0; }
    [[nodiscard]] bool is_infinite(NodeId id) const { return range(id).lo == -kInf || range(id).hi == kInf; }

    [[nodiscard]] std::optional<NumericRisk> risk(NodeId id) const {
        using Why = NumericRisk::Why;
        const Node& node = graph_[id];
        const auto operand = [&](size_t i) { return graph_.operand(id, i); };
        const auto found = [&](Why why, size_t i = 0) { return NumericRisk{id, operand(i), why}; };
        switch (node.op) {
            case Op::Log:
            case Op::Log2:
                if (range(operand(0)).lo < 0) return found(Why::LogOfNegative);
                if (reaches_zero(operand(0))) return found(Why::LogOfZero);
                break;
            case Op::Sqrt:
                if (range(operand(0)).lo < 0) return found(Why::SqrtOfNegative);
                break;
            case Op::Rsqrt:
                if (range(operand(0)).lo <= 0) return found(Why::RsqrtOfZero);
                break;
            case Op::Pow: {
                const Node& exponent = graph_[operand(1)];
                const float value = exponent.op == Op::ConstF32 ? std::bit_cast<float>(exponent.payload) : 0.5F;
                if (range(operand(0)).lo < 0 && value != std::floor(value)) return found(Why::PowOfNegative);
                break;
            }
            case Op::Div:
                // A captured divisor is the user's own number; a computed one may surprise.
                if (reaches_zero(operand(1)) && graph_[operand(1)].op != Op::Scalar && graph_[operand(1)].op != Op::Load)
                    return found(Why::DivisionByZero, 1);
                break;
            case Op::Exp:
                if (range(operand(0)).hi > kExpLimit) return found(Why::ExpOverflow);
                break;
            case Op::Exp2:
                if (range(operand(0)).hi > kExp2Limit) return found(Why::ExpOverflow);
                break;
            case Op::Add:
            case Op::Sub: {
                const FloatRange a = range(operand(0)), b = range(operand(1));
                const bool add = node.op == Op::Add;
                if ((a.hi == kInf && (add ? b.lo == -kInf : b.hi == kInf)) || (a.lo == -kInf && (add ? b.hi == kInf : b.lo == -kInf)))
                    return found(Why::InfinityDifference, 1);
                break;
            }
            case Op::Mul:
                for (const size_t i : {size_t(0), size_t(1)})
                    if (is_infinite(operand(i)) && reaches_zero(operand(1 - i))) return found(Why::ZeroTimesInfinity, i);
                break;
            default: break;
        }
        return std::nullopt;
    }

    [[nodiscard]] bool contains(NodeId tree, NodeId what) const {
        std::vector<NodeId> open{tree};
        std::vector<bool> seen(graph_.size(), false);
        while (!open.empty()) {
            const NodeId id = open.back();
            open.pop_back();
            if (id == what) return true;
            if (seen[id.value]) continue;
            seen[id.value] = true;
            for (const NodeId operand : graph_.operands(id)) open.push_back(operand);
        }
        return false;
    }

    /// Whether a condition on the operand chooses among values of which one is computed from the operation.
    [[nodiscard]] bool is_guarded(const NumericRisk& risk) const {
        for (uint32_t i = risk.value.value; i < graph_.size(); ++i) {
            const NodeId id{i};
            if (!used_[i] || graph_[id].op != Op::Select) continue;
            if (contains(graph_.operand(id, 0), risk.operand) &&
                (contains(graph_.operand(id, 1), risk.value) != contains(graph_.operand(id, 2), risk.value)))
                return true;
        }
        return false;
    }

    const Graph& graph_;
    std::vector<FloatRange> ranges_;
    std::vector<bool> used_;
};

}  // namespace

std::vector<NumericRisk> numeric_risks(const Attention& attention) {
    return Search(attention).run();
}

}  // namespace flexc::ir

#include "ir/reads.h"

#include <bit>

namespace flexc::ir {

namespace {
constexpr Reads kSummaryReads = reads_bit(IndexVar::B) | reads_bit(IndexVar::H) | reads_bit(TileBound::QLo) | reads_bit(TileBound::QHi) |
                                reads_bit(TileBound::KLo) | reads_bit(TileBound::KHi);
}  // namespace

std::vector<Reads> reads(const Graph& graph) {
    std::vector<Reads> result(graph.size(), 0);
    for (uint32_t i = 0; i < graph.size(); ++i) {
        const NodeId id{i};
        const Node& node = graph[id];
        switch (node.op) {
            case Op::Index: result[i] = reads_bit(static_cast<IndexVar>(node.payload)); break;
            case Op::TileBound:
                // Which of the bounds a summary reads is the caller's to know: all, and b and h.
                result[i] = node.payload < kFirstSummary ? reads_bit(static_cast<TileBound>(node.payload)) : kSummaryReads;
                break;
            case Op::ClauseVar:
            case Op::RowLoad: result[i] = reads_bit(static_cast<ClauseVar>(node.payload)); break;
            default: break;
        }
        for (const NodeId operand : graph.operands(id)) result[i] |= result[operand.value];
    }
    return result;
}

std::string_view first_read(Reads mask) {
    const auto bit = static_cast<uint32_t>(std::countr_zero(mask));
    if (bit < 8) return name(static_cast<IndexVar>(bit));
    if (bit < 16) return name(static_cast<ClauseVar>(bit - 8));
    return name(static_cast<TileBound>(bit - 16));
}

}  // namespace flexc::ir

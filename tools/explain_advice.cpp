#include "tools/explain_advice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ir/reads.h"
#include "ir/source_text.h"
#include "ir/variance.h"

namespace flexc::tools {

namespace {

using ir::NodeId;
using ir::Op;
using ir::OpKind;

bool is_minus_infinity(const ir::Graph& graph, NodeId id) {
    const auto value = graph.as_f32(id);
    return value && std::isinf(*value) && *value < 0;
}

/// `score = if c then x else -inf` where c knows positions only: c, as it would stand in the mask.
std::string condition_of_mask(const ir::Attention& attention) {
    if (!attention.score.valid()) return {};
    const ir::Graph& graph = attention.graph;
    const std::vector<ir::Reads> reads = ir::reads(graph);
    for (NodeId at = attention.score; graph[at].op == Op::Select;) {
        const NodeId condition = graph.operand(at, 0), yes = graph.operand(at, 1), no = graph.operand(at, 2);
        const bool by_position = !(reads[condition.value] & ir::reads_bit(ir::ClauseVar::Score));
        if (by_position && is_minus_infinity(graph, no)) return ir::source_text(attention, condition);
        if (by_position && is_minus_infinity(graph, yes)) return "not (" + ir::source_text(attention, condition) + ")";
        at = is_minus_infinity(graph, yes) ? no : yes;
    }
    return {};
}

/// A conjunct of the mask that compares a table at q with a table at k.
bool compares_tables(const ir::Attention& attention) {
    const ir::Graph& graph = attention.graph;
    const std::vector<ir::Reads> reads = ir::reads(graph);
    const auto follows = [&](NodeId id, ir::IndexVar which) {
        return graph[id].op == Op::Load && (reads[id.value] & ir::reads_bit(which));
    };
    std::vector<NodeId> open{attention.mask};
    while (!open.empty()) {
        const NodeId id = open.back();
        open.pop_back();
        if (graph[id].op == Op::And) open.insert(open.end(), {graph.operand(id, 0), graph.operand(id, 1)});
        if (graph[id].op != Op::Eq) continue;
        const NodeId a = graph.operand(id, 0), b = graph.operand(id, 1);
        if ((follows(a, ir::IndexVar::Q) && follows(b, ir::IndexVar::K)) || (follows(a, ir::IndexVar::K) && follows(b, ir::IndexVar::Q)))
            return true;
    }
    return false;
}

/// A load of which an index other than the last follows the key, and the last does not.
bool jumps_along_keys(const ir::Graph& graph, const std::vector<ir::Reads>& reads, NodeId load) {
    if (graph[load].op != Op::Load || graph.operands(load).size() < 2 || graph.free_loops(load) != 0) return false;
    const auto follows = [&](NodeId index) { return (reads[index.value] & ir::reads_bit(ir::IndexVar::K)) != 0; };
    const auto indices = graph.operands(load);
    return std::any_of(indices.begin(), indices.end() - 1, follows) && !follows(indices.back());
}

}  // namespace

ScoreCost score_cost(const ir::Attention& attention) {
    const ir::Graph& graph = attention.graph;
    const std::vector<ir::Variance> variance = ir::variance(graph);
    const std::vector<bool> marks = reached(graph, {attention.score});
    ScoreCost out;
    for (uint32_t i = 0; i < graph.size(); ++i) {
        const OpKind kind = ir::info(graph[NodeId{i}].op).kind;
        if (!marks[i] || !(variance[i] & (ir::kVariesK | ir::kVariesScore)) || kind == OpKind::Leaf) continue;
        ++out.operations;
        out.functions += kind == OpKind::Math;
    }
    return out;
}

std::vector<std::string> advice(const ir::Attention& attention, const Explanation& facts) {
    const ir::Graph& graph = attention.graph;
    std::vector<std::string> out;
    if (const std::string condition = condition_of_mask(attention); !condition.empty())
        out.push_back(fmt::format("the score hides keys by position: say `mask = {};` instead, and whole tiles are skipped", condition));
    if (!facts.everything && !facts.nothing && facts.keys.from == "0" && facts.keys.to == "K - 1" && compares_tables(attention))
        out.push_back(
            "no range of keys follows from comparing two tables, so each tile is asked: where their entries come in order, `k >= "
            "start[doc[q]]` "
            "beside it gives a range (packed_causal_document of std)");
    for (const Loose& loose : facts.loose)
        if (loose.why == ir::Loose::Why::Unknown)
            out.push_back(fmt::format("{} cannot be decided on tiles: compute it into a captured table of {} before the launch", loose.text,
                                      "the queries or keys"));
    const std::vector<ir::Reads> reads = ir::reads(graph);
    const std::vector<bool> marks = reached(graph, {attention.mask, attention.score});
    std::vector<std::string> gathers;
    for (uint32_t i = uint32_t(graph.size()); i-- > 0;) {
        if (!marks[i] || !jumps_along_keys(graph, reads, NodeId{i})) continue;
        std::string text = ir::source_text(attention, NodeId{i});
        if (std::find(gathers.begin(), gathers.end(), text) == gathers.end()) gathers.push_back(std::move(text));
    }
    for (const std::string& text : gathers)
        out.push_back(fmt::format(
            "{} reads memory at a place of its own for each key: stored with the index that follows k last, neighbouring keys would be "
            "neighbours in memory",
            text));
    const std::vector<bool> in_score = reached(graph, {attention.score});
    bool tanh = false;
    for (uint32_t i = 0; i < graph.size(); ++i) tanh = tanh || (in_score[i] && graph[NodeId{i}].op == Op::Tanh);
    if (tanh) out.push_back("`tanh_approx` is cheaper than `tanh`, with a relative error of up to 2^-11 (softcap_approx of std)");
    return out;
}

std::string cost_text(const ir::Attention& attention, const Explanation& facts) {
    const ScoreCost score = score_cost(attention);
    std::string text = "\nCost, beside plain attention\n";
    if (facts.tile_operations > 0)
        text += fmt::format("  a tile: {} operation{} to decide it, {} table{} looked up\n", facts.tile_operations,
                            facts.tile_operations == 1 ? "" : "s", facts.tile_lookups, facts.tile_lookups == 1 ? "" : "s");
    if (score.operations > 0)
        text += fmt::format("  an element: {} operation{} of the score, {} of them functions; the two products take 2 (D + DV)\n",
                            score.operations, score.operations == 1 ? "" : "s", score.functions);
    if (facts.tile_operations == 0 && score.operations == 0) text += "  nothing: this is plain attention\n";
    for (const std::string& each : advice(attention, facts)) text += "  - " + each + "\n";
    return text;
}

}  // namespace flexc::tools

#include "tools/explain_advice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ir/reads.h"
#include "ir/source_text.h"
#include "ir/tile_state.h"
#include "ir/variance.h"

namespace flexc::tools {

namespace {

using ir::NodeId;
using ir::Op;
using ir::OpKind;

template <typename Visit>
void each_reached(const ir::Graph& graph, std::initializer_list<NodeId> roots, const Visit& visit) {
    std::vector<bool> marks(graph.size(), false);
    for (const NodeId root : roots)
        if (root.valid()) marks[root.value] = true;
    for (uint32_t i = uint32_t(graph.size()); i-- > 0;) {
        if (!marks[i]) continue;
        visit(NodeId{i});
        for (const NodeId operand : graph.operands(NodeId{i})) marks[operand.value] = true;
    }
}

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
bool jumps_along_keys(const ir::Graph& graph, NodeId load) {
    if (graph[load].op != Op::Load || graph.operands(load).size() < 2 || graph.free_loops(load) != 0) return false;
    const std::vector<ir::Reads> reads = ir::reads(graph);
    const auto follows = [&](NodeId index) { return (reads[index.value] & ir::reads_bit(ir::IndexVar::K)) != 0; };
    const auto indices = graph.operands(load);
    return std::any_of(indices.begin(), indices.end() - 1, follows) && !follows(indices.back());
}

}  // namespace

Cost cost(const ir::Attention& whole) {
    Cost out;
    const std::vector<ir::Variance> variance = ir::variance(whole.graph);
    each_reached(whole.graph, {whole.score}, [&](NodeId id) {
        const OpKind kind = ir::info(whole.graph[id].op).kind;
        if (!(variance[id.value] & (ir::kVariesK | ir::kVariesScore)) || kind == OpKind::Leaf) return;
        ++out.element_operations;
        out.element_functions += kind == OpKind::Math;
    });
    if (!whole.mask.valid() || whole.graph.as_bool(whole.mask)) return out;
    ir::Attention attention = whole;
    const ir::TileState state = ir::tile_state(attention);
    each_reached(attention.graph, {state.maybe, state.always},
                 [&](NodeId id) { out.tile_operations += ir::info(attention.graph[id].op).kind != OpKind::Leaf; });
    out.tile_lookups = int64_t(state.summaries.size());
    return out;
}

std::vector<std::string> advice(const ir::Attention& attention, const Explanation& facts) {
    std::vector<std::string> out;
    if (const std::string condition = condition_of_mask(attention); !condition.empty())
        out.push_back(fmt::format("the score hides keys by position: say `mask = {};` instead, and whole tiles are skipped", condition));
    if (!facts.everything && !facts.nothing && facts.keys.from == "0" && facts.keys.to == "K - 1" && compares_tables(attention))
        out.push_back(
            "no range of keys follows from comparing two tables, so each tile is asked: where their entries come in order, `k >= "
            "start[doc[q]]` "
            "beside it gives a range (packed_causal_document of std)");
    for (const Loose& loose : facts.loose)
        if (loose.why.find("no bounds") != std::string::npos)
            out.push_back(fmt::format("{} cannot be decided on tiles: compute it into a captured table of {} before the launch", loose.text,
                                      "the queries or keys"));
    std::vector<std::string> gathers;
    each_reached(attention.graph, {attention.mask, attention.score}, [&](NodeId id) {
        const std::string text = ir::source_text(attention, id);
        if (jumps_along_keys(attention.graph, id) && std::find(gathers.begin(), gathers.end(), text) == gathers.end())
            gathers.push_back(text);
    });
    for (const std::string& text : gathers)
        out.push_back(fmt::format(
            "{} reads memory at a place of its own for each key: stored with the index that follows k last, neighbouring keys would be "
            "neighbours in memory",
            text));
    if (attention.score.valid()) {
        bool tanh = false;
        each_reached(attention.graph, {attention.score}, [&](NodeId id) { tanh = tanh || attention.graph[id].op == Op::Tanh; });
        if (tanh) out.push_back("`tanh_approx` is cheaper than `tanh`, with a relative error of up to 2^-11 (softcap_approx of std)");
    }
    return out;
}

std::string cost_text(const ir::Attention& attention, const Explanation& facts) {
    const Cost found = cost(attention);
    std::string text = "\nCost, beside plain attention\n";
    if (found.tile_operations > 0)
        text += fmt::format("  a tile: {} operation{} to decide it, {} table{} looked up\n", found.tile_operations,
                            found.tile_operations == 1 ? "" : "s", found.tile_lookups, found.tile_lookups == 1 ? "" : "s");
    if (found.element_operations > 0)
        text += fmt::format("  an element: {} operation{} of the score, {} of them functions; the two products take 2 (D + DV)\n",
                            found.element_operations, found.element_operations == 1 ? "" : "s", found.element_functions);
    if (found.tile_operations == 0 && found.element_operations == 0) text += "  nothing: this is plain attention\n";
    for (const std::string& each : advice(attention, facts)) text += "  - " + each + "\n";
    return text;
}

}  // namespace flexc::tools

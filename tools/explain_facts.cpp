#include <fmt/format.h>

#include <algorithm>

#include "ir/index_range.h"
#include "ir/intervals.h"
#include "ir/source_text.h"
#include "ir/tile_state.h"
#include "ir/variance.h"
#include "tools/explain.h"

namespace flexc::tools {
namespace {

using ir::NodeId;
using ir::Op;
using ir::OpKind;

struct Root {
    std::string name;
    NodeId id;
};

std::vector<Root> clauses_of(const ir::Attention& attention) {
    std::vector<Root> all = {{"mask", attention.mask},     {"score", attention.score}, {"scale", attention.scale}, {"sink", attention.sink},
                             {"output", attention.output}, {"query", attention.query}, {"key", attention.key}};
    for (const ir::Emit& emit : attention.emits) all.push_back({"emit " + emit.name, emit.value});
    std::erase_if(all, [](const Root& root) { return !root.id.valid(); });
    return all;
}

std::string bounds_text(const ir::Attention& attention, const std::optional<ir::IndexBound>& bound, const std::string& absent,
                        std::vector<std::string>* rows) {
    if (!bound) return absent;
    for (const NodeId row : bound->rows) rows->push_back(ir::source_text(attention, row));
    return ir::source_text(attention, bound->value);
}

Visits visits(ir::Attention& attention, const ir::IndexRange& range, const std::string& last) {
    Visits out;
    out.to = bounds_text(attention, range.upper, last, &out.greatest_of);
    out.from = bounds_text(attention, range.lower, "0", &out.least_of);
    // Indices begin at 0, which is said where the bound may lie below.
    if (range.lower && ir::RangeAnalysis(attention).range(range.lower->value).lo < 0) out.from = "max(0, " + out.from + ")";
    for (const NodeId conjunct : range.unsolved) out.unsolved.push_back(ir::source_text(attention, conjunct));
    return out;
}

void explain_mask(ir::Attention attention, Explanation* out) {
    out->mask = ir::source_text(attention, attention.mask);
    if (const auto constant = attention.graph.as_bool(attention.mask)) {
        out->everything = *constant;
        out->nothing = !*constant;
        return;
    }
    const ir::IndexRange keys = ir::key_range(attention);
    out->nothing = keys.empty;
    out->keys = visits(attention, keys, "K - 1");
    out->queries = visits(attention, ir::query_range(attention), "Q - 1");

    const ir::TileState state = ir::tile_state(attention);
    const std::vector<bool> decide = reached(attention.graph, {state.maybe, state.always});
    for (uint32_t i = 0; i < attention.graph.size(); ++i)
        out->tile_operations += decide[i] && ir::info(attention.graph[NodeId{i}].op).kind != OpKind::Leaf;
    out->tile_lookups = int64_t(state.summaries.size());
    for (const ir::Summary& summary : state.summaries) {
        std::string per;
        if (summary.by_b) per = "b";
        if (summary.by_h) per += per.empty() ? "h" : " and h";
        out->tables.push_back(fmt::format("range minima and maxima of {}: one pass over {}{}", ir::source_text(attention, summary.value),
                                          summary.of_keys ? "K" : "Q", per.empty() ? "" : " for each " + per));
    }
    for (const ir::Loose& loose : state.loose) {
        std::string reason;
        switch (loose.why) {
            case ir::Loose::Why::Unknown: reason = "has no bounds on a tile"; break;
            case ir::Loose::Why::OneValue: reason = "is known only where its operands have one value on the tile"; break;
            case ir::Loose::Why::FewIndices:
                reason = "is read index by index, where a tile touches at most 8 of each dimension; beyond, it is not known";
                break;
            case ir::Loose::Why::Remainder:
                reason = "is bounded exactly within one period; a tile that crosses into the next may hold any remainder";
                break;
        }
        out->loose.push_back({loose.why, ir::source_text(attention, loose.value), reason});
    }
}

std::string access_text(const ir::Graph& graph, NodeId load, ir::Variance varies) {
    if (!(varies & ir::kVariesK)) {
        if (graph.free_loops(load) != 0) return "in a loop, the same for all keys";
        if (varies & ir::kVariesD) return "for each element of a row";
        return varies & ir::kVariesQ ? "once a row"
               : varies              ? "once a row, the same for all rows of a head"
                                     : "once a row, always the same";
    }
    if (graph.free_loops(load) != 0) return "in a loop for each element";
    const size_t last = graph.operands(load).size() - 1;
    for (size_t i = 0; i < last; ++i)
        if (ir::step_along(graph, graph.operand(load, i), ir::IndexVar::K) != 0) return "gather along k";
    const auto step = ir::step_along(graph, graph.operand(load, last), ir::IndexVar::K);
    if (step == 1) return "contiguous along k";
    if (step == -1) return "contiguous along k, backwards";
    return step ? fmt::format("every {}th element along k", *step) : "gather along k";
}

void explain_loads(const ir::Attention& attention, Explanation* out) {
    const ir::Graph& graph = attention.graph;
    const std::vector<uint8_t> proven = ir::proven_dims(attention);
    const std::vector<ir::Variance> variance = ir::variance(graph);
    for (const Root& root : clauses_of(attention)) {
        const std::vector<bool> marks = reached(graph, {root.id});
        for (uint32_t i = 0; i < graph.size(); ++i) {
            const NodeId id{i};
            if (!marks[i] || graph[id].op != Op::Load) continue;
            LoadFact fact{root.name, ir::source_text(attention, id), access_text(graph, id, variance[i]), {}};
            const std::vector<ir::Dim>& dims = attention.params[graph[id].payload].dims;
            for (size_t d = 0; d < dims.size(); ++d)
                if (!(proven[i] >> d & 1))
                    fact.guards.push_back(
                        fmt::format("{} against {}", ir::source_text(attention, graph.operand(id, d)), attention.dim_text(dims[d])));
            out->loads.push_back(std::move(fact));
        }
    }
}

void explain_clauses(const ir::Attention& attention, Explanation* out) {
    const ir::Graph& graph = attention.graph;
    const std::vector<ir::Variance> variance = ir::variance(graph);
    constexpr ir::Variance kElement = ir::kVariesK | ir::kVariesScore | ir::kVariesD;
    for (const Root& root : clauses_of(attention)) {
        const std::vector<bool> marks = reached(graph, {root.id});
        ClauseFact fact{root.name, ir::source_text(attention, root.id), 0, {}, {}, {}};
        std::vector<bool> hoisted(graph.size(), false);
        for (uint32_t i = 0; i < graph.size(); ++i) {
            const NodeId id{i};
            if (!marks[i]) continue;
            const OpKind kind = ir::info(graph[id].op).kind;
            const bool element = (variance[i] & kElement) != 0;
            fact.per_element += element && kind != OpKind::Leaf;
            if (id == root.id && !element) hoisted[i] = kind != OpKind::Leaf;
            if (!element) continue;
            for (const NodeId operand : graph.operands(id))
                if (!(variance[operand.value] & kElement) && ir::info(graph[operand].op).kind != OpKind::Leaf &&
                    graph.free_loops(operand) == 0)
                    hoisted[operand.value] = true;
        }
        for (uint32_t i = 0; i < graph.size(); ++i) {
            if (!hoisted[i]) continue;
            auto& where = variance[i] & ir::kVariesQ ? fact.per_row : variance[i] ? fact.per_head : fact.once;
            where.push_back(ir::source_text(attention, NodeId{i}));
        }
        out->clauses.push_back(std::move(fact));
    }
}

}  // namespace

std::vector<bool> reached(const ir::Graph& graph, std::initializer_list<NodeId> roots) {
    std::vector<bool> marks(graph.size(), false);
    for (const NodeId root : roots)
        if (root.valid()) marks[root.value] = true;
    for (uint32_t i = uint32_t(graph.size()); i-- > 0;)
        if (marks[i])
            for (const NodeId operand : graph.operands(NodeId{i})) marks[operand.value] = true;
    return marks;
}

Explanation explain(const ir::Attention& attention) {
    Explanation out;
    if (attention.mask.valid())
        explain_mask(attention, &out);
    else
        out.everything = true;
    explain_loads(attention, &out);
    explain_clauses(attention, &out);
    return out;
}

}  // namespace flexc::tools

#include "ir/variance.h"

#include "ir/reads.h"

namespace flexc::ir {

namespace {

struct Source {
    Reads reads;
    Variance varies;
};

constexpr Source kSources[] = {
    {reads_bit(IndexVar::B), kVariesB},
    {reads_bit(IndexVar::H), kVariesH},
    {reads_bit(IndexVar::Hkv), kVariesH},
    {reads_bit(IndexVar::Q), kVariesQ},
    {reads_bit(IndexVar::K), kVariesK},
    {reads_bit(IndexVar::D), kVariesD},
    {reads_bit(ClauseVar::Score), kVariesB | kVariesH | kVariesQ | kVariesK | kVariesScore},
    {reads_bit(ClauseVar::Weight), kVariesB | kVariesH | kVariesQ | kVariesK | kVariesScore},
    {reads_bit(ClauseVar::Out), kVariesB | kVariesH | kVariesQ | kVariesD},
    {reads_bit(ClauseVar::QueryRow), kVariesB | kVariesH | kVariesQ},
    {reads_bit(ClauseVar::KeyRow), kVariesB | kVariesH | kVariesK},
};

}  // namespace

std::vector<Variance> variance(const Graph& graph) {
    const std::vector<Reads> read = reads(graph);
    std::vector<Variance> result(graph.size(), 0);
    for (size_t i = 0; i < result.size(); ++i)
        for (const Source& source : kSources)
            if (read[i] & source.reads) result[i] |= source.varies;
    return result;
}

namespace {

/// Along an index, where values vary with it that have a bit of `along`.
std::vector<int8_t> steps(const Graph& graph, const std::vector<Variance>& variance, IndexVar which, Variance along) {
    std::vector<int8_t> step(graph.size(), 0);
    const auto uniform = [&](NodeId id) { return !(variance[id.value] & along); };
    for (uint32_t i = 0; i < graph.size(); ++i) {
        const NodeId id{i};
        const Node& node = graph[id];
        if (node.type != Type::I32) continue;
        if (node.op == Op::Index && IndexVar(node.payload) == which) step[i] = 1;
        if (node.op == Op::Neg) step[i] = static_cast<int8_t>(-step[graph.operand(id, 0).value]);
        if (node.op != Op::Add && node.op != Op::Sub) continue;
        const NodeId a = graph.operand(id, 0), b = graph.operand(id, 1);
        const int sign = node.op == Op::Sub ? -1 : 1;
        if (uniform(b)) step[i] = step[a.value];
        if (uniform(a)) step[i] = static_cast<int8_t>(sign * step[b.value]);
    }
    return step;
}

}  // namespace

std::vector<int8_t> key_steps(const Graph& graph, const std::vector<Variance>& variance) {
    return steps(graph, variance, IndexVar::K, kVariesK | kVariesScore);
}

std::vector<int8_t> element_steps(const Graph& graph, const std::vector<Variance>& variance) {
    return steps(graph, variance, IndexVar::D, kVariesD);
}

std::string variance_text(Variance v) {
    static constexpr std::string_view kNames[] = {"b", "h", "q", "k", "d", "score"};
    std::string text;
    for (size_t bit = 0; bit < std::size(kNames); ++bit) {
        if (!(v >> bit & 1)) continue;
        if (!text.empty()) text += ' ';
        text += kNames[bit];
    }
    return text.empty() ? "uniform" : text;
}

}  // namespace flexc::ir

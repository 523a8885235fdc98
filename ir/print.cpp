// The textual form: a header (captures, extents, rules), one line a node, then the roots.
#include <bit>
#include <cmath>
#include <iterator>

#include <fmt/format.h>

#include "ir/passes.h"
#include "ir/text.h"

namespace flexc::ir {

namespace {

using Buffer = fmt::memory_buffer;

template <typename... Args>
void put(Buffer& out, fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

std::string dim(const Attention& attention, const Dim& d) {
    if (d.extent_id < 0) return fmt::format("{}", d.offset);
    std::string text = text::quoted_name(attention.extent_name(static_cast<uint32_t>(d.extent_id)));
    if (d.multiplier != 1) text = fmt::format("{} * {}", d.multiplier, text);
    if (d.offset > 0) text += fmt::format(" + {}", d.offset);
    if (d.offset < 0) text += fmt::format(" - {}", 0 - static_cast<uint64_t>(d.offset));
    return text;
}

std::string constant(Type type, uint32_t bits) {
    switch (type) {
        case Type::F32: return text::float_text(std::bit_cast<float>(bits));
        case Type::I32: return fmt::format("{}", static_cast<int32_t>(bits));
        case Type::Bool: break;
    }
    return bits ? "true" : "false";
}

void put_param(Buffer& out, const Attention& attention, const Param& param) {
    put(out, "param {}: ", text::quoted_name(param.name));
    if (param.grad) put(out, "grad ");
    put(out, "{}", param.is_tensor ? name(param.elem) : name(param.type));
    if (param.is_tensor) {
        put(out, "[");
        for (size_t i = 0; i < param.dims.size(); ++i) put(out, "{}{}", i ? ", " : "", dim(attention, param.dims[i]));
        put(out, "]");
    }
    if (param.default_bits) put(out, " = {}", constant(param.type, *param.default_bits));
    put(out, "\n");
}

void put_operands(Buffer& out, std::span<const NodeId> operands) {
    for (size_t i = 0; i < operands.size(); ++i) put(out, "{}%{}", i ? ", " : "", operands[i].value);
}

void put_node(Buffer& out, const Attention& attention, NodeId id) {
    const Graph& graph = attention.graph;
    const Node& node = graph[id];
    put(out, "%{}: {} = {} ", id.value, name(node.type), info(node.op).name);
    switch (node.op) {
        case Op::ConstF32:
        case Op::ConstI32:
        case Op::ConstBool: put(out, "{}", constant(node.type, node.payload)); break;
        case Op::Index: put(out, "{}", name(static_cast<IndexVar>(node.payload))); break;
        case Op::Extent: put(out, "{}", text::quoted_name(attention.extent_name(node.payload))); break;
        case Op::Scalar: put(out, "{}", text::quoted_name(attention.params[node.payload].name)); break;
        case Op::TileBound:
            if (node.payload < kFirstSummary)
                put(out, "{}", name(static_cast<TileBound>(node.payload)));
            else
                put(out, "summary_{}_{}", (node.payload - kFirstSummary) / 2, (node.payload - kFirstSummary) % 2 ? "hi" : "lo");
            break;
        case Op::ClauseVar: put(out, "{}", name(static_cast<ClauseVar>(node.payload))); break;
        case Op::LoopVar: put(out, "{} in %{}..%{}", node.payload, graph.operand(id, 0).value, graph.operand(id, 1).value); break;
        case Op::Load:
            put(out, "{}[", text::quoted_name(attention.params[node.payload].name));
            put_operands(out, graph.operands(id));
            put(out, "]");
            break;
        case Op::RowLoad: put(out, "{}[%{}]", name(static_cast<ClauseVar>(node.payload)), graph.operand(id, 0).value); break;
        default: put_operands(out, graph.operands(id)); break;
    }
    put(out, "\n");
}

void put_root(Buffer& out, std::string_view clause, NodeId id) {
    if (id.valid()) put(out, "{} = %{}\n", clause, id.value);
}

void put_read(Buffer& out, std::string_view what, const GradientRead& read) {
    put(out, "{} %{} = %{}", what, read.load.value, read.adjoint.value);
    for (size_t i = 0; i < read.loops.size(); ++i) put(out, "{}%{}", i ? ", " : " over ", read.loops[i].value);
    put(out, "\n");
}

}  // namespace

std::string print(const Attention& attention) {
    Buffer out;
    put(out, "attention {}\n", text::quoted_name(attention.name));
    if (!attention.doc.empty()) put(out, "doc {}\n", text::quoted(attention.doc));
    for (const std::string& extent : attention.extents) put(out, "extent {}\n", text::quoted_name(extent));
    for (const Param& param : attention.params) put_param(out, attention, param);
    for (const ExtentConstraint& rule : attention.constraints)
        put(out, "require {} == {}: {}\n", dim(attention, rule.left), dim(attention, rule.right), text::quoted(rule.reason));
    if (attention.normalize != Normalize::Softmax) put(out, "normalize {}\n", text::name(attention.normalize));
    if (attention.blocks) put(out, "blocks {}\n", text::quoted_name(attention.params[*attention.blocks].name));
    for (uint32_t i = 0; i < attention.graph.size(); ++i) put_node(out, attention, NodeId{i});
    put_root(out, "scale", attention.scale);
    put_root(out, "score", attention.score);
    put_root(out, "mask", attention.mask);
    put_root(out, "sink", attention.sink);
    put_root(out, "output", attention.output);
    put_root(out, "query", attention.query);
    put_root(out, "key", attention.key);
    for (const Emit& emit : attention.emits)
        put(out, "emit {} = {} %{}\n", text::quoted_name(emit.name), text::name(emit.kind), emit.value.value);
    if (attention.gradient) {
        put_root(out, "d_score", attention.gradient->score);
        for (const GradientRead& read : attention.gradient->score_reads) put_read(out, "d_read", read);
        for (const GradientRead& read : attention.gradient->scale_reads) put_read(out, "d_scale_read", read);
        for (const GradientRead& read : attention.gradient->sink_reads) put_read(out, "d_sink_read", read);
    }
    return fmt::to_string(out);
}

}  // namespace flexc::ir

#include "backend/lowering/describe.h"

#include <utility>

#include "diag/check.h"

namespace flexc::codegen {

namespace {

flex::DType dtype(ir::ElemType elem) {
    switch (elem) {
        case ir::ElemType::F32: return flex::DType::F32;
        case ir::ElemType::F16: return flex::DType::F16;
        case ir::ElemType::BF16: return flex::DType::BF16;
        case ir::ElemType::I32: return flex::DType::I32;
        case ir::ElemType::I16: return flex::DType::I16;
        case ir::ElemType::I8: return flex::DType::I8;
        case ir::ElemType::U8: return flex::DType::U8;
        case ir::ElemType::Bool: return flex::DType::Bool;
    }
    return flex::DType::F32;
}

flex::DType dtype(ir::Type type) {
    switch (type) {
        case ir::Type::F32: return flex::DType::F32;
        case ir::Type::I32: return flex::DType::I32;
        case ir::Type::Bool: return flex::DType::Bool;
    }
    return flex::DType::F32;
}

flex::DimDesc dim(const ir::Dim& d) {
    return {d.multiplier, d.extent_id, d.offset};
}

/// The sum of kApartBy... that holds for all reads of a parameter whose gradients are wanted.
uint8_t apart(const ir::Attention& attention, uint32_t param) {
    const ir::Graph& graph = attention.graph;
    uint8_t all = flex::kApartByBatch | flex::kApartByHead | flex::kApartByKey;
    for (const auto* reads : std::as_const(*attention.gradient).reads())
        for (const ir::GradientRead& read : *reads) {
            if (graph[read.load].payload != param) continue;
            uint8_t mine = 0;
            for (const ir::NodeId index : graph.operands(read.load)) {
                if (graph[index].op != ir::Op::Index) continue;
                switch (ir::IndexVar(graph[index].payload)) {
                    case ir::IndexVar::B: mine |= flex::kApartByBatch; break;
                    case ir::IndexVar::H:
                    case ir::IndexVar::Hkv: mine |= flex::kApartByHead; break;
                    case ir::IndexVar::K: mine |= flex::kApartByKey; break;
                    default: break;
                }
            }
            all &= mine;
        }
    return all;
}

}  // namespace

flex::KernelDesc describe(const ir::Attention& attention) {
    flex::KernelDesc desc;
    desc.name = attention.name;
    desc.extents = attention.extents;
    for (const ir::Param& from : attention.params) {
        flex::ParamDesc& to = desc.params.emplace_back();
        to.name = from.name;
        to.is_tensor = from.is_tensor;
        to.dtype = from.is_tensor ? dtype(from.elem) : dtype(from.type);
        for (const ir::Dim& d : from.dims) to.dims.push_back(dim(d));
        to.grad = from.grad;
        if (attention.gradient) to.apart = apart(attention, uint32_t(desc.params.size() - 1));
        to.has_default = from.default_bits.has_value();
        to.default_bits = from.default_bits.value_or(0);
    }
    for (const ir::ExtentConstraint& from : attention.constraints) desc.rules.push_back({dim(from.left), dim(from.right), from.reason});
    return desc;
}

std::vector<std::string> unsupported_clauses(const ir::Attention& attention, uint32_t has) {
    FLEX_CHECK(!attention.blocks, "`blocks` is a part of the mask after the passes");
    std::vector<std::string> clauses;
    const auto lacks = [&](bool used, ClauseBit which, const char* name) {
        if (used && !(has & which)) clauses.push_back(name);
    };
    lacks(attention.normalize == ir::Normalize::Sigmoid, kNormalize, "normalize sigmoid");
    lacks(attention.normalize == ir::Normalize::None, kNormalize, "normalize none");
    lacks(attention.sink.valid(), kSink, "sink");
    lacks(attention.query.valid(), kQuery, "query");
    lacks(attention.key.valid(), kKey, "key");
    lacks(attention.output.valid(), kOutput, "output");
    for (const ir::Emit& emit : attention.emits) lacks(true, kEmit, ("emit " + emit.name).c_str());
    return clauses;
}

}  // namespace flexc::codegen

// One value of a small graph, for tests that state what an operation gives.
#pragma once

#include "ir/interpret.h"

namespace flexc::ir::testing {

/// An attention of b = h = q = k = d = 1 unless `extents` says otherwise, with trivial score and mask.
struct Scratch {
    Attention attention;
    Bindings bindings;
    Graph& g = attention.graph;

    Scratch() {
        bindings.extents = {1, 1, 1, 1, 1, 1, 1};
        attention.name = "scratch";
        attention.score = g.score();
        attention.mask = g.boolean(true);
    }
    Scratch(const Scratch&) = delete;

    NodeId add_scalar(Type type, double value) {
        Param param;
        param.name = "s" + std::to_string(attention.params.size());
        param.type = type;
        const auto index = static_cast<uint32_t>(attention.params.size());
        attention.params.push_back(param);
        bindings.scalars.push_back(value);
        bindings.tensors.emplace_back();
        return g.scalar(index, type);
    }
    uint32_t add_tensor(ElemType elem, std::vector<int32_t> dims, std::vector<double> values) {
        Param param;
        param.name = "t" + std::to_string(attention.params.size());
        param.is_tensor = true;
        param.elem = elem;
        for (const int32_t dim : dims) param.dims.push_back(Dim{0, -1, dim});
        attention.params.push_back(param);
        bindings.scalars.push_back(0);
        bindings.tensors.push_back({std::move(dims), std::move(values)});
        return static_cast<uint32_t>(attention.params.size() - 1);
    }
    double at(NodeId id, const Point& point = {}, Arithmetic arithmetic = Arithmetic::F64) {
        return Evaluator(attention, bindings, {id}, arithmetic).at(point)[0];
    }
};

}  // namespace flexc::ir::testing

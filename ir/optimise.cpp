#include <algorithm>

#include "diag/check.h"
#include "ir/passes.h"

namespace flexc::ir {

namespace {

constexpr int kMaxRounds = 8;

bool same(const Attention& a, const Attention& b) {
    const Graph& x = a.graph;
    const Graph& y = b.graph;
    if (x.size() != y.size() || a.roots() != b.roots()) return false;
    for (uint32_t i = 0; i < x.size(); ++i) {
        const NodeId id{i};
        if (x[id].op != y[id].op || x[id].type != y[id].type || x[id].payload != y[id].payload) return false;
        const auto left = x.operands(id), right = y.operands(id);
        if (!std::equal(left.begin(), left.end(), right.begin(), right.end())) return false;
    }
    return true;
}

}  // namespace

const std::vector<Pass>& passes() {
    static const std::vector<Pass> list = {{"fold", fold}, {"simplify", simplify}, {"unroll", unroll}, {"cse", cse}};
    return list;
}

void optimise(Attention& attention, const std::function<void(std::string_view, const Attention&)>& after_each) {
    blocks_to_mask(attention);
    for (int round = 0; round < kMaxRounds; ++round) {
        const Attention before = attention;
        for (const Pass& pass : passes()) {
            pass.run(attention);
#ifndef NDEBUG
            FLEX_CHECK(verify(attention).empty(), "a pass leaves valid IR");
#endif
            if (after_each) after_each(pass.name, attention);
        }
        if (same(before, attention)) return;
    }
}

}  // namespace flexc::ir

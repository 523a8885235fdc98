#include "ir/gradient_sums.h"

#include "diag/check.h"
#include "ir/variance.h"

namespace flexc::ir {

namespace {

Variance place(const Attention& attention, const std::vector<Variance>& variance, const GradientRead& read) {
    Variance all = 0;
    for (const NodeId index : attention.graph.operands(read.load)) all |= variance[index.value];
    return all;
}

bool varies_with_key(Variance v) {
    return v & (kVariesK | kVariesScore);
}

bool neighbours(const Attention& attention, const std::vector<Variance>& variance, const std::vector<int8_t>& steps,
                const GradientRead& read) {
    if (!read.loops.empty()) return false;
    const auto indices = attention.graph.operands(read.load);
    if (steps[indices.back().value] == 0) return false;
    for (const NodeId index : indices.first(indices.size() - 1))
        if (varies_with_key(variance[index.value])) return false;
    return true;
}

}  // namespace

GradientSums cpu_gradient_sums(const Attention& attention) {
    FLEX_CHECK(attention.gradient, "the attention has been differentiated");
    const std::vector<Variance> varies = variance(attention.graph);
    const std::vector<int8_t> steps = key_steps(attention.graph, varies);
    GradientSums out;
    int rows = 0;
    for (const GradientRead& read : attention.gradient->score_reads) {
        GradientSum& sum = out.score_reads.emplace_back(GradientSum::Element);
        if (!varies_with_key(place(attention, varies, read)))
            sum = read.loops.empty() && rows++ < kCpuRowSums ? GradientSum::Row : GradientSum::Vector;
        else if (neighbours(attention, varies, steps, read))
            sum = GradientSum::Neighbours;
    }
    out.scale_reads.assign(attention.gradient->scale_reads.size(), GradientSum::Scale);
    return out;
}

GradientSums gpu_gradient_sums(const Attention& attention) {
    FLEX_CHECK(attention.gradient, "the attention has been differentiated");
    const std::vector<Variance> varies = variance(attention.graph);
    const std::vector<GradientRead>& reads = attention.gradient->score_reads;
    GradientSums out;
    for (const GradientRead& read : reads) {
        GradientSum& sum = out.score_reads.emplace_back(GradientSum::Element);
        const Variance at = place(attention, varies, read);
        if (!read.loops.empty() || (at & kVariesScore)) continue;
        const bool by_row = at & kVariesQ, by_key = at & kVariesK;
        if (!by_row && !by_key) sum = GradientSum::Head;
        if (by_row && !by_key) sum = GradientSum::Row;
        if (by_key && !by_row) sum = GradientSum::Key;
    }
    int left = kGpuSums;
    for (const bool heads : {true, false})
        for (GradientSum& sum : out.score_reads)
            if (sum != GradientSum::Element && (sum == GradientSum::Head) == heads && left-- <= 0) sum = GradientSum::Element;
    out.scale_reads.assign(attention.gradient->scale_reads.size(), GradientSum::Scale);
    return out;
}

}  // namespace flexc::ir

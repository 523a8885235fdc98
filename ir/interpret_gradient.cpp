#include "ir/interpret_gradient.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "diag/check.h"
#include "ir/rewrite.h"

namespace flexc::ir {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// The variables of the loops around a read are coordinates here: the leaves of tiles, which no clause reads, stand for them.
constexpr TileBound kLoopLeaves[] = {TileBound::QLo, TileBound::QHi, TileBound::KLo, TileBound::KHi};

void set_loop(Point& point, size_t level, int32_t value) {
    int32_t* const leaves[] = {&point.q_lo, &point.q_hi, &point.k_lo, &point.k_hi};
    *leaves[level] = value;
}

/// One read: its indices, its adjoint, and the bounds of the loops around it.
class Scatter {
public:
    Scatter(Attention& attention, const GradientRead& read) : param_(attention.graph[read.load].payload) {
        Graph& graph = attention.graph;
        std::unordered_map<uint32_t, NodeId> leaves;
        for (const NodeId loop : read.loops) {
            for (const size_t side : {0u, 1u}) roots_.push_back(replace_loops(graph, graph.operand(loop, side), leaves));
            leaves[loop.value] = graph.tile_bound(kLoopLeaves[leaves.size()]);
        }
        levels_ = read.loops.size();
        const std::vector<NodeId> indices(graph.operands(read.load).begin(), graph.operands(read.load).end());
        for (const NodeId index : indices) roots_.push_back(replace_loops(graph, index, leaves));
        roots_.push_back(replace_loops(graph, read.adjoint, leaves));
    }
    /// When all scatters of an attention are made: they add nodes to its graph.
    void prepare(const Attention& attention, const Bindings& bindings) {
        evaluator_ = std::make_unique<Evaluator>(attention, bindings, roots_);
        dim_ = bindings.tensors[param_].dim;
    }

    [[nodiscard]] uint32_t param() const { return param_; }

    /// to[index] += factor * adjoint, for all values of the loops.
    void add(Point point, double factor, std::vector<double>& to, size_t level = 0) {
        const std::vector<double>& values = evaluator_->at(point);
        if (level < levels_) {
            const auto lo = static_cast<int32_t>(values[2 * level]), hi = static_cast<int32_t>(values[2 * level + 1]);
            for (int32_t i = lo; i < hi; ++i) {
                set_loop(point, level, i);
                add(point, factor, to, level + 1);
            }
            return;
        }
        size_t position = 0;
        for (size_t i = 0; i < dim_.size(); ++i) {
            const double index = values[2 * levels_ + i];
            if (index < 0 || index >= dim_[i]) return;
            position = position * static_cast<size_t>(dim_[i]) + static_cast<size_t>(index);
        }
        to[position] += factor * values.back();
    }

private:
    const uint32_t param_;
    size_t levels_ = 0;
    std::vector<NodeId> roots_;
    std::vector<int32_t> dim_;
    std::unique_ptr<Evaluator> evaluator_;
};

struct Element {
    size_t k;
    double dot, raw, score;
};

class Backward {
public:
    Backward(const Attention& attention, const Bindings& bindings, const AttentionInput& input, const GradientInput& loss)
        : attention_(attention), bindings_(bindings), input_(input), loss_(loss) {
        const auto extent = [&](ExtentVar which) { return static_cast<size_t>(std::max(bindings.extents[static_cast<size_t>(which)], 0)); };
        b_ = extent(ExtentVar::B), h_ = extent(ExtentVar::H), hkv_ = extent(ExtentVar::HKV), q_ = extent(ExtentVar::Q);
        k_ = extent(ExtentVar::K), d_ = extent(ExtentVar::D), dv_ = extent(ExtentVar::DV);
        FLEX_CHECK(loss.d_o.size() == b_ * h_ * q_ * dv_, "do is [B, H, Q, DV]");
        FLEX_CHECK(loss.d_max_score.empty() || loss.d_max_score.size() == b_ * h_ * q_, "dmax_score is [B, H, Q]");
        FLEX_CHECK(loss.d_lse.empty() || loss.d_lse.size() == b_ * h_ * q_, "dlse is [B, H, Q]");
        for (const GradientRead& read : attention_.gradient->score_reads) of_score_.emplace_back(attention_, read);
        for (const GradientRead& read : attention_.gradient->scale_reads) of_scale_.emplace_back(attention_, read);
        for (const GradientRead& read : attention_.gradient->sink_reads) of_sink_.emplace_back(attention_, read);
        for (auto* scatters : {&of_score_, &of_scale_, &of_sink_})
            for (Scatter& scatter : *scatters) scatter.prepare(attention_, bindings_);
        out_.dq.assign(input.q.size(), 0);
        out_.dk.assign(input.k.size(), 0);
        out_.dv.assign(input.v.size(), 0);
        out_.d_params.resize(attention.params.size());
        for (size_t i = 0; i < attention.params.size(); ++i)
            if (attention.params[i].grad) out_.d_params[i].assign(bindings.tensors[i].values.size(), 0);
    }

    GradientOutput run(const std::function<bool()>& cancelled) {
        Evaluator mask(attention_, bindings_, {attention_.mask});
        Evaluator score(attention_, bindings_, {attention_.score, attention_.gradient->score});
        std::unique_ptr<Evaluator> scale;
        if (attention_.scale.valid()) scale = std::make_unique<Evaluator>(attention_, bindings_, std::vector{attention_.scale});
        std::unique_ptr<Evaluator> sink;
        if (attention_.sink.valid()) sink = std::make_unique<Evaluator>(attention_, bindings_, std::vector{attention_.sink});
        for (size_t b = 0; b < b_; ++b)
            for (size_t h = 0; h < h_; ++h)
                for (size_t q = 0; q < q_; ++q) {
                    if (cancelled && cancelled()) return std::move(out_);
                    row(b, h, q, mask, score, scale.get(), sink.get());
                }
        return std::move(out_);
    }

private:
    void row(size_t b, size_t h, size_t q, Evaluator& mask, Evaluator& score, Evaluator* scale, Evaluator* sink);

    Attention attention_;  // a copy: the scatters add to its graph
    const Bindings& bindings_;
    const AttentionInput& input_;
    const GradientInput& loss_;
    size_t b_, h_, hkv_, q_, k_, d_, dv_;
    std::vector<Scatter> of_score_, of_scale_, of_sink_;
    GradientOutput out_;
    std::vector<Element> kept_;
};

void Backward::row(size_t b, size_t h, size_t q, Evaluator& mask, Evaluator& score, Evaluator* scale, Evaluator* sink) {
    const size_t row = (b * h_ + h) * q_ + q;
    const size_t kv_rows = ((input_.kv_batch == 1 ? 0 : b) * hkv_ + (hkv_ ? h / std::max<size_t>(h_ / hkv_, 1) : 0)) * k_;
    Point point;
    point.b = static_cast<int32_t>(b), point.h = static_cast<int32_t>(h), point.q = static_cast<int32_t>(q);
    const double factor = scale ? scale->at(point)[0] : 1.0 / std::sqrt(static_cast<double>(d_));
    const double* query = input_.q.data() + row * d_;
    kept_.clear();
    double top = -kInf;
    for (size_t k = 0; k < k_; ++k) {
        point.k = static_cast<int32_t>(k);
        if (mask.at(point)[0] == 0) continue;
        double dot = 0;
        for (size_t d = 0; d < d_; ++d) dot += query[d] * input_.k[(kv_rows + k) * d_ + d];
        point.score = factor * dot;
        const double s = score.at(point)[0];
        if (s == -kInf) continue;
        kept_.push_back({k, dot, point.score, s});
        top = std::isnan(s) || std::isnan(top) ? kNaN : std::max(top, s);
    }
    const double logit = sink ? sink->at(point)[0] : -kInf;
    const double peak = top;  // of the keys, without the sink
    if (!(logit <= top)) top = std::isnan(top) ? top : logit;
    if (top == -kInf) return;
    double sum = logit == -kInf ? 0 : std::exp(logit - top), attaining = 0;
    for (const Element& element : kept_) {
        sum += std::exp(element.score - top);
        attaining += element.score == peak;
    }

    const double* d_o = loss_.d_o.data() + row * dv_;
    const auto d_weight = [&](size_t k) {
        double product = 0;
        for (size_t d = 0; d < dv_; ++d) product += d_o[d] * input_.v[(kv_rows + k) * dv_ + d];
        return product;
    };
    double delta = 0;  // do . o
    for (const Element& element : kept_) delta += std::exp(element.score - top) / sum * d_weight(element.k);
    const double d_lse = loss_.d_lse.empty() ? 0 : loss_.d_lse[row];

    const double d_top = loss_.d_max_score.empty() || attaining == 0 ? 0 : loss_.d_max_score[row] / attaining;

    double d_scale = 0;
    for (const Element& element : kept_) {
        const size_t kv_row = kv_rows + element.k;
        const double p = std::exp(element.score - top) / sum;
        const double ds = p * (d_weight(element.k) - delta + d_lse) + (element.score == peak ? d_top : 0);
        point.k = static_cast<int32_t>(element.k);
        point.score = element.raw;
        const double dx = ds * score.at(point)[1];
        for (size_t d = 0; d < dv_; ++d) out_.dv[kv_row * dv_ + d] += p * d_o[d];
        for (size_t d = 0; d < d_; ++d) {
            out_.dq[row * d_ + d] += dx * factor * input_.k[kv_row * d_ + d];
            out_.dk[kv_row * d_ + d] += dx * factor * query[d];
        }
        for (Scatter& scatter : of_score_) scatter.add(point, ds, out_.d_params[scatter.param()]);
        d_scale += dx * element.dot;
    }
    // The sink is a key without a value.
    for (Scatter& scatter : of_sink_) scatter.add(point, std::exp(logit - top) / sum * (d_lse - delta), out_.d_params[scatter.param()]);
    if (kept_.empty()) return;
    for (Scatter& scatter : of_scale_) scatter.add(point, d_scale, out_.d_params[scatter.param()]);
}

}  // namespace

std::vector<std::string> no_gradient(const Attention& attention) {
    std::vector<std::string> found;
    if (attention.normalize == Normalize::Sigmoid) found.emplace_back("normalize sigmoid");
    if (attention.normalize == Normalize::None) found.emplace_back("normalize none");
    if (attention.blocks) found.emplace_back("blocks");
    if (attention.query.valid()) found.emplace_back("query");
    if (attention.key.valid()) found.emplace_back("key");
    if (attention.output.valid()) found.emplace_back("output");
    for (const Emit& emit : attention.emits) found.push_back("emit " + emit.name);
    if (!attention.gradient) return found;
    for (const auto* reads : std::as_const(*attention.gradient).reads())
        for (const GradientRead& read : *reads)
            if (read.loops.size() > std::size(kLoopLeaves))
                found.push_back("a read of " + attention.params[attention.graph[read.load].payload].name +
                                " inside of more than four reductions");
    return found;
}

GradientOutput interpret_gradient(const Attention& attention, const Bindings& bindings, const AttentionInput& input,
                                  const GradientInput& loss, const std::function<bool()>& cancelled) {
    FLEX_CHECK(attention.gradient && no_gradient(attention).empty(), "the attention has been differentiated, and all of it can be");
    return Backward(attention, bindings, input, loss).run(cancelled);
}

}  // namespace flexc::ir

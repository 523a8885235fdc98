#include "tools/drawing.h"

#include <algorithm>
#include <cmath>

#include "tools/io/convert.h"

namespace flexc::tools {
namespace {

/// One head of a q or k array as floats, row by row.
std::vector<float> matrix(const flex::Tensor& tensor, int64_t b, int64_t head) {
    io::Array one;
    one.type = io::file_type(tensor.dtype);
    one.shape = {tensor.shape[2], tensor.shape[3]};
    const int64_t batch = tensor.shape[0] == 1 ? 0 : b;
    const size_t size = io::size_of(one.type);
    const auto* begin =
        static_cast<const std::byte*>(tensor.data) + static_cast<size_t>(batch * tensor.stride[0] + head * tensor.stride[1]) * size;
    one.bytes.assign(begin, begin + static_cast<size_t>(one.count()) * size);
    std::vector<float> out(static_cast<size_t>(one.count()));
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(io::element(one, static_cast<int64_t>(i)));
    return out;
}

}  // namespace

bool keeps_all(const ir::Attention& attention) {
    return !attention.mask.valid() || attention.graph.as_bool(attention.mask) == true;
}

bool is_plain_score(const ir::Attention& attention) {
    return !attention.score.valid() || attention.graph[attention.score].op == ir::Op::ClauseVar;
}

bool prepare_drawing(const InputOptions& input, const std::string& what, Drawing* out) {
    Session& session = out->session;
    if (!open_source(session, input.file)) return false;
    const auto name = session.choose(input.name);
    if (!name) return false;
    const auto& attentions = session.program().attentions();
    const auto info = std::find_if(attentions.begin(), attentions.end(), [&](const auto& each) { return each.name == *name; });
    Inputs inputs(session, input);
    if (!inputs.load()) return false;
    const auto consts = inputs.consts(*info);
    if (!consts) return false;
    out->consts = *consts;
    out->whole = session.lower(*name, *consts);
    return out->whole && bind_drawing(inputs, what, out);
}

bool bind_drawing(Inputs& inputs, const std::string& what, Drawing* out) {
    Session& session = out->session;
    const ir::Attention& whole = *out->whole;
    out->attention = mask_and_score(whole);
    out->is_weights = what == "weights";
    out->is_score = what.empty() || what == "both" ? keeps_all(out->attention) && !is_plain_score(out->attention) : what != "mask";
    if (out->is_weights && (whole.normalize != ir::Normalize::Softmax || whole.sink.valid())) {
        session.sink
            .report(diag::Kind::unsupported_clause, {}, std::string(whole.sink.valid() ? "`sink`" : "`normalize`"), whole.name,
                    std::string("show --weights"))
            .help("`--what score` draws what goes into it");
        return false;
    }

    std::vector<ir::NodeId> roots = {out->attention.mask};
    if (out->is_score || what == "both") roots.insert(roots.end(), {out->attention.score, out->attention.scale});
    if (!inputs.bind(cpu::describe(out->attention), Need::Pictures, reach(out->attention, roots), std::nullopt, &out->launch)) return false;
    if (out->is_score && out->launch.q.data && (whole.query.valid() || whole.key.valid())) {
        session.sink.report(diag::Kind::unsupported_clause, {}, std::string("`query` or `key`"), whole.name, std::string("show"))
            .help("leave q and k out, and the score clause is drawn for a score of 0");
        return false;
    }
    KernelOptions compile;
    compile.consts = out->consts;
    out->rows = MaskRows::make(session, out->attention, out->launch, compile);
    return out->rows != nullptr;
}

ScoreRows::ScoreRows(const Drawing& drawing, int64_t b, int64_t h) : drawing_(drawing), b_(b), h_(h) {
    using enum ir::ExtentVar;
    const Launch& launch = drawing.launch;
    if (!launch.q.data) return;
    d_ = launch.extent(D);
    queries_ = matrix(launch.q, b, h);
    keys_ = matrix(launch.k, b, h / (launch.extent(H) / launch.extent(HKV)));
}

void ScoreRows::row(int64_t q, int64_t k_begin, int64_t n, float* out) const {
    std::fill(out, out + n, 0.0F);
    if (d_ > 0) {
        const float scale = drawing_.rows->scale(b_, h_, q);
        for (int64_t k = 0; k < n; ++k) {
            float sum = 0;
            for (int64_t i = 0; i < d_; ++i)
                sum += queries_[static_cast<size_t>(q * d_ + i)] * keys_[static_cast<size_t>((k_begin + k) * d_ + i)];
            out[k] = scale * sum;
        }
    }
    drawing_.rows->score(b_, h_, q, k_begin, n, out);
}

namespace {

/// In place: scores of a whole row to the softmax over those kept; 0 for the others.
void to_weights(const std::vector<uint8_t>& kept, std::vector<float>* scores) {
    float most = -INFINITY;
    for (size_t i = 0; i < kept.size(); ++i)
        if (kept[i]) most = std::max(most, (*scores)[i]);
    double sum = 0;
    for (size_t i = 0; i < kept.size(); ++i) {
        const bool counts = kept[i] && (*scores)[i] != -INFINITY;
        (*scores)[i] = counts ? std::exp((*scores)[i] - most) : 0.0F;
        sum += static_cast<double>((*scores)[i]);
    }
    if (sum > 0)
        for (float& each : *scores) each = static_cast<float>(static_cast<double>(each) / sum);
}

}  // namespace

picture::Picture draw(const Drawing& drawing, int64_t b, int64_t h, picture::Picture p, int64_t stride) {
    p.is_score = drawing.is_score;
    // Weights of a part of the keys depend on all of them.
    const int64_t first = drawing.is_weights ? 0 : p.k_begin;
    const int64_t n = drawing.is_weights ? drawing.launch.extent(ir::ExtentVar::K) : p.k_end - p.k_begin;
    std::optional<ScoreRows> scores;
    if (drawing.is_score) scores.emplace(drawing, b, h);
    parallel_for(p.rows, 0, [&](int64_t row) {
        std::vector<uint8_t> kept(static_cast<size_t>(n));
        std::vector<float> score(static_cast<size_t>(n));
        const int r = static_cast<int>(row);
        if (stride > 1)
            for (int c = 0; c < p.cols; ++c) p.total[p.at(r, c)] = 0;
        for (int64_t q = p.q_edge(r); q < p.q_edge(r + 1); q += stride) {
            drawing.rows->mask(b, h, q, first, n, kept.data());
            if (scores) scores->row(q, first, n, score.data());
            if (drawing.is_weights) {
                for (size_t i = 0; i < kept.size(); ++i) kept[i] = kept[i] && score[i] != -INFINITY;
                to_weights(kept, &score);
            }
            for (int c = 0; c < p.cols; ++c) {
                if (stride > 1) p.total[p.at(r, c)] += static_cast<double>(p.k_edge(c + 1) - p.k_edge(c));
                for (int64_t k = p.k_edge(c); k < p.k_edge(c + 1); ++k) {
                    const auto i = static_cast<size_t>(k - first);
                    // A score of -inf is the same as masked.
                    if (!kept[i] || (scores && score[i] == -INFINITY)) continue;
                    p.kept[p.at(r, c)] += 1;
                    p.sum[p.at(r, c)] += static_cast<double>(score[i]);
                }
            }
        }
    });
    return p;
}

}  // namespace flexc::tools

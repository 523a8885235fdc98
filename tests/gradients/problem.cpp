#include "tests/gradients/problem.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "driver/interp_bindings.h"
#include "ir/gradient.h"
#include "ir/passes.h"

namespace numerics {

using flex::DType;
using flexc::ir::Attention;

namespace {

const Captured* find(const Problem& problem, const std::string& name) {
    const auto at = std::find_if(problem.captured.begin(), problem.captured.end(), [&](const Captured& c) { return c.name == name; });
    return at == problem.captured.end() ? nullptr : &*at;
}

bool same(const std::vector<double>& a, const std::vector<double>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

std::array<int64_t, 4> rows_shape(const Shape& s) {
    return {1, s.b, s.h, s.q};
}

}  // namespace

bool same(const Gradients& a, const Gradients& b) {
    if (!same(a.dq, b.dq) || !same(a.dk, b.dk) || !same(a.dv, b.dv) || a.d_params.size() != b.d_params.size()) return false;
    for (size_t i = 0; i < a.d_params.size(); ++i)
        if (!same(a.d_params[i], b.d_params[i])) return false;
    return true;
}

void random_loss(Random& random, DType type, bool with_peaks, Problem* problem) {
    const Shape& s = problem->in.shape;
    const int64_t rows = int64_t{s.b} * s.h * s.q;
    problem->d_o.clear();
    problem->d_lse.clear();
    problem->d_max_score.clear();
    for (int64_t i = 0; i < rows * s.dv; ++i) problem->d_o.push_back(rounded(type, random.normal()));
    for (int64_t i = 0; i < rows; ++i) problem->d_lse.push_back(random.normal_f32());
    for (int64_t i = 0; i < (with_peaks ? rows : 0); ++i) problem->d_max_score.push_back(random.normal_f32());
}

std::optional<Attention> differentiated(const std::string& label, const std::string& source,
                                        const std::map<std::string, std::string>& consts) {
    flexc::Session session;
    std::optional<Attention> attention;
    if (session.open_text(label + ".flex", source))
        if (const auto name = session.choose("")) attention = session.lower(*name, consts);
    if (!attention) {
        std::printf("%s", flexc::diag::render_all(session.sources, session.sink, false).c_str());
        return std::nullopt;
    }
    for (flexc::ir::Param& param : attention->params)
        if (param.is_tensor && flexc::ir::widened(param.elem) == flexc::ir::Type::F32) param.grad = true;
    flexc::ir::differentiate(*attention);
    flexc::ir::optimise(*attention);
    return attention;
}

Gradients expected(const Attention& attention, const flex::KernelDesc& desc, const Problem& problem) {
    Gradients out;
    flex::BoundExtents extents;
    const Arrays arrays(DType::F32, problem.in, Layout::Dense);
    const Arguments arguments(problem.captured);
    if (const auto status = flex::bind(desc, arrays.views(), arguments.list, &extents); !status.ok()) {
        out.error = status.text();
        return out;
    }
    const auto bindings = flexc::interp_bindings(attention, extents.values, arguments.list);
    auto gradient = flexc::ir::interpret_gradient(attention, bindings, {problem.in.q, problem.in.k, problem.in.v, problem.in.shape.kvb},
                                                  {problem.d_o, problem.d_lse, problem.d_max_score});
    out.dq = std::move(gradient.dq), out.dk = std::move(gradient.dk), out.dv = std::move(gradient.dv);
    out.d_params = std::move(gradient.d_params);
    return out;
}

LaunchArrays::LaunchArrays(DType type, const flex::KernelDesc& desc, const Problem& p)
    : arrays(type, p.in, Layout::HeadsInner),
      arguments(p.captured),
      d_o(type, {p.in.shape.b, p.in.shape.h, p.in.shape.q, p.in.shape.dv}, Layout::Dense),
      d_lse(DType::F32, rows_shape(p.in.shape), Layout::Dense),
      d_max_score(DType::F32, rows_shape(p.in.shape), Layout::Dense),
      dq(type, {p.in.shape.b, p.in.shape.h, p.in.shape.q, p.in.shape.d}, Layout::HeadsInner),
      dk(type, {p.in.shape.kvb, p.in.shape.hkv, p.in.shape.k, p.in.shape.d}, Layout::Dense),
      dv(type, {p.in.shape.kvb, p.in.shape.hkv, p.in.shape.k, p.in.shape.dv}, Layout::Padded),
      d_params(desc.params.size()),
      desc_(desc),
      problem_(p) {
    d_o.fill(p.d_o);
    d_lse.fill(p.d_lse);
    if (!p.d_max_score.empty()) d_max_score.fill(p.d_max_score);
    for (size_t i = 0; i < desc.params.size(); ++i)
        if (desc.params[i].grad) d_params[i].assign(std::max<size_t>(find(p, desc.params[i].name)->values.size(), 1), -1.0f);
}

flex::GradientArrays LaunchArrays::gradients() {
    flex::GradientArrays out;
    out.d_o = d_o.view, out.d_lse = rows_view(d_lse.view);
    if (!problem_.d_max_score.empty()) out.d_max_score = rows_view(d_max_score.view);
    out.dq = dq.view, out.dk = dk.view, out.dv = dv.view;
    for (size_t i = 0; i < desc_.params.size(); ++i) {
        if (!desc_.params[i].grad) continue;
        const Captured& given = *find(problem_, desc_.params[i].name);
        flex::Argument argument{given.name, {}};
        argument.value.data = d_params[i].data();
        argument.value.rank = static_cast<int>(given.shape.size());
        int64_t stride = 1;
        for (size_t d = given.shape.size(); d-- > 0;) {
            argument.value.shape[d] = given.shape[d];
            argument.value.stride[d] = stride;
            stride *= given.shape[d];
        }
        out.d_params.push_back(argument);
    }
    return out;
}

Gradients LaunchArrays::values() const {
    Gradients out;
    out.dq = dq.values(), out.dk = dk.values(), out.dv = dv.values();
    for (size_t i = 0; i < d_params.size(); ++i) {
        out.d_params.emplace_back(d_params[i].begin(), d_params[i].end());
        if (desc_.params[i].grad) out.d_params.back().resize(find(problem_, desc_.params[i].name)->values.size());
    }
    return out;
}

void Report::fail(const std::string& text) {
    ++failures_;
    std::printf("FAILED  %s\n", text.c_str());
}

void Report::compare(const std::string& place, const std::string& what, const std::vector<double>& got, const std::vector<double>& want,
                     double unit, DType type) {
    if (got.size() != want.size()) return fail(place + ": " + what + " has another size");
    double largest = 0, error = 0;
    for (const double x : want)
        if (std::isfinite(x)) largest = std::max(largest, std::fabs(x));
    size_t at = 0;
    for (size_t i = 0; i < got.size(); ++i) {
        const bool equal = std::isnan(want[i]) ? std::isnan(got[i]) : got[i] == want[i];
        const double difference = equal ? 0 : std::isfinite(want[i]) && std::isfinite(got[i]) ? std::fabs(got[i] - want[i]) : HUGE_VAL;
        if (difference > error) error = difference, at = i;
    }
    const double bound = unit * (1 + largest);
    double& worst = worst_[what.size() > 2 ? "d_NAME" : what][type == DType::F32 ? 0 : type == DType::F16 ? 1 : 2];
    worst = std::max(worst, error / bound);
    if (!(error <= bound)) {
        char text[256];
        std::snprintf(text, sizeof text, "%s: %s[%zu] is %.9g, not %.9g (allowed %.2g)", place.c_str(), what.c_str(), at, got[at], want[at],
                      bound);
        fail(text);
    }
}

void Report::compare(const std::string& place, const Attention& attention, const Gradients& got, const Gradients& want, DType type,
                     double least_unit) {
    const double unit = std::max(least_unit, type == DType::F32 ? 2e-5 : 4 * (type == DType::F16 ? 0x1p-11 : 0x1p-8));
    compare(place, "dq", got.dq, want.dq, unit, type);
    compare(place, "dk", got.dk, want.dk, unit, type);
    compare(place, "dv", got.dv, want.dv, unit, type);
    for (size_t i = 0; i < want.d_params.size(); ++i)
        if (attention.params[i].grad)
            compare(place, "d_" + attention.params[i].name, got.d_params[i], want.d_params[i], type == DType::F32 ? unit : 4 * unit, type);
    counted();
}

int Report::finish(bool table) const {
    std::array<double, 3> all{};
    for (const auto& [what, worst] : worst_)
        for (size_t i = 0; i < worst.size(); ++i) all[i] = std::max(all[i], worst[i]);
    if (table) {
        std::printf("largest error, in units of its bound   f32    f16   bf16\n");
        for (const auto& [what, worst] : worst_) std::printf("%-36s %5.2f  %5.2f  %5.2f\n", what.c_str(), worst[0], worst[1], worst[2]);
    }
    std::printf("%d cases checked, %d failures; largest error in units of the bound: f32 %.2f, f16 %.2f, bf16 %.2f\n", cases_, failures_,
                all[0], all[1], all[2]);
    return failures_ == 0 && cases_ > 0 ? 0 : 1;
}

}  // namespace numerics

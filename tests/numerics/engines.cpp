#include "tests/numerics/engines.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>

#include "driver/interp_bindings.h"
#include "ir/interpret.h"
#include "tests/numerics/buffers.h"
#include "tests/numerics/gpu.h"

namespace numerics {

using flex::DType;

namespace {

/// Rounds to a float format with `bits` of significand (the implicit one included) and the given smallest normal exponent.
double rounded_to_format(double x, int bits, int min_exponent, double max) {
    if (!std::isfinite(x) || x == 0) return x;
    const int exponent = std::max(std::ilogb(x), min_exponent);
    const double unit = std::ldexp(1.0, exponent - bits + 1);
    const double result = std::nearbyint(x / unit) * unit;
    return std::fabs(result) > max ? std::copysign(std::numeric_limits<double>::infinity(), x) : result;
}

}  // namespace

double rounded(DType type, double x) {
    switch (type) {
        case DType::F16: return rounded_to_format(x, 11, -14, 65504);
        case DType::BF16: return rounded_to_format(x, 8, -126, 0x1.fep127);
        default: return rounded_to_format(x, 24, -126, 0x1.fffffep127);
    }
}

Inputs random_inputs(Random& random, const Shape& shape, DType type) {
    Inputs in;
    in.shape = shape;
    const auto fill = [&](std::vector<double>& values, int64_t count) {
        values.resize(static_cast<size_t>(count));
        for (double& x : values) x = rounded(type, random.normal());
    };
    fill(in.q, int64_t{shape.b} * shape.h * shape.q * shape.d);
    fill(in.k, int64_t{shape.kvb} * shape.hkv * shape.k * shape.d);
    fill(in.v, int64_t{shape.kvb} * shape.hkv * shape.k * shape.dv);
    return in;
}

Program::Program() = default;
Program::~Program() = default;

std::unique_ptr<Program> Program::open(const std::string& name_or_path, const std::string& text,
                                       const std::map<std::string, std::string>& consts, bool show_warnings) {
    auto program = std::make_unique<Program>();
    flexc::Session& session = program->session_;
    const bool opened = text.empty() ? session.open(name_or_path) : session.open_text(name_or_path + ".flex", text);
    if (opened)
        if (const auto name = session.choose("")) {
            program->as_lowered_ = flexc::frontend::lower(session.program(), *name, consts, session.sink);
            if (program->as_lowered_) program->attention_ = session.lower(*name, consts);
        }
    if (session.sink.has_errors() || (show_warnings && !session.sink.all().empty()))
        std::fputs(flexc::diag::render_all(session.sources, session.sink, false).c_str(), stdout);
    if (!program->attention_) return nullptr;
    program->desc_ = flexc::cpu::describe(*program->attention_);
    return program;
}

namespace {

/// What the interpreter takes, or an error of binding.
std::string bindings_of(const flex::KernelDesc& desc, const flexc::ir::Attention& attention, const Inputs& in,
                        const std::vector<Captured>& captured, flexc::ir::Bindings* bindings) {
    const Arrays arrays(DType::F32, in, Layout::Dense);
    const Arguments arguments(captured);
    flex::BoundExtents extents;
    if (const flex::Status status = flex::bind(desc, arrays.views(), arguments.list, &extents); !status.ok()) return status.text();
    *bindings = flexc::interp_bindings(attention, extents.values, arguments.list);
    return {};
}

}  // namespace

Result Program::interpret(const Inputs& in, const std::vector<Captured>& captured) const {
    Result result;
    flexc::ir::Bindings bindings;
    result.error = bindings_of(desc_, *attention_, in, captured, &bindings);
    if (!result.error.empty()) return result;
    auto out = flexc::ir::interpret(*attention_, bindings, {in.q, in.k, in.v, in.shape.kvb});
    result.o = std::move(out.o);
    result.lse = std::move(out.lse);
    result.max_score = std::move(out.max_score);
    return result;
}

Variant Program::unoptimised(const Inputs& in, const std::vector<Captured>& captured, std::string* error) const {
    struct State {
        flexc::ir::Bindings bindings;
        std::optional<flexc::ir::Evaluator> mask, score;
    };
    auto state = std::make_shared<State>();
    *error = bindings_of(desc_, *as_lowered_, in, captured, &state->bindings);
    if (!error->empty()) return {};
    const auto point = [](int b, int h, int q, int k, double score) {
        flexc::ir::Point at;
        at.b = b, at.h = h, at.q = q, at.k = k, at.score = score;
        return at;
    };
    state->mask.emplace(*as_lowered_, state->bindings, std::vector{as_lowered_->mask});
    state->score.emplace(*as_lowered_, state->bindings, std::vector{as_lowered_->score});
    Variant variant;
    variant.mask = [state, point](int b, int h, int q, int k) { return state->mask->at(point(b, h, q, k, 0)).front() != 0; };
    variant.score = [state, point](int b, int h, int q, int k, double x) { return state->score->at(point(b, h, q, k, x)).front(); };
    return variant;
}

Result Program::run(flex::CpuLevel level, DType type, const Inputs& in, const std::vector<Captured>& captured, Layout layout, int threads) {
    Result result;
    auto& kernel = kernels_[level];
    if (!kernel) {
        flexc::KernelOptions options;
        options.level = level;
        options.use_cache = false;
        kernel = session_.compile_cpu(*attention_, options);
        if (!kernel) {
            result.error = flexc::diag::render_all(session_.sources, session_.sink, false);
            return result;
        }
    }
    const Arrays arrays(type, in, layout);
    const Arguments arguments(captured);
    const flex::Status status =
        flex::launch_cpu(kernel->desc, kernel->code->table(), arrays.views(), arguments.list, {.threads = threads}, &result.stats);
    if (!status.ok()) {
        result.error = status.text();
        return result;
    }
    result.o = arrays.o.values();
    result.lse = arrays.lse.values();
    result.max_score = arrays.max_score.values();
    return result;
}

Result Program::run_gpu(Gpu& gpu, const GpuSettings& settings, DType type, const Inputs& in, const std::vector<Captured>& captured,
                        Layout layout) {
    if (!gpu_) gpu_ = std::make_unique<GpuProgram>(*attention_, desc_);
    return gpu_->run(gpu, settings, type, in, captured, layout);
}

std::vector<flex::CpuLevel> levels() {
    std::vector<flex::CpuLevel> list;
    for (int level = 0; level <= static_cast<int>(flex::host_level()); ++level) list.push_back(static_cast<flex::CpuLevel>(level));
    return list;
}

}  // namespace numerics

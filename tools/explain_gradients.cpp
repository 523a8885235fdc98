#include "tools/explain_gradients.h"

#include <fmt/format.h>

#include <algorithm>

#include "driver/gpu_images.h"
#include "ir/gradient.h"
#include "ir/gradient_sums.h"
#include "ir/interpret_gradient.h"
#include "ir/passes.h"
#include "ir/source_text.h"
#include "runtime/cuda.h"

namespace flexc::tools {

namespace {

const char* on_cpu(ir::GradientSum sum) {
    switch (sum) {
        case ir::GradientSum::Row: return "summed over the keys of a row, then added";
        case ir::GradientSum::Vector: return "summed over a vector of keys, then added";
        case ir::GradientSum::Neighbours: return "vectors of keys are added to neighbouring elements";
        case ir::GradientSum::Scale: return "added once a row";
        default: return "each pair of a query and a key adds its own";
    }
}

const char* on_gpu(ir::GradientSum sum) {
    switch (sum) {
        case ir::GradientSum::Row: return "summed over the keys of a row in a tile, then added";
        case ir::GradientSum::Key: return "summed over the rows of a tile that meet a key, then added";
        case ir::GradientSum::Head: return "summed over a tile, then added";
        case ir::GradientSum::Scale: return "added once a row";
        default: return "each pair of a query and a key adds its own";
    }
}

std::string lines(const std::vector<std::string>& all) {
    std::string text;
    for (const std::string& each : all) text += (text.empty() ? "`" : ", `") + each + "`";
    return text;
}

std::optional<int64_t> gpu_workspace(const ir::Attention& with, const std::vector<int32_t>& extents, flex::DType dtype) {
    if (!nvptx::unsupported_clauses(with).empty()) return std::nullopt;
    Session scratch;  // what a GPU lacks is no fault here
    ImageOptions options;
    options.dtypes = {dtype};
    options.head_dim = std::max(extents[static_cast<size_t>(ir::ExtentVar::D)], 1);
    options.v_head_dim = std::max(extents[static_cast<size_t>(ir::ExtentVar::DV)], 1);
    const auto images = compile_backward_images(scratch, with, options);
    if (!images) return std::nullopt;
    size_t bytes = 0;
    const flex_gpu_backward_image view = images->front().view();
    if (!flex::backward_workspace_of(cpu::describe(with), view, {extents}, &bytes).ok()) return std::nullopt;
    return static_cast<int64_t>(bytes);
}

}  // namespace

GradientExplanation explain_gradients(const ir::Attention& attention, const std::optional<std::vector<int32_t>>& extents,
                                      flex::DType dtype) {
    GradientExplanation out;
    out.lacking = ir::no_gradient(attention);
    if (!out.lacking.empty()) return out;
    ir::Attention with = attention;
    ir::differentiate(with);
    ir::optimise(with);
    const ir::Gradient& gradient = *with.gradient;
    out.score = ir::source_text(with, gradient.score);
    const ir::GradientSums cpu = ir::cpu_gradient_sums(with), gpu = ir::gpu_gradient_sums(with);
    const auto add = [&](const char* clause, const std::vector<ir::GradientRead>& reads, const std::vector<ir::GradientSum>& on,
                         const std::vector<ir::GradientSum>& off) {
        for (size_t i = 0; i < reads.size(); ++i)
            out.reads.push_back({with.params[with.graph[reads[i].load].payload].name, ir::source_text(with, reads[i].load), clause,
                                 ir::source_text(with, reads[i].adjoint), on_cpu(on[i]), on_gpu(off[i])});
    };
    add("score", gradient.score_reads, cpu.score_reads, gpu.score_reads);
    add("scale", gradient.scale_reads, cpu.scale_reads, gpu.scale_reads);
    const std::vector<ir::GradientSum> once(gradient.sink_reads.size(), ir::GradientSum::Scale);
    add("sink", gradient.sink_reads, once, once);
    for (const ir::Param& param : with.params)
        if (param.grad) out.params.push_back({param.name, std::nullopt});
    if (!extents || out.params.empty() || !cpu::unsupported_clauses(attention).empty()) return out;

    const flex::CpuBackwardPlan plan = flex::plan_cpu_backward(cpu::describe(with), flex::host_level(), {*extents});
    out.workspace = plan.workspace_bytes;
    out.gpu_workspace = gpu_workspace(with, *extents, dtype);
    for (size_t i = 0; i < out.params.size(); ++i) out.params[i].sums = plan.sums[i];
    const auto e = [&](ir::ExtentVar which) { return (*extents)[static_cast<size_t>(which)]; };
    using enum ir::ExtentVar;
    out.shape = fmt::format("B = {}, H = {}, HKV = {}, Q = {}, K = {}, D = {}, DV = {}", e(B), e(H), e(HKV), e(Q), e(K), e(D), e(DV));
    for (size_t i = 0; i < attention.extents.size(); ++i)
        out.shape += fmt::format(", {} = {}", attention.extents[i], (*extents)[ir::kBuiltinExtents + i]);
    return out;
}

std::string gradients_text(const GradientExplanation& facts) {
    if (!facts.lacking.empty()) return fmt::format("\nGradients\n  none yet: {}\n", lines(facts.lacking));
    std::string text = fmt::format("\nGradients\n  d score / d (scale * dot) = {}\n", facts.score);
    for (const GradientReadFact& read : facts.reads)
        text += fmt::format("  d {} / d {} = {}\n    cpu: {}\n    GPU: {}\n", read.clause, read.text, read.adjoint, read.cpu, read.gpu);
    for (const GradientParamFact& param : facts.params) {
        bool read = false;
        for (const GradientReadFact& each : facts.reads) read = read || each.param == param.name;
        if (!read)
            text += fmt::format("  d_{}: 0, because no clause that has gradients reads it\n", param.name);
        else if (param.sums)
            text += *param.sums == 1 ? fmt::format("  d_{}: added to directly on the cpu\n", param.name)
                                     : fmt::format("  d_{}: in {} parts on the cpu, which are added in order\n", param.name, *param.sums);
    }
    if (facts.workspace) text += fmt::format("  Workspace at {}: {} bytes on the cpu", facts.shape, *facts.workspace);
    if (facts.gpu_workspace) text += fmt::format(", {} on a GPU", *facts.gpu_workspace);
    if (facts.workspace) text += "\n";
    text += facts.params.empty() ? "  Deterministic: sums are in an order that depends on the shape alone.\n"
                                 : "  Deterministic: on the cpu sums are in an order that depends on the shape alone, on GPUs in fixed "
                                   "point (unless `--atomic`).\n";
    return text;
}

Json gradients_json(const GradientExplanation& facts) {
    if (!facts.lacking.empty()) return {{"lacking", facts.lacking}};
    Json reads = Json::array(), params = Json::array();
    for (const GradientReadFact& read : facts.reads)
        reads.push_back({{"param", read.param},
                         {"text", read.text},
                         {"clause", read.clause},
                         {"adjoint", read.adjoint},
                         {"cpu", read.cpu},
                         {"gpu", read.gpu}});
    for (const GradientParamFact& param : facts.params) {
        Json& entry = params.emplace_back(Json{{"name", param.name}});
        if (param.sums) entry["cpu_sums"] = *param.sums;
    }
    Json out = {{"score", facts.score}, {"reads", reads}, {"params", params}, {"deterministic", true}};
    if (facts.workspace) out["cpu_workspace_bytes"] = *facts.workspace;
    if (facts.gpu_workspace) out["gpu_workspace_bytes"] = *facts.gpu_workspace;
    return out;
}

}  // namespace flexc::tools

#include "tools/execute.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "diag/check.h"
#include "tools/gpu.h"
#include "tools/io/convert.h"

namespace flexc::tools {
namespace {

bool make_output(Session& session, flex::DType dtype, std::vector<int64_t> shape, io::Array* out, flex::Tensor* view) {
    const io::FileType type = io::file_type(dtype);
    if (!fits_in_memory(shape, io::size_of(type))) {
        session.sink.report(diag::Kind::out_of_memory, {});
        return false;
    }
    out->type = type;
    out->shape = std::move(shape);
    out->bytes.resize(
        std::max<size_t>(static_cast<size_t>(out->count()) * io::size_of(type), 1));  // never null, which would mean "not wanted"
    view->data = out->bytes.data();
    view->dtype = dtype;
    view->rank = static_cast<int>(out->shape.size());
    int64_t stride = 1;
    for (size_t i = out->shape.size(); i-- > 0;) {
        view->shape[i] = out->shape[i];
        view->stride[i] = stride;
        stride *= out->shape[i];
    }
    return true;
}

}  // namespace

void add_execute_options(CLI::App& app, ExecuteOptions& options) {
    app.add_option("--device", options.device,
                   "cpu: compiled; cuda: an NVIDIA GPU; emulated: a GPU in software, slow and strict; interp: float64, slow and exact")
        ->check(CLI::IsMember({"cpu", "interp", "emulated", "cuda"}))
        ->capture_default_str();
    add_dtype_option(app, options.dtype);
    add_level_option(app, options.level);
    app.add_option("--threads", options.threads, "threads of the launch; 0: all that the process may use")->check(CLI::Range(0, 4096));
    app.add_option("--driver", options.driver, "the CUDA driver library, where cuda or emulated do not find it")->type_name("FILE");
    app.add_flag("--allow-tf32", options.allow_tf32, "on GPUs: f32 arrays may be multiplied in tf32, of 11 bits");
    app.add_option("--instance", options.instance,
                   "on GPUs: this kernel of the forward pass, such as sm80_bf16_128_128x64; chosen if absent")
        ->type_name("NAME");
    app.add_flag("--atomic", options.atomic, "gradients on GPUs: sums by atomic additions, which differ in the last bits from run to run");
    app.add_flag("--no-cache", options.no_cache, "compile anew, and leave nothing in the cache");
}

std::optional<flex::CpuLevel> usable_level(Session& session, std::optional<flex::CpuLevel> asked) {
    const flex::CpuLevel host = flex::host_level();
    if (!asked || *asked <= host) return asked.value_or(host);
    session.sink.report(
        diag::Kind::cannot_launch, {},
        fmt::format("this machine cannot execute the level `{}`: its highest is `{}`", flex::name(*asked), flex::name(host)));
    return std::nullopt;
}

namespace {

/// Arrays are dense on the device.
LaunchShape launch_shape(const Launch& launch, int compute_capability, int shared_per_block) {
    using enum ir::ExtentVar;
    constexpr int64_t kUnit = 16;
    const auto size = static_cast<int64_t>(flex::size_of(launch.dtype));
    LaunchShape shape;
    shape.queries = launch.extent(Q);
    shape.group = launch.extent(H) / std::max<int64_t>(launch.extent(HKV), 1);
    shape.mappable = launch.extent(K) > 0 && launch.extent(D) * size % kUnit == 0 && launch.extent(DV) * size % kUnit == 0;
    shape.compute_capability = compute_capability;
    shape.shared_per_block = shared_per_block;
    return shape;
}

bool compile_for_gpu(const ExecuteOptions& options, Prepared* out) {
    using enum ir::ExtentVar;
    ImageOptions images;
    images.dtypes = {out->launch.dtype};
    images.head_dim = static_cast<int>(out->launch.extent(D));
    images.v_head_dim = static_cast<int>(out->launch.extent(DV));
    images.allow_tf32 = options.allow_tf32;
    images.use_cache = out->compile.use_cache;
    images.atomic = options.atomic;
    images.archs.assign(std::begin(nvptx::kArchs), std::end(nvptx::kArchs));
    images.instance = options.instance;
    images.only_for = launch_shape(out->launch, out->gpu->compute_capability(), out->gpu->shared_bytes_per_block());
    auto made = compile_images(out->session, *out->attention, images);
    if (!made) return false;
    out->images = std::move(*made);
    if (!out->backward) return true;
    const bool cached = out->session.phases.cached;
    auto backward = compile_backward_images(out->session, *out->attention, images);
    if (!backward) return false;
    out->session.phases.cached = out->session.phases.cached && cached;
    out->backward_images = std::move(*backward);
    return true;
}

}  // namespace

bool open_attention(const InputOptions& input, const ExecuteOptions& options, Prepared* out) {
    Session& session = out->session;
    if (is_gpu(options.device)) {
        out->gpu = open_gpu(session, options);
        if (!out->gpu) return false;
    }
    const auto level = usable_level(session, options.level);
    if (!level || !open_source(session, input.file)) return false;
    const auto name = session.choose(input.name);
    if (!name) return false;
    const auto& attentions = session.program().attentions();
    const auto info = std::find_if(attentions.begin(), attentions.end(), [&](const auto& each) { return each.name == *name; });

    out->inputs.emplace(session, input);
    if (!out->inputs->load()) return false;
    auto consts = out->inputs->consts(*info);
    if (!consts) return false;
    out->attention = session.lower(*name, *consts);
    out->consts = std::move(*consts);
    out->compile.consts = out->consts;
    out->compile.level = *level;
    out->compile.use_cache = !options.no_cache;
    return out->attention.has_value();
}

bool prepare(const ExecuteOptions& options, bool backward, Prepared* out) {
    Session& session = out->session;
    out->backward = backward;
    if (backward && !session.differentiate(&*out->attention)) return false;
    if (options.atomic && !(backward && out->gpu))
        session.sink.report(diag::Kind::no_effect, {}, std::string("--atomic"),
                            backward ? fmt::format("on the device `{}` gradients are summed in a fixed order", options.device)
                                     : std::string("no gradients are computed"));
    if (!options.instance.empty() && !out->gpu)
        session.sink.report(diag::Kind::no_effect, {}, std::string("--instance"),
                            fmt::format("the device `{}` has no kernels to choose from", options.device));
    out->desc = cpu::describe(*out->attention);
    Reach everything;
    for (uint32_t i = 0; i < out->desc.params.size(); ++i) everything.params.insert(i);
    const Need need = backward ? Need::Gradients : Need::Attention;
    if (!out->inputs->bind(out->desc, need, everything, options.dtype, &out->launch)) return false;
    if (options.device == "interp") return true;
    if (out->gpu) return compile_for_gpu(options, out);
    out->kernel = session.compile_cpu(*out->attention, out->compile);
    return out->kernel != nullptr;
}

bool allocate_outputs(Session& session, const Launch& launch, Outputs* out) {
    using enum ir::ExtentVar;
    const auto e = [&](ir::ExtentVar which) { return launch.extent(which); };
    flex::AttentionArrays& a = out->arrays;
    a.q = launch.q;
    a.k = launch.k;
    a.v = launch.v;
    const std::vector<int64_t> rows = {e(B), e(H), e(Q)};
    return make_output(session, launch.dtype, {e(B), e(H), e(Q), e(DV)}, &out->o, &a.o) &&
           make_output(session, flex::DType::F32, rows, &out->lse, &a.lse) &&
           make_output(session, flex::DType::F32, rows, &out->max_score, &a.max_score);
}

bool allocate_gradients(Session& session, const Prepared& prepared, const std::vector<std::string>& wanted, Outputs* out) {
    const Launch& launch = prepared.launch;
    flex::GradientArrays& g = out->gradients;
    g.d_o = launch.d_o;
    g.d_lse = launch.d_lse;
    g.d_max_score = launch.d_max_score;
    const auto shape_of = [](const flex::Tensor& tensor) {
        return std::vector<int64_t>(tensor.shape.begin(), tensor.shape.begin() + tensor.rank);
    };
    if (!make_output(session, launch.dtype, shape_of(launch.q), &out->dq, &g.dq) ||
        !make_output(session, launch.dtype, shape_of(launch.k), &out->dk, &g.dk) ||
        !make_output(session, launch.dtype, shape_of(launch.v), &out->dv, &g.dv))
        return false;
    for (const flex::ParamDesc& param : prepared.desc.params) {
        if (!param.grad || (!wanted.empty() && std::find(wanted.begin(), wanted.end(), "d_" + param.name) == wanted.end())) continue;
        const auto given = std::find_if(launch.args.begin(), launch.args.end(), [&](const auto& each) { return each.name == param.name; });
        FLEX_CHECK(given != launch.args.end(), "a tensor has no default, so it has been bound");
        flex::Argument argument{param.name, {}};
        if (!make_output(session, flex::DType::F32, shape_of(given->value), &out->d_params.emplace_back(), &argument.value)) return false;
        g.d_params.push_back(argument);
    }
    return true;
}

namespace {

template <class Launching>
std::optional<double> timed(Session& session, const Launching& launching) {
    const auto begin = std::chrono::steady_clock::now();
    const flex::Status status = launching();
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    if (status.ok()) return ms;
    report_status(session, status);
    return std::nullopt;
}

}  // namespace

std::optional<double> launch_once(Session& session, const CpuKernel& kernel, const Launch& launch, const Outputs& outputs, int threads,
                                  flex::CpuStats* stats, flex::CpuProgress* progress) {
    return timed(session, [&] {
        return flex::launch_cpu(kernel.desc, kernel.code->table(), outputs.arrays, launch.args, {threads, progress}, stats);
    });
}

std::optional<double> launch_backward_once(Session& session, const CpuKernel& kernel, const Launch& launch, const Outputs& outputs,
                                           int threads, flex::CpuStats* stats, flex::CpuProgress* progress) {
    return timed(session, [&] {
        return flex::launch_cpu_backward(kernel.desc, kernel.code->table(), outputs.arrays, outputs.gradients, launch.args,
                                         {threads, progress}, stats);
    });
}

std::function<double()> share_of(const flex::CpuProgress& progress) {
    return [&progress] {
        const auto total = progress.total.load(std::memory_order_relaxed);
        return total > 0 ? static_cast<double>(progress.done.load(std::memory_order_relaxed)) / static_cast<double>(total) : 0.0;
    };
}

Json extents_json(const flex::KernelDesc& desc, const Launch& launch) {
    static constexpr const char* kNames[] = {"B", "H", "HKV", "Q", "K", "D", "DV"};
    Json out;
    for (size_t i = 0; i < launch.extents.size(); ++i) out[i < 7 ? kNames[i] : desc.extents[i - 7]] = launch.extents[i];
    return out;
}

}  // namespace flexc::tools

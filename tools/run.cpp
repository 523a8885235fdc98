// flexc run: one attention on arrays, from a file or random, and its outputs to a file.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>

#include "ir/interpret_gradient.h"
#include "tools/execute.h"
#include "tools/gpu.h"
#include "tools/interp_device.h"
#include "tools/io/convert.h"
#include "tools/progress.h"

namespace flexc::tools {
namespace {

struct Options {
    InputOptions input;
    ExecuteOptions execute;
    std::filesystem::path out;
    std::vector<std::string> outputs;
    int repeat = 1;
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const size_t n = values.size();
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

std::string listed(const std::vector<std::string>& names) {
    std::string list;
    for (const std::string& each : names) list += (list.empty() ? "`" : ", `") + each + "`";
    return list;
}

std::vector<std::string> gradient_names(const ir::Attention& attention) {
    std::vector<std::string> names = {"dq", "dk", "dv"};
    for (const ir::Param& param : attention.params)
        if (param.grad) names.push_back("d_" + param.name);
    return names;
}

void report_unknown_output(Session& session, const ir::Attention& attention, const std::string& name, const std::vector<std::string>& all) {
    auto& report = session.sink.report(diag::Kind::unknown_output, {}, attention.name, name);
    const flex::KernelDesc desc = cpu::describe(attention);
    for (const flex::ParamDesc& param : desc.params) {
        if (name != "d_" + param.name) continue;
        if (param.is_tensor && io::is_float(io::file_type(param.dtype)))
            report.help(fmt::format("mark the parameter: `{}: grad {}`", param.name, declared_type(desc, param)));
        else
            report.help(
                fmt::format("`{}` is no float tensor, so it has no gradient; a number to be learned is a tensor `f32[1]`", param.name));
        return;
    }
    const std::string near = diag::nearest(name, all);
    report.help(near.empty() ? "it has " + listed(all) : "did you mean `" + near + "`?");
}

/// The names to write: those asked for, else o, lse, the emits, and gradients if the input asks for them.
std::optional<std::vector<std::string>> chosen_outputs(Prepared& prepared, const std::vector<std::string>& asked) {
    const ir::Attention& attention = *prepared.attention;
    std::vector<std::string> all = {"o", "lse", "max_score"};
    for (const ir::Emit& emit : attention.emits) all.push_back(emit.name);
    const std::vector<std::string> gradients = gradient_names(attention);
    const bool given = prepared.inputs->asks_for_gradients();
    if (asked.empty()) {
        std::erase(all, "max_score");
        if (given) all.insert(all.end(), gradients.begin(), gradients.end());
        return all;
    }
    all.insert(all.end(), gradients.begin(), gradients.end());
    for (const std::string& name : asked) {
        if (std::find(all.begin(), all.end(), name) == all.end()) {
            report_unknown_output(prepared.session, attention, name, all);
            return std::nullopt;
        }
        const bool is_gradient = std::find(gradients.begin(), gradients.end(), name) != gradients.end();
        if (is_gradient && !given && !prepared.inputs->all_random()) {
            prepared.session.sink.report(diag::Kind::missing_array, {}, "`" + name + "`", std::string("do"), std::string("[B, H, Q, DV]"))
                .help("the derivative of the loss by `o`; give it in `--in`, beside `q`, `k` and `v`");
            return std::nullopt;
        }
    }
    return asked;
}

bool any_gradient(const ir::Attention& attention, const std::vector<std::string>& names) {
    const std::vector<std::string> gradients = gradient_names(attention);
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return std::find(gradients.begin(), gradients.end(), name) != gradients.end(); });
}

/// Kept elements, where counting them is short beside the launch itself; else nothing.
std::optional<int64_t> cheap_count(const Prepared& prepared, int threads) {
    constexpr double kMostWork = 1 << 26;
    Session scratch;  // the count is an extra: what it cannot do is no fault of the run
    const auto rows = MaskRows::make(scratch, *prepared.attention, prepared.launch, *prepared.kernel);
    if (!rows || mask_work(*rows, prepared.launch) > kMostWork || !rows->prepare_tiles(scratch, threads)) return std::nullopt;
    return count_kept(*rows, prepared.launch, threads);
}

struct Result {
    io::Arrays arrays;
    double median_ms = 0, backward_ms = 0;
    flex::CpuStats stats, backward_stats;
    Json gpu;              // what gpu_json says
    std::string gpu_text;  // the same in words
    std::string backward_text;
};

struct Times {
    std::vector<double> forward, backward;
};

double milliseconds_of(const std::function<void()>& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

constexpr double kBackwardWeight = 2.5;  // of a forward pass

bool execute_on_gpu(Prepared& prepared, const Options& options, const Outputs& outputs, Progress& progress, Times* times, Result* result) {
    Session& session = prepared.session;
    GpuRun gpu(*prepared.gpu, prepared.desc, std::move(prepared.images), std::move(prepared.backward_images));
    flex::CudaOptions launch_options;
    launch_options.allow_tf32 = options.execute.allow_tf32;
    if (!gpu.prepare(session, prepared.launch, outputs, launch_options)) return false;
    if (prepared.backward && !gpu.prepare_backward(session, outputs.gradients)) return false;
    for (int i = 0; i < options.repeat; ++i) {
        const auto step = progress.step("", 1, gpu.share(false));
        const auto ms = gpu.launch(session);
        if (!ms) return false;
        times->forward.push_back(*ms);
    }
    for (int i = 0; prepared.backward && i < options.repeat; ++i) {
        const auto step = progress.step("gradients", kBackwardWeight, gpu.share(true));
        const auto ms = gpu.launch_backward(session);
        if (!ms) return false;
        times->backward.push_back(*ms);
    }
    result->gpu = gpu_json(*prepared.gpu, gpu);
    result->gpu_text = gpu_text(*prepared.gpu, gpu);
    if (prepared.backward) {
        result->gpu["backward"] = backward_json(*prepared.gpu, gpu);
        result->backward_text = backward_text(gpu);
        if (!gpu.fetch_gradients(session, outputs.gradients)) return false;
    }
    return gpu.fetch(session, outputs);
}

bool execute_on_cpu(Prepared& prepared, const Options& options, const Outputs& outputs, Progress& progress, Times* times, Result* result) {
    const int threads = options.execute.threads;
    for (int i = 0; i < options.repeat; ++i) {
        flex::CpuProgress done;
        const auto step = progress.step("", 1, share_of(done));
        const auto ms =
            launch_once(prepared.session, *prepared.kernel, prepared.launch, outputs, threads, &result->stats, progress.counted(done));
        if (!ms) return false;
        times->forward.push_back(*ms);
    }
    for (int i = 0; prepared.backward && i < options.repeat; ++i) {
        flex::CpuProgress done;
        const auto step = progress.step("gradients", kBackwardWeight, share_of(done));
        const auto ms = launch_backward_once(prepared.session, *prepared.kernel, prepared.launch, outputs, threads, &result->backward_stats,
                                             progress.counted(done));
        if (!ms) return false;
        times->backward.push_back(*ms);
    }
    return true;
}

/// False after a report of what the interpreter cannot differentiate.
bool interpret(Prepared& prepared, const Options& options, Progress& progress, Times* times, Result* result) {
    const ir::Attention& attention = *prepared.attention;
    if (const auto lacking = prepared.backward ? ir::no_gradient(attention) : std::vector<std::string>(); !lacking.empty()) {
        prepared.session.sink.report(diag::Kind::no_gradients, {}, listed(lacking), attention.name).help("`--device cpu` has it");
        return false;
    }
    for (int i = 0; i < options.repeat; ++i) {
        {
            flex::CpuProgress done;
            const auto step = progress.step("", 1, share_of(done));
            times->forward.push_back(
                milliseconds_of([&] { result->arrays = run_interpreter(attention, prepared.launch, progress.counted(done)); }));
        }
        if (!prepared.backward) continue;
        flex::CpuProgress done;
        const auto step = progress.step("gradients", kBackwardWeight, share_of(done));
        times->backward.push_back(
            milliseconds_of([&] { result->arrays.merge(run_interpreter_backward(attention, prepared.launch, progress.counted(done))); }));
    }
    return true;
}

void collect(const std::string& name, io::Array* array, io::Arrays* out) {
    array->bytes.resize(static_cast<size_t>(array->count()) * io::size_of(array->type));
    (*out)[name] = std::move(*array);
}

bool execute(Prepared& prepared, const Options& options, const std::vector<std::string>& names, Progress& progress, Result* result) {
    Times times;
    progress.expect(options.repeat * (prepared.backward ? 1 + kBackwardWeight : 1));
    if (!prepared.kernel && !prepared.gpu) {
        if (!interpret(prepared, options, progress, &times, result)) return false;
    } else {
        Outputs outputs;
        if (!allocate_outputs(prepared.session, prepared.launch, &outputs)) return false;
        if (prepared.backward && !allocate_gradients(prepared.session, prepared, names, &outputs)) return false;
        const bool done = prepared.gpu ? execute_on_gpu(prepared, options, outputs, progress, &times, result)
                                       : execute_on_cpu(prepared, options, outputs, progress, &times, result);
        if (!done) return false;
        for (auto& [name, array] : {std::pair{"o", &outputs.o}, {"lse", &outputs.lse}, {"max_score", &outputs.max_score}})
            collect(name, array, &result->arrays);
        if (prepared.backward) {
            for (auto& [name, array] : {std::pair{"dq", &outputs.dq}, {"dk", &outputs.dk}, {"dv", &outputs.dv}})
                collect(name, array, &result->arrays);
            for (size_t i = 0; i < outputs.d_params.size(); ++i)
                collect("d_" + outputs.gradients.d_params[i].name, &outputs.d_params[i], &result->arrays);
        }
    }
    result->median_ms = median(times.forward);
    if (prepared.backward) result->backward_ms = median(times.backward);
    return true;
}

/// Position of the first element that is no number, with `lse` in rows that attend to something; -1: none.
int64_t first_not_finite(const io::Array& array, const io::Array* lse) {
    if (array.count() == 0) return -1;
    const int64_t rows = lse ? lse->count() : 1, columns = array.count() / rows;
    for (int64_t row = 0; row < rows; ++row) {
        if (lse && io::element(*lse, row) == -HUGE_VAL) continue;
        for (int64_t i = row * columns; i < (row + 1) * columns; ++i)
            if (!std::isfinite(io::element(array, i))) return i;
    }
    return -1;
}

/// Warns of what spoils gradients: a derivative of the loss that is no number, or, where all that came in was finite, a gradient beyond its type.
void check_finite(Prepared& prepared, const io::Arrays& arrays) {
    const Launch& launch = prepared.launch;
    const io::Array& lse = arrays.at("lse");
    bool sound = true;
    const auto warn = [&](const std::string& name, const io::Array& array, int64_t at) -> diag::Diagnostic& {
        sound = false;
        return prepared.session.sink.report(diag::Kind::not_finite, {}, name + io::index_text(array.shape, at),
                                            io::element_text(array, at));
    };
    for (const auto& [name, tensor] : {std::pair{"do", &launch.d_o}, {"dlse", &launch.d_lse}, {"dmax_score", &launch.d_max_score}}) {
        if (!tensor->data) continue;
        const io::Array array = array_of(*tensor);
        if (const int64_t at = first_not_finite(array, &lse); at >= 0)
            warn(name, array, at).note("gradients to which its row contributes are no numbers either");
    }
    if (!sound || first_not_finite(arrays.at("o"), nullptr) >= 0) return;
    for (const std::string& name : gradient_names(*prepared.attention)) {
        const auto found = arrays.find(name);
        if (found == arrays.end()) continue;
        const int64_t at = first_not_finite(found->second, nullptr);
        if (at < 0) continue;
        auto& report = warn(name, found->second, at);
        if (launch.dtype == flex::DType::F16)
            report.note("f16 ends at 65504")
                .help("scale the loss, and so `do`, down and divide the gradients by the same factor, or take `--dtype bf16`");
        break;
    }
}

std::string tensor_text(const flex::Tensor& tensor) {
    return io::shape_text(std::vector<int64_t>(tensor.shape.begin(), tensor.shape.begin() + tensor.rank));
}

/// All that may take long, from reading arrays to writing them. False after a report.
bool work(Prepared& prepared, const Options& options, Result* result, io::Arrays* wanted, std::optional<int64_t>* kept) {
    Session& session = prepared.session;
    Progress progress("flexc run", options.input.json);
    std::optional<std::vector<std::string>> names;
    {
        const auto step = progress.step("reading arrays");
        if (!open_attention(options.input, options.execute, &prepared)) return false;
        names = chosen_outputs(prepared, options.outputs);
    }
    {
        const auto step = progress.step("compiling");
        if (!names || !prepare(options.execute, any_gradient(*prepared.attention, *names), &prepared)) return false;
    }
    if (!execute(prepared, options, *names, progress, result)) return false;
    if (prepared.backward) check_finite(prepared, result->arrays);
    for (const std::string& name : *names) (*wanted)[name] = std::move(result->arrays[name]);
    if (!options.out.empty()) {
        const auto step = progress.step("writing");
        if (const flex::Status status = io::write(options.out, *wanted); !status.ok()) {
            session.sink.report(diag::Kind::cannot_write, {}, options.out.string(), status.text());
            return false;
        }
    }
    if (prepared.kernel) *kept = cheap_count(prepared, options.execute.threads);
    return true;
}

int run(const Options& options) {
    Prepared prepared;
    Session& session = prepared.session;
    const bool json = options.input.json;
    if (!options.out.empty()) {
        if (const flex::Status status = io::writable_name(options.out); !status.ok()) {
            session.sink.report(diag::Kind::cannot_write, {}, options.out.string(), status.text());
            return fail(session, json);
        }
    }
    Result result;
    io::Arrays wanted;
    std::optional<int64_t> kept;
    if (!work(prepared, options, &result, &wanted, &kept)) return fail(session, json);

    const bool cpu = prepared.kernel != nullptr;
    const int threads = thread_count(options.execute.threads);
    const Launch& launch = prepared.launch;
    const double flop =
        kept ? static_cast<double>(*kept) * 2 * static_cast<double>(launch.extent(ir::ExtentVar::D) + launch.extent(ir::ExtentVar::DV)) : 0;
    const double gflops = result.median_ms > 0 ? flop / result.median_ms / 1e6 : 0;

    if (json) {
        Json phases = phases_json(session.phases);
        phases["run"] = result.median_ms;
        if (prepared.backward) phases["backward"] = result.backward_ms;
        Json out = {{"attention", prepared.attention->name},
                    {"device", options.execute.device},
                    {"dtype", flex::name(launch.dtype)},
                    {"shape", extents_json(prepared.desc, launch)},
                    {"repeat", options.repeat},
                    {"median_ms", result.median_ms},
                    {"phases", phases},
                    {"compile_ms", session.phases.total()},
                    {"cached", session.phases.cached}};
        if (cpu) {
            out["level"] = flex::name(prepared.compile.level);
            out["threads"] = threads;
            out["tiles"] = {{"visited", result.stats.tiles_visited}, {"full", result.stats.tiles_full}};
            out["workspace_bytes"] = result.stats.workspace_bytes;
            out["mask_ms"] = result.stats.mask_seconds * 1e3;
            out["mask_bytes"] = result.stats.mask_bytes;
        }
        if (prepared.backward) out["backward_ms"] = result.backward_ms;
        if (prepared.backward && cpu) out["backward_workspace_bytes"] = result.backward_stats.workspace_bytes;
        if (prepared.gpu) out.update(result.gpu);
        if (kept) {
            out["unmasked"] = *kept;
            out["gflops"] = gflops;
        }
        Json shapes = Json::object();
        for (const auto& [name, array] : wanted) shapes[name] = {{"type", io::name(array.type)}, {"shape", array.shape}};
        out["outputs"] = shapes;
        if (!options.out.empty()) out["out"] = options.out.string();
        return succeed(session, true, out);
    }
    std::string text = fmt::format("{}  on {}", prepared.attention->name, options.execute.device);
    if (cpu) text += fmt::format(" ({}, {} thread{})", flex::name(prepared.compile.level), threads, threads == 1 ? "" : "s");
    if (prepared.gpu) text += fmt::format(" ({})", result.gpu_text);
    text += fmt::format("\n{}  q {}  k {}  v {}\n", flex::name(launch.dtype), tensor_text(launch.q), tensor_text(launch.k),
                        tensor_text(launch.v));
    text += fmt::format("compiled in {:.1f} ms{}, ran in {:.3g} ms", session.phases.total(), session.phases.cached ? " (cached)" : "",
                        result.median_ms);
    if (options.repeat > 1) text += fmt::format(" (median of {})", options.repeat);
    if (kept && gflops > 0) text += fmt::format(", {:.4g} GFLOP/s", gflops);
    text += "\n";
    if (prepared.backward) {
        text += fmt::format("gradients in {:.3g} ms", result.backward_ms);
        if (cpu) text += fmt::format(", {} bytes of workspace", result.backward_stats.workspace_bytes);
        if (prepared.gpu) text += ", " + result.backward_text;
        text += "\n";
    }
    if (!options.out.empty()) {
        std::string list;
        for (const auto& [name, array] : wanted)
            list += fmt::format("{}{} {}{}", list.empty() ? "" : ", ", name, io::name(array.type), io::shape_text(array.shape));
        text += fmt::format("wrote {}: {}\n", options.out.string(), list);
    } else if (options.input.in.empty()) {
        text += "the arrays were random: give your own with --in FILE.npz --out FILE.npz\n";
    }
    const int code = succeed(session, false);
    return print_out(text) ? code : kInputWrong;
}

}  // namespace

Command add_run(CLI::App& root) {
    auto options = std::make_shared<Options>();
    CLI::App* app = root.add_subcommand("run", "Compiles an attention and runs it on arrays");
    add_file_options(*app, options->input);
    add_value_options(*app, options->input);
    app->add_option("--out", options->out, "where the outputs go (.npz or .safetensors); bf16 becomes f32 in .npz, which has no bf16")
        ->type_name("FILE");
    app->add_option("--outputs", options->outputs,
                    "which: o, lse, max_score, the names of `emit`, dq, dk, dv and d_NAME; if absent o, lse, every emit, and with `do` "
                    "every gradient")
        ->delimiter(',');
    add_execute_options(*app, options->execute);
    app->add_option("--repeat", options->repeat, "launches; the time is their median")->check(CLI::Range(1, 1000000));
    app->add_flag("--json", options->input.json, "one JSON object on stdout: shapes, times by phase, diagnostics");
    app->footer(
        "Examples:\n"
        "  flexc run alibi.flex --in x.npz --out y.npz\n"
        "  flexc run window.flex --shape H=8,Q=4096,D=64 --set window=256 --repeat 10\n"
        "x.npz holds q [B,H,Q,D], k [B,HKV,K,D], v [B,HKV,K,DV] and one array for each parameter, by its name.\n"
        "If it also holds do [B,H,Q,DV], the derivative of a loss by o, y.npz has the gradients dq, dk, dv, and d_NAME of each `grad` "
        "parameter.\n"
        "dlse and dmax_score [B,H,Q] may stand beside it, or alone: then do is 0.");
    return {app, [options] { return run(*options); }};
}

}  // namespace flexc::tools

// flexc run: one attention on arrays, from a file or random, and its outputs to a file.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "tools/execute.h"
#include "tools/gpu.h"
#include "tools/interp_device.h"

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

/// The names to write: those asked for, else o, lse and the emits.
std::optional<std::vector<std::string>> chosen_outputs(Session& session, const ir::Attention& attention,
                                                       const std::vector<std::string>& asked) {
    std::vector<std::string> all = {"o", "lse", "max_score"};
    for (const ir::Emit& emit : attention.emits) all.push_back(emit.name);
    if (asked.empty()) {
        std::erase(all, "max_score");
        return all;
    }
    for (const std::string& name : asked) {
        if (std::find(all.begin(), all.end(), name) != all.end()) continue;
        std::string list;
        for (const std::string& each : all) list += (list.empty() ? "`" : ", `") + each + "`";
        const std::string near = diag::nearest(name, all);
        session.sink.report(diag::Kind::unknown_output, {}, attention.name, name)
            .help(near.empty() ? "it has " + list : "did you mean `" + near + "`?");
        return std::nullopt;
    }
    return asked;
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
    double median_ms = 0;
    flex::CpuStats stats;
    Json gpu;              // what gpu_json says
    std::string gpu_text;  // the same in words
};

bool execute_on_gpu(Prepared& prepared, const Options& options, const Outputs& outputs, std::vector<double>* times, Result* result) {
    GpuRun gpu(*prepared.gpu, prepared.desc, std::move(prepared.images));
    flex::CudaOptions launch_options;
    launch_options.allow_tf32 = options.execute.allow_tf32;
    if (!gpu.prepare(prepared.session, prepared.launch, outputs, launch_options)) return false;
    for (int i = 0; i < options.repeat; ++i) {
        const auto ms = gpu.launch(prepared.session);
        if (!ms) return false;
        times->push_back(*ms);
    }
    result->gpu = gpu_json(*prepared.gpu, gpu);
    result->gpu_text = gpu_text(*prepared.gpu, gpu);
    return gpu.fetch(prepared.session, outputs);
}

bool execute(Prepared& prepared, const Options& options, Result* result) {
    std::vector<double> times;
    if (!prepared.kernel && !prepared.gpu) {
        for (int i = 0; i < options.repeat; ++i) {
            const auto begin = std::chrono::steady_clock::now();
            result->arrays = run_interpreter(*prepared.attention, prepared.desc, prepared.launch);
            times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
        }
        result->median_ms = median(times);
        return true;
    }
    Outputs outputs;
    if (!allocate_outputs(prepared.session, prepared.launch, &outputs)) return false;
    if (prepared.gpu && !execute_on_gpu(prepared, options, outputs, &times, result)) return false;
    for (int i = 0; prepared.kernel && i < options.repeat; ++i) {
        const auto ms = launch_once(prepared.session, *prepared.kernel, prepared.launch, outputs, options.execute.threads, &result->stats);
        if (!ms) return false;
        times.push_back(*ms);
    }
    for (auto& [name, array] : {std::pair{"o", &outputs.o}, std::pair{"lse", &outputs.lse}, std::pair{"max_score", &outputs.max_score}}) {
        array->bytes.resize(static_cast<size_t>(array->count()) * io::size_of(array->type));
        result->arrays[name] = std::move(*array);
    }
    result->median_ms = median(times);
    return true;
}

std::string tensor_text(const flex::Tensor& tensor) {
    return io::shape_text(std::vector<int64_t>(tensor.shape.begin(), tensor.shape.begin() + tensor.rank));
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
    if (!prepare(options.input, options.execute, &prepared)) return fail(session, json);
    const auto names = chosen_outputs(session, *prepared.attention, options.outputs);
    Result result;
    if (!names || !execute(prepared, options, &result)) return fail(session, json);
    io::Arrays wanted;
    for (const std::string& name : *names) wanted[name] = std::move(result.arrays[name]);
    if (!options.out.empty()) {
        if (const flex::Status status = io::write(options.out, wanted); !status.ok()) {
            session.sink.report(diag::Kind::cannot_write, {}, options.out.string(), status.text());
            return fail(session, json);
        }
    }

    const bool cpu = prepared.kernel != nullptr;
    const int threads = thread_count(options.execute.threads);
    const Launch& launch = prepared.launch;
    const auto kept = cpu ? cheap_count(prepared, options.execute.threads) : std::nullopt;
    const double flop =
        kept ? static_cast<double>(*kept) * 2 * static_cast<double>(launch.extent(ir::ExtentVar::D) + launch.extent(ir::ExtentVar::DV)) : 0;
    const double gflops = result.median_ms > 0 ? flop / result.median_ms / 1e6 : 0;

    if (json) {
        Json phases = phases_json(session.phases);
        phases["run"] = result.median_ms;
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
    app->add_option("--outputs", options->outputs, "which: o, lse, max_score and the names of `emit`; o, lse and every emit if absent")
        ->delimiter(',');
    add_execute_options(*app, options->execute);
    app->add_option("--repeat", options->repeat, "launches; the time is their median")->check(CLI::Range(1, 1000000));
    app->add_flag("--json", options->input.json, "one JSON object on stdout: shapes, times by phase, diagnostics");
    app->footer(
        "Examples:\n"
        "  flexc run alibi.flex --in x.npz --out y.npz\n"
        "  flexc run window.flex --shape H=8,Q=4096,D=64 --set window=256 --repeat 10\n"
        "x.npz holds q [B,H,Q,D], k [B,HKV,K,D], v [B,HKV,K,DV] and one array for each parameter, by its name.");
    return {app, [options] { return run(*options); }};
}

}  // namespace flexc::tools

// flexc bench: the speed of one attention. On the CPU beside the multiply-add rate that the machine sustains in the same minute; on a GPU by itself; on the
// emulated GPU, whose time means nothing, the number of instructions.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "runtime/cpu/fma_peak.h"
#include "tools/execute.h"
#include "tools/gpu.h"

namespace flexc::tools {
namespace {

struct Options {
    InputOptions input;
    ExecuteOptions execute;
    bool backward = false;
    int repeat = 0;  // 0: as many as fit into about a second
};

struct Measured {
    std::vector<double> ms;  // launches, sorted
    double peak_gflops = 0;
    flex::CpuStats stats;
};

/// Launches in a few groups with a measurement of the peak before each: clocks and neighbours change, and both shall see the same.
bool measure(Prepared& prepared, const Options& options, Measured* out) {
    constexpr int kGroups = 4;
    constexpr double kSeconds = 1.0;
    Outputs outputs;
    Session& session = prepared.session;
    if (!allocate_outputs(session, prepared.launch, &outputs)) return false;
    if (prepared.backward && !allocate_gradients(session, prepared, {}, &outputs)) return false;
    const int threads = options.execute.threads;
    const auto launch = [&](flex::CpuStats* stats) {
        return (prepared.backward ? launch_backward_once : launch_once)(session, *prepared.kernel, prepared.launch, outputs, threads,
                                                                        stats);
    };
    // The backward pass reads what the forward pass leaves. Code, caches and pages are warm after one launch, which does not count.
    if (prepared.backward && !launch_once(session, *prepared.kernel, prepared.launch, outputs, threads, nullptr)) return false;
    const auto warm = launch(&out->stats);
    if (!warm) return false;
    const int fitting = static_cast<int>(std::clamp(kSeconds * 1e3 / std::max(*warm, 1e-3), 5.0, 1000.0));
    const int launches = options.repeat > 0 ? options.repeat : fitting;
    for (int group = 0; group < kGroups; ++group) {
        out->peak_gflops = std::max(out->peak_gflops, flex::measure_fma_peak(prepared.compile.level, threads));
        for (int i = launches * group / kGroups; i < launches * (group + 1) / kGroups; ++i) {
            const auto ms = launch(nullptr);
            if (!ms) return false;
            out->ms.push_back(*ms);
        }
    }
    std::sort(out->ms.begin(), out->ms.end());
    return true;
}

double median(const std::vector<double>& sorted) {
    const size_t n = sorted.size();
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/// Forward: two products, 2 (D + DV) for each element kept. Backward: 2.5 times as much, as is usual, for the five products S, dP, dV, dK and dQ.
double flop(const Prepared& prepared, int64_t unmasked) {
    const Launch& launch = prepared.launch;
    const auto columns = static_cast<double>(launch.extent(ir::ExtentVar::D) + launch.extent(ir::ExtentVar::DV));
    return static_cast<double>(unmasked) * 2 * columns * (prepared.backward ? 2.5 : 1);
}

const char* pass_name(const Prepared& prepared) {
    return prepared.backward ? "backward" : "forward";
}

/// Times of launches, sorted, from rows of launches long enough that starting one costs nothing beside them.
std::optional<std::vector<double>> time_gpu(Session& session, GpuRun& gpu, bool backward, int repeat) {
    constexpr double kSeconds = 1.0, kRowMs = 10;
    constexpr int kMostRows = 50;
    const auto launch = [&](int n) { return backward ? gpu.launch_backward_many(session, n) : gpu.launch_many(session, n); };
    if (!launch(3)) return std::nullopt;
    const auto once = launch(1);
    if (!once) return std::nullopt;
    const int row = repeat > 0 ? 1 : static_cast<int>(std::clamp(kRowMs / std::max(*once, 1e-3), 1.0, 1000.0));
    const int rows =
        repeat > 0 ? repeat : static_cast<int>(std::clamp(kSeconds * 1e3 / (std::max(*once, 1e-3) * row), 5.0, double{kMostRows}));
    std::vector<double> times;
    for (int i = 0; i < rows; ++i) {
        const auto ms = launch(row);
        if (!ms) return std::nullopt;
        times.push_back(*ms);
    }
    std::sort(times.begin(), times.end());
    return times;
}

int bench_gpu(Prepared& prepared, const Options& options) {
    Session& session = prepared.session;
    const bool json = options.input.json;
    const Launch& launch = prepared.launch;
    Outputs outputs;
    if (!allocate_outputs(session, launch, &outputs)) return fail(session, json);
    if (prepared.backward && !allocate_gradients(session, prepared, {}, &outputs)) return fail(session, json);
    GpuRun gpu(*prepared.gpu, prepared.desc, std::move(prepared.images), std::move(prepared.backward_images));
    flex::CudaOptions launch_options;
    launch_options.allow_tf32 = options.execute.allow_tf32;
    if (!gpu.prepare(session, launch, outputs, launch_options)) return fail(session, json);
    // The backward pass reads what the forward pass leaves.
    if (prepared.backward && !(gpu.prepare_backward(session, outputs.gradients) && gpu.launch(session))) return fail(session, json);
    const bool emulated = prepared.gpu->is_emulated();
    std::optional<std::vector<double>> times;
    if (!emulated)
        times = time_gpu(session, gpu, prepared.backward, options.repeat);
    else if (const auto ms = prepared.backward ? gpu.launch_backward(session) : gpu.launch(session))
        times = {*ms};
    if (!times) return fail(session, json);
    const uint64_t instructions = prepared.backward ? gpu.backward_instructions() : gpu.instructions();
    const size_t workspace = prepared.backward ? gpu.backward_plan().workspace_bytes : gpu.plan().workspace_bytes;

    // Counting is the CPU's work, and its compilation none of this one.
    Session counting;
    const auto rows = MaskRows::make(counting, *prepared.attention, launch, prepared.compile);
    const bool counted = rows && rows->prepare_tiles(counting, options.execute.threads);
    const int64_t unmasked = counted ? count_kept(*rows, launch, options.execute.threads) : 0;
    Json report = {{"attention", prepared.attention->name},
                   {"pass", pass_name(prepared)},
                   {"device", options.execute.device},
                   {"dtype", flex::name(launch.dtype)},
                   {"shape", extents_json(prepared.desc, launch)}};
    std::string text = fmt::format("{}{}  on {} ({})  {}\n", prepared.attention->name, prepared.backward ? ", backward" : "",
                                   options.execute.device, gpu_text(*prepared.gpu, gpu), flex::name(launch.dtype));
    if (emulated) {
        const double each = unmasked > 0 ? 32.0 * static_cast<double>(instructions) / static_cast<double>(unmasked) : 0;
        report["instructions_per_element"] = each;
        text += fmt::format("{} warp instructions, {:.3g} of a thread for each element kept; the time of an emulation says nothing\n",
                            instructions, each);
    } else {
        const double ms = median(*times), gflops = counted ? flop(prepared, unmasked) / ms / 1e6 : 0;
        report.update({{"median_ms", ms}, {"min_ms", times->front()}, {"max_ms", times->back()}, {"launches", times->size()}});
        if (counted) report["gflops"] = gflops;
        text += fmt::format("median {:.4g} ms of {} ({:.4g} to {:.4g}), {:.4g} TFLOP/s\n", ms, times->size(), times->front(), times->back(),
                            gflops / 1e3);
    }
    if (counted) report["unmasked"] = unmasked;
    report.update({{"compile_ms", session.phases.total()}, {"cached", session.phases.cached}, {"phases", phases_json(session.phases)}});
    report.update(gpu_json(*prepared.gpu, gpu));
    if (prepared.backward) report["backward"] = backward_json(*prepared.gpu, gpu);
    if (json) return succeed(session, true, report);
    text += fmt::format("{} elements kept, {} bytes of workspace, compiled in {:.1f} ms\n", unmasked, workspace, session.phases.total());
    const int code = succeed(session, false);
    return print_out(text) ? code : kInputWrong;
}

int bench(const Options& options) {
    Prepared prepared;
    Session& session = prepared.session;
    const bool json = options.input.json;
    if (options.execute.device == "interp") {
        session.sink.report(diag::Kind::no_device, {}, std::string("interp"))
            .help("the interpreter is an oracle and has no speed worth a number: `flexc run` times it");
        return fail(session, json);
    }
    if (!open_attention(options.input, options.execute, &prepared) || !prepare(options.execute, options.backward, &prepared))
        return fail(session, json);
    if (prepared.gpu) return bench_gpu(prepared, options);
    const auto rows = MaskRows::make(session, *prepared.attention, prepared.launch, *prepared.kernel);
    Measured measured;
    if (!rows || !rows->prepare_tiles(session, options.execute.threads) || !measure(prepared, options, &measured))
        return fail(session, json);

    const Launch& launch = prepared.launch;
    const int64_t unmasked = count_kept(*rows, launch, options.execute.threads);
    const size_t n = measured.ms.size();
    const double median_ms = median(measured.ms);
    const double gflops = flop(prepared, unmasked) / median_ms / 1e6;
    const double share = measured.peak_gflops > 0 ? gflops / measured.peak_gflops : 0;
    const int threads = thread_count(options.execute.threads);
    if (json) {
        return succeed(session, true,
                       {{"attention", prepared.attention->name},
                        {"pass", pass_name(prepared)},
                        {"device", "cpu"},
                        {"level", flex::name(prepared.compile.level)},
                        {"threads", threads},
                        {"dtype", flex::name(launch.dtype)},
                        {"shape", extents_json(prepared.desc, launch)},
                        {"median_ms", median_ms},
                        {"min_ms", measured.ms.front()},
                        {"max_ms", measured.ms.back()},
                        {"launches", n},
                        {"gflops", gflops},
                        {"fma_peak_gflops", measured.peak_gflops},
                        {"peak_fraction", share},
                        {"unmasked", unmasked},
                        {"compile_ms", session.phases.total()},
                        {"cached", session.phases.cached},
                        {"phases", phases_json(session.phases)},
                        {"tiles", {{"visited", measured.stats.tiles_visited}, {"full", measured.stats.tiles_full}}},
                        {"workspace_bytes", measured.stats.workspace_bytes},
                        {"mask_ms", measured.stats.mask_seconds * 1e3},
                        {"mask_bytes", measured.stats.mask_bytes}});
    }
    const int code = succeed(session, false);
    const std::string text = fmt::format(
        "{}{}  on cpu ({}, {} thread{})  {}\n"
        "median {:.4g} ms of {} launches ({:.4g} to {:.4g})\n"
        "{:.4g} GFLOP/s, {:.1f} % of the {:.4g} that this machine's multiply-adds reach\n"
        "{} elements kept, {} bytes of workspace, compiled in {:.1f} ms\n",
        prepared.attention->name, prepared.backward ? ", backward" : "", flex::name(prepared.compile.level), threads,
        threads == 1 ? "" : "s", flex::name(launch.dtype), median_ms, n, measured.ms.front(), measured.ms.back(), gflops, 100 * share,
        measured.peak_gflops, unmasked, measured.stats.workspace_bytes, session.phases.total());
    return print_out(text) ? code : kInputWrong;
}

}  // namespace

Command add_bench(CLI::App& root) {
    auto options = std::make_shared<Options>();
    options->execute.no_cache = true;  // compile_ms is the time of a compilation
    CLI::App* app = root.add_subcommand("bench", "Times an attention on random or given arrays");
    add_file_options(*app, options->input);
    add_value_options(*app, options->input);
    add_execute_options(*app, options->execute);
    app->add_flag(
        "--backward", options->backward,
        "time the backward pass alone, for a random `do` unless --in has one; its gflops count 2 (D + DV) x 2.5 for each element kept");
    app->add_option("--repeat", options->repeat, "launches that count; as many as fit into a second if absent")
        ->check(CLI::Range(1, 1000000));
    app->add_flag("--json", options->input.json, "one JSON object on stdout");
    app->footer(
        "Examples:\n"
        "  flexc bench causal.flex --shape H=8,Q=4096,D=64 --dtype f32 --threads 1 --json\n"
        "  flexc bench causal.flex --shape H=8,Q=4096,D=64 --backward");
    return {app, [options] { return bench(*options); }};
}

}  // namespace flexc::tools

// flexc bench: the speed of one attention, beside the multiply-add rate that the machine sustains in the same minute.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "runtime/cpu/fma_peak.h"
#include "tools/execute.h"

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
    if (!allocate_outputs(prepared.session, prepared.launch, &outputs)) return false;
    const int threads = options.execute.threads;
    // Code, caches and pages are warm after one launch, which does not count.
    const auto warm = launch_once(prepared.session, *prepared.kernel, prepared.launch, outputs, threads, &out->stats);
    if (!warm) return false;
    const int fitting = static_cast<int>(std::clamp(kSeconds * 1e3 / std::max(*warm, 1e-3), 5.0, 1000.0));
    const int launches = options.repeat > 0 ? options.repeat : fitting;
    for (int group = 0; group < kGroups; ++group) {
        out->peak_gflops = std::max(out->peak_gflops, flex::measure_fma_peak(prepared.compile.level, threads));
        for (int i = launches * group / kGroups; i < launches * (group + 1) / kGroups; ++i) {
            const auto ms = launch_once(prepared.session, *prepared.kernel, prepared.launch, outputs, threads, nullptr);
            if (!ms) return false;
            out->ms.push_back(*ms);
        }
    }
    std::sort(out->ms.begin(), out->ms.end());
    return true;
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
    if (options.backward) {
        session.sink.report(diag::Kind::no_gradients, {}, options.execute.device).help("without `--backward` the forward pass is timed");
        return fail(session, json);
    }
    if (!prepare(options.input, options.execute, &prepared)) return fail(session, json);
    const auto rows = MaskRows::make(session, *prepared.attention, prepared.launch, *prepared.kernel);
    Measured measured;
    if (!rows || !rows->prepare_tiles(session, options.execute.threads) || !measure(prepared, options, &measured))
        return fail(session, json);

    using enum ir::ExtentVar;
    const Launch& launch = prepared.launch;
    const int64_t unmasked = count_kept(*rows, launch, options.execute.threads);
    const size_t n = measured.ms.size();
    const double median_ms = n % 2 ? measured.ms[n / 2] : (measured.ms[n / 2 - 1] + measured.ms[n / 2]) / 2;
    const double gflops = static_cast<double>(unmasked) * 2 * static_cast<double>(launch.extent(D) + launch.extent(DV)) / median_ms / 1e6;
    const double share = measured.peak_gflops > 0 ? gflops / measured.peak_gflops : 0;
    const int threads = thread_count(options.execute.threads);
    if (json) {
        return succeed(session, true,
                       {{"attention", prepared.attention->name},
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
        "{}  on cpu ({}, {} thread{})  {}\n"
        "median {:.4g} ms of {} launches ({:.4g} to {:.4g})\n"
        "{:.4g} GFLOP/s, {:.1f} % of the {:.4g} that this machine's multiply-adds reach\n"
        "{} elements kept, {} bytes of workspace, compiled in {:.1f} ms\n",
        prepared.attention->name, flex::name(prepared.compile.level), threads, threads == 1 ? "" : "s", flex::name(launch.dtype), median_ms,
        n, measured.ms.front(), measured.ms.back(), gflops, 100 * share, measured.peak_gflops, unmasked, measured.stats.workspace_bytes,
        session.phases.total());
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
    app->add_flag("--backward", options->backward, "time the gradients; no device of this build has them");
    app->add_option("--repeat", options->repeat, "launches that count; as many as fit into a second if absent")
        ->check(CLI::Range(1, 1000000));
    app->add_flag("--json", options->input.json, "one JSON object on stdout");
    app->footer("Example:\n  flexc bench causal.flex --shape H=8,Q=4096,D=64 --dtype f32 --threads 1 --json");
    return {app, [options] { return bench(*options); }};
}

}  // namespace flexc::tools
